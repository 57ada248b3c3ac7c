import { expect } from 'chai'
import pg from 'pg'
import { waitUntilApplied } from '../../src/db/applied.ts'
import type { ChangeFeed, ChangeFeedOptions } from '../../src/db/change-feed.ts'
import { createChangeFeed } from '../../src/db/change-feed.ts'
import type { ChangedSubjects } from '../../src/db/change-reader.ts'
import type { ConnectionParts } from '../../src/db/connection.ts'
import { guardPool } from '../../src/db/pools.ts'
import type { TestDatabase, TestServer } from '../support/postgres.ts'
import { createTestDatabase, startServer } from '../support/postgres.ts'
import { until } from '../support/until.ts'

const HOUR = 3_600_000

describe('the change feed', () => {
  let database: TestDatabase
  let feeds: ChangeFeed[]

  beforeEach(async () => {
    feeds = []
    database = await createTestDatabase()
  })

  afterEach(async () => {
    await Promise.all(feeds.map((feed) => feed.close()))
    await database.drop()
  })

  function open(options: Partial<ChangeFeedOptions> = {}): { feed: ChangeFeed; seen: ChangedSubjects[] } {
    const feed = createChangeFeed({
      db: database.pool,
      openClient: () => new pg.Client({ ...database.runtime }),
      process: { id: `process-${feeds.length}`, name: `gateway ${feeds.length}` },
      monotonicMs: () => performance.now(),
      ...options,
    })
    feeds.push(feed)
    const seen: ChangedSubjects[] = []
    feed.onChange('keys', (subjects) => void seen.push(subjects))
    return { feed, seen }
  }

  /** One that never hears a notification. */
  function deafClient(): pg.Client {
    return new pg.Client({ ...database.runtime, password: 'wrong' })
  }

  async function record(subject: string, topic = 'keys'): Promise<bigint> {
    const { rows } = await database.pool.query('select record_change($1, $2) as seq', [topic, subject])
    return BigInt(rows[0].seq)
  }

  it('first has everything loaded, then tells what changed, by topic', async () => {
    await record('before')
    const { feed, seen } = open({ pollMs: HOUR })
    expect(feed.confirmedAt()).to.equal(Number.NEGATIVE_INFINITY)
    await feed.refresh()
    expect(seen).to.deep.equal(['all'])
    await record('a')
    await record('b')
    await record('c', 'switches')
    await feed.refresh()
    expect(seen.flat()).to.deep.equal(['all', 'a', 'b'])
  })

  it('is woken by the notification long before it would have looked', async () => {
    const { feed, seen } = open({ pollMs: HOUR })
    await feed.refresh()
    await until('LISTEN', async () => (await listeners()) === 1)
    await record('a')
    await until('the change', () => seen.length === 2)
    expect(seen[1]).to.deep.equal(['a'])
  })

  it('looks regularly when no notification arrives', async () => {
    const { feed, seen } = open({
      pollMs: 20,
      openClient: deafClient,
    })
    await feed.refresh()
    await record('a')
    await until('the change', () => seen.length === 2)
    expect(seen[1]).to.deep.equal(['a'])
  })

  it('listens again after its connection was cut, and misses nothing', async () => {
    const { feed, seen } = open({ pollMs: HOUR })
    await feed.refresh()
    await until('LISTEN', async () => (await listeners()) === 1)
    await database.ownerPool.query(
      `select pg_terminate_backend(pid) from pg_stat_activity where query = 'listen gateway_changes'
        and datname = current_database()`,
    )
    await until('the cut', async () => (await listeners()) === 0)
    await record('meanwhile')
    await until('the change', () => seen.flat().includes('meanwhile'))
  })

  it('misses no change that was numbered earlier and committed later', async () => {
    const { feed, seen } = open({ pollMs: HOUR })
    await feed.refresh()
    const slow = new pg.Client({ ...database.runtime })
    await slow.connect()
    await slow.query('begin')
    await slow.query(`select record_change('keys', 'slow')`)
    // Waits for the slow one, because its number is higher.
    const fast = record('fast')
    await feed.refresh()
    expect(seen.slice(1)).to.deep.equal([])
    await slow.query('commit')
    await slow.end()
    await fast
    await feed.refresh()
    expect(seen.slice(1).flat()).to.deep.equal(['slow', 'fast'])
  })

  it('passes over numbers that were never committed', async () => {
    const { feed, seen } = open({ pollMs: HOUR })
    await feed.refresh()
    await record('a')
    await database.pool.query(`begin; select record_change('keys', 'undone'); rollback`)
    await record('b')
    await feed.refresh()
    expect(seen.slice(1).flat()).to.deep.equal(['a', 'b'])
  })

  it('does not confirm what a handler could not apply, and tries again', async () => {
    let isBroken = false
    const tried: ChangedSubjects[] = []
    const health: boolean[] = []
    const { feed } = open({
      pollMs: HOUR,
      openClient: deafClient,
      onHealth: ({ ok }) => void health.push(ok),
    })
    feed.onChange('keys', (subjects) => {
      tried.push(subjects)
      if (isBroken) throw new Error('cannot')
    })
    await feed.refresh()
    const confirmed = feed.confirmedAt()
    isBroken = true
    await record('a')
    const error = await feed.refresh().catch((thrown: Error) => thrown.message)
    expect(error).to.equal('cannot')
    expect(feed.confirmedAt()).to.equal(confirmed)
    isBroken = false
    await feed.refresh()
    expect(tried.filter((subjects) => subjects !== 'all')).to.deep.include(['a'])
    expect(feed.confirmedAt()).to.be.greaterThan(confirmed)
    expect(health).to.deep.equal([false, true])
  })

  it('reads everything again when changes may have been removed unseen, or the table is another one', async () => {
    const { feed, seen } = open({ pollMs: HOUR, openClient: deafClient })
    await record('a')
    await feed.refresh()
    await feed.refresh()
    await record('b')
    await record('c')
    await database.ownerPool.query(`delete from changes where subject in ('a', 'b')`)
    await feed.refresh()
    expect(seen.at(-1)).to.equal('all')
    await database.ownerPool.query('truncate changes restart identity')
    await feed.refresh()
    await feed.refresh()
    expect(seen.slice(-2)).to.deep.equal(['all', 'all'])
    await record('d')
    await feed.refresh()
    expect(seen.at(-1)).to.deep.equal(['d'])
  })

  it('applies thousands of changes in order', async () => {
    const { feed, seen } = open({ pollMs: HOUR })
    await feed.refresh()
    await database.pool.query(`select count(record_change('keys', n::text)) from generate_series(1, 2500) n`)
    await feed.refresh()
    expect(seen.slice(1).flat()).to.deep.equal(Array.from({ length: 2500 }, (_, at) => String(at + 1)))
  })

  it('shares one reading among all who ask during another', async () => {
    let statements = 0
    const db = {
      query: (...args: unknown[]) => {
        if (String(args[0]).includes('from changes where seq')) statements += 1
        return (database.pool.query as (...all: unknown[]) => unknown).apply(database.pool, args)
      },
    } as unknown as ChangeFeedOptions['db']
    const { feed } = open({ pollMs: HOUR, db })
    await feed.refresh()
    await feed.refresh()
    statements = 0
    await Promise.all(Array.from({ length: 500 }, () => feed.refresh()))
    // At most one that was under way, and one that began after the last had asked.
    expect(statements).to.be.within(1, 2)
  })

  it('tells who has applied a change, and names who has not', async () => {
    const quick = open({ pollMs: 20 })
    const slow = open({
      pollMs: HOUR,
      openClient: deafClient,
    })
    await Promise.all([quick.feed.refresh(), slow.feed.refresh()])
    const seq = await record('a')
    const report = await waitUntilApplied(database.pool, seq, 500)
    expect(report).to.deep.equal({ applied: ['gateway 0'], pending: ['gateway 1'] })
    await slow.feed.refresh()
    expect((await waitUntilApplied(database.pool, seq)).pending).to.deep.equal([])
    await slow.feed.close()
    feeds.pop()
    expect(await waitUntilApplied(database.pool, seq)).to.deep.equal({ applied: ['gateway 0'], pending: [] })
  })

  async function listeners(): Promise<number> {
    const { rows } = await database.ownerPool.query(
      `select count(*)::int as count from pg_stat_activity where query = 'listen gateway_changes'
        and datname = current_database()`,
    )
    return rows[0].count
  }
})

