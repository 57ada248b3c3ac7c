/** Brings the schema up to date: numbered, forward only, one gateway at a time. */

import type { Client, ClientBase } from 'pg'
import pg from 'pg'
import { UsageError } from '../errors.ts'
import type { Connection } from './connection.ts'
import { toClientConfig } from './connection.ts'
import { MIGRATIONS } from './migrations/index.ts'
import type { Migration } from './migrations/migration.ts'
import { refusePoolingProxy } from './pooling-proxy.ts'
import { toDatabaseUsageError } from './usage-error.ts'

/** What {@link migrate} needs. */
export interface MigrateOptions {
  /** Role that owns the tables. */
  readonly owner: Connection
  /** Role the gateway works as; the same object or an equal one when there is only one role. */
  readonly runtime: Connection
  /** Told what is going on: worth showing when it takes longer than a second. */
  readonly onProgress?: (text: string) => void
  /** How long to wait for another gateway that is migrating. */
  readonly lockWaitMs?: number
  /** Another list of steps; for tests. */
  readonly migrations?: readonly Migration[]
}

/** What {@link migrate} did. */
export interface MigrateReport {
  /** Names of the steps applied now, as `0001-keys`. */
  readonly applied: readonly string[]
  /** The schema's version afterwards. */
  readonly version: number
}

/** What {@link readSchema} found. */
export interface SchemaStatus {
  readonly applied: readonly { readonly id: number; readonly name: string; readonly appliedAt: Date }[]
  /** Names of the steps this gateway knows and the database lacks. */
  readonly pending: readonly string[]
}

/** Shared by every version of the gateway: never change it. */
const MIGRATION_LOCK = '7235104427113200'
const LOCK_POLL_MS = 100
const MAX_TRIES = 10
const DEFAULT_LOCK_WAIT_MS = 120_000

/**
 * Applies what is missing and gives the runtime role its rights. Waits for another gateway that is at it.
 *
 * Throws UsageError `unreachable` (server, password, proxy in transaction mode), `schema_newer` (a newer gateway has been
 * here: this one must not run) or `schema_rights` (the role may not create tables).
 */
export async function migrate(options: MigrateOptions): Promise<MigrateReport> {
  const migrations = options.migrations ?? MIGRATIONS
  const runtimeRole = await currentRole(options.runtime)
  return await withClient(options.owner, async (client) => {
    const isOneRole = (await roleOf(client)) === runtimeRole
    const before = await readSchema(client, migrations)
    if (before.pending.length === 0 && isOneRole) return { applied: [], version: before.applied.length }
    await waitForLock(client, options)
    const applied = await applyPending(client, migrations, options.onProgress)
    if (!isOneRole) await giveRightsAgain(client, migrations, runtimeRole)
    return { applied, version: migrations.length }
  })
}

/** Which steps are applied and which are missing. Throws UsageError `schema_newer` when the database knows more than we do. */
export async function readSchema(
  client: Pick<ClientBase, 'query'>,
  migrations: readonly Migration[] = MIGRATIONS,
): Promise<SchemaStatus> {
  const known = await client.query<{ present: boolean }>(
    `select to_regclass('schema_migrations') is not null as present`,
  )
  if (known.rows[0]?.present !== true) return { applied: [], pending: migrations.map(stepName) }
  const { rows } = await client.query<{ id: number; name: string; applied_at: Date }>(
    'select id, name, applied_at from schema_migrations order by id',
  )
  refuseForeignSteps(rows, migrations)
  return {
    applied: rows.map((row) => ({ id: row.id, name: row.name, appliedAt: row.applied_at })),
    pending: migrations.slice(rows.length).map(stepName),
  }
}

function refuseForeignSteps(
  rows: readonly { readonly id: number; readonly name: string }[],
  migrations: readonly Migration[],
): void {
  const newest = rows.at(-1)
  if (newest !== undefined && newest.id > migrations.length) {
    throw new UsageError(
      'schema_newer',
      `The database's schema is at version ${newest.id} (${newest.name}), this gateway knows versions up to ${migrations.length}. ` +
        'A newer gateway has upgraded it: run that version (or a newer one) here too.',
    )
  }
  rows.forEach((row, at) => {
    const step = migrations[at]
    if (step === undefined || row.id !== step.id || row.name !== step.name) {
      throw new UsageError(
        'schema_newer',
        `Schema step ${row.id} of the database is called "${row.name}", this gateway knows it as "${step?.name ?? 'nothing'}". ` +
          'The database belongs to another build: point database.url at its own database.',
      )
    }
  })
}

