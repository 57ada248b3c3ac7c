import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import { createPrincipalCaps, createUpstreamGate } from '../../src/rate/caps.ts'
import { refusalOf } from './fixtures.ts'

function thrownBy(run: () => unknown): GatewayError {
  try {
    run()
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
  throw new Error('nothing was thrown')
}

describe('caps on a principal', () => {
  let now = 0
  const open = (limits: { maxInFlight?: number; maxDenialsPerMinute?: number }, maxPrincipals = 100) => {
    now = 5_000
    return createPrincipalCaps({
      limits: { maxInFlight: 100, maxDenialsPerMinute: 100, ...limits },
      monotonicMs: () => now,
      maxPrincipals,
    })
  }

  it('let so many calls of one be in flight, whatever the others do', () => {
    const caps = open({ maxInFlight: 2 })
    const leave = caps.enter('alice')
    caps.enter('alice')
    caps.enter('bob')
    const error = thrownBy(() => caps.enter('alice'))
    expect(error.kind).to.equal('rate_limited')
    expect(error.data).to.deep.equal({ retryAfterSeconds: 1 })
    leave()
    caps.enter('alice')
  })

  it('take a call off the count once, however often it leaves', () => {
    const caps = open({ maxInFlight: 2 })
    caps.enter('alice')
    const leave = caps.enter('alice')
    leave()
    leave()
    caps.enter('alice')
    expect(thrownBy(() => caps.enter('alice')).kind).to.equal('rate_limited')
  })

  it('refuse one that was denied too often until its minute is over', () => {
    const caps = open({ maxDenialsPerMinute: 3 })
    for (let denial = 0; denial < 3; denial += 1) {
      caps.enter('alice')()
      caps.recordDenial('alice')
      now += 1000
    }
    const error = thrownBy(() => caps.enter('alice'))
    expect(error.kind).to.equal('rate_limited')
    expect(error.data).to.deep.equal({ retryAfterSeconds: 57 })
    caps.enter('bob')()
    now = 5_000 + 59_999
    expect(thrownBy(() => caps.enter('alice')).data).to.deep.equal({ retryAfterSeconds: 1 })
    now += 1
    caps.enter('alice')()
    caps.recordDenial('alice')
    caps.enter('alice')()
  })

  it('remember a bounded number of principals', () => {
    const caps = open({ maxDenialsPerMinute: 1 }, 2)
    for (const name of ['alice', 'bob', 'carol']) caps.recordDenial(name)
    caps.enter('alice')
    expect(thrownBy(() => caps.enter('carol')).kind).to.equal('rate_limited')
  })
})

describe('gate of an upstream', () => {
  const open = (limits: { maxConcurrent?: number; maxWaiting?: number; maxWaitMs?: number } = {}) =>
    createUpstreamGate({ maxConcurrent: 2, maxWaiting: 2, maxWaitMs: 60_000, ...limits }, () =>
      performance.now(),
    )

  it('lets so many through at once and the next in turn', async () => {
    const gate = open()
    const leaveFirst = await gate.enter()
    const leaveSecond = await gate.enter()
    const order: string[] = []
    const third = gate.enter().then((leave) => {
      order.push('third')
      return leave
    })
    const fourth = gate.enter().then((leave) => {
      order.push('fourth')
      return leave
    })
    expect(gate.state()).to.deep.equal({ running: 2, waiting: 2 })
    leaveSecond()
    const leaveThird = await third
    expect(order).to.deep.equal(['third'])
    leaveFirst()
    leaveFirst()
    const leaveFourth = await fourth
    expect(gate.state()).to.deep.equal({ running: 2, waiting: 0 })
    leaveThird()
    leaveFourth()
    expect(gate.state()).to.deep.equal({ running: 0, waiting: 0 })
  })

  it('does not let a newcomer pass those who wait', async () => {
    const gate = open({ maxConcurrent: 1 })
    const leave = await gate.enter()
    const waiting = gate.enter()
    leave()
    const late = gate.enter()
    expect(gate.state()).to.deep.equal({ running: 1, waiting: 1 })
    const leaveNext = await waiting
    leaveNext()
    ;(await late)()
  })

  it('refuses at once when too many wait', async () => {
    const gate = open({ maxConcurrent: 1, maxWaiting: 0 })
    await gate.enter()
    const error = await refusalOf(gate.enter())
    expect(error.kind).to.equal('overloaded')
    expect(error.data).to.deep.equal({ retryAfterSeconds: 1 })
  })

  it('refuses those who have waited long enough, and the place is not lost', async () => {
    const gate = open({ maxConcurrent: 1, maxWaitMs: 20 })
    const leave = await gate.enter()
    const errors = await Promise.all([refusalOf(gate.enter()), refusalOf(gate.enter())])
    expect(errors.map((error) => error.kind)).to.deep.equal(['overloaded', 'overloaded'])
    leave()
    ;(await gate.enter())()
    expect(gate.state()).to.deep.equal({ running: 0, waiting: 0 })
  })

  it('forgets a caller who hangs up while waiting', async () => {
    const gate = open({ maxConcurrent: 1 })
    const leave = await gate.enter()
    const hangUp = new AbortController()
    const gone = refusalOf(gate.enter(hangUp.signal))
    const next = gate.enter()
    hangUp.abort()
    expect((await gone).kind).to.equal('client_closed')
    expect((await refusalOf(gate.enter(hangUp.signal))).kind).to.equal('client_closed')
    leave()
    ;(await next)()
    expect(gate.state()).to.deep.equal({ running: 0, waiting: 0 })
  })
})
