import { randomUUID } from 'node:crypto'
import { expect } from 'chai'
import type { Followed } from '../../src/audit/follow.ts'
import { follow, rowsSince, startNow } from '../../src/audit/follow.ts'
import type { RowSummary } from '../../src/audit/query.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { allowed, denied, newId, removeSpools, spooling } from './fixtures.ts'

const DAY_MS = 86_400_000

describe('audit/follow', () => {
  let database: TestDatabase
  before(async () => {
    database = await createTestDatabase()
  })
  after(async () => {
    await database.drop()
    removeSpools()
  })

  const quiet = () => undefined
  const open = async () => {
    const room = createAuditRoom({
      pool: database.pool,
      writerId: randomUUID(),
      newId,
      clock: { nowMs: Date.now },
      log: { info: quiet, warn: quiet, error: quiet },
      ...spooling(),
    })
    await room.start()
    return room
  }
  const idsOf = (rows: readonly RowSummary[]) => rows.map(({ id }) => id)

  it('shows every row once, whoever wrote it and whenever its call began', async () => {
    const [one, two] = await Promise.all([open(), open()])
    await one.end(denied({ startedMs: Date.now() }))
    let start = await startNow(database.pool)
    const seen: string[] = []
    const stored: string[] = []
    for (let round = 0; round < 12; round += 1) {
      // Calls that began long before rows that have been seen.
      const ages = [0, 3_600_000, 40_000, 5]
      const events = ages.map((age) => denied({ startedMs: Date.now() - age * (round % 3) }))
      stored.push(...events.map((event) => event.call.id))
      await Promise.all(events.map((event, at) => (at % 2 === 0 ? one : two).end(event)))
      const found = await rowsSince(database.pool, start, {})
      start = { ...start, position: found.position }
      seen.push(...idsOf(found.rows))
    }
    await Promise.all([one.close(), two.close()])
    expect(seen).to.have.lengthOf(stored.length)
    expect(seen).to.have.members(stored)
  })

  it('shows a writer that is new, from its first row on', async () => {
    const start = await startNow(database.pool)
    const fresh = await open()
    const events = [denied({ startedMs: Date.now() }), allowed({ startedMs: Date.now() })]
    for (const event of events) await fresh.end(event)
    await fresh.close()
    expect(idsOf((await rowsSince(database.pool, start, {})).rows)).to.deep.equal(
      events.map((event) => event.call.id),
    )
  })

  it('looks past the day now and then: a row that waited for longer is not lost, old ones do not come back', async () => {
    const old = await open()
    await old.end(denied({ startedMs: Date.now() - 3 * DAY_MS }))
    const start = await startNow(database.pool)
    const late = denied({ startedMs: Date.now() - 2 * DAY_MS })
    await old.end(late)
    await old.close()
    expect((await rowsSince(database.pool, start, {})).rows).to.deep.equal([])
    expect(idsOf((await rowsSince(database.pool, start, {}, 'old')).rows)).to.deep.equal([late.call.id])
  })

  it('takes a flood in looks of bounded size', async () => {
    const writer = await open()
    let start = await startNow(database.pool)
    const events = Array.from({ length: 620 }, () => allowed({ startedMs: Date.now() }))
    await Promise.all(events.map((event) => writer.end(event)))
    await writer.close()
    const looks: Followed[] = []
    do {
      const look = await rowsSince(database.pool, start, {})
      start = { ...start, position: look.position }
      looks.push(look)
    } while (looks.at(-1)?.more === true)
    expect(looks.map(({ rows }) => rows.length)).to.deep.equal([500, 120])
    expect(new Set(looks.flatMap(({ rows }) => idsOf(rows))).size).to.equal(620)
  })

  it('goes on until it is told to end, sweeps, and waits for a database that is away', async () => {
    const writer = await open()
    const ended = new AbortController()
    const told: string[] = []
    let now = 0
    let round = 0
    // The old row comes first in its writer's order: what is recent must not hide it.
    const events = [allowed({ startedMs: Date.now() - 2 * DAY_MS }), denied({ startedMs: Date.now() })]
    const away = Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
    const db = {
      query: ((...args: Parameters<typeof database.pool.query>) =>
        round === 1 || round === 2 ? Promise.reject(away) : database.pool.query(...args)) as never,
    }
    await follow(db, await startNow(database.pool), {
      filter: {},
      signal: ended.signal,
      monotonicMs: () => now,
      async pause(ms) {
        expect(ms).to.be.at.most(500)
        round += 1
        now += 10_000
        if (round === 1) for (const event of events) await writer.end(event)
        if (round === 6) ended.abort()
      },
      onRows: async (rows) => void told.push(...idsOf(rows)),
      onTrouble: (error) => told.push(error === null ? 'back' : 'away'),
    })
    await writer.close()
    expect(told).to.deep.equal(['away', 'back', ...events.map((event) => event.call.id).reverse()])
  })

  it('does not wait for what waiting cannot mend', async () => {
    const broken = { query: (() => Promise.reject(new TypeError('x is not a function'))) as never }
    const plan = { filter: {}, signal: new AbortController().signal, monotonicMs: () => 0 }
    const thrown = await follow(
      broken,
      { position: new Map(), horizon: new Date() },
      {
        ...plan,
        pause: async () => undefined,
        onRows: async () => undefined,
        onTrouble: () => undefined,
      },
    ).then(quiet, (error: unknown) => error)
    expect(thrown).to.be.an.instanceOf(TypeError)
  })
})
