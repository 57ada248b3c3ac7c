import { createHash, generateKeyPairSync, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect } from 'chai'
import pg from 'pg'
import { toAuditRow } from '../../src/audit/event.ts'
import type { RecordRetirement, RetiredDay } from '../../src/audit/retention.ts'
import { mayRetire, oldDays, retireDays } from '../../src/audit/retention.ts'
import { createRetirementRecord } from '../../src/audit/retirement.ts'
import { createSigner } from '../../src/audit/signing.ts'
import { createStore } from '../../src/audit/store.ts'
import { verifyLog } from '../../src/audit/verify.ts'
import { openRetention } from '../../src/compose/retention.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { denied, newId, toolsCall } from './fixtures.ts'

const DAY_MS = 86_400_000

describe('retention of audit rows', () => {
  let database: TestDatabase
  let folder: string
  let client: pg.Client
  const nowMs = Date.now()
  const dayOf = (ago: number) => new Date(nowMs - ago * DAY_MS).toISOString().slice(0, 10)
  const tableOf = (ago: number) => `audit_events_${dayOf(ago).replaceAll('-', '')}`

  beforeEach(async () => {
    database = await createTestDatabase()
    folder = await mkdtemp(join(tmpdir(), 'gateway-retention-'))
    client = new pg.Client({ ...database.owner, lock_timeout: 2000 })
    client.on('error', () => undefined)
    await client.connect()
  })
  afterEach(async () => {
    await client.end()
    await database.drop()
    await rm(folder, { recursive: true, force: true })
  })

  /** Rows of these days, of two writers; with digits that JavaScript would not keep. */
  async function fill(days: readonly number[], rows = 3): Promise<void> {
    for (const writer of [randomUUID(), randomUUID()]) {
      const store = createStore({ pool: database.pool, writerId: writer, newId, clock: { nowMs: Date.now } })
      const entries = days.flatMap((ago) =>
        Array.from({ length: rows }, () => {
          const startedMs = nowMs - ago * DAY_MS
          return toAuditRow(denied({ startedMs, message: toolsCall('{"n":12345678901234567890.50}') }))
        }),
      )
      await store.store(
        entries.map((row, seq) => store.entry(row, seq + 1)),
        () => undefined,
      )
    }
  }

  const retire = (changes: Partial<Parameters<typeof retireDays>[0]> = {}) =>
    retireDays({
      ...{ db: client, keepDays: 90, nowMs, archiveFolder: null, recordRetirement: async () => undefined },
      ...changes,
    })

  async function daysLeft(): Promise<readonly string[]> {
    const { rows } = await client.query<{ day: string }>(
      `select distinct to_char(ts at time zone 'UTC', 'YYYY-MM-DD') as day from audit_events order by day`,
    )
    return rows.map(({ day }) => day)
  }

  async function tables(): Promise<readonly string[]> {
    const { rows } = await client.query<{ relname: string }>(
      `select relname from pg_class where relkind = 'r' and relname like 'audit_events_2%' order by relname`,
    )
    return rows.map(({ relname }) => relname)
  }

  async function failure(promise: Promise<unknown>): Promise<string> {
    return await promise.then(
      () => 'it was fulfilled',
      (thrown: unknown) => String(thrown),
    )
  }

  it('removes whole days that ended long enough ago, and no other', async () => {
    await fill([0, 89, 90, 91, 200])
    expect((await oldDays(client, 90, nowMs)).map(({ day }) => day)).to.deep.equal([dayOf(200), dayOf(91)])
    const retired = await retire()
    expect(retired?.map(({ day, rows }) => [day, rows])).to.deep.equal([
      [dayOf(200), 6],
      [dayOf(91), 6],
    ])
    expect(await daysLeft()).to.deep.equal([dayOf(90), dayOf(89), dayOf(0)])
    expect(await tables()).to.not.include(tableOf(91))
    expect(await retire()).to.deep.equal([])
  })

  it('goes by the later of the two clocks', async () => {
    await fill([0, 20])
    expect(await retire({ nowMs: nowMs - 80 * DAY_MS, keepDays: 10 })).to.deep.equal([])
    expect(await retire({ nowMs: nowMs + 400 * DAY_MS })).to.deep.equal([])
    expect(await retire({ nowMs: Number.NaN, keepDays: 1 })).to.deep.equal([])
    for (const keepDays of [0, -1, 0.5, Number.NaN])
      expect(await failure(retire({ keepDays }))).to.include('at least a day')
    expect(await daysLeft()).to.have.length(2)
  })

  it('archives every row before it goes, for its owner only, with all digits', async () => {
    await fill([100])
    const { rows: stored } = await client.query<{ line: string }>(
      'select to_json(e)::text as line from audit_events e order by writer, seq',
    )
    const archives = join(folder, 'new', 'archives')
    const [day] = (await retire({ archiveFolder: archives })) ?? []
    expect(day?.archive).to.include({ file: join(archives, `audit-${dayOf(100)}.ndjson.gz`), rows: 6 })
    const file = await readFile(day?.archive?.file ?? '')
    expect(createHash('sha256').update(file).digest('hex')).to.equal(day?.archive?.sha256)
    expect(file.length).to.equal(day?.archive?.bytes)
    const lines = gunzipSync(file).toString().trimEnd().split('\n')
    expect(lines).to.deep.equal(stored.map(({ line }) => line))
    expect(lines[0]).to.include('12345678901234567890.50')
    expect((await stat(day?.archive?.file ?? '')).mode & 0o777).to.equal(0o600)
    expect((await stat(archives)).mode & 0o777).to.equal(0o700)
    expect(await readdir(archives)).to.have.length(1)
    // It can be put back.
    await client.query(
      `select audit_create_day($1); `.replace('$1', `'${dayOf(100)}'`) +
        `insert into audit_events select (json_populate_record(null::audit_events, line)).* from (values ${lines
          .map((line) => `(${pg.escapeLiteral(line)}::json)`)
          .join(',')}) as archived (line)`,
    )
    const { rows: back } = await client.query(
      'select to_json(e)::text as line from audit_events e order by writer, seq',
    )
    expect(back).to.deep.equal(stored)
  })

  it('keeps every row where the archive cannot be written', async () => {
    await fill([100])
    await writeFile(join(folder, 'file'), '')
    expect(await failure(retire({ archiveFolder: join(folder, 'file') }))).to.match(/EEXIST|ENOTDIR/)
    expect(await daysLeft()).to.deep.equal([dayOf(100)])
    expect(await retire({ archiveFolder: folder })).to.have.length(1)
  })

  it('writes over no archive: an equal one is used, beside another one stands a new one', async () => {
    const name = `audit-${dayOf(100)}.ndjson.gz`
    await writeFile(join(folder, name), 'of another database')
    await fill([100])
    const dying: RecordRetirement = async () => {
      throw new Error('the end')
    }
    expect(await failure(retire({ archiveFolder: folder, recordRetirement: dying }))).to.include('the end')
    const [day] = (await retire({ archiveFolder: folder })) ?? []
    expect(day?.archive?.file).to.equal(join(folder, `audit-${dayOf(100)}.2.ndjson.gz`))
    expect(await readFile(join(folder, name), 'utf8')).to.equal('of another database')
    expect((await readdir(folder)).sort()).to.deep.equal([`audit-${dayOf(100)}.2.ndjson.gz`, name].sort())
  })

  it('drops a day only together with the record of it, and finishes what was left half way', async () => {
    await fill([100, 101])
    const records: RetiredDay[] = []
    let isDying = true
    const recordRetirement: RecordRetirement = async (db, day) => {
      await db.query('create table if not exists removed (day date)')
      await db.query('insert into removed values ($1)', [day.day])
      records.push(day)
      if (isDying && records.length === 2) throw new Error('killed here')
    }
    expect(await failure(retire({ recordRetirement }))).to.include('killed here')
    const removed = async () => (await client.query('select day::text from removed order by day')).rows
    expect(await removed()).to.deep.equal([{ day: dayOf(101) }])
    expect(await tables()).to.include(tableOf(100))
    isDying = false
    const [rest] = (await retire({ recordRetirement, archiveFolder: folder })) ?? []
    expect(rest).to.deep.include({ day: dayOf(100), rows: 6 })
    expect(await removed()).to.deep.equal([{ day: dayOf(101) }, { day: dayOf(100) }])
    expect(await tables()).to.deep.equal([])
    expect(rest?.spans).to.have.length(2)
    expect(rest?.spans[0]).to.deep.include({ rows: 3, fromSeq: '1', toSeq: '3' })
  })

  it('leaves a signed record of every run of rows, on which the chain goes on', async () => {
    const signer = createSigner(generateKeyPairSync('ed25519').privateKey)
    const recordRetirement = createRetirementRecord(signer, () => nowMs)
    await fill([100, 0, 100, 0], 2)
    const [gone] = (await retire({ recordRetirement, archiveFolder: folder })) ?? []
    expect(gone?.spans.map(({ fromSeq, toSeq }) => `${fromSeq}-${toSeq}`)).to.deep.equal([
      '1-2',
      '5-6',
      '1-2',
      '5-6',
    ])
    const verified = () =>
      verifyLog({ db: client, since: null, until: null, anchors: null, publicKeys: null })
    expect(await verified()).to.deep.include({ ok: true, rows: 8, retired: 8, retiredUnsigned: 0 })
    await client.query("update audit_retired set last_leaf = sha256('forged') where from_seq = 5")
    expect(await verified()).to.deep.include({ ok: false })
  })

  it('archives again what came in while the day was archived', async () => {
    await fill([100])
    let isLate = true
    const late = {
      query: async (...args: Parameters<pg.Client['query']>) => {
        if (isLate && String(args[0]).startsWith('alter table')) {
          isLate = false
          await fill([100], 1)
        }
        return await (client.query as (...all: unknown[]) => Promise<unknown>).apply(client, args)
      },
    } as unknown as pg.Client
    const [day] = (await retire({ db: late, archiveFolder: folder })) ?? []
    expect(isLate).to.equal(false)
    expect(day).to.include({ rows: 8 })
    expect(
      gunzipSync(await readFile(day?.archive?.file ?? ''))
        .toString()
        .trimEnd()
        .split('\n'),
    ).to.have.length(8)
  })

  it('leaves alone what only looks like a day', async () => {
    await fill([100])
    await client.query(`create table ${tableOf(150)} as select * from audit_events`)
    expect(await failure(retire())).to.include(`rows of other days than ${dayOf(150)}`)
    expect(await daysLeft()).to.deep.equal([dayOf(100)])
    await client.query(`drop table ${tableOf(150)}; create table audit_events_notes (); create schema other;
      create table other.${tableOf(150)} ()`)
    expect((await retire())?.map(({ day }) => day)).to.deep.equal([dayOf(100)])
    expect(
      (await client.query(`select to_regclass('other.${tableOf(150)}') is not null as there`)).rows,
    ).to.deep.equal([{ there: true }])
  })

  it('is done by one process at a time', async () => {
    await fill([100])
    const other = new pg.Client(database.owner)
    await other.connect()
    let second: unknown = 'not asked'
    const recordRetirement: RecordRetirement = async () => {
      second = await retire({ db: other })
    }
    expect(await retire({ recordRetirement })).to.have.length(1)
    await other.end()
    expect(second).to.equal(null)
  })

  it('waits for nobody for ever: a day that is held stays, and goes with the next run', async () => {
    await fill([100])
    const reader = await database.pool.connect()
    await reader.query(`begin; select count(*) from audit_events where ts < '${dayOf(50)}'`)
    await client.query(`set lock_timeout = '50ms'`)
    expect(await failure(retire())).to.include('lock timeout')
    await reader.query('commit')
    reader.release()
    expect(await retire()).to.have.length(1)
    expect(await tables()).to.deep.equal([])
  })

  it('cannot be done by the role the gateway works as', async () => {
    await fill([100])
    const runtime = new pg.Client(database.runtime)
    await runtime.connect()
    expect(await mayRetire(runtime)).to.equal(false)
    expect(await mayRetire(client)).to.equal(true)
    expect(await failure(retire({ db: runtime }))).to.include('permission denied for table')
    await runtime.end()
    expect(await daysLeft()).to.deep.equal([dayOf(100)])
  })

  describe('while a gateway runs', () => {
    const lines: { level: string; message: string; fields: object }[] = []
    const log = (level: string) => (fields: object, message?: string) =>
      void lines.push({ level, message: message ?? '', fields })
    const open = (owner: TestDatabase['owner'], archiveFolder: string | null) =>
      openRetention({
        ...{ owner, keepDays: 90, archiveFolder, signer: null, nowMs: () => nowMs },
        log: { info: log('info'), warn: log('warn'), error: log('error') } as unknown as Parameters<
          typeof openRetention
        >[0]['log'],
      })
    beforeEach(() => void lines.splice(0))

    it('is done at once, and told with the name and digest of the archive', async () => {
      await fill([0, 100])
      const retention = open(database.owner, folder)
      await retention.run()
      await retention.close()
      expect(await daysLeft()).to.deep.equal([dayOf(0)])
      expect(lines).to.have.length(1)
      expect(lines[0]?.fields).to.include({ day: dayOf(100), rows: 6 })
    })

    it('is only asked for where the role may not: told once', async () => {
      await fill([100])
      const retention = open(database.runtime, null)
      await retention.run()
      await retention.run()
      await retention.close()
      expect(lines.map(({ level }) => level)).to.deep.equal(['warn'])
      expect(lines[0]?.message).to.include('gateway audit prune')
      expect(await daysLeft()).to.deep.equal([dayOf(100)])
    })

    it('fails into the log, with the reason', async () => {
      await fill([100])
      await mkdir(join(folder, 'x'))
      await writeFile(join(folder, 'x', 'file'), '')
      const retention = open(database.owner, join(folder, 'x', 'file'))
      await retention.run()
      await retention.close()
      expect(lines.map(({ level }) => level)).to.deep.equal(['error'])
      expect(await daysLeft()).to.deep.equal([dayOf(100)])
    })
  })
})
