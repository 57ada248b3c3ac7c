/** The database: reachable, the right version and schema, clocks, and what the gateway's role may do. */
import type { ClientBase } from 'pg'
import pg from 'pg'
import type { OpenedDatabase } from '../compose/database.ts'
import type { Connection } from '../db/connection.ts'
import { toClientConfig } from '../db/connection.ts'
import { readSchema } from '../db/migrate.ts'
import { refusePoolingProxy } from '../db/pooling-proxy.ts'
import { toDatabaseUsageError } from '../db/usage-error.ts'
import { UsageError } from '../errors.ts'
import type { Finding, Trouble } from './finding.ts'
import { toFinding } from './finding.ts'

/** Versions of PostgreSQL that are supported, and what the driver and the SQL are tested with. */
const VERSIONS = { oldest: 14, newest: 18 } as const

/** The windows of limits go by the database's clock, rows and keys by the gateway's: more apart than this shows. */
const SKEW_WARN_MS = 2000
const SKEW_FAIL_MS = 60_000

const LIMITS = { connectTimeoutMs: 5000, statementTimeoutMs: 10_000, lockTimeoutMs: 5000 }

/** What was found, and whether the tables are there to look into. */
export interface DatabaseFindings {
  readonly findings: readonly Finding[]
  readonly hasTables: boolean
}

/** Looks at the database. Rejects with nothing that a person can mend: that is a finding. */
export async function checkDatabase(
  database: OpenedDatabase,
  nowMs: () => number,
): Promise<DatabaseFindings> {
  try {
    return await withClient(database.runtime, async (runtime) => {
      const server = await readServer(runtime, nowMs)
      const schema = await withClient(database.owner, readState)
      const finding = toPostgresFinding(server, schema, database.home)
      const hasTables = schema.applied > 0
      return { findings: hasTables ? [finding, await checkRights(runtime)] : [finding], hasTables }
    })
  } catch (error) {
    return { findings: [toDatabaseFailure(error)], hasTables: false }
  }
}

/** The finding for a database that cannot be used. Throws what is a fault of ours. */
export function toDatabaseFailure(error: unknown): Finding {
  const told = toDatabaseUsageError(error)
  if (!(told instanceof UsageError)) throw told
  const fix = 'See database in gateway.yaml: gateway config show'
  return toFinding({
    check: 'postgres',
    title: 'postgres',
    facts: [],
    troubles: [{ state: 'fail', text: told.message, fix }],
  })
}

interface Server {
  readonly version: string
  readonly major: number
  readonly role: string
  readonly place: string
  readonly roundTripMs: number
  /** The database's clock minus ours. */
  readonly skewMs: number
}

async function readServer(client: ClientBase, nowMs: () => number): Promise<Server> {
  const { rows } = await client.query<{ version: string; number: number; role: string; place: string }>(
    `select current_setting('server_version') as version, current_setting('server_version_num')::int as number,
       current_user::text as role, current_database() || coalesce(' on ' || host(inet_server_addr()), '') as place`,
  )
  const [facts] = rows
  const before = nowMs()
  const started = performance.now()
  const clock = await client.query<{ ms: number }>(
    'select (extract(epoch from clock_timestamp()) * 1000)::float8 as ms',
  )
  const roundTripMs = performance.now() - started
  return {
    version: facts?.version.split(' ')[0] ?? '',
    major: Math.floor((facts?.number ?? 0) / 10_000),
    role: facts?.role ?? '',
    place: facts?.place ?? '',
    roundTripMs,
    skewMs: (clock.rows[0]?.ms ?? before) - (before + roundTripMs / 2),
  }
}

interface SchemaState {
  readonly applied: number
  readonly pending: readonly string[]
  readonly role: string
}

async function readState(client: ClientBase): Promise<SchemaState> {
  const { applied, pending } = await readSchema(client)
  const { rows } = await client.query<{ role: string }>('select current_user::text as role')
  return { applied: applied.length, pending, role: rows[0]?.role ?? '' }
}

function toPostgresFinding(server: Server, schema: SchemaState, home: string | null): Finding {
  const total = schema.applied + schema.pending.length
  return toFinding({
    check: 'postgres',
    title: `postgres ${server.version}`,
    facts: [
      ...(home === null ? [] : ['embedded']),
      `${server.roundTripMs.toFixed(1)} ms`,
      `schema ${schema.applied} of ${total}`,
      `clock skew ${Math.round(server.skewMs)} ms`,
    ],
    troubles: [...versionTroubles(server), ...schemaTroubles(schema), ...skewTroubles(server)],
    details: [
      `database ${server.place}`,
      `works as ${server.role}, migrates as ${schema.role}`,
      ...(home === null ? [] : [`lives in ${home}`]),
      ...schema.pending.map((name) => `missing: ${name}`),
    ],
  })
}