describe('the change feed when the database goes away', function () {
  this.timeout(30_000)
  let server: TestServer
  let pool: pg.Pool
  let feed: ChangeFeed

  before(async () => {
    server = await startServer()
    pool = new pg.Pool({ ...server.runtime })
    guardPool(pool, () => undefined)
  })

  after(async () => {
    await feed.close()
    await pool.end()
    await server.dispose()
  })

  it('confirms nothing meanwhile and goes on by itself when it is back', async () => {
    const connection: ConnectionParts = server.runtime
    const health: boolean[] = []
    feed = createChangeFeed({
      db: pool,
      openClient: () => new pg.Client({ ...connection }),
      process: { id: 'p', name: 'p' },
      monotonicMs: () => performance.now(),
      onHealth: ({ ok }) => void health.push(ok),
      pollMs: 20,
    })
    const seen: ChangedSubjects[] = []
    feed.onChange('keys', (subjects) => void seen.push(subjects))
    await feed.refresh()
    await server.stop('immediate')
    await until('the outage', () => health.length === 1)
    const confirmed = feed.confirmedAt()
    await feed.refresh().catch(() => undefined)
    expect(feed.confirmedAt()).to.equal(confirmed)
    await server.restart()
    await pool.query(`select record_change('keys', 'after')`)
    await until('the change', () => seen.flat().includes('after'))
    expect(health).to.deep.equal([false, true])
    expect(feed.confirmedAt()).to.be.greaterThan(confirmed)
  })
})
