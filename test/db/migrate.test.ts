import { inspect } from 'node:util'
import { expect } from 'chai'
import pg from 'pg'
import type { ConnectionParts } from '../../src/db/connection.ts'
import { toConnectionUrl } from '../../src/db/connection.ts'
import { migrate, readSchema } from '../../src/db/migrate.ts'
import { MIGRATIONS } from '../../src/db/migrations/index.ts'
import type { Migration } from '../../src/db/migrations/migration.ts'
import { UsageError } from '../../src/errors.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

describe('migrate', () => {
  let database: TestDatabase

  beforeEach(async () => {
    database = await createTestDatabase()
    // An empty database, as an operator gives it.
    await database.ownerPool.query(
      'drop schema public cascade; create schema public; grant usage on schema public to public',
    )
  })

  afterEach(async () => {
    await database.drop()
  })

  const step = (id: number, sql: string, grants: readonly string[] = []): Migration => ({
    id,
    name: `step-${id}`,
    up: async (client) => void (await client.query(sql)),
    grants,
  })

  async function failure(promise: Promise<unknown>): Promise<UsageError> {
    const error = await promise.then(
      () => new Error('it was fulfilled'),
      (thrown: unknown) => thrown,
    )
    expect(error).to.be.instanceOf(UsageError)
    return error as UsageError
  }

  it('numbers its steps without gaps', () => {
    expect(MIGRATIONS.map((one) => one.id)).to.deep.equal(MIGRATIONS.map((_, at) => at + 1))
  })

  it('applies every step once and then finds nothing to do', async () => {
    const first = await migrate(database)
    expect(first.applied).to.deep.equal(
      MIGRATIONS.map((one) => `${String(one.id).padStart(4, '0')}-${one.name}`),
    )
    expect(await migrate(database)).to.deep.equal({ applied: [], version: MIGRATIONS.length })
    const status = await readSchema(database.pool)
    expect(status.pending).to.deep.equal([])
    expect(status.applied).to.have.length(MIGRATIONS.length)
  })

  it('applies every step once when several gateways start at once', async () => {
    const reports = await Promise.all([1, 2, 3, 4].map(() => migrate(database)))
    expect(reports.flatMap((report) => report.applied)).to.have.length(MIGRATIONS.length)
  })

  it('gives the runtime role what it needs and nothing that would rewrite the audit log', async () => {
    await migrate(database)
    await database.pool.query('select id from api_keys')
    await database.pool.query('select count(*) from audit_events')
    for (const forbidden of [
      'update audit_events set reason = null',
      'delete from audit_events',
      'truncate audit_events',
      'drop table audit_events',
      'delete from api_keys',
      'insert into schema_migrations values (99)',
      'create table mine ()',
    ]) {
      const error = await database.pool.query(forbidden).then(
        () => null,
        (thrown: unknown) => thrown as { code: string },
      )
      expect(error?.code, forbidden).to.equal('42501')
    }
  })

  it('works with one role for everything', async () => {
    const report = await migrate({ owner: database.owner, runtime: database.owner })
    expect(report.applied).to.have.length(MIGRATIONS.length)
    expect((await migrate({ owner: database.owner, runtime: database.owner })).applied).to.deep.equal([])
  })

  it('works with URLs, and gives rights to a runtime role that is set up later', async () => {
    await migrate({ owner: database.owner, runtime: database.owner })
    const before = await database.pool.query('select from api_keys').catch((error: Error) => error.message)
    expect(before).to.match(/permission denied/)
    const url = (parts: ConnectionParts) => ({ connectionString: toConnectionUrl(parts) })
    await migrate({ owner: url(database.owner), runtime: url(database.runtime) })
    await database.pool.query('select from api_keys')
  })

  it('compresses what is large with lz4 where the server has it, also when it has learnt it only since', async () => {
    await migrate(database)
    const compressionOf = async (table: string) => {
      const { rows } = await database.ownerPool.query<{ way: string }>(
        `select distinct attcompression::text as way from pg_attribute
         where attrelid = $1::regclass and attname in ('decision', 'request_json', 'response_json')`,
        [table],
      )
      return rows.map(({ way }) => way)
    }
    const [whole] = await compressionOf('audit_events')
    await database.ownerPool.query('alter table audit_events alter column decision set compression pglz')
    const { rows } = await database.pool.query<{ day: string }>(
      `select to_char(day, 'YYYYMMDD') as day, audit_create_day(day) from (select (now() at time zone 'UTC')::date as day) d`,
    )
    expect(await compressionOf(`audit_events_${rows[0]?.day}`)).to.deep.equal([whole])
    expect(whole).to.be.oneOf(['l', ''])
  })

  it('keeps a failing step out altogether, and the ones before it', async () => {
    const migrations = [step(1, 'create table one ()'), step(2, 'create table two (); select 1/0')]
    const error = await migrate({ ...database, migrations }).catch((thrown: Error) => thrown)
    expect(error).to.match(/division by zero/)
    const { rows } = await database.ownerPool.query(
      `select to_regclass('one') is not null as one, to_regclass('two') is not null as two,
        (select array_agg(id) from schema_migrations) as applied`,
    )
    expect(rows).to.deep.equal([{ one: true, two: false, applied: [1] }])
    const mended = [step(1, 'create table one ()'), step(2, 'create table two ()')]
    expect((await migrate({ ...database, migrations: mended })).applied).to.deep.equal(['0002-step-2'])
  })

  it('refuses a schema that a newer gateway has made', async () => {
    await migrate({ ...database, migrations: [step(1, 'select'), step(2, 'select'), step(3, 'select')] })
    const error = await failure(migrate({ ...database, migrations: [step(1, 'select'), step(2, 'select')] }))
    expect(error.code).to.equal('schema_newer')
    expect(error.message).to.match(/version 3 \(step-3\), this gateway knows versions up to 2/)
  })

  it('refuses a schema of another build', async () => {
    await migrate({ ...database, migrations: [step(1, 'select')] })
    const error = await failure(
      migrate({ ...database, migrations: [{ ...step(1, 'select'), name: 'other' }] }),
    )
    expect(error.code).to.equal('schema_newer')
    expect(error.message).to.match(/called "step-1", this gateway knows it as "other"/)
  })

  it('says which setting is missing when the only role may not make tables', async () => {
    for (const rights of ['select', 'revoke usage on schema public from public']) {
      await database.ownerPool.query(rights)
      const error = await failure(migrate({ owner: database.runtime, runtime: database.runtime }))
      expect(error.code).to.equal('schema_rights')
      expect(error.message).to.match(/database\.migrate_url/)
    }
  })

  it('starts without rights to change the schema when there is nothing to change', async () => {
    await migrate(database)
    const report = await migrate({ owner: database.runtime, runtime: database.runtime })
    expect(report.applied).to.deep.equal([])
  })

  it('gives up on a migration that hangs elsewhere, and names how to find it', async () => {
    const holder = new pg.Client({ ...database.owner })
    await holder.connect()
    await holder.query('select pg_advisory_lock(7235104427113200)')
    const told: string[] = []
    const options = { ...database, lockWaitMs: 150, onProgress: (text: string) => void told.push(text) }
    const error = await failure(migrate(options))
    await holder.end()
    expect(error.message).to.match(/pg_stat_activity/)
    expect(told).to.deep.equal(['waiting for another gateway that is upgrading the database'])
  })

  it('shows nothing of a URL that is none', async () => {
    const connectionString = 'postgres://me:hunter2@[nonsense'
    const error = await failure(migrate({ owner: { connectionString }, runtime: { connectionString } }))
    expect(error.code).to.equal('config')
    expect(inspect(error, { depth: 10, showHidden: true })).to.not.include('hunter2')
  })

  it('explains a server that cannot be reached or refuses, without the password', async () => {
    const tries: [Partial<ConnectionParts>, RegExp][] = [
      [{ host: '/tmp/nothing-here' }, /no such socket/],
      [{ host: '127.0.0.1', port: 1 }, /Nothing listens there/],
      [{ password: 'wrong-and-secret' }, /password was refused/],
      [{ database: 'nothing' }, /Create the database first/],
    ]
    for (const [change, text] of tries) {
      const owner = { ...database.owner, ...change }
      const error = await failure(migrate({ owner, runtime: owner }))
      expect(error.code).to.equal('unreachable')
      expect(error.message).to.match(text)
      expect(error.message).to.not.include(owner.password)
    }
  })
})
