import { expect } from 'chai'
import { RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible'
import { PostgresCounters } from '../../src/rate/counters.ts'
import { LIMITER_LIMITS } from '../../src/rate/room.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { limit, openLimiter, stopDatabaseClock } from './fixtures.ts'

describe('counters in PostgreSQL', () => {
  let database: TestDatabase
  let counters: PostgresCounters

  beforeEach(async () => {
    database = await createTestDatabase()
    counters = new PostgresCounters({
      pool: database.pool,
      monotonicMs: () => performance.now(),
      limits: LIMITER_LIMITS,
      onHealth: () => undefined,
    })
  })

  afterEach(async () => {
    await counters.close()
    await database.drop()
  })

  const rejection = (promise: Promise<unknown>) =>
    promise.then(
      () => null,
      (thrown: unknown) => thrown,
    )

  it('are a limiter of the library, by the clock of the database', async () => {
    await stopDatabaseClock(database, '2030-01-01T00:00:00Z')
    expect(counters).to.be.instanceOf(RateLimiterPostgres)
    const result = await counters.consume('key', 3, { customDuration: 60 })
    expect(result).to.be.instanceOf(RateLimiterRes)
    expect(result.toJSON()).to.deep.include({
      consumedPoints: 3,
      msBeforeNext: 60_000,
      isFirstInDuration: true,
    })
    const next = await counters.consume('key', 1, { customDuration: 60 })
    expect(next.toJSON()).to.deep.include({ consumedPoints: 4, isFirstInDuration: false })
    expect(await counters.get('key')).to.deep.include({ consumedPoints: 4 })
    expect(await counters.get('other')).to.equal(null)
  })

  it('give nothing back and are not set', async () => {
    await counters.consume('key', 3)
    for (const attempt of [
      counters.reward('key', 1),
      counters.consume('key', 0),
      counters.consume('key', 0.5),
      counters.consume('key', -5),
      counters.set('key', 0, 60),
      counters.block('key', 60),
      counters.delete('key'),
    ]) {
      expect(await rejection(attempt)).to.be.instanceOf(Error)
    }
    expect((await counters.consume('key', 1)).consumedPoints).to.equal(4)
  })

  it('let the gateway charge, sweep and look, and nothing else', async () => {
    await counters.consume('key', 3)
    for (const forbidden of [
      'update rate_limits set points = 0',
      'delete from rate_limits',
      `insert into rate_limits (key) values ('x')`,
      'truncate rate_limits',
      'select rate_now()',
      `select rate_charge('{key}', '{60000}', '{1}', '{-3}', '{10}', '{t}', '{1}')`,
    ]) {
      const error = (await rejection(database.pool.query(forbidden))) as { code: string } | null
      if (!forbidden.includes('rate_charge')) expect(error?.code, forbidden).to.equal('42501')
    }
    const { rows } = await database.pool.query('select points from rate_limits')
    expect(rows).to.deep.equal([{ points: 3 }])
  })

  it('do not wait for the disk, whichever pool they are charged by', async () => {
    const client = await database.pool.connect()
    await client.query('begin')
    const show = async () => (await client.query('show synchronous_commit')).rows[0].synchronous_commit
    expect(await show()).to.equal('on')
    await client.query(`select rate_charge('{key}', '{60000}', '{1}', '{1}', '{10}', '{t}', '{1}')`)
    expect(await show()).to.equal('off')
    await client.query('commit')
    expect(await show()).to.equal('on')
    client.release()
  })

  it('find their rows by index, also when the statistics are stale', async () => {
    await database.ownerPool.query('analyze rate_limits')
    await counters.consume('warm')
    await database.ownerPool.query(`
      alter table rate_limits set (autovacuum_enabled = off);
      insert into rate_limits select 'key' || n, 1, 1 from generate_series(1, 20000) n`)
    const client = await database.pool.connect()
    await client.query('begin')
    for (let round = 0; round < 10; round += 1) {
      await client.query(
        `select rate_charge('{key1,key2}', '{60000,60000}', '{1,2}', '{1,1}', '{99,99}', '{t,t}', '{2}')`,
      )
    }
    await client.query('select rate_sweep(0, 5)')
    const { rows } = await client.query(
      `select seq_scan::int, n_tup_del::int from pg_stat_xact_user_tables where relname = 'rate_limits'`,
    )
    expect(rows).to.deep.equal([{ seq_scan: 0, n_tup_del: 5 }])
    await client.query('rollback')
    client.release()
  })

  it('are removed when their windows have long ended, and not before', async () => {
    const clock = await stopDatabaseClock(database, '2026-01-01T00:00:00Z')
    const limiter = openLimiter(database.pool)
    await database.ownerPool.query(
      `insert into rate_limits select 'ended' || n, 1, 1 from generate_series(1, 2500) n`,
    )
    await limiter.charge([limit({ key: ['minute'] })])
    await limiter.charge([limit({ key: ['day'], window_s: 86_400 })])
    expect(await limiter.sweep()).to.equal(2500)
    await clock.advance(60 + 599)
    expect(await limiter.sweep()).to.equal(0)
    await clock.advance(2)
    expect(await limiter.sweep()).to.equal(1)
    const { rows } = await database.pool.query('select count(*)::int as left from rate_limits')
    expect(rows).to.deep.equal([{ left: 1 }])
    await limiter.close()
  })

  it('that are being charged are stepped around', async () => {
    await database.ownerPool.query(`insert into rate_limits values ('held', 1, 1), ('ended', 1, 1)`)
    const client = await database.ownerPool.connect()
    await client.query(`begin; select from rate_limits where key = 'held' for update`)
    const limiter = openLimiter(database.pool)
    expect(await limiter.sweep()).to.equal(1)
    await client.query('rollback')
    client.release()
    expect(await limiter.sweep()).to.equal(1)
    await limiter.close()
  })
})
