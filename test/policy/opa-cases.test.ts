/**
 * OPA's own evaluation cases, answered three ways: by the instrumented module on the serving host, by the plain one, and by
 * topdown. A difference has to have a known cause, and the page that lists them has to be up to date.
 */
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { OMITTED_BUILTINS } from '../../src/policy/builtins/omitted.ts'
import type { Compiler } from '../../src/policy/compiler.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { CASES_ABSENT, casesFile, readCases } from './fidelity/cases.ts'
import { FIDELITY_PAGE, fidelityPage } from './fidelity/page.ts'
import type { Surveyed } from './fidelity/survey.ts'
import { survey } from './fidelity/survey.ts'

const ALL = process.env['OPA_CASES'] === 'all'
/** Without OPA_CASES=all every tenth case, which covers every group of the suite. */
const STEP = 10
const PROCESSES = 2

/** Cases that cannot be asked as they stand. */
const UNASKABLE: ReadonlyMap<string, string> = new Map([
  ['topdowndynamicdispatch/dynamic dispatch', 'the query reads all of data, so no rule can hold it'],
  ['time/time caching', 'it calls a builtin of its own test runner'],
  ['withkeyword/builtin: nested, multiple mocks', 'it replaces http.send'],
])

describe(`OPA's own cases (${ALL ? 'all' : 'every tenth; OPA_CASES=all runs all of them'})`, function () {
  this.timeout(900_000)
  const compilers: Compiler[] = []
  let surveyed: readonly Surveyed[] = []

  before(async function () {
    const file = casesFile()
    if (file === null) {
      console.log(`      skipped: ${CASES_ABSENT}`)
      this.skip()
    }
    const artifact = await loadCompilerArtifact(join(tmpdir(), 'mcp-policy-gateway-test'))
    for (let i = 0; i < PROCESSES; i++) compilers.push(createCompiler({ artifact }))
    surveyed = await survey(
      readCases(file).filter((_, i) => ALL || i % STEP === 0),
      compilers,
    )
  })

  after(() => Promise.all(compilers.map((compiler) => compiler.close())))

  it('have the same outcome three ways, the one OPA expects, and the same trace, but for known causes', () => {
    const failed = surveyed.flatMap(({ note, verdict }) =>
      verdict.kind === 'failed' ? [`${note}: ${verdict.text}`] : [],
    )
    expect(failed.join('\n')).to.equal('')
  })

  it('are refused only for builtins this host leaves out', () => {
    const refused = surveyed.flatMap(({ note, verdict }) =>
      verdict.kind === 'refused' && !OMITTED_BUILTINS.has(verdict.builtin ?? '') && !UNASKABLE.has(note)
        ? [`${note}: ${verdict.text}`]
        : [],
    )
    expect(refused.join('\n')).to.equal('')
  })

  it('differ where the fidelity page says so, and nowhere else', () => {
    const page = readFileSync(FIDELITY_PAGE, 'utf8')
    if (ALL) expect(fidelityPage(surveyed), 'run `npm run fidelity`').to.equal(page)
    for (const { note, verdict } of surveyed) {
      expect(page.includes(`| ${note} | Wasm `), note).to.equal(verdict.kind === 'known')
    }
  })
})
