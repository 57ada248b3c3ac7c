import { expect } from 'chai'
import { toCharges } from '../../src/rate/limit.ts'
import type { LocalCounters } from '../../src/rate/local.ts'
import { createLocalCounters } from '../../src/rate/local.ts'
import type { LimitSettings } from './fixtures.ts'
import { limit } from './fixtures.ts'

describe('counters in memory', () => {
  const open = (maxCounters = 100, nowMs = Date.now) => createLocalCounters({ nowMs, maxCounters })

  async function charge(counters: LocalCounters, ...settings: LimitSettings[]) {
    const { allowed, results } = await counters.chargeAll(toCharges(settings.map(limit)))
    return [allowed, ...results.map((result) => result.consumedPoints)]
  }

  it('let exactly N of concurrent calls through', async () => {
    const counters = open()
    const outcomes = await Promise.all(Array.from({ length: 30 }, () => charge(counters, { limit: 7 })))
    expect(outcomes.filter(([allowed]) => allowed)).to.have.length(7)
    expect(outcomes.at(-1)).to.deep.equal([false, 7])
  })

  it('charge all limits of a call or none', async () => {
    const counters = open()
    const call: LimitSettings[] = [
      { name: 'a' },
      { name: 'b', limit: 2, cost: 2 },
      { name: 'c', mode: 'shadow' },
    ]
    expect(await charge(counters, ...call)).to.deep.equal([true, 1, 2, 1])
    expect(await charge(counters, ...call)).to.deep.equal([false, 1, 2, 1])
    expect(await charge(counters, { name: 'a' })).to.deep.equal([true, 2])
  })

  it('refuse nobody for a shadow limit', async () => {
    const counters = open()
    const watched: LimitSettings = { limit: 1, mode: 'shadow' }
    expect(await charge(counters, watched)).to.deep.equal([true, 1])
    expect(await charge(counters, watched)).to.deep.equal([true, 2])
  })

  it('begin a new window when one has ended', async () => {
    const counters = open()
    const short: LimitSettings = { limit: 1, window_s: 1 }
    expect(await charge(counters, short)).to.deep.equal([true, 1])
    expect(await charge(counters, short)).to.deep.equal([false, 1])
    const from = performance.now()
    while (performance.now() - from < 1050) await new Promise((resolve) => setTimeout(resolve, 50))
    expect(await charge(counters, short)).to.deep.equal([true, 1])
  })

  it('count in windows longer than a timer can run', async () => {
    const counters = open()
    const long: LimitSettings = { limit: 1, window_s: 2_678_400 }
    expect(await charge(counters, long)).to.deep.equal([true, 1])
    await new Promise((resolve) => setTimeout(resolve, 5))
    expect(await charge(counters, long)).to.deep.equal([false, 1])
  })

  it('end days and months at midnight UTC', async () => {
    const counters = open(100, () => Date.UTC(2026, 1, 27, 23, 0, 0))
    const wait = async (calendar: 'day' | 'month') => {
      const { results } = await counters.chargeAll(toCharges([limit({ calendar })]))
      return results[0]?.msBeforeNext
    }
    expect(await wait('day')).to.equal(3_600_000)
    expect(await wait('month')).to.equal(25 * 3_600_000)
  })

  it('refuse a call that needs one counter too many, and go on with those they have', async () => {
    const counters = open(2)
    await charge(counters, { key: ['a'] })
    await charge(counters, { key: ['b'] })
    const error = await charge(counters, { key: ['c'] }).catch((thrown: unknown) => thrown)
    expect(error).to.be.instanceOf(Error).with.property('name', 'CountersUnavailable')
    expect(await charge(counters, { key: ['b'] })).to.deep.equal([true, 2])
    expect(await charge(counters, { key: ['b'] }, { key: ['c'], mode: 'shadow' })).to.deep.equal([true, 3, 0])
    expect(counters.size).to.equal(2)
  })
})
