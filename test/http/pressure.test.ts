import { expect } from 'chai'
import type { EndingKind } from '../../src/errors.ts'
import type { AuditEvent, Call, RequestHead } from '../../src/gateway/types.ts'
import type { Pressure } from '../../src/http/pressure.ts'
import { createLoopMeter, createPressure } from '../../src/http/pressure.ts'
import { callOf, headOf } from './fixtures.ts'

describe('the pressure on the gateway', () => {
  let now: number
  let turns: number
  let busy: number
  const open: Pressure[] = []
  afterEach(() => {
    for (const one of open.splice(0)) one.close()
  })

  function start(maxDelayMs: number | null = 500): Pressure {
    now = 0
    turns = 0
    busy = 0.5
    const pressure = createPressure({
      maxDelayMs,
      clock: { monotonicMs: () => now },
      loop: { turns: () => turns, busy: () => busy },
    })
    open.push(pressure)
    return pressure
  }

  /** Measurements that come late by so many ms. */
  function measure(pressure: Pressure, times: number, lateMs = 0): void {
    for (let at = 0; at < times; at += 1) {
      now += 50 + lateMs
      pressure.sample()
    }
  }

  interface Attempt {
    readonly head: RequestHead
    readonly call: Call
  }

  /** Lets one in, if it is let in. */
  function enter(pressure: Pressure): Attempt | null {
    const head = headOf('POST', {})
    if (!pressure.admits(head)) return null
    return { head, call: attemptOf(head) }
  }

  function attemptOf(head: RequestHead, timingsUs: Call['timingsUs'] = {}): Call {
    return { ...callOf(null, head), id: 'req-1', startedAt: now, timingsUs: { admit: 1, ...timingsUs } }
  }

  function eventOf(call: Call, kind: EndingKind | null = null): AuditEvent {
    const ending = {
      outcome: 'allowed',
      status: 200,
      kind,
      error: null,
      response: null,
      latencyMs: 0,
    } as const
    return { call, ending }
  }

  const shareOf = (pressure: Pressure): number => pressure.state().share

  it('lets everybody in while nothing is late', () => {
    const pressure = start()
    measure(pressure, 100, 20)
    for (let at = 0; at < 200; at += 1) expect(enter(pressure)).not.to.equal(null)
    expect(pressure.state()).to.deep.equal({ lagMs: 20, share: 1, inside: 200, maxInside: 256 })
  })

  it('does not mind a pause, however long', () => {
    const pressure = start()
    for (let round = 0; round < 10; round += 1) {
      measure(pressure, 1, 10_000)
      measure(pressure, 2)
    }
    expect(shareOf(pressure)).to.equal(1)
  })

  it('lets fewer in while the loop is always late, never nobody, and more again when it is not', () => {
    const pressure = start()
    measure(pressure, 3, 1000)
    expect(shareOf(pressure)).to.equal(0.5)
    measure(pressure, 3, 550)
    expect(shareOf(pressure), 'barely over the bound').to.equal(0.45)
    measure(pressure, 100, 5000)
    expect(shareOf(pressure)).to.equal(0.02)
    measure(pressure, 3, 400)
    expect(shareOf(pressure), 'within the bound, but not well').to.equal(0.02)
    measure(pressure, 3 * 60)
    expect(shareOf(pressure)).to.equal(1)
  })

  it('spreads refusals evenly', () => {
    const pressure = start()
    measure(pressure, 3, 1000)
    const first = Array.from({ length: 10 }, () => pressure.admits(headOf('POST', {})))
    expect(first).to.deep.equal([false, true, false, true, false, true, false, true, false, true])
  })

  it('judges by what calls spend in the gateway as well, but not by one call', () => {
    const pressure = start()
    const finishLate = (attempts: number): void => {
      for (let at = 0; at < attempts; at += 1) {
        const { call } = enter(pressure) ?? {}
        if (call !== undefined) pressure.recorded(eventOf({ ...call, startedAt: now - 1000 }))
      }
      measure(pressure, 3)
    }
    finishLate(9)
    expect(shareOf(pressure)).to.equal(1)
    finishLate(10)
    expect(shareOf(pressure)).to.equal(0.5)
  })

  it('does not judge by what clients and upstreams take', () => {
    const pressure = start()
    for (let at = 0; at < 50; at += 1) {
      const head = headOf('POST', {})
      pressure.admits(head)
      const timings = { read: 2_000_000, authz: 1_000_000, validate: 1_000_000, upstream: 5_990_000 }
      pressure.recorded(eventOf({ ...attemptOf(head, timings), startedAt: now - 10_000 }))
    }
    measure(pressure, 3)
    expect(shareOf(pressure)).to.equal(1)
  })

  it('lets no more in at once than can be finished in time, at once', () => {
    const pressure = start()
    const inside = Array.from({ length: 256 }, () => enter(pressure))
    expect(inside).not.to.include(null)
    expect(enter(pressure)).to.equal(null)
    pressure.recorded(eventOf((inside[0] as Attempt).call))
    expect(enter(pressure)).not.to.equal(null)
    expect(enter(pressure)).to.equal(null)
  })

  it('lets more in at once the faster it is', () => {
    const pressure = start()
    for (let window = 0; window < 40; window += 1) {
      for (let at = 0; at < 300; at += 1) {
        const entered = enter(pressure)
        if (entered !== null) pressure.recorded(eventOf(entered.call))
      }
      measure(pressure, 3)
    }
    expect(pressure.state().maxInside, '2,000 a second for half a second').to.be.closeTo(1000, 1)
  })

  it('does not count who waits for a body or an upstream', async () => {
    const pressure = start()
    const release: (() => void)[] = []
    const wait = pressure.away(() => new Promise<void>((resolve) => release.push(resolve)))
    const waiting: Promise<void>[] = []
    for (let at = 0; at < 1000; at += 1) {
      expect(enter(pressure)).not.to.equal(null)
      waiting.push(wait())
    }
    expect(pressure.state().inside).to.equal(0)
    for (const one of release) one()
    await Promise.all(waiting)
    expect(pressure.state().inside).to.equal(1000)
    const failing = pressure.away(() => Promise.reject(new Error('gone')))
    await failing().catch(() => undefined)
    expect(pressure.state().inside).to.equal(1000)
  })

  it('counts nobody twice and nobody who was not let in', () => {
    const pressure = start()
    const one = enter(pressure) as Attempt
    const asked = { ...one.call, id: 'row-of-a-server-request', requestId: 'req-1' }
    pressure.recorded(eventOf(asked))
    expect(pressure.state().inside, 'its own row is still to come').to.equal(1)
    pressure.recorded(eventOf(attemptOf(headOf('POST', {})), 'overloaded'))
    expect(pressure.state().inside).to.equal(1)
    pressure.recorded(eventOf(one.call))
    pressure.recorded(eventOf(one.call))
    expect(pressure.state().inside).to.equal(0)
  })

  it('sees newcomers that wait at the door, when that lasts', () => {
    const pressure = start()
    const window = (accepted: number): void => {
      for (let at = 0; at < accepted; at += 1) pressure.connected()
      turns += 100
      measure(pressure, 3)
    }
    busy = 1
    for (let at = 0; at < 3; at += 1) window(95)
    window(20)
    for (let at = 0; at < 3; at += 1) window(95)
    expect(shareOf(pressure), 'bursts').to.equal(1)
    window(95)
    expect(shareOf(pressure)).to.be.closeTo(0.9, 0.01)
    busy = 0.5
    window(95)
    expect(shareOf(pressure), 'a loop that rests takes in all there are').to.equal(1)
  })

  it('refuses nobody when it is told so', () => {
    const pressure = start(null)
    measure(pressure, 30, 10_000)
    for (let at = 0; at < 5000; at += 1) expect(enter(pressure)).not.to.equal(null)
    expect(pressure.state()).to.include({ lagMs: 10_000, share: 1 })
  })

  it('reads the loop of this process', async () => {
    const loop = createLoopMeter()
    const before = loop.turns()
    for (let at = 0; at < 20; at += 1) await new Promise((resolve) => setImmediate(resolve))
    expect(loop.turns() - before).to.be.at.least(10)
    expect(loop.busy()).to.be.within(0, 1)
  })
})
