/** `npm run fidelity`: writes docs/policies/builtins.md, answers OPA's own cases three ways, and writes docs/policies/fidelity.md. */
import { mkdirSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { createCompiler } from '../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../src/policy/compiler-artifact.ts'
import { BUILTINS_PAGE, builtinsPage } from '../test/policy/fidelity/builtins-page.ts'
import { CASES_ABSENT, casesFile, readCases } from '../test/policy/fidelity/cases.ts'
import { FIDELITY_PAGE, fidelityPage } from '../test/policy/fidelity/page.ts'
import { survey } from '../test/policy/fidelity/survey.ts'

const PROCESSES = 2
const file = casesFile()
if (file === null) throw new Error(CASES_ABSENT)
const artifact = await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-fidelity'))
const compilers = Array.from({ length: PROCESSES }, () => createCompiler({ artifact }))
const [first] = compilers
if (first === undefined) throw new Error('no compiler')
mkdirSync(dirname(FIDELITY_PAGE), { recursive: true })
writeFileSync(BUILTINS_PAGE, await builtinsPage(first))
const surveyed = await survey(readCases(file), compilers)
await Promise.all(compilers.map((compiler) => compiler.close()))
writeFileSync(FIDELITY_PAGE, fidelityPage(surveyed))
const failed = surveyed.filter(({ verdict }) => verdict.kind === 'failed')
for (const { note, verdict } of failed) if (verdict.kind === 'failed') console.log(`${note}: ${verdict.text}`)
console.log(`${FIDELITY_PAGE}: ${surveyed.length} cases, ${failed.length} without a known cause`)
process.exitCode = failed.length > 0 ? 1 : 0
