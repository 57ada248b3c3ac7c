/** Random policies and inputs: the same answers as topdown, and a trace that explains every denial. */
import { expect } from 'chai'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { loadInputSchema, toBuildRequest } from '../../src/policy/build.ts'
import { meter } from '../../src/policy/meter.ts'
import { callOf, closeFixture, fixtureCompiler, roomOn, traceOf } from './engine-fixture.ts'
import { unexplained } from './fidelity/denial.ts'
import { fuzz } from './fidelity/fuzz.ts'
import { randomDecision } from './fidelity/random-policy.ts'

/** Seeds of the run in the tests; `npm run fuzz` takes any. */
const SEEDS = 15

describe('random policies', function () {
  this.timeout(240_000)
  after(closeFixture)

  it('give the same outcome and the same steps in Wasm, plain and instrumented, as in topdown', async () => {
    const { faults, refused, same } = await fuzz(1, SEEDS, await fixtureCompiler())
    expect(faults).to.deep.equal([])
    expect(refused).to.be.lessThan(SEEDS / 2)
    expect(same).to.be.greaterThan(SEEDS / 3)
  })

  it('never deny without a failing expression, or a rule `deny` with its reason, in the trace', async () => {
    let denied = 0
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const { rules, argumentsText } = randomDecision(seed)
      const policy = await compiled(rules)
      if (policy === null) continue
      const room = await roomOn(policy)
      const evaluation = room.decide(callOf({ argumentsText }))
      if (!evaluation.allow && evaluation.failure === null) {
        denied += 1
        const why = unexplained(traceOf(evaluation), policy.dictionary)
        expect(why, `seed ${seed}: ${rules}\n${argumentsText}`).to.equal(null)
      }
      room.close()
    }
    expect(denied).to.be.greaterThan(SEEDS / 4)
  })
})

/** Null when the rules are refused. */
async function compiled(rules: string): Promise<CompiledPolicy | null> {
  const rego = { 'authz/policy.rego': `package gateway.authz\n\n${rules}` }
  const request = toBuildRequest({ rego, data: { d: {} } }, await loadInputSchema())
  const built = await (await fixtureCompiler()).build({ ...request, lenient: true })
  if (!built.ok || built.dictionary === null) return null
  return {
    wasm: meter(built.wasm),
    dictionary: built.dictionary,
    data: { d: {} },
    sources: request.sources,
    revision: '',
    digest: '',
    opa: built.opa,
    entrypoints: built.entrypoints,
  }
}
