import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import { rowsSince, startNow } from '../../src/audit/follow.ts'
import { findRows, latestRows, siblings } from '../../src/audit/query.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { ANNA, allowed, call, denied, newId, refused, removeSpools, spooling } from './fixtures.ts'

describe('audit/query', () => {
  let database: TestDatabase
  const events: AuditEvent[] = []
  const quiet = () => undefined

  function open() {
    return createAuditRoom({
      pool: database.pool,
      writerId: randomUUID(),
      newId,
      clock: { nowMs: Date.now },
      log: { info: quiet, warn: quiet, error: quiet },
      ...spooling(),
    })
  }

  before(async () => {
    database = await createTestDatabase()
    const room = open()
    await room.start()
    const at = Date.now() - 60_000
    events.push(denied({ startedMs: at }), allowed({ startedMs: at + 1000 }), {
      call: call({ startedMs: at + 2000, principal: { ...ANNA, id: 'bob', tenant: 'other' } }),
      ending: refused('unknown_tool'),
    })
    const shared = events[0]?.call.requestId ?? ''
    events.push(denied({ startedMs: at + 3000, requestId: shared }))
    for (const event of events) await room.end(event)
    await room.close()
  })
  after(async () => {
    await database.drop()
    removeSpools()
  })

  const idsOf = (rows: readonly { readonly id: string }[] | null) => rows?.map(({ id }) => id)
  const id = (index: number) => events[index]?.call.id ?? ''

  it('lists the newest rows, oldest first', async () => {
    const rows = await latestRows(database.pool, {}, 3)
    expect(idsOf(rows)).to.deep.equal([id(1), id(2), id(3)])
    expect(rows[2]).to.deep.include({
      outcome: 'denied_authz',
      denied_by: ['destructive-without-mfa'],
      seq: '4',
    })
    expect(rows[1]?.denied_by).to.equal(null)
  })

  it('lists only what matches', async () => {
    const list = async (filter: Parameters<typeof latestRows>[1]) =>
      idsOf(await latestRows(database.pool, filter, 10))
    expect(await list({ outcomes: ['allowed'] })).to.deep.equal([id(1)])
    expect(await list({ principal: 'bob' })).to.deep.equal([id(2)])
    expect(await list({ tenant: 'acme', outcomes: ['denied_authz'] })).to.deep.equal([id(0), id(3)])
    expect(await list({ tool: "x' or '1'='1" })).to.deep.equal([])
    expect(await list({ since: new Date(Date.now() - 58_500) })).to.deep.equal([id(2), id(3)])
  })

  it('finds a row by its id or the beginning of it, in the partition that holds it', async () => {
    expect(idsOf(await findRows(database.pool, id(1)))).to.deep.equal([id(1)])
    expect(idsOf(await findRows(database.pool, id(1).toUpperCase()))).to.deep.equal([id(1)])
    expect(idsOf(await findRows(database.pool, id(2).slice(0, 13)))).to.deep.equal([id(2)])
    expect(idsOf(await findRows(database.pool, id(2).replaceAll('-', '').slice(0, 14)))).to.deep.equal([
      id(2),
    ])
    expect(idsOf(await findRows(database.pool, id(0).slice(0, 4)))).to.include.members([id(0), id(3)])
    const plan = await database.ownerPool.query<{ 'QUERY PLAN': string }>(
      `explain select * from audit_events where ts between to_timestamp(${Number.parseInt(id(1).replaceAll('-', '').slice(0, 12), 16) / 1000})
       and to_timestamp(${Number.parseInt(id(1).replaceAll('-', '').slice(0, 12), 16) / 1000}) and id = '${id(1)}'`,
    )
    const partitions = new Set(
      plan.rows.map((row) => /audit_events_\d+/.exec(row['QUERY PLAN'])?.[0]).filter(Boolean),
    )
    expect(partitions.size).to.equal(1)
  })

  it('finds nothing for an id nobody has, and refuses what is no id', async () => {
    expect(await findRows(database.pool, randomUUID())).to.deep.equal([])
    expect(await findRows(database.pool, 'ffffffff')).to.deep.equal([])
    for (const text of ['', 'abc', 'hello', "0198'; drop table x", `${id(0)}0`]) {
      expect(await findRows(database.pool, text), text).to.equal(null)
    }
  })

  it('finds rows by the request they share', async () => {
    const row = (await findRows(database.pool, id(3)))?.[0]
    expect(row?.request_id).to.equal(id(0))
    expect(await siblings(database.pool, { id: id(3), request_id: id(0) })).to.deep.equal([id(0)])
    const orphan = denied({ requestId: newId(Date.now() - 500_000) })
    const room = open()
    await room.start()
    await room.end({ ...orphan, call: { ...orphan.call, startedMs: Date.now() } })
    await room.close()
    expect(idsOf(await findRows(database.pool, orphan.call.requestId))).to.deep.equal([orphan.call.id])
  })

  it('keeps JSON columns as text', async () => {
    const row = (await findRows(database.pool, id(0)))?.[0]
    expect(row?.decision).to.be.a('string').that.includes('"trace"')
    expect(row?.client_ip).to.equal('10.1.2.3')
    expect(row?.roles).to.deep.equal(['developer', 'oncall'])
  })

  it('follows all writers, also rows of calls that began long before they ended', async () => {
    const room = open()
    await room.start()
    await room.end(denied({ startedMs: Date.now() }))
    const start = await startNow(database.pool)
    expect((await rowsSince(database.pool, start, {})).rows).to.deep.equal([])

    const long = allowed({ startedMs: Date.now() - 3_600_000 })
    await room.end(long)
    const other = open()
    await other.start()
    const fresh = denied({ startedMs: Date.now() })
    const unwanted = allowed({ startedMs: Date.now(), principal: null })
    await other.end(fresh)
    await other.end(unwanted)
    const filter = { principal: 'anna' }
    const first = await rowsSince(database.pool, start, filter)
    expect(idsOf(first.rows)).to.deep.equal([long.call.id, fresh.call.id])
    expect(
      (await rowsSince(database.pool, { ...start, position: first.position }, filter)).rows,
    ).to.deep.equal([])
    await Promise.all([room.close(), other.close()])
  })
})
