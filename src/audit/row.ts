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
  /** No column: `decision` without the policy's input and trace, in case the database refuses those. */
  readonly core: string
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
} as const satisfies Record<Exclude<keyof AuditRow, 'core'> | 'writer' | 'seq', string>

const NAMES = Object.keys(COLUMNS).join(', ')

/** Stores an array of records (`$1`, see {@link toRecord}). A row that is already there is left as it is. */
export const INSERT_ROWS = `insert into audit_events (${NAMES})
select ${NAMES} from jsonb_to_recordset($1::jsonb) as r(${Object.entries(COLUMNS)
  .map(([name, type]) => `${name} ${type}`)
  .join(', ')})
on conflict (ts, id) do nothing`

/** The row as JSON text for {@link INSERT_ROWS}: JSON columns are spliced in as they are, never parsed again. */
export function toRecord(row: AuditRow, writer: string, seq: number): string {
  const { request_json, response_json, decision, redaction, core: _core, ...plain } = row
  const head = JSON.stringify({ ...plain, writer, seq })
  return `${head.slice(0, -1)},"request_json":${request_json},"response_json":${response_json},"decision":${decision},"redaction":${redaction}}`
}

/** Why a row is not stored as it was made. */
export interface Degradation {
  readonly why: string
  /** SQLSTATE of the database's refusal. */
  readonly sqlstate?: string
}

/** The row without payloads, policy input and trace: everything that is not the gateway's own. */
export function withoutPayload(row: AuditRow, degradation: Degradation): AuditRow {
  const stored = JSON.stringify({ as: 'without_payload', ...degradation })
  return {
    ...row,
    request_json: null,
    response_json: null,
    decision: spliced(row.core, 'stored', stored),
    redaction: null,
  }
}

/** What remains when even that is refused: the names are gone, that it happened is not. */
export function placeholder(
  row: Pick<AuditRow, 'id' | 'ts' | 'request_id' | 'outcome' | 'status_code' | 'latency_ms'>,
  degradation: Degradation,
): AuditRow {
  const decision = JSON.stringify({
    stage: 'audit',
    outcome: row.outcome,
    stored: { as: 'placeholder', ...degradation },
  })
  return {
    ...NO_DETAILS,
    id: row.id,
    ts: row.ts,
    request_id: row.request_id,
    outcome: row.outcome,
    status_code: row.status_code,
    latency_ms: row.latency_ms,
    decision,
    core: decision,
  }
}

/** A row of which only its making is known; the base of rows that are not about one call. */
const NO_DETAILS = {
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
  reason: null,
  error_message: null,
  upstream_ms: null,
  policy_revision: null,
  request_json: null,
  response_json: null,
  redaction: null,
} as const satisfies Partial<AuditRow>

function spliced(object: string, member: string, json: string): string {
  return `${object.slice(0, -1)},${JSON.stringify(member)}:${json}}`
}

/** The row moved to another moment, because its own day cannot be stored; its decision says so. */
export function redated(row: AuditRow, id: string, ms: number): AuditRow {
  const moved = JSON.stringify({
    id: row.id,
    ts: row.ts,
    why: 'the clock was too far from that of the database',
  })
  return {
    ...row,
    id,
    ts: isoTime(ms),
    decision: spliced(row.decision, 'moved', moved),
    core: spliced(row.core, 'moved', moved),
  }
}

/** A hole in the record, declared: `count` rows that could not be kept. */
export interface Gap {
  /** `spool_full`, `spool_failed`: there was no room, or no disk, for them; `spool_damaged`: they cannot be read any more. */
  readonly why: 'spool_full' | 'spool_failed' | 'spool_damaged'
  readonly count: number
  readonly fromMs: number
  readonly toMs: number
  /** First and last number of rows that had been numbered already. */
  readonly seqs?: readonly [number, number]
}

/** The row that declares a {@link Gap}. */
export function gapRow(id: string, ms: number, gap: Gap): AuditRow {
  const decision = JSON.stringify({
    stage: 'audit',
    outcome: 'gap',
    gap: {
      count: gap.count,
      from: isoTime(gap.fromMs),
      to: isoTime(gap.toMs),
      why: gap.why,
      ...(gap.seqs === undefined ? {} : { seqs: gap.seqs }),
    },
  })
  return {
    ...NO_DETAILS,
    id,
    ts: isoTime(ms),
    request_id: id,
    outcome: 'gap',
    status_code: 503,
    reason: gap.why,
    latency_ms: 0,
    decision,
    core: decision,
  }
}

/** ISO 8601 with milliseconds, UTC. A clock that gives no date gives the epoch. */
export function isoTime(ms: number): string {
  const date = new Date(Math.floor(ms))
  return Number.isNaN(date.getTime()) ? new Date(0).toISOString() : date.toISOString()
}
