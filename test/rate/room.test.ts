import { expect } from 'chai'
import { createLimiter } from '../../src/rate/room.ts'
import { createTestDatabase } from '../support/postgres.ts'

describe('try', () => {
  it('works', async () => {
    const db = await createTestDatabase()
    const clock = { nowMs: Date.now, monotonicMs: () => performance.now() }
    const log = { info() {}, warn: console.log, error: console.log }
    const limiter = createLimiter({ pool: db.pool, clock, log })
    const reports = await Promise.all(Array.from({length: 5}, () => limiter.charge([{name: 'a', key: ['x'], limit: 3, window_s: 60}, {name: 'b', key: [], limit: 10, calendar: 'day', cost: 2}])))
    console.log(JSON.stringify(reports, null, 1))
    console.log((await db.pool.query('select * from rate_limits')).rows)
    await limiter.close()
    await db.drop()
    expect(1).to.equal(1)
  })
})
