import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { MIGRATIONS } from '../../src/db/migrations/index.ts'
import type { CliResult } from '../support/cli.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import { SECRET } from '../support/gateway.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

const NAMES = MIGRATIONS.map(({ id, name }) => `${String(id).padStart(4, '0')}-${name}`)

describe('gateway db', () => {
  let database: TestDatabase
  let folder: string

  beforeEach(async () => {
    database = await createTestDatabase()
    folder = mkdtempSync(join(tmpdir(), 'gateway-db-'))
    writeFileSync(join(folder, 'url'), database.url)
    writeFileSync(join(folder, 'migrate-url'), database.migrateUrl)
    writeFileSync(join(folder, 'secret'), SECRET)
    configure(database.migrateUrl)
  })
  afterEach(async () => {
    await database.drop()
    rmSync(folder, { recursive: true, force: true })
  })

  function configure(migrateUrl: string | null): void {
    if (migrateUrl !== null) writeFileSync(join(folder, 'migrate-url'), migrateUrl)
    const document = {
      database: { url_file: './url', ...(migrateUrl === null ? {} : { migrate_url_file: './migrate-url' }) },
      secret_file: './secret',
      upstreams: { a: { url: 'http://127.0.0.1:9/' } },
    }
    writeFileSync(join(folder, 'gateway.yaml'), stringify(document))
  }

  async function db(...args: string[]): Promise<CliResult> {
    return await withEnvironment({ DATABASE_URL: undefined }, () =>
      runCli(['db', ...args, '--config', join(folder, 'gateway.yaml')]),
    )
  }

  it('status shows the steps, as a table and for programs', async () => {
    const { code, out } = await db('status')
    expect(code).to.equal(0)
    expect(out.trimEnd().split('\n')).to.have.length(NAMES.length)
    expect(out).to.match(new RegExp(`^${NAMES[0]}\tapplied\t20\\d\\d-`))
    const { applied, pending } = JSON.parse((await db('status', '--json')).out)
    expect(applied).to.have.length(NAMES.length)
    expect(pending).to.deep.equal([])
  })

  it('status changes nothing and says what to do about a database without tables', async () => {
    await database.ownerPool.query('drop schema public cascade; create schema public')
    const { code, out, err } = await db('status')
    expect(code).to.equal(0)
    expect(out).to.include(`${NAMES[0]}\tmissing\t`)
    expect(err).to.include('Next: gateway db migrate\n')
    const { rows } = await database.ownerPool.query("select 1 from pg_tables where schemaname = 'public'")
    expect(rows).to.deep.equal([])
  })

  it('migrate applies what is missing, once', async () => {
    await database.ownerPool.query('drop schema public cascade; create schema public')
    const first = await db('migrate')
    expect(first.code, first.err).to.equal(0)
    expect(first.out).to.equal(
      `${NAMES.map((name) => `applied  ${name}\n`).join('')}ok  schema ${NAMES.length}, ${NAMES.length} steps applied now\n`,
    )
    const again = await db('migrate', '--json')
    expect(JSON.parse(again.out)).to.deep.equal({ applied: [], version: NAMES.length })
  })

  it('migrate says when the role may not, and changes nothing', async () => {
    await database.ownerPool.query('drop schema public cascade; create schema public')
    configure(null)
    const refused = await db('migrate', '--json')
    expect(refused.code).to.equal(2)
    expect(errorOf(refused)).to.include({ code: 'schema_rights' })
    expect(errorOf(refused).message)
      .to.include('database.migrate_url')
      .and.not.include(database.runtime.password)
  })

  it('both refuse a database that a newer gateway has upgraded', async () => {
    await database.ownerPool.query("insert into schema_migrations (id, name) values (9999, 'later')")
    for (const verb of ['status', 'migrate']) {
      const refused = await db(verb, '--json')
      expect(refused.code, verb).to.equal(2)
      expect(errorOf(refused), verb).to.include({ code: 'schema_newer' })
    }
  })

  it('both say when the database cannot be reached', async () => {
    writeFileSync(join(folder, 'url'), 'postgres://gw:hunter2@127.0.0.1:1/none')
    configure('postgres://gw:hunter2@127.0.0.1:1/none')
    for (const verb of ['status', 'migrate']) {
      const refused = await db(verb, '--json')
      expect(refused.code, verb).to.equal(2)
      expect(errorOf(refused), verb).to.include({ code: 'unreachable' })
      expect(refused.err).to.not.include('hunter2')
    }
  })
})
