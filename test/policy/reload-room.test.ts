import { expect } from 'chai'
import type { Target } from '../../src/gateway/types.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { PolicyFault } from '../../src/policy/host-fault.ts'
import { createReloadableRoom } from '../../src/policy/reload-room.ts'
import { buildFixture, callOf, closeFixture, roomOn, traceOf } from './engine-fixture.ts'

const tool = (name: string): Target => ({ kind: 'tool', name, annotations: {}, schemaDigest: null })

describe('a room whose policy is exchanged', function () {
  this.timeout(30_000)
  let policy: CompiledPolicy
  before(async () => {
    policy = await buildFixture('allow contains "developer" if "developer" in input.principal.roles')
  })
  after(closeFixture)

  const open = (next: CompiledPolicy) => roomOn(next, { maxTargets: 1 })
  const reloadable = async () => createReloadableRoom({ first: await open(policy), open })

  it('decides on the new policy from then on; what was decided keeps its trace', async () => {
    const room = await reloadable()
    const before = room.decide(callOf())
    const next = await buildFixture('allow contains "next" if input.phase == "call"')
    await room.replace(next)
    expect(room.decide(callOf()).allowedBy).to.deep.equal(['next'])
    expect(room.revision).to.include({ digest: next.digest })
    expect(traceOf(before).rules[0]).to.deep.include({ value: ['developer'] })
  })

  it('stays as it was when the new one cannot be loaded, and takes the one after that', async () => {
    const room = await reloadable()
    const broken = { ...policy, wasm: policy.wasm.subarray(0, 1000) }
    const thrown: unknown = await room.replace(broken).catch((error: unknown) => error)
    expect(thrown).to.be.instanceOf(PolicyFault)
    expect(room.decide(callOf()).allowedBy).to.deep.equal(['developer'])
    await room.replace(await buildFixture('allow contains "next" if input.phase == "call"'))
    expect(room.decide(callOf()).allowedBy).to.deep.equal(['next'])
  })

  it('judges a list to its end on the policy that it began with', async () => {
    const room = await reloadable()
    const verdicts = room.visible(
      callOf(),
      Array.from({ length: 20 }, (_, index) => tool(`t${index}`)),
    )
    await room.replace(await buildFixture('allow contains "never" if false'))
    expect(room.decide(callOf()).allow).to.equal(false)
    expect((await verdicts).every(({ allow }) => allow)).to.equal(true)
  })

  it('denies everything once it is closed, on whatever policy', async () => {
    const room = await reloadable()
    room.close()
    await room.replace(policy)
    expect(room.decide(callOf()).allow).to.equal(false)
  })
})
