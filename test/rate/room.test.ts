import { expect } from 'chai'
import fc from 'fast-check'
import type { ChargeReport, Limit } from '../../src/gateway/limit-types.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import type { TestLimiter } from './fixtures.ts'
import { limit, openLimiter, refusalOf, stopDatabaseClock } from './fixtures.ts'

describe('limiter', () => {
  let database: TestDatabase
  let limiter: TestLimiter

  before(async () => {
    database = await createTestDatabase()
  })

  beforeEach(async () => {
    await database.ownerPool.query('truncate rate_limits')
    limiter = openLimiter(database.pool)
  })

  afterEach(async () => {
    await limiter.close()
    expect(limiter.logged).to.deep.equal([])
  })

  after(async () => {
    await database.drop()
  })

  /** Points used, limit by limit. */
  const consumed = (report: ChargeReport): number[] => report.limits.map((one) => one.consumed)
  const points = async (): Promise<number[]> => {
    const { rows } = await database.pool.query('select points from rate_limits order by points')
    return rows.map((row) => row.points)
  }

  it('reports every limit of a call with what is used, left and when it is free again', async () => {
    const report = await limiter.charge([
      limit({ name: 'per-tool', limit: 30, cost: 3 }),
      limit({ name: 'daily', limit: 1000, calendar: 'day' }),
    ])
    const [perTool, daily] = report.limits
    expect(report.allowed).to.equal(true)
    expect(report.retryAfterSeconds).to.equal(null)
    expect(perTool).to.deep.equal({
      name: 'per-tool',
      consumed: 3,
      limit: 30,
      remaining: 27,
      reset_ms: 60_000,
      window_s: 60,
      cost: 3,
      source: 'db',
      mode: 'enforce',
      refused: false,
    })
    expect(daily).to.include({ name: 'daily', consumed: 1, window_s: 86_400, calendar: 'day' })
    expect(daily?.reset_ms).to.be.within(1, 86_400_000)
  })

  it('charges nothing and asks nobody when a call has no limits', async () => {
    expect(await limiter.charge([])).to.deep.equal({ allowed: true, retryAfterSeconds: null, limits: [] })
    expect(limiter.state().statements).to.equal(0)
  })

  it('lets exactly N of many concurrent calls through, in the order they came', async () => {
    const reports = await Promise.all(Array.from({ length: 50 }, () => limiter.charge([limit({ limit: 7 })])))
    expect(reports.map((report) => report.allowed)).to.deep.equal(reports.map((_, at) => at < 7))
    expect(reports.flatMap(consumed)).to.deep.equal(reports.map((_, at) => Math.min(at + 1, 7)))
    expect(limiter.state()).to.include({ statements: 1, calls: 50, queued: 0, store: 'up' })
  })

  it('says how long the refused caller has to wait, and charges it nothing', async () => {
    await limiter.charge([limit({ limit: 1 })])
    const report = await limiter.charge([limit({ limit: 1 })])
    expect(report.allowed).to.equal(false)
    expect(report.retryAfterSeconds).to.equal(60)
    expect(report.limits[0]).to.include({ consumed: 1, remaining: 0, refused: true })
    expect(await points()).to.deep.equal([1])
  })

  it('charges all limits of a call or none: one that is used up leaves the others untouched', async () => {
    const call = [limit({ name: 'a' }), limit({ name: 'b', limit: 1, window_s: 120 }), limit({ name: 'c' })]
    const reports = await Promise.all([1, 2, 3].map(() => limiter.charge(call)))
    expect(reports.map((report) => report.allowed)).to.deep.equal([true, false, false])
    expect(reports.map(consumed)).to.deep.equal([
      [1, 1, 1],
      [1, 1, 1],
      [1, 1, 1],
    ])
    expect(reports[1]?.limits.map((one) => one.refused)).to.deep.equal([false, true, false])
    expect(reports[1]?.retryAfterSeconds).to.equal(120)
    expect(await points()).to.deep.equal([1, 1, 1])
  })

  it('waits for the slowest of the limits that refuse', async () => {
    const call = [limit({ name: 'a', limit: 1 }), limit({ name: 'b', limit: 1, window_s: 600 })]
    await limiter.charge(call)
    expect((await limiter.charge(call)).retryAfterSeconds).to.equal(600)
  })

  it('takes the cost of a call, and refuses one that does not fit while a cheaper one does', async () => {
    expect(consumed(await limiter.charge([limit({ cost: 7 })]))).to.deep.equal([7])
    const dear = await limiter.charge([limit({ cost: 4 })])
    expect(dear.allowed).to.equal(false)
    expect(dear.limits[0]).to.include({ consumed: 7, remaining: 3, cost: 4, refused: true })
    expect((await limiter.charge([limit({ cost: 3 })])).allowed).to.equal(true)
    expect((await limiter.charge([limit()])).allowed).to.equal(false)
  })

  it('takes a limit that is lowered or raised while it counts at once', async () => {
    for (let call = 0; call < 4; call += 1) await limiter.charge([limit({ limit: 5 })])
    const lowered = await limiter.charge([limit({ limit: 3 })])
    expect(lowered.allowed).to.equal(false)
    expect(lowered.limits[0]).to.include({ consumed: 4, limit: 3, remaining: 0 })
    expect((await limiter.charge([limit({ limit: 5 })])).allowed).to.equal(true)
    expect((await limiter.charge([limit({ limit: 5 })])).allowed).to.equal(false)
    expect((await limiter.charge([limit({ limit: 6 })])).allowed).to.equal(true)
  })

  it('judges calls with different limits on one counter each by its own', async () => {
    const asked = [5, 1, 2, 3, 2, 5]
    const reports = await Promise.all(asked.map((most) => limiter.charge([limit({ limit: most })])))
    expect(reports.map((report) => report.allowed)).to.deep.equal([true, false, true, true, false, true])
  })

  it('counts a shadow limit on beyond its maximum, says that it would refuse, and refuses nobody', async () => {
    const watched = limit({ name: 'watched', limit: 2, mode: 'shadow' })
    const reports = await Promise.all([1, 2, 3, 4].map(() => limiter.charge([watched, limit()])))
    expect(reports.every((report) => report.allowed && report.retryAfterSeconds === null)).to.equal(true)
    expect(reports.map((report) => report.limits[0]?.consumed)).to.deep.equal([1, 2, 3, 4])
    expect(reports.map((report) => report.limits[0]?.refused)).to.deep.equal([false, false, true, true])
  })

  it('charges a shadow limit nothing when another limit refuses, and does not wait for it', async () => {
    const watched = limit({ name: 'watched', limit: 1, window_s: 900, mode: 'shadow' })
    await limiter.charge([watched, limit({ limit: 1 })])
    const report = await limiter.charge([watched, limit({ limit: 1 })])
    expect(report).to.include({ allowed: false, retryAfterSeconds: 60 })
    expect(report.limits[0]).to.include({ consumed: 1, refused: true, mode: 'shadow' })
  })

  it('counts a shadow limit up to what its column holds and no further', async () => {
    const most = 1_000_000_000
    const watched = limit({ limit: most, cost: most, mode: 'shadow' })
    const reports = await Promise.all([1, 2, 3, 4].map(() => limiter.charge([watched])))
    expect(reports.flatMap(consumed)).to.deep.equal([most, 2 * most, 2_147_483_647, 2_147_483_647])
    expect((await limiter.charge([limit({ limit: most, cost: most })])).allowed).to.equal(false)
  })

  it('keeps counters apart by name, window, and type and place of every key part', async () => {
    const keys: Limit['key'][] = [
      [],
      [''],
      ['', ''],
      ['1'],
      [1],
      [true],
      ['true'],
      ['a', 'b'],
      ['a,b'],
      ['a","b'],
      ['b', 'a'],
      ['\u0000'],
      ['a\u0000b'],
      ['\ud800'],
      ['\udfff'],
      ['\ufffd'],
      ['é'],
      ['e\u0301'],
      [0.1],
      [-1],
      [Number.MAX_SAFE_INTEGER],
      ["'; drop table rate_limits; --"],
      ['{a,b}'],
      ['x'.repeat(1_000_000)],
      [`${'x'.repeat(999_999)}y`],
    ]
    const calls = [
      ...keys.map((key) => limit({ key, limit: 1 })),
      limit({ limit: 1, window_s: 61, key: [] }),
      limit({ limit: 1, calendar: 'day', key: [] }),
      limit({ limit: 1, calendar: 'month', key: [] }),
      limit({ limit: 1, name: 'other', key: [] }),
    ]
    const first = await Promise.all(calls.map((one) => limiter.charge([one])))
    expect(first.every((report) => report.allowed)).to.equal(true)
    const second = await Promise.all(calls.map((one) => limiter.charge([one])))
    expect(second.some((report) => report.allowed)).to.equal(false)
    const { rows } = await database.pool.query('select key from rate_limits')
    expect(rows).to.have.length(calls.length)
    for (const { key } of rows) expect(key).to.match(/^[A-Za-z0-9_-]{43}$/)
  })

  it('refuses limits that are none before they reach a neighbour in the statement', async () => {
    const bad: Partial<Record<keyof Limit, unknown>>[] = [
      { cost: 0 },
      { cost: -5 },
      { cost: 0.5 },
      { cost: 11 },
      { cost: Number.NaN },
      { limit: 2 ** 31 },
      { window_s: 0 },
      { window_s: 2_678_401 },
      { window_s: 60, calendar: 'day' },
      { window_s: undefined },
      { window_s: undefined, calendar: 'week' },
      { name: 'Per Tool' },
      { key: 'alice' },
      { key: [Number.NaN] },
      { key: [2 ** 53] },
      { key: [null] },
      { key: [['nested']] },
      { key: ['x'.repeat(2_000_000)] },
      { mode: 'off' },
      { on_store_error: 'open' },
    ]
    const good = limiter.charge([limit()])
    for (const members of bad) {
      const error = await refusalOf(limiter.charge([{ ...limit(), ...members } as Limit]))
      expect(error.kind, JSON.stringify(members).slice(0, 80)).to.equal('policy_malformed')
      expect(error.detail).to.match(/^limits\[0\]/)
    }
    expect((await good).allowed).to.equal(true)
    expect(await points()).to.deep.equal([1])
  })

  it('refuses two limits of one identity and more than eight', async () => {
    const twice = await refusalOf(limiter.charge([limit({ limit: 5 }), limit({ limit: 9 })]))
    expect(twice.kind).to.equal('policy_malformed')
    expect(twice.detail).to.match(/limits\[1\] repeats the limit "per-test".*another name/)
    const nine = Array.from({ length: 9 }, (_, at) => limit({ key: [at] }))
    expect((await refusalOf(limiter.charge(nine))).detail).to.equal('limits must be at most 8')
    expect((await limiter.charge(nine.slice(0, 8))).allowed).to.equal(true)
  })

  it('gives every call of any mix of calls what it would have got alone and in turn', async () => {
    const names = ['a', 'b', 'c', 'd']
    const anyLimit = fc.record({
      name: fc.constantFrom(...names),
      limit: fc.integer({ min: 1, max: 12 }),
      cost: fc.integer({ min: 1, max: 4 }),
      mode: fc.constantFrom('enforce' as const, 'enforce' as const, 'shadow' as const),
    })
    const anyCall = fc.uniqueArray(anyLimit, { minLength: 1, maxLength: 4, selector: (one) => one.name })
    let run = 0
    await fc.assert(
      fc.asyncProperty(fc.array(anyCall, { minLength: 1, maxLength: 25 }), async (calls) => {
        run += 1
        const used = new Map<string, number>()
        const asked = calls.map((call) =>
          call.map((one) => limit({ ...one, cost: Math.min(one.cost, one.limit), key: [run] })),
        )
        const reports = await Promise.all(asked.map((call) => limiter.charge(call)))
        for (const [at, call] of asked.entries()) {
          const had = (one: Limit) => used.get(one.name) ?? 0
          const fits = call.every((one) => one.mode === 'shadow' || had(one) + (one.cost ?? 1) <= one.limit)
          if (fits) for (const one of call) used.set(one.name, had(one) + (one.cost ?? 1))
          expect(reports[at]?.allowed).to.equal(fits)
          expect(consumed(reports[at] as ChargeReport)).to.deep.equal(call.map(had))
        }
      }),
      { numRuns: 60 },
    )
  })

  it('turns away what waits when it closes, and what comes after', async () => {
    const own = openLimiter(database.pool)
    const waiting = refusalOf(own.charge([limit()]))
    const local = refusalOf(own.charge([limit({ on_store_error: 'local' })]))
    await own.close()
    expect((await waiting).kind).to.equal('limiter_unavailable')
    expect((await local).kind).to.equal('limiter_unavailable')
    expect((await refusalOf(own.charge([limit()]))).kind).to.equal('limiter_unavailable')
  })

  it('turns away calls beyond what may wait, without a statement', async () => {
    const own = openLimiter(database.pool, { maxQueued: 5 })
    const outcomes = await Promise.allSettled(Array.from({ length: 8 }, () => own.charge([limit()])))
    expect(outcomes.map((one) => one.status)).to.deep.equal(
      outcomes.map((_, at) => (at < 5 ? 'fulfilled' : 'rejected')),
    )
    await own.close()
  })
})

