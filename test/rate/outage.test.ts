import { createServer } from 'node:net'
import { expect } from 'chai'
import pg from 'pg'
import { createPools } from '../../src/db/pools.ts'
import type { ChargeReport } from '../../src/gateway/limit-types.ts'
import type { TestDatabase, TestServer } from '../support/postgres.ts'
import { createTestDatabase, startServer } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import { limit, openLimiter, refusalOf } from './fixtures.ts'

const local = limit({ name: 'local', limit: 3, on_store_error: 'local' })

describe('limiter without its database', function () {
  this.timeout(30_000)
  const unhandled: unknown[] = []
  const onUnhandled = (reason: unknown) => void unhandled.push(reason)

  before(() => void process.on('unhandledRejection', onUnhandled))
  after(() => {
    process.off('unhandledRejection', onUnhandled)
    expect(unhandled).to.deep.equal([])
  })

  it('refuses with limiter_unavailable in the middle of a run, and goes on where it was afterwards', async () => {
    const server: TestServer = await startServer()
    const pools = createPools({ runtime: server.runtime, onIdleError: () => undefined })
    const limiter = openLimiter(pools.limits)
    try {
      const used = async () => (await limiter.charge([limit()])).limits[0]?.consumed
      expect(await used()).to.equal(1)

      await server.stop('fast')
      const refusals = await Promise.all([1, 2, 3].map(() => refusalOf(limiter.charge([limit()]))))
      for (const error of refusals) {
        expect(error.kind).to.equal('limiter_unavailable')
        expect(error.data).to.deep.equal({ retryAfterSeconds: 1 })
        expect(error.message).to.equal('Service unavailable')
      }
      const mixed = await refusalOf(limiter.charge([local, limit()]))
      expect(mixed.kind).to.equal('limiter_unavailable')
      expect(limiter.state().store).to.equal('down')

      const counted = await Promise.all([1, 2, 3, 4].map(() => limiter.charge([local])))
      expect(counted.map((report) => report.allowed)).to.deep.equal([true, true, true, false])
      expect(counted.map((report) => report.limits[0]?.consumed)).to.deep.equal([1, 2, 3, 3])
      expect(counted.map((report) => report.limits[0]?.source)).to.deep.equal(counted.map(() => 'local'))
      expect(counted[3]?.retryAfterSeconds).to.equal(60)
      // What is only watched refuses nobody, and so it does not refuse for want of a database.
      const watched = await limiter.charge([limit({ mode: 'shadow', limit: 1, cost: 1 })])
      expect(watched).to.include({ allowed: true })
      expect(await limiter.sweep()).to.equal(0)

      await server.restart()
      await until('the limiter to find its database again', () => limiter.state().store === 'up')
      expect(await used()).to.equal(2)
      expect((await limiter.charge([local])).limits[0]).to.include({ source: 'db', consumed: 1 })
      expect(limiter.state().store).to.equal('up')
      const levels = limiter.logged.filter(({ level }) => level !== 'warn').map(({ level }) => level)
      expect(levels).to.deep.equal(['error', 'info'])
    } finally {
      await limiter.close()
      await pools.close()
      await server.dispose()
    }
  })

  describe('that hangs', () => {
    let database: TestDatabase
    before(async () => {
      database = await createTestDatabase()
    })
    after(async () => {
      await database.drop()
    })

    it('waits a bounded time for a row that somebody holds, and then answers at once until it tries again', async () => {
      const pools = createPools({ runtime: database.runtime, onIdleError: () => undefined })
      const limiter = openLimiter(pools.limits, { deadlineMs: 300, retryMs: 60_000 })
      const earlier = openLimiter(pools.limits)
      await earlier.charge([limit()])
      await earlier.close()
      const holder = await database.ownerPool.connect()
      await holder.query('begin; select from rate_limits for update')

      const first = refusalOf(limiter.charge([limit()]))
      await new Promise((resolve) => setImmediate(() => setImmediate(resolve)))
      const waiting = refusalOf(limiter.charge([limit({ key: ['another'] })]))
      expect((await first).kind).to.equal('limiter_unavailable')
      expect((await waiting).kind).to.equal('limiter_unavailable')
      const { statements } = limiter.state()
      expect((await refusalOf(limiter.charge([limit()]))).detail).to.match(/does not answer in time/)
      expect((await limiter.charge([local])).limits[0]).to.include({ source: 'local', consumed: 1 })
      expect(limiter.state().statements).to.equal(statements)

      await holder.query('rollback')
      holder.release()
      await limiter.close()
      await pools.close()
    })

    it('gives up on a lock by itself, so that a statement given up does not count later', async () => {
      const pools = createPools({ runtime: database.runtime, onIdleError: () => undefined })
      const limiter = openLimiter(pools.limits, { deadlineMs: 5000 })
      const key = ['held']
      await limiter.charge([limit({ key })])
      const holder = await database.ownerPool.connect()
      await holder.query('begin; select from rate_limits for update')
      const error = await refusalOf(limiter.charge([limit({ key })]))
      expect(error.kind).to.equal('limiter_unavailable')
      expect((error.cause as { cause: { code: string } }).cause.code).to.equal('55P03')
      await holder.query('rollback')
      holder.release()
      const next = openLimiter(pools.limits)
      expect((await next.charge([limit({ key })])).limits[0]?.consumed).to.equal(2)
      await Promise.all([limiter.close(), next.close()])
      await pools.close()
    })

    it('loses one statement, not the next, when its connection breaks', async () => {
      const limiter = openLimiter(database.pool)
      await limiter.charge([limit({ key: ['broken'] })])
      const holder = await database.ownerPool.connect()
      await holder.query('begin; select from rate_limits for update')
      const hanging = refusalOf(limiter.charge([limit({ key: ['broken'] })]))
      for (let ended = 0; ended === 0; ) {
        const { rows } = await database.ownerPool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
            where query like '%rate_charge%' and wait_event_type = 'Lock' and datname = current_database()`,
        )
        ended = rows.length
      }
      expect((await hanging).kind).to.equal('limiter_unavailable')
      await holder.query('rollback')
      holder.release()
      const report = await limiter.charge([limit({ key: ['broken-not'] })])
      expect(report.limits[0]?.source).to.equal('db')
      await limiter.close()
    })
  })

  it('takes a server that accepts connections and says nothing for one that is down', async () => {
    const sockets = new Set<{ destroy(): void }>()
    const server = createServer((socket) => void sockets.add(socket.on('error', () => undefined)))
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const { port } = server.address() as { port: number }
    const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'x', connectionTimeoutMillis: 500, max: 2 })
    const limiter = openLimiter(pool, { deadlineMs: 200 })
    expect((await refusalOf(limiter.charge([limit()]))).kind).to.equal('limiter_unavailable')
    const reports = await Promise.all([local, local].map((one) => limiter.charge([one])))
    expect(reports.map((report: ChargeReport) => report.limits[0]?.consumed)).to.deep.equal([1, 2])
    await limiter.close()
    await pool.end()
    for (const socket of sockets) socket.destroy()
    server.close()
  })

  it('refuses when the table is missing, and never opens', async () => {
    const database = await createTestDatabase()
    await database.ownerPool.query('drop table rate_limits')
    const limiter = openLimiter(database.pool)
    const error = await refusalOf(limiter.charge([limit()]))
    expect(error.kind).to.equal('limiter_unavailable')
    expect(limiter.logged[0]).to.deep.include({ level: 'error' })
    expect(limiter.logged[0]?.fields['code']).to.equal('42P01')
    await limiter.close()
    await database.drop()
  })
})
