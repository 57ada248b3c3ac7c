/** What stands in the database: audit rows and keys. */
import type { Pool } from 'pg'
import { ADMIN_SCOPE } from '../admin/admin.ts'
import type { ApiKey } from '../auth/key-store.ts'
import { listKeys } from '../auth/key-store.ts'
import type { Config } from '../config/types.ts'
import type { Finding, Trouble } from './finding.ts'
import { countText, spanText, toFinding } from './finding.ts'

type Db = Pick<Pool, 'query'>

const DAY_MS = 86_400_000
/** A key that ends sooner is worth a word. */
const SOON_MS = 7 * DAY_MS
/** Keys that are named; the rest is counted. */
const MAX_NAMED = 20

interface AuditFacts {
  /** Age of the newest row; null = there is none. */
  readonly last_ms: number | null
  /** By the database's clock, UTC, as YYYYMMDD. */
  readonly today: string
  /** Days that have a table, as YYYYMMDD. */
  readonly days: readonly string[]
  /** Names of the gateways that have reported in the last seconds. */
  readonly running: readonly string[]
}

/** When the last row was stored, and whether there is room for those of the days to come. */
export async function checkAudit(db: Db, config: Config): Promise<Finding> {
  if (!config.audit.enabled) {
    const fix = 'Set audit.enabled: true'
    const troubles: Trouble[] = [{ state: 'warn', text: 'off: nothing is recorded', fix }]
    return toFinding({ check: 'audit', title: 'audit', facts: [], troubles })
  }
  const { last_ms, today, days, running } = await readAudit(db)
  const ahead = daysAhead(today, new Set(days))
  const troubles: Trouble[] = overdueDays(days, today, config.audit.retentionDays)
  if (running.length > 0 && ahead < 1) {
    const fix = 'See the log of the gateway: it makes them every hour'
    troubles.push({ state: 'warn', text: 'no tables for the days to come', fix })
  }
  if (config.database.url !== null && config.audit.signingKey === null) troubles.push(NOT_SIGNED)
  return toFinding({
    check: 'audit',
    title: 'audit',
    facts: [
      last_ms === null ? 'no row yet' : `last row ${spanText(last_ms)} ago`,
      `${countText(ahead, 'day')} ahead`,
      `mode ${config.audit.mode}`,
    ],
    troubles,
    details: [
      `days with a table: ${days.length}`,
      `days kept: ${config.audit.retentionDays ?? 'all'}`,
      ...(running.length === 0 ? ['no gateway is running on this database'] : []),
      ...running.map((name) => `running: ${name}`),
    ],
  })
}

/** Days go within the hour; one more for a gateway that was started only now. */
function overdueDays(days: readonly string[], today: string, keepDays: number | null): Trouble[] {
  if (keepDays === null) return []
  const last = dayText(dayMs(today) - (keepDays + 2) * DAY_MS)
  const overdue = days.filter((day) => day < last)
  if (overdue.length === 0) return []
  const text = `${countText(overdue.length, 'day')} older than audit.retention_days`
  const fix = 'gateway audit prune, with the role that owns the tables as database.migrate_url'
  return [{ state: 'warn', text, fix }]
}

const NOT_SIGNED: Trouble = {
  state: 'warn',
  text: 'not signed: its owner could rewrite it unseen',
  fix: 'openssl genpkey -algorithm ed25519 -out audit-key.pem, then audit.signing_key_file: audit-key.pem',
}

/** How many days after today have a table, without a gap. */
function daysAhead(today: string, days: ReadonlySet<string>): number {
  let ahead = 0
  while (days.has(dayText(dayMs(today) + (ahead + 1) * DAY_MS))) ahead += 1
  return ahead
}

/** Midnight UTC of `YYYYMMDD`. */
function dayMs(day: string): number {
  return Date.UTC(Number(day.slice(0, 4)), Number(day.slice(4, 6)) - 1, Number(day.slice(6)))
}

function dayText(ms: number): string {
  return new Date(ms).toISOString().slice(0, 10).replaceAll('-', '')
}

async function readAudit(db: Db): Promise<AuditFacts> {
  const { rows } = await db.query<AuditFacts>(
    `select (extract(epoch from now() - (select max(ts) from audit_events)) * 1000)::float8 as last_ms,
       to_char(now() at time zone 'UTC', 'YYYYMMDD') as today,
       array(select right(relname, 8) from pg_inherits join pg_class on pg_class.oid = inhrelid
         where inhparent = 'audit_events'::regclass) as days,
       array(select name from gateway_processes where seen_at > now() - interval '5 seconds' order by name) as running`,
  )
  const [facts] = rows
  if (facts === undefined) throw new Error('the database returned no row for a question about audit rows')
  return facts
}

/** Whether anybody can get in, and for how long. */
export async function checkKeys(db: Db, config: Config, nowMs: number): Promise<Finding> {
  const keys = await listKeys(db, { includeEnded: false })
  const admins = keys.filter((key) => key.scopes.includes(ADMIN_SCOPE))
  const ending = keys
    .filter((key) => key.expiresAt !== null && key.expiresAt.getTime() - nowMs < SOON_MS)
    .sort((left, right) => (left.expiresAt?.getTime() ?? 0) - (right.expiresAt?.getTime() ?? 0))
  return toFinding({
    check: 'keys',
    title: 'keys',
    facts: [`${keys.length} live`, `${admins.length} with ${ADMIN_SCOPE}`],
    troubles: [...missingKeys(config, keys, admins), ...endingKeys(keys, ending, nowMs)],
    details: ending.slice(0, MAX_NAMED).map((key) => endText(key, nowMs)),
  })
}

/** Where there is no database yet. */
export function noKeys(): Finding {
  return toFinding({ check: 'keys', title: 'keys', facts: [], troubles: [NO_KEY] })
}

const NO_KEY: Trouble = {
  state: 'fail',
  text: 'none is live: the gateway does not start',
  fix: `gateway keys create --name admin --role admin --scope ${ADMIN_SCOPE} --expires 90d`,
}

function missingKeys(config: Config, keys: readonly ApiKey[], admins: readonly ApiKey[]): Trouble[] {
  if (keys.length === 0) return [NO_KEY]
  if (admins.length > 0 || config.admin.listen === null) return []
  const fix = `gateway keys create --name metrics --kind service --scope ${ADMIN_SCOPE}`
  return [{ state: 'warn', text: 'none can read /metrics', fix }]
}

function endingKeys(keys: readonly ApiKey[], ending: readonly ApiKey[], nowMs: number): Trouble[] {
  const [first] = ending
  if (first === undefined) return []
  const count = ending.length === 1 ? '1 ends soon' : `${ending.length} end soon`
  const which = keys.length === ending.length ? 'all of them, ' : ''
  return [
    {
      state: 'warn',
      text: `${count} (${which}the first in ${spanText((first.expiresAt?.getTime() ?? nowMs) - nowMs)})`,
      fix: `gateway keys rotate ${first.id} --expires 90d --overlap 1d`,
    },
  ]
}

function endText(key: ApiKey, nowMs: number): string {
  const name = key.name === null ? '' : ` (${key.name})`
  return `${key.id}${name} ends in ${spanText((key.expiresAt?.getTime() ?? nowMs) - nowMs)}`
}