describe('windows of limits', () => {
  let database: TestDatabase
  let limiter: TestLimiter

  beforeEach(async () => {
    database = await createTestDatabase()
    limiter = openLimiter(database.pool)
  })

  afterEach(async () => {
    await limiter.close()
    await database.drop()
  })

  it('begin with the first charge and end to the millisecond, by the clock of the database', async () => {
    const clock = await stopDatabaseClock(database, '2026-01-01T12:00:00.500Z')
    const charge = async () => {
      const { allowed, limits } = await limiter.charge([limit({ limit: 1 })])
      return [allowed, limits[0]?.consumed, limits[0]?.reset_ms]
    }
    expect(await charge()).to.deep.equal([true, 1, 60_000])
    expect(await charge()).to.deep.equal([false, 1, 60_000])
    await clock.set('2026-01-01T12:01:00.499Z')
    expect(await charge()).to.deep.equal([false, 1, 1])
    await clock.set('2026-01-01T12:01:00.500Z')
    expect(await charge()).to.deep.equal([true, 1, 60_000])
    await clock.set('2026-01-01T12:07:00Z')
    expect(await charge()).to.deep.equal([true, 1, 60_000])
  })

  it('are those of the moment at which a call gets its turn, not of the one at which it came', async () => {
    const clock = await stopDatabaseClock(database, '2026-01-01T12:00:00Z')
    await limiter.charge([limit({ limit: 1 })])
    const holder = await database.ownerPool.connect()
    await holder.query('begin; select from rate_limits for update')
    const waiting = limiter.charge([limit({ limit: 1 })])
    await until('the charge to wait', async () => {
      const { rows } = await database.ownerPool.query(
        `select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`,
      )
      return rows.length > 0
    })
    await clock.advance(60)
    await holder.query('rollback')
    holder.release()
    expect((await waiting).limits[0]).to.include({ consumed: 1, reset_ms: 60_000, refused: false })
  })

  it('of a day end at midnight UTC, whatever the time zone of the session', async () => {
    const clock = await stopDatabaseClock(database, '2026-02-28T23:59:59.999Z')
    await database.ownerPool.query(`alter role ${database.runtime.user} set timezone = 'Pacific/Kiritimati'`)
    try {
      const daily = limit({ limit: 2, calendar: 'day' })
      await limiter.charge([daily])
      const last = await limiter.charge([daily])
      expect(last.limits[0]).to.include({ consumed: 2, reset_ms: 1 })
      expect((await limiter.charge([daily])).retryAfterSeconds).to.equal(1)
      await clock.set('2026-03-01T00:00:00Z')
      const next = await limiter.charge([daily])
      expect(next.limits[0]).to.include({ consumed: 1, reset_ms: 86_400_000 })
      await clock.set('2026-03-01T18:00:00Z')
      expect((await limiter.charge([daily])).limits[0]).to.include({ consumed: 2, reset_ms: 6 * 3_600_000 })
    } finally {
      await database.ownerPool.query(`alter role ${database.runtime.user} reset timezone`)
    }
  })

  it('of a month end with it, in short, long and leap months and at the turn of the year', async () => {
    const clock = await stopDatabaseClock(database, '2028-02-01T00:00:00Z')
    const monthly = limit({ limit: 1, calendar: 'month' })
    const day = 86_400_000
    const months: [string, number][] = [
      ['2028-02-01T00:00:00Z', 29 * day],
      ['2028-03-01T00:00:00Z', 31 * day],
      ['2028-12-31T23:00:00Z', day / 24],
      ['2029-01-01T00:00:00Z', 31 * day],
      ['2029-02-01T12:00:00Z', 27.5 * day],
    ]
    for (const [at, left] of months) {
      await clock.set(at)
      expect((await limiter.charge([monthly])).limits[0], at).to.include({ consumed: 1, reset_ms: left })
      expect((await limiter.charge([monthly])).allowed, at).to.equal(false)
    }
  })

  it('that nobody has begun are shown whole in a refusal', async () => {
    await stopDatabaseClock(database, '2026-01-01T12:00:00Z')
    const used = limit({ limit: 1 })
    await limiter.charge([used])
    const report = await limiter.charge([used, limit({ name: 'fresh', window_s: 900 })])
    expect(report.limits[1]).to.include({ consumed: 0, remaining: 10, reset_ms: 900_000, refused: false })
  })

  it('bear a clock that is set back a little, and do not lock callers out when it was far ahead', async () => {
    const clock = await stopDatabaseClock(database, '2026-01-01T12:00:00Z')
    await limiter.charge([limit({ limit: 1 })])
    await clock.set('2026-01-01T11:59:30Z')
    expect((await limiter.charge([limit({ limit: 1 })])).allowed).to.equal(false)
    await clock.set('2025-01-01T12:00:00Z')
    const report = await limiter.charge([limit({ limit: 1 })])
    expect(report.limits[0]).to.include({ consumed: 1, reset_ms: 60_000, refused: false })
  })

  it('are counted from new in the same row when they have ended', async () => {
    await limiter.charge([limit({ limit: 1 })])
    await database.ownerPool.query('update rate_limits set expire = expire - 60000')
    expect((await limiter.charge([limit({ limit: 1 })])).allowed).to.equal(true)
    const { rows } = await database.pool.query('select points from rate_limits')
    expect(rows).to.deep.equal([{ points: 1 }])
  })
})
