/** Reads rows back. JSON columns stay text, so numbers keep their digits. */
import type { Pool } from 'pg'
import type { Outcome } from '../errors.ts'
import type { AuditRow } from './row.ts'

type Db = Pick<Pool, 'query'>

/** A stored row. JSON columns hold JSON text; `client_ip` is canonical text. */
export interface StoredRow extends Omit<AuditRow, 'ts' | 'core'> {
  readonly ts: Date
  readonly writer: string
  /** Decimal text. */
  readonly seq: string
}

/** What a list shows of a row. */
export type RowSummary = Pick<
  StoredRow,
  | 'id'
  | 'ts'
  | 'writer'
  | 'seq'
  | 'request_id'
  | 'outcome'
  | 'status_code'
  | 'reason'
  | 'tenant'
  | 'principal_id'
  | 'method'
  | 'server'
  | 'tool_name'
  | 'latency_ms'
> & {
  /** Reasons of the policy for a denial. */
  readonly denied_by: readonly string[] | null
}

/** Which rows; everything absent matches all. */
export interface RowFilter {
  readonly outcomes?: readonly Outcome[]
  readonly principal?: string
  readonly tool?: string
  readonly tenant?: string
  readonly since?: Date
}

const SUMMARY = `id, ts, writer, seq, request_id, outcome, status_code, reason, tenant, principal_id, method, server,
  tool_name, latency_ms,
  case jsonb_typeof(decision #> '{authz,denied_by}') when 'array' then
    array(select jsonb_array_elements_text(decision #> '{authz,denied_by}')) end as denied_by`
const FULL = `id, ts, writer, seq, request_id, tenant, principal_id, principal_kind, role, roles, api_key_id,
  host(client_ip) as client_ip, client_name, client_version, protocol_version, session_hash, http_method, method, server,
  target_kind, tool_name, outcome, status_code, reason, error_message, latency_ms, upstream_ms, policy_revision,
  request_json::text as request_json, response_json::text as response_json, decision::text as decision,
  redaction::text as redaction`

/** The newest rows that match, oldest first. */
export async function latestRows(db: Db, filter: RowFilter, limit: number): Promise<readonly RowSummary[]> {
  const where = conditions(filter)
  const { rows } = await db.query<RowSummary>(
    `select ${SUMMARY} from audit_events ${where.sql} order by ts desc, id desc limit $${where.values.length + 1}`,
    [...where.values, limit],
  )
  return rows.reverse()
}

/** How far a follower has read: the last `seq` seen of each writer. */
export type Position = ReadonlyMap<string, string>

/** Where every writer of the last day is now; a follower starts from here. */
export async function currentPosition(db: Db): Promise<Position> {
  const { rows } = await db.query<{ writer: string; seq: string }>(
    `${WRITERS} select w.writer, (select max(seq) from audit_events e where e.writer = w.writer and ${RECENT}) as seq
     from w where w.writer is not null`,
  )
  return new Map(rows.map(({ writer, seq }) => [writer, seq]))
}

const RECENT = "e.ts > now() - interval '1 day'"
/** Hops over the index from one writer to the next instead of reading their rows. */
const WRITERS = `with recursive w (writer) as (
  (select e.writer from audit_events e where ${RECENT} order by e.writer limit 1)
  union all
  select (select e.writer from audit_events e where e.writer > w.writer and ${RECENT} order by e.writer limit 1)
  from w where w.writer is not null)`
const FOLLOW_BATCH = 500

/**
 * Rows stored since `position` that match, and the position after them. A row is found in the order in which its writer
 * stored it, however long ago its call began (up to a day).
 */
export async function rowsSince(
  db: Db,
  position: Position,
  filter: RowFilter,
): Promise<{ readonly rows: readonly RowSummary[]; readonly position: Position }> {
  const { rows } = await db.query<RowSummary & { wanted: boolean }>(
    `${WRITERS} select found.* from w
     left join unnest($1::uuid[], $2::bigint[]) as seen (writer, seq) on seen.writer = w.writer
     cross join lateral (
       select ${SUMMARY}, (${matches(filter, 2)}) as wanted from audit_events e
       where e.writer = w.writer and e.seq > coalesce(seen.seq, 0) and ${RECENT} order by e.seq limit ${FOLLOW_BATCH}
     ) found where w.writer is not null`,
    [[...position.keys()], [...position.values()], ...conditions(filter).values],
  )
  const next = new Map(position)
  for (const row of rows) {
    const last = next.get(row.writer)
    if (last === undefined || BigInt(row.seq) > BigInt(last)) next.set(row.writer, row.seq)
  }
  const wanted = rows.filter((row) => row.wanted).map(({ wanted: _wanted, ...row }) => row)
  return { rows: wanted.sort((left, right) => left.ts.getTime() - right.ts.getTime()), position: next }
}