function versionTroubles({ major }: Server): Trouble[] {
  const { oldest, newest } = VERSIONS
  if (major < oldest) {
    const fix = `Upgrade it to a version from ${oldest} to ${newest}`
    return [{ state: 'fail', text: `older than ${oldest}`, fix }]
  }
  if (major <= newest) return []
  return [{ state: 'warn', text: `newer than ${newest}`, fix: 'Look for a newer gateway that knows it' }]
}

function schemaTroubles({ pending }: SchemaState): Trouble[] {
  if (pending.length === 0) return []
  const fix = 'gateway db migrate (or start the gateway, which does so)'
  return [{ state: 'warn', text: 'the schema is not up to date', fix }]
}

function skewTroubles({ skewMs }: Server): Trouble[] {
  const apart = Math.abs(skewMs)
  if (apart <= SKEW_WARN_MS) return []
  const fix = 'Let both machines take their time from the same source (NTP)'
  return [{ state: apart > SKEW_FAIL_MS ? 'fail' : 'warn', text: 'the clocks differ', fix }]
}

interface Rights {
  readonly role: string
  readonly is_super: boolean
  readonly may_read: boolean
  readonly may_add: boolean
  readonly may_own: boolean
  /** Of `UPDATE`, `DELETE`, `TRUNCATE`: those it has on the table or on one of its days. */
  readonly too_much: readonly string[]
}

async function checkRights(client: ClientBase): Promise<Finding> {
  const { rows } = await client.query<Rights>(
    `with tables as (
       select 'audit_events'::regclass::oid as id
       union all select inhrelid from pg_inherits where inhparent = 'audit_events'::regclass)
     select current_user::text as role,
       (select rolsuper from pg_roles where rolname = current_user) as is_super,
       has_table_privilege('audit_events', 'SELECT') as may_read,
       has_table_privilege('audit_events', 'INSERT') as may_add,
       pg_has_role((select relowner from pg_class where oid = 'audit_events'::regclass), 'MEMBER') as may_own,
       array(select right_name from unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) as right_name
         where exists (select from tables where has_table_privilege(tables.id, right_name))) as too_much`,
  )
  const [rights] = rows
  if (rights === undefined) throw new Error('the database returned no row for a question about rights')
  return toFinding({
    check: 'postgres',
    subject: 'role',
    title: `role ${rights.role}`,
    facts: rightsTroubles(rights).length === 0 ? ['may add and read audit rows, not change them'] : [],
    troubles: rightsTroubles(rights),
    details: [
      `superuser: ${rights.is_super ? 'yes' : 'no'}`,
      `owns audit_events: ${rights.may_own ? 'yes' : 'no'}`,
    ],
  })
}

const OWN_ROLE = 'Give the gateway a role of its own: database.url for it, database.migrate_url for the owner'

function rightsTroubles({ is_super, may_read, may_add, may_own, too_much }: Rights): Trouble[] {
  const troubles: Trouble[] = []
  if (!(may_read && may_add)) {
    const fix = 'gateway db migrate, as the owner of the tables (database.migrate_url)'
    troubles.push({ state: 'fail', text: 'may not add and read audit rows', fix })
  }
  if (is_super) troubles.push({ state: 'fail', text: 'is a superuser', fix: OWN_ROLE })
  else if (may_own)
    troubles.push({ state: 'fail', text: 'owns the audit rows and can change them', fix: OWN_ROLE })
  else if (too_much.length > 0) {
    const text = `may ${too_much.join(', ')} audit rows`
    troubles.push({
      state: 'fail',
      text,
      fix: `As the owner: revoke ${too_much.join(', ')} on audit_events from it`,
    })
  }
  return troubles
}

async function withClient<T>(connection: Connection, use: (client: ClientBase) => Promise<T>): Promise<T> {
  const client = new pg.Client(toClientConfig(connection, 'doctor', LIMITS))
  // A connection that breaks between two statements shows up in the next one.
  client.on('error', () => undefined)
  try {
    await client.connect()
    await refusePoolingProxy(client, connection)
    return await use(client)
  } finally {
    await client.end().catch(() => undefined)
  }
}
