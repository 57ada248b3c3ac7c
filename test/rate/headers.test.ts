import { expect } from 'chai'
import type { ChargeReport, LimitReport } from '../../src/gateway/limit-types.ts'
import { toRateLimitFields } from '../../src/rate/headers.ts'

describe('RateLimit fields', () => {
  const one = (settings: Partial<LimitReport>): LimitReport => ({
    name: 'per-tool',
    consumed: 3,
    limit: 30,
    remaining: 27,
    reset_ms: 41_000,
    window_s: 60,
    cost: 1,
    source: 'db',
    mode: 'enforce',
    refused: false,
    ...settings,
  })
  const fields = (...limits: LimitReport[]) => {
    const report: ChargeReport = { allowed: true, retryAfterSeconds: null, limits }
    return toRateLimitFields(report)
  }

  it('name quota, window, what is left and when more comes', () => {
    expect(fields(one({}))).to.deep.equal({
      'ratelimit-policy': '"per-tool";q=30;w=60',
      ratelimit: '"per-tool";r=27;t=41',
    })
  })

  it('round the time up, so that nobody comes too early', () => {
    expect(fields(one({ reset_ms: 40_001 }))['ratelimit']).to.equal('"per-tool";r=27;t=41')
    expect(fields(one({ reset_ms: 0 }))['ratelimit']).to.equal('"per-tool";r=27;t=0')
  })

  it('put the tightest first, what refused before all, and name three at most', () => {
    const { ratelimit, 'ratelimit-policy': policy } = fields(
      one({ name: 'wide', remaining: 1000, limit: 2000 }),
      one({ name: 'narrow', remaining: 2 }),
      one({ name: 'dear', remaining: 5, cost: 5 }),
      one({ name: 'refused', remaining: 3, cost: 4, refused: true }),
    )
    expect(ratelimit).to.equal('"refused";r=3;t=41, "dear";r=5;t=41, "narrow";r=2;t=41')
    expect(policy).to.equal('"refused";q=30;w=60, "dear";q=30;w=60, "narrow";q=30;w=60')
  })

  it('put the longer wait first among equals', () => {
    const { ratelimit } = fields(one({ name: 'a' }), one({ name: 'b', reset_ms: 50_000 }))
    expect(ratelimit).to.equal('"b";r=27;t=50, "a";r=27;t=41')
  })

  it('name a limit once, by its tightest window', () => {
    const { ratelimit } = fields(one({}), one({ remaining: 1, window_s: 3600, reset_ms: 3_000_000 }))
    expect(ratelimit).to.equal('"per-tool";r=1;t=3000')
  })

  it('leave the window of a month out, which has no fixed length', () => {
    const day = one({ name: 'daily', calendar: 'day', window_s: 86_400 })
    const month = one({ name: 'monthly', calendar: 'month', window_s: 2_678_400 })
    expect(fields(day, month)['ratelimit-policy']).to.equal('"daily";q=30;w=86400, "monthly";q=30')
  })

  it('say nothing of limits that are only watched', () => {
    expect(fields(one({ mode: 'shadow', refused: true }))).to.deep.equal({})
    expect(fields()).to.deep.equal({})
  })

  it('do not disturb the order of the report', () => {
    const limits = [one({ name: 'a' }), one({ name: 'b', remaining: 0 })]
    fields(...limits)
    expect(limits.map((limit) => limit.name)).to.deep.equal(['a', 'b'])
  })
})
