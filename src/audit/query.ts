/** Reads rows back. JSON columns stay text, so numbers keep their digits. */
import type { Pool } from 'pg'
import type { PayloadTexts } from './chain.ts'
import type { RowFilter } from './filter.ts'
import { toCondition } from './filter.ts'
import type { AuditRow } from './row.ts'

type Db = Pick<Pool, 'query'>

/** A stored row. JSON columns hold JSON text; `client_ip` is canonical text. */
export interface StoredRow extends Omit<AuditRow, 'ts' | keyof PayloadTexts>, PayloadTexts {
  readonly ts: Date
  readonly decision: string
  readonly writer: string
  /** Decimal text. */
  readonly seq: string
  /** Hex; the row's place in the hash chain of its writer, null without one. */
  readonly leaf: string | null
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

/** The columns of a {@link RowSummary}. */
export const SUMMARY = `id, ts, writer, seq, request_id, outcome, status_code, reason, tenant, principal_id, method, server,
  tool_name, latency_ms,
  case jsonb_typeof(decision #> '{authz,denied_by}') when 'array' then
    array(select jsonb_array_elements_text(decision #> '{authz,denied_by}')) end as denied_by`
/** The columns of a {@link StoredRow}. */
export const FULL = `id, ts, writer, seq, encode(leaf, 'hex') as leaf, request_id, tenant, principal_id, principal_kind, role, roles, api_key_id,
  host(client_ip) as client_ip, client_name, client_version, protocol_version, session_hash, http_method, method, server,
  target_kind, tool_name, outcome, status_code, reason, error_message, latency_ms, upstream_ms, policy_revision,
  request_json::text as request_json, response_json::text as response_json,
  audit_decision(decision)::text as decision,
  redaction::text as redaction`

/** The newest rows that match, oldest first. */
export async function latestRows(db: Db, filter: RowFilter, limit: number): Promise<readonly RowSummary[]> {
  const { sql, values } = toCondition(filter)
  const { rows } = await db.query<RowSummary>(
    `select ${SUMMARY} from audit_events where ${sql} order by ts desc, id desc limit $${values.length + 1}`,
    [...values, limit],
  )
  return rows.reverse()
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
