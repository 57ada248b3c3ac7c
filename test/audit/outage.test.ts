import { randomUUID } from 'node:crypto'
import { EventEmitter, once } from 'node:events'
import { expect } from 'chai'
import pg from 'pg'
import type { AuditWriter } from '../../src/audit/writer.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import { guardPool } from '../../src/db/pools.ts'
import { GatewayError } from '../../src/errors.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import type { TestServer } from '../support/postgres.ts'
import { startServer } from '../support/postgres.ts'
import { allowed, call, denied, newId, refused, removeSpools, spooling } from './fixtures.ts'

describe('audit/writer while the server dies and comes back', function () {
  this.timeout(60_000)
  let server: TestServer
  let pool: pg.Pool
  let room: AuditWriter
  const states = new EventEmitter()

  before(async () => {
    server = await startServer()
    pool = new pg.Pool({ ...server.runtime, max: 3, connectionTimeoutMillis: 2000 })
    guardPool(pool, () => undefined)
    const quiet = () => undefined
    room = createAuditRoom({
      pool,
      writerId: randomUUID(),
      newId,
      clock: { nowMs: Date.now },
      log: { info: quiet, warn: quiet, error: quiet },
      limits: { endDeadlineMs: 300 },
      ...spooling(),
      onState: (state) => states.emit(state),
    })
    await room.start()
  })
  after(async () => {
    await room.close()
    await pool.end()
    await server.dispose()
    removeSpools()
  })

  const isUnavailable = (thrown: unknown) =>
    thrown instanceof GatewayError && thrown.kind === 'audit_unavailable'

  async function end(event: AuditEvent): Promise<boolean> {
    return await room.end(event).then(
      () => true,
      (thrown: unknown) => {
        if (isUnavailable(thrown)) return false
        throw thrown
      },
    )
  }

  async function countOf(event: AuditEvent): Promise<number> {
    const { rows } = await pool.query<{ count: number }>(
      'select count(*)::int as count from audit_events where request_id = $1',
      [event.call.requestId],
    )
    return rows[0]?.count ?? 0
  }

  for (const mode of ['fast', 'immediate'] as const) {
    it(`stores every row once (${mode} stop under load)`, async () => {
      const now = () => ({ startedMs: Date.now() })
      const before = Array.from({ length: 20 }, () => denied(now()))
      expect(await Promise.all(before.map(end))).to.deep.equal(before.map(() => true))

      const running = allowed(now())
      await room.begin(running.call)
      const down = once(states, 'down')
      const during = Array.from({ length: 60 }, () => denied(now()))
      const ends = Promise.all(during.map(end))
      await server.stop(mode)
      await ends
      await down
      expect(room.state()).to.equal('down')

      const shut = allowed(now())
      const began = await room.begin(shut.call).then(
        () => 'begun',
        (thrown: unknown) => isUnavailable(thrown),
      )
      expect(began).to.equal(true)
      const refusedCall: AuditEvent = { call: call(now()), ending: refused('audit_unavailable') }
      expect(await end(refusedCall)).to.equal(false)
      // The upstream has run; the caller waits as long as it may, then is told.
      expect(await end(running)).to.equal(false)

      const up = once(states, 'up')
      await server.restart()
      await up
      expect(await room.flush(10_000)).to.equal(true)
      const events = [...before, ...during, running, refusedCall]
      expect(await Promise.all(events.map(countOf))).to.deep.equal(events.map(() => 1))
      expect(await countOf(shut)).to.equal(0)
      const after = allowed(now())
      await room.begin(after.call)
      expect(await end(after)).to.equal(true)
      expect(room.gauges()).to.include({ pendingRows: 0, lostRows: 0 })
    })
  }
})
