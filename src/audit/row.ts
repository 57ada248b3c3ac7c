/** One row of `audit_events` as the writer holds it, and the lesser forms it takes when the database refuses it. Pure. */
import type { Outcome } from '../errors.ts'

/** The columns as DESIGN names them, without `writer`, `seq` and `leaf`, which the writer adds. JSON columns hold JSON text. */
export interface AuditRow {
  /** UUID v7; its millisecond is `ts`. */
  readonly id: string
  /** ISO 8601, UTC, milliseconds. */
  readonly ts: string
  readonly request_id: string
  readonly tenant: string | null
  readonly principal_id: string | null
  readonly principal_kind: string | null
  readonly role: string | null
  readonly roles: readonly string[] | null
  readonly api_key_id: string | null
  readonly client_ip: string | null
  readonly client_name: string | null
  readonly client_version: string | null
  readonly protocol_version: string | null
  readonly session_hash: string | null
  readonly http_method: string | null
  readonly method: string | null
  readonly server: string | null
  readonly target_kind: string | null
  readonly tool_name: string | null
  readonly outcome: Outcome
  readonly status_code: number
  readonly reason: string | null
  readonly error_message: string | null
  readonly latency_ms: number
  readonly upstream_ms: number | null
  readonly policy_revision: string | null
  readonly request_json: string | null
  readonly response_json: string | null
  readonly decision: string
  readonly redaction: string | null
}

const COLUMNS = {
  id: 'uuid',
  ts: 'timestamptz',
  writer: 'uuid',
  seq: 'bigint',
  request_id: 'text',
  tenant: 'text',
  principal_id: 'text',
  principal_kind: 'text',
  role: 'text',
  roles: 'text[]',
  api_key_id: 'text',
  client_ip: 'inet',
  client_name: 'text',
  client_version: 'text',
  protocol_version: 'text',
  session_hash: 'text',
  http_method: 'text',
  method: 'text',
  server: 'text',
  target_kind: 'text',
  tool_name: 'text',
  outcome: 'text',
  status_code: 'int',
  reason: 'text',
  error_message: 'text',
  latency_ms: 'double precision',
  upstream_ms: 'double precision',
  policy_revision: 'text',
  request_json: 'jsonb',
  response_json: 'jsonb',
  decision: 'jsonb',
  redaction: 'jsonb',
} as const satisfies Record<keyof AuditRow | 'writer' | 'seq', string>

const NAMES = Object.keys(COLUMNS).join(', ')

/** Stores an array of records (`$1`, see {@link toRecord}). A row that is already there is left as it is. */
export const INSERT_ROWS = `insert into audit_events (${NAMES})
select ${NAMES} from jsonb_to_recordset($1::jsonb) as r(${Object.entries(COLUMNS)
  .map(([name, type]) => `${name} ${type}`)
  .join(', ')})
on conflict (ts, id) do nothing`

/** The row as JSON text for {@link INSERT_ROWS}: JSON columns are spliced in as they are, never parsed again. */
export function toRecord(row: AuditRow, writer: string, seq: number): string {
  const { request_json, response_json, decision, redaction, ...plain } = row
  const head = JSON.stringify({ ...plain, writer, seq })
  return `${head.slice(0, -1)},"request_json":${request_json},"response_json":${response_json},"decision":${decision},"redaction":${redaction}}`
}

/** Why a row is not stored as it was made. */
export interface Degradation {
  readonly why: string
  /** SQLSTATE of the database's refusal. */
  readonly sqlstate?: string
}

/** The row without payloads and without what a policy or a caller could have put into the decision. */
export function withoutPayload(row: AuditRow, degradation: Degradation): AuditRow {
  return { ...row, request_json: null, response_json: null, ...reduced(row, 'without_payload', degradation) }
}

/** What remains when even that is refused: who asked is gone, that it happened is not. */
export function placeholder(row: AuditRow, degradation: Degradation): AuditRow {
  return {
    id: row.id,
    ts: row.ts,
    request_id: row.id,
    tenant: null,
    principal_id: null,
    principal_kind: null,
    role: null,
    roles: null,
    api_key_id: null,
    client_ip: null,
    client_name: null,
    client_version: null,
    protocol_version: null,
    session_hash: null,
    http_method: null,
    method: null,
    server: null,
    target_kind: null,
    tool_name: null,
    outcome: row.outcome,
    status_code: Number.isInteger(row.status_code) ? row.status_code : 0,
    reason: null,
    error_message: null,
    latency_ms: Number.isFinite(row.latency_ms) ? row.latency_ms : 0,
    upstream_ms: null,
    policy_revision: null,
    request_json: null,
    response_json: null,
    ...reduced(row, 'placeholder', degradation),
  }
}

function reduced(
  row: AuditRow,
  stored: 'without_payload' | 'placeholder',
  degradation: Degradation,
): Pick<AuditRow, 'decision' | 'redaction'> {
  return {
    decision: JSON.stringify({
      stage: 'audit',
      outcome: row.outcome,
      stored: { as: stored, ...degradation },
    }),
    redaction: null,
  }
}

/** The row moved to another moment, because its own day cannot be stored; its decision says so. */
export function redated(row: AuditRow, id: string, ms: number): AuditRow {
  const moved = JSON.stringify({
    id: row.id,
    ts: row.ts,
    why: 'the clock was too far from that of the database',
  })
  return { ...row, id, ts: isoTime(ms), decision: `${row.decision.slice(0, -1)},"moved":${moved}}` }
}

/** A hole in the record, declared: `count` rows of refused calls that could not be kept. */
export interface Gap {
  readonly count: number
  readonly fromMs: number
  readonly toMs: number
}

/** The row that declares a {@link Gap}. */
export function gapRow(id: string, ms: number, gap: Gap): AuditRow {
  const base = placeholder(
    { id, ts: isoTime(ms), outcome: 'gap', status_code: 503, latency_ms: 0 } as AuditRow,
    {
      why: 'memory_full',
    },
  )
  const decision = {
    stage: 'audit',
    outcome: 'gap',
    gap: { count: gap.count, from: isoTime(gap.fromMs), to: isoTime(gap.toMs), why: 'memory_full' },
  }
  return { ...base, reason: 'memory_full', decision: JSON.stringify(decision) }
}

/** ISO 8601 with milliseconds, UTC. A clock that gives no date gives the epoch. */
export function isoTime(ms: number): string {
  const date = new Date(Math.floor(ms))
  return Number.isNaN(date.getTime()) ? new Date(0).toISOString() : date.toISOString()
}
