/** One row of `audit_events` as the writer holds it, and the lesser forms it takes when the database refuses it. Pure. */
import type { Outcome } from '../errors.ts'
import { objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import type { StoredText } from '../json/stored-text.ts'
import { storedJson, toStoredText } from '../json/stored-text.ts'
import type { Leaf, PayloadTexts } from './chain.ts'
import { digestPayload, newSalt, PAYLOAD_COLUMNS, toLeaf, toRowText } from './chain.ts'

/** The columns as DESIGN names them, without `writer`, `seq`, `salt` and `leaf`, which the store adds. */
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
  readonly request_json: StoredText | null
  readonly response_json: StoredText | null
  readonly decision: StoredText
  readonly redaction: StoredText | null
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
} as const satisfies Record<keyof AuditRow | 'writer' | 'seq' | 'salt' | 'leaf', string>

const NAMES = Object.keys(COLUMNS).join(', ')

/**
 * Stores an array of records (`$1`, see {@link toRowsParameter}). A row that is already there is refused (SQLSTATE 23505), and with
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

const PLAIN_COLUMNS = (Object.keys(COLUMNS) as readonly (keyof typeof COLUMNS)[]).filter(
  (name): name is Exclude<keyof AuditRow, keyof PayloadTexts> =>
    !['writer', 'seq', 'salt', 'leaf', ...PAYLOAD_COLUMNS].includes(name),
)

/** How a record begins whose JSON columns hold stored text, and in this order. Earlier versions wrote other texts. */
export const RECORD = '{"v":2,"writer":'

/** The row as JSON text: for the spool, and with its {@link Seal} for the database. Texts of columns are spliced in as they are. */
export function toRecord(row: AuditRow, writer: string, seq: number): string {
  let record = `${RECORD}${JSON.stringify(writer)},"seq":${seq}`
  for (const name of PLAIN_COLUMNS) record += `,"${name}":${JSON.stringify(row[name])}`
  for (const name of PAYLOAD_COLUMNS) record += `,"${name}":${row[name]}`
  return `${record}}`
}

/** The row of a call that has begun, for the spool: what it says, should nothing more be heard of the call. */
export function toBegun(row: AuditRow): string {
  let begun = `{"decision":${JSON.stringify(row.decision)}`
  for (const name of PLAIN_COLUMNS) {
    const value = row[name]
    if (value !== null) begun += `,"${name}":${JSON.stringify(value)}`
  }
  return `${begun}}`
}

/** The row of such a text; earlier versions wrote all columns. */
export function fromBegun(text: string): AuditRow {
  const row = JSON.parse(text) as AuditRow
  return { ...NO_DETAILS, ...row, decision: toStoredText(row.decision) }
}

/** What ties a row to the one before it. */
export interface Seal {
  /** Hex. */
  readonly salt: string
  readonly leaf: Leaf
}

/** A row as the chain covers it; what is missing is the leaf before it. */
export interface Chained {
  readonly salt: string
  /** See {@link toRowText}. */
  readonly text: string
}

/** Takes the digests of a row. */
export function toChained(row: AuditRow, writer: string, seq: number): Chained {
  const salt = newSalt()
  const columns = { ...row, ts: Date.parse(row.ts), writer, seq: String(seq), ...positiveZeros(row) }
  return { salt, text: toRowText(columns, digestPayload(withoutNulls(row), salt)) }
}

/** Puts a row behind the one before it. */
export function sealBehind(before: Leaf, { salt, text }: Chained): Seal {
  return { salt, leaf: toLeaf(before, text) }
}

/** A record (see {@link toRecord}) as bytes, and its seal. */
export interface SealedRecord {
  readonly bytes: Buffer
  readonly seal: Seal
}

/** The first byte of a `jsonb` that is sent as bytes: the version of its form. */
const JSONB = 1

/** One or more records with their seals, as {@link INSERT_ROWS} takes them: the bytes of a JSON array. */
export function toRowsParameter(records: readonly SealedRecord[]): Buffer {
  const tails = records.map(({ seal: { salt, leaf } }) => `,"salt":"\\\\x${salt}","leaf":"\\\\x${leaf}"}`)
  // Each record loses its last brace, and has a comma or a bracket before it.
  const length = records.reduce(
    (sum, { bytes }, index) => sum + bytes.length + (tails[index]?.length ?? 0),
    2,
  )
  const parameter = Buffer.allocUnsafe(length)
  let at = parameter.writeUInt8(JSONB, 0)
  for (const [index, { bytes }] of records.entries()) {
    at += parameter.write(index === 0 ? '[' : ',', at, 'latin1')
    at += bytes.copy(parameter, at, 0, bytes.length - 1)
    at += parameter.write(tails[index] ?? '', at, 'latin1')
  }
  parameter.write(']', at, 'latin1')
  return parameter
}

/** In a record JSON's null is no value at all. */
function withoutNulls({ request_json, response_json, decision, redaction }: PayloadTexts): PayloadTexts {
  const present = (text: string | null) => (text === 'null' ? null : text)
  return {
    request_json: present(request_json),
    response_json: present(response_json),
    decision: present(decision),
    redaction: present(redaction),
  }
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
    decision: spliced(toCore(row.decision), 'stored', stored),
    redaction: null,
  }
}

/** A decision without what policies and callers wrote. */
function toCore(decision: string): string {
  return withMembers(decision, (name, text) => {
    return name === 'authz' ? withMembers(text, (inner, value) => (WRITTEN.has(inner) ? null : value)) : text
  })
}

const WRITTEN: ReadonlySet<string> = new Set(['input', 'trace'])

function withMembers(object: string, change: (name: string, text: string) => string | null): string {
  const members: string[] = []
  for (const [name, span] of objectMembers(object, rootSpan(object))) {
    const text = change(name, sliceOf(object, span))
    if (text !== null) members.push(`${JSON.stringify(name)}:${text}`)
  }
  return `{${members.join(',')}}`
}

/** What remains when even that is refused: the names are gone, that it happened is not. */
export function placeholder(
  row: Pick<AuditRow, 'id' | 'ts' | 'request_id' | 'outcome' | 'status_code' | 'latency_ms'>,
  degradation: Degradation,
): AuditRow {
  const decision = storedJson({
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

function spliced(object: string, member: string, json: string): StoredText {
  return toStoredText(`${object.slice(0, -1)},${JSON.stringify(member)}:${json}}`)
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
  const decision = storedJson({
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
  }
}

/** ISO 8601 with milliseconds, UTC. A clock that gives no date gives the epoch. */
export function isoTime(ms: number): string {
  const date = new Date(Math.floor(ms))
  return Number.isNaN(date.getTime()) ? new Date(0).toISOString() : date.toISOString()
}
