import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { toAuditRow } from '../../src/audit/event.ts'
import { createStore } from '../../src/audit/store.ts'
import { denied, newId } from '../audit/fixtures.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

const DAY_MS = 86_400_000

describe('gateway audit prune', () => {
  let database: TestDatabase
  let home: string
  const dayOf = (ago: number) => new Date(Date.now() - ago * DAY_MS).toISOString().slice(0, 10)

  beforeEach(async () => {
    database = await createTestDatabase()
    home = await mkdtemp(join(tmpdir(), 'gateway-prune-'))
    await configure({})
    const store = createStore({
      pool: database.pool,
      writerId: randomUUID(),
      newId,
      clock: { nowMs: Date.now },
    })
    const rows = [0, 95, 120].map((ago) => toAuditRow(denied({ startedMs: Date.now() - ago * DAY_MS })))
    await store.store(
      rows.map((row, index) => store.entry(row, index + 1)),
      () => undefined,
    )
  })
  afterEach(async () => {
    await database.drop()
    await rm(home, { recursive: true, force: true })
  })

  async function configure(
    audit: Readonly<Record<string, unknown>>,
    owner = '${PRUNE_OWNER}',
  ): Promise<void> {
    await writeFile(
      join(home, 'gateway.yaml'),
      stringify({
        database: { url: '${PRUNE_URL}', migrate_url: owner },
        secret: '${PRUNE_SECRET}',
        upstreams: { github: { url: 'http://127.0.0.1:9/mcp' } },
        audit,
      }),
    )
  }

  const prune = (...args: readonly string[]) =>
    withEnvironment(
      {
        PRUNE_URL: database.url,
        PRUNE_OWNER: database.migrateUrl,
        PRUNE_SECRET: randomBytes(32).toString('base64'),
      },
      () => runCli(['audit', 'prune', '--config', join(home, 'gateway.yaml'), ...args]),
    )

  async function rowsLeft(): Promise<number> {
    const { rows } = await database.pool.query<{ left: number }>(
      'select count(*)::int as left from audit_events',
    )
    return rows[0]?.left ?? -1
  }

  it('tells with --dry-run which days would go, and changes nothing', async () => {
    const { code, out } = await prune('--dry-run')
    expect(code).to.equal(0)
    expect(
      out
        .trimEnd()
        .split('\n')
        .map((line) => line.split('\t')[0]),
    ).to.deep.equal([dayOf(120), dayOf(95)])
    const { keep_days: keepDays, days } = JSON.parse(
      (await prune('--dry-run', '--older-than', '100d', '--json')).out,
    )
    expect([keepDays, days.length, days[0].day]).to.deep.equal([100, 1, dayOf(120)])
    expect(await rowsLeft()).to.equal(3)
  })

  it('removes nothing unasked', async () => {
    const result = await prune()
    expect(result.code).to.equal(2)
    expect(result.err).to.include('--yes')
    expect(await rowsLeft()).to.equal(3)
  })

  it('removes the days, and tells where they are archived', async () => {
    const folder = join(home, 'archive')
    const { code, out, err } = await prune('--archive', folder, '--yes')
    expect(code, err).to.equal(0)
    const [first] = out
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t'))
    expect(first?.slice(0, 2)).to.deep.equal([dayOf(120), '1'])
    expect(first?.[3]).to.equal(join(folder, `audit-${dayOf(120)}.ndjson.gz`))
    expect(first?.[4]).to.match(/^[0-9a-f]{64}$/)
    expect(await readdir(folder)).to.have.length(2)
    expect(await rowsLeft()).to.equal(1)
    expect((await prune('--yes')).err).to.include('No day ended more than 90 days ago.')
  })

  it('uses the configured archive and time to keep', async () => {
    await configure({ retention_days: 110, archive_dir: './kept' })
    const { removed } = JSON.parse((await prune('--yes', '--json')).out)
    expect(removed).to.have.length(1)
    expect(removed[0]).to.include({ day: dayOf(120), rows: 1 })
    expect(removed[0].archive.file).to.equal(join(home, 'kept', `audit-${dayOf(120)}.ndjson.gz`))
    await configure({ retention_days: null })
    expect((await prune('--yes')).err).to.include('--older-than')
    expect(await rowsLeft()).to.equal(2)
  })

  it('refuses spans that are no days, and a role that may not', async () => {
    for (const span of ['0d', '12h', '36h', 'x', '99999w']) {
      const result = await prune('--older-than', span, '--yes', '--json')
      expect([result.code, errorOf(result).code]).to.deep.equal([2, 'usage'])
    }
    await configure({}, '${PRUNE_URL}')
    const result = await prune('--yes', '--json')
    expect(errorOf(result)).to.deep.include({ code: 'schema_rights' })
    expect(await rowsLeft()).to.equal(3)
  })
})
