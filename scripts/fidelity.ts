/**
 * `npm run fidelity`: writes docs/policies/builtins.md, answers OPA's own cases three ways, and writes docs/policies/fidelity.md.
 * `npm run fidelity -- --cases FILE` answers other cases of the same form and writes nothing.
 */
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { createCompiler } from '../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../src/policy/compiler-artifact.ts'
import { BUILTINS_PAGE, builtinsPage } from '../test/policy/fidelity/builtins-page.ts'
import { CASES_ABSENT, casesFile, readCases } from '../test/policy/fidelity/cases.ts'
import { FIDELITY_PAGE, fidelityPage } from '../test/policy/fidelity/page.ts'
import type { Verdict } from '../test/policy/fidelity/survey.ts'
import { survey } from '../test/policy/fidelity/survey.ts'

const PROCESSES = 2
const { values } = parseArgs({ options: { cases: { type: 'string' } } })
const file = values.cases ?? casesFile()
if (file === null) throw new Error(CASES_ABSENT)
const artifact = await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-fidelity'))
const compilers = Array.from({ length: PROCESSES }, () => createCompiler({ artifact }))
const [first] = compilers
if (first === undefined) throw new Error('no compiler')
if (values.cases === undefined) writeFileSync(BUILTINS_PAGE, await builtinsPage(first))
const surveyed = await survey(readCases(file), compilers)
await Promise.all(compilers.map((compiler) => compiler.close()))
if (values.cases === undefined) writeFileSync(FIDELITY_PAGE, fidelityPage(surveyed))
const counted = (kind: Verdict['kind']) => surveyed.filter(({ verdict }) => verdict.kind === kind)
for (const { note, verdict } of surveyed) {
  if (verdict.kind !== 'same') console.log(`${verdict.kind}: ${note}: ${verdict.text.replace(/\s+/g, ' ')}`)
}
const counts = (['same', 'known', 'refused', 'failed'] as const).map(
  (kind) => `${counted(kind).length} ${kind}`,
)
console.log(`${surveyed.length} cases: ${counts.join(', ')}`)
process.exitCode = counted('failed').length > 0 ? 1 : 0
