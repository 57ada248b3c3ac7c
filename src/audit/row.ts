/** One row of `audit_events` as the writer holds it, and the lesser forms it takes when the database refuses it. Pure. */
import type { Outcome } from '../errors.ts'
import { toStoredText } from '../json/stored-text.ts'
import type { Leaf, PayloadTexts } from './chain.ts'
import { digestPayload, newSalt, PAYLOAD_COLUMNS, toRowText } from './chain.ts'

/** The columns as DESIGN names them, without `writer`, `seq`, `salt` and `leaf`, which the store adds. JSON columns hold JSON text. */
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
  salt: 'bytea',
  leaf: 'bytea',
} as const satisfies Record<Exclude<keyof AuditRow, 'core'> | 'writer' | 'seq' | 'salt' | 'leaf', string>

const NAMES = Object.keys(COLUMNS).join(', ')

/**
 * Stores an array of records (`$1`, see {@link sealRecord}). A row that is already there is refused (SQLSTATE 23505), and with
 * it the whole statement: those after it have been chained to something else than what is stored.
 */
export const INSERT_ROWS = `insert into audit_events (${NAMES})
select ${NAMES} from jsonb_to_recordset($1::jsonb) as r(${Object.entries(COLUMNS)
  .map(([name, type]) => `${name} ${type}`)
  .join(', ')})`

/** The same, and in the same transaction checkpoints (`$2`, an array of records). */
export const INSERT_ROWS_AND_CHECKPOINTS = `with checkpoints as (${insertCheckpoints('$2')})
${INSERT_ROWS}`

/** Checkpoints alone (`$1`). */
export const INSERT_CHECKPOINTS = insertCheckpoints('$1')

/** One that is there already stays as it is: it must not stand in the way of rows. */
function insertCheckpoints(parameter: string): string {
  return `insert into audit_checkpoints (writer, seq, leaf, rows, ts, key_id, signature)
  select writer, seq, leaf, rows, ts, key_id, signature from jsonb_to_recordset(${parameter}::jsonb) as c(writer uuid,
    seq bigint, leaf bytea, rows bigint, ts timestamptz, key_id text, signature text) on conflict (writer, seq) do nothing`
}

/** A row ready to be stored, but for its leaf. */
export interface Prepared {
  /** JSON text for {@link INSERT_ROWS}, without `leaf` and the closing brace; see {@link sealRecord}. */
  readonly record: string
  /** What the leaf covers. */
  readonly text: string
}

const PLAIN_COLUMNS = (Object.keys(COLUMNS) as readonly (keyof typeof COLUMNS)[]).filter(
  (name): name is Exclude<keyof AuditRow, 'core' | keyof PayloadTexts> =>
    !['writer', 'seq', 'salt', 'leaf', ...PAYLOAD_COLUMNS].includes(name),
)

/**
 * Brings the row into the form in which it will be read back, and takes its digests from that. Throws SyntaxError when a
 * JSON column is not JSON.
 */
export function prepareRow(row: AuditRow, writer: string, seq: number): Prepared {
  const salt = newSalt()
  const texts: PayloadTexts = {
    request_json: stored(row.request_json),
    response_json: stored(row.response_json),
    decision: stored(row.decision),
    redaction: stored(row.redaction),
  }
  const columns = { ...row, ts: Date.parse(row.ts), writer, seq: String(seq), ...positiveZeros(row) }
  return {
    record: `${open(row, writer, seq)},"salt":"\\\\x${salt}"${withTexts(texts)}`,
    text: toRowText(columns, digestPayload(texts, salt)),
  }
}

/** The JSON text of a prepared row with its leaf, for {@link INSERT_ROWS}. */
export function sealRecord(record: string, leaf: Leaf): string {
  return `${record},"leaf":"\\\\x${leaf}"}`
}

/** The row as JSON text, for the spool: JSON columns are spliced in as they are, never parsed again. */
export function toRecord(row: AuditRow, writer: string, seq: number): string {
  return `${open(row, writer, seq)}${withTexts(row)}}`
}

/** The columns that hold no JSON. */
function open(row: AuditRow, writer: string, seq: number): string {
  let record = `{"writer":${JSON.stringify(writer)},"seq":${seq}`
  for (const name of PLAIN_COLUMNS) {
    const value = row[name]
    record += value === null ? `,"${name}":null` : `,"${name}":${JSON.stringify(value)}`
  }
  return record
}

function withTexts(texts: PayloadTexts): string {
  let record = ''
  for (const name of PAYLOAD_COLUMNS) record += `,"${name}":${texts[name]}`
  return record
}

/** In a record JSON's null is no value at all. */
function stored(json: string | null): string | null {
  const text = json === null ? 'null' : toStoredText(json)
  return text === 'null' ? null : text
}

/** JSON has one zero. */
function positiveZeros({ latency_ms, upstream_ms }: AuditRow) {
  return { latency_ms: latency_ms + 0, upstream_ms: upstream_ms === null ? null : upstream_ms + 0 }
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

/** The row under another id and moment, because it cannot be stored under its own; its decision says so. */
export function redated(
  row: AuditRow,
  id: string,
  ms: number,
  why = 'the clock was too far from that of the database',
): AuditRow {
  const moved = JSON.stringify({ id: row.id, ts: row.ts, why })
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