/** Shortest beginning of an id that is looked for. */
const MIN_PREFIX = 4
const MAX_MATCHES = 11

/**
 * The rows whose id or request id is `text` or begins with it; at most 11. Only partitions that can hold them are read.
 * null when `text` cannot be (the beginning of) an id.
 */
export async function findRows(db: Db, text: string): Promise<readonly StoredRow[] | null> {
  const range = idRange(text)
  if (range === null) return null
  const { rows } = await db.query<StoredRow>(
    `select ${FULL} from audit_events where ts between to_timestamp($1) and to_timestamp($2) and id between $3 and $4
     order by ts, id limit ${MAX_MATCHES}`,
    [range.fromS, range.toS, range.from, range.to],
  )
  if (rows.length > 0) return rows
  const { rows: sharing } = await db.query<StoredRow>(
    `select ${FULL} from audit_events where request_id between $1 and $2 order by ts, id limit ${MAX_MATCHES}`,
    [range.from, range.to],
  )
  return sharing
}

/** The newest rows of attempts that a policy was asked about, newest first. */
export async function latestDecided(db: Db, limit: number): Promise<readonly StoredRow[]> {
  const { rows } = await db.query<StoredRow>(
    `select ${FULL} from audit_events where decision #> '{authz,input}' is not null
     order by ts desc, id desc limit $1`,
    [limit],
  )
  return rows
}

/** Ids of the other rows of one exchange, oldest first; at most 20. */
export async function siblings(
  db: Db,
  row: Pick<StoredRow, 'id' | 'request_id'>,
): Promise<readonly string[]> {
  const { rows } = await db.query<{ id: string }>(
    'select id from audit_events where request_id = $1 and id <> $2 order by ts, id limit 20',
    [row.request_id, row.id],
  )
  return rows.map(({ id }) => id)
}

interface IdRange {
  readonly from: string
  readonly to: string
  /** Seconds since the epoch. */
  readonly fromS: number
  readonly toS: number
}

/** An id begins with its millisecond, and the millisecond is `ts`: the beginning of an id is a span of time. */
function idRange(text: string): IdRange | null {
  const digits = text.trim().toLowerCase().replaceAll('-', '')
  if (!/^[0-9a-f]+$/.test(digits) || digits.length < MIN_PREFIX || digits.length > 32) return null
  const low = digits.padEnd(32, '0')
  const high = digits.padEnd(32, 'f')
  return { from: toUuid(low), to: toUuid(high), fromS: secondsOf(low), toS: secondsOf(high) }
}

function toUuid(digits: string): string {
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

function secondsOf(digits: string): number {
  return Number.parseInt(digits.slice(0, 12), 16) / 1000
}

function conditions(filter: RowFilter): { readonly sql: string; readonly values: readonly unknown[] } {
  const values = [filter.outcomes, filter.principal, filter.tool, filter.tenant, filter.since].filter(
    (value) => value !== undefined,
  )
  const sql = matches(filter, 0)
  return { sql: sql === 'true' ? '' : `where ${sql}`, values }
}

/** The filter as SQL whose parameters begin after `before`, in the order of {@link conditions}. */
function matches(filter: RowFilter, before: number): string {
  const parts = [
    filter.outcomes === undefined ? null : (at: number) => `outcome = any($${at}::text[])`,
    filter.principal === undefined ? null : (at: number) => `principal_id = $${at}`,
    filter.tool === undefined ? null : (at: number) => `tool_name = $${at}`,
    filter.tenant === undefined ? null : (at: number) => `tenant = $${at}`,
    filter.since === undefined ? null : (at: number) => `ts >= $${at}::timestamptz`,
  ].filter((part) => part !== null)
  return parts.map((part, index) => part(before + index + 1)).join(' and ') || 'true'
}