async function waitForLock(client: Client, options: MigrateOptions): Promise<void> {
  const deadline = performance.now() + (options.lockWaitMs ?? DEFAULT_LOCK_WAIT_MS)
  for (let isFirst = true; ; isFirst = false) {
    const { rows } = await client.query<{ held: boolean }>('select pg_try_advisory_lock($1) as held', [
      MIGRATION_LOCK,
    ])
    if (rows[0]?.held === true) return
    if (isFirst) options.onProgress?.('waiting for another gateway that is upgrading the database')
    if (performance.now() > deadline) {
      throw new UsageError(
        'unreachable',
        'Another gateway has been upgrading the database for minutes. See `select * from pg_stat_activity` for ' +
          'application_name mcp-policy-gateway/migrate; end that session if it hangs, then start again.',
      )
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_POLL_MS))
  }
}

async function applyPending(
  client: Client,
  migrations: readonly Migration[],
  onProgress: MigrateOptions['onProgress'],
): Promise<string[]> {
  await client.query(`
    create table if not exists schema_migrations (
      id int primary key, name text not null, applied_at timestamptz not null default now())`)
  // Read again: another gateway may have been here before the lock was ours.
  const { applied } = await readSchema(client, migrations)
  const done: string[] = []
  for (const step of migrations.slice(applied.length)) {
    onProgress?.(`upgrading the database: ${stepName(step)}`)
    await applyStep(client, step)
    done.push(stepName(step))
  }
  return done
}

async function applyStep(client: Client, step: Migration): Promise<void> {
  await client.query('begin')
  try {
    await client.query('insert into schema_migrations (id, name) values ($1, $2)', [step.id, step.name])
    await step.up(client)
    await client.query('commit')
  } catch (error) {
    await client.query('rollback').catch(() => undefined)
    throw error
  }
}

/** A day attached by a gateway that runs changes the same catalog rows; PostgreSQL then gives one of the two up (XX000). */
async function giveRightsAgain(
  client: Client,
  migrations: readonly Migration[],
  role: string,
): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await giveRights(client, migrations, role)
      return
    } catch (error) {
      await client.query('rollback').catch(() => undefined)
      if ((error as { code?: unknown }).code !== 'XX000' || tries === MAX_TRIES) throw error
    }
  }
}

async function giveRights(client: Client, migrations: readonly Migration[], role: string): Promise<void> {
  const quoted = pg.escapeIdentifier(role)
  await client.query('begin')
  const { rows } = await client.query<{ schema: string }>('select current_schema() as schema')
  await client.query(`grant usage on schema ${pg.escapeIdentifier(rows[0]?.schema ?? 'public')} to ${quoted}`)
  await client.query(`grant select on table schema_migrations to ${quoted}`)
  for (const grant of migrations.flatMap((step) => step.grants)) {
    await client.query(`grant ${grant} to ${quoted}`)
  }
  await client.query('commit')
}

function stepName(step: Migration): string {
  return `${String(step.id).padStart(4, '0')}-${step.name}`
}

async function currentRole(connection: Connection): Promise<string> {
  return await withClient(connection, roleOf)
}

async function roleOf(client: Pick<ClientBase, 'query'>): Promise<string> {
  const { rows } = await client.query<{ role: string }>('select current_user::text as role')
  return rows[0]?.role ?? ''
}

async function withClient<T>(connection: Connection, use: (client: Client) => Promise<T>): Promise<T> {
  const limits = { connectTimeoutMs: 10_000, statementTimeoutMs: 0, lockTimeoutMs: 60_000 }
  let client: Client | null = null
  try {
    client = new pg.Client(toClientConfig(connection, 'migrate', limits))
    // A connection that breaks between two statements shows up in the next one.
    client.on('error', () => undefined)
    await client.connect()
    await refusePoolingProxy(client, connection)
    return await use(client)
  } catch (error) {
    throw toDatabaseUsageError(error)
  } finally {
    await client?.end().catch(() => undefined)
  }
}
