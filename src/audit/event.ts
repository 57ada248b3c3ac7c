/** One finished attempt -> its audit row. Pure, and it never throws: a row with less in it beats no row. */
import { isIP } from 'node:net'
import { argumentsPath } from '../gateway/arguments.ts'
import type { AuditEvent, Call, Ending, Mask } from '../gateway/types.ts'
import type { StoredText } from '../json/stored-text.ts'
import type { Keeping } from './authz-section.ts'
import { WITHHELD } from './authz-section.ts'
import { begunDecision, decisionText, saidOf } from './decision.ts'
import type { MaskPlace } from './mask.ts'
import { argumentMasks, findMasked, masksAt, placeOf } from './mask.ts'
import type { Notes } from './notes.ts'
import { createNotes } from './notes.ts'
import { keptPayload, WHOLE_ROWS } from './payload.ts'
import type { Redactor } from './redact.ts'
import { createRedactor, PAYLOAD_BOUNDS } from './redact.ts'
import type { AuditRow } from './row.ts'
import { isoTime, placeholder } from './row.ts'
import type { RowRules } from './rules.ts'
import { masksOf } from './rules.ts'
import { isSecretKey } from './secrets.ts'

/** Longest text in a column. */
const MAX_TEXT = 256
const MAX_MESSAGE = 1024
const MAX_ROLES = 64
/** Shorter cookies are settings (`theme=dark`), not credentials. */
const MIN_COOKIE = 8
/** Bytes of an answer that are looked at; no more than a part of them is kept anyway. */
const MAX_ANSWER = 65_536
/** Larger requests are looked at only as far as they are kept, unless a policy has seen them and may repeat them. */
const MAX_UNSEEN = 65_536

/**
 * Makes the row of an attempt: columns, decision, payloads; redacted, sanitised and bounded. `begun`: what was found out
 * when the call began.
 */
export function toAuditRow(event: AuditEvent, rules: RowRules = {}, begun: Begun | null = null): AuditRow {
  try {
    return build(event, rules, begun !== null && isStill(begun, event.call) ? begun : null)
  } catch (thrown) {
    return bareRow(event, thrown instanceof Error ? thrown.name : typeof thrown)
  }
}

function build(event: AuditEvent, rules: RowRules, begun: Begun | null): AuditRow {
  const redactor = begun?.redactor ?? createRedactor(rules.keys, rules.hashKey)
  const notes = begun?.notes ?? createNotes()
  const { call } = event
  const { payload, compact } = rules.plan ?? WHOLE_ROWS
  const kept = keptPayload(call, payload)
  notes.kept(kept)
  // The order matters: what is masked and what the request teaches the redactor is used on everything after it.
  const masks = learnFirst(redactor, notes, event, rules, begun !== null)
  const keeping = { level: kept.level, compact, masks }
  const request = notes.attempt('request', () => requestJson(redactor, notes, call, keeping))
  const decision = decisionText(redactor, notes, event, keeping)
  const response = notes.attempt('response', () => responseJson(redactor, notes, event, keeping))
  // Only what the request has taught in the meantime could change them.
  const isSettled = begun?.learned === redactor.learned && !redactor.overflowed
  const asked = isSettled ? begun.row : askedColumns(call, redactor, notes)
  return withEnding(asked, event, redactor, notes, { request, response, decision })
}

/** The masks; null when nobody knows what they hide. */
function learnFirst(
  redactor: Redactor,
  notes: Notes,
  event: AuditEvent,
  rules: RowRules,
  hasBegun: boolean,
): readonly Mask[] | null {
  if (!hasBegun) notes.attempt('headers', () => learnCredentials(redactor, event.call))
  const masks = notes.attempt('masks', () => learnMasked(redactor, event, masksOf(event.call, rules)))
  if (masks === null) redactor.withholds()
  return masks
}

/** JSON texts of a row. */
interface Documents {
  readonly request: StoredText | null
  readonly response: StoredText | null
  readonly decision: StoredText
}

/** The columns that are known when the upstream is about to be asked. */
type AskedColumns = Omit<
  AuditRow,
  | ('outcome' | 'status_code' | 'reason' | 'error_message' | 'latency_ms' | 'upstream_ms')
  | ('request_json' | 'response_json' | 'decision' | 'redaction')
>

function askedColumns(call: Readonly<Call>, redactor: Redactor, notes: Notes): AskedColumns {
  const { message, principal, target, hint } = call
  const text = (value: string | null | undefined) => notes.column(redactor, value, MAX_TEXT)
  // The principal is the gateway's own knowledge, so nothing a caller sent is looked for in it.
  const own = (value: string | null | undefined) => notes.column(redactor, value, MAX_TEXT, true)
  const roles = principal?.roles.slice(0, MAX_ROLES).map((role) => own(role) ?? '') ?? null
  // Masks may be about these, and nobody knows.
  const asked = (value: string | null | undefined) => text(redactor.overflowed && value ? WITHHELD : value)
  return {
    id: call.id,
    ts: isoTime(call.startedMs),
    request_id: call.requestId,
    tenant: own(principal?.tenant),
    principal_id: own(principal?.id),
    principal_kind: own(principal?.kind),
    role: roles?.[0] ?? null,
    roles,
    api_key_id: own(principal?.apiKeyId),
    client_ip: address(call.clientIp),
    client_name: asked(message?.client?.name),
    client_version: asked(message?.client?.version),
    protocol_version: text(message?.protocolVersion),
    session_hash: text(message?.session?.hash),
    http_method: text(call.head.httpMethod),
    method: text(message?.method ?? hint?.method),
    server: text(call.server?.name ?? call.head.mount),
    target_kind: text(target?.kind),
    tool_name: target?.kind.startsWith('resource') ? asked(target.name) : text(target?.name ?? hint?.name),
    policy_revision: text(call.evaluation?.policy.revision),
  }
}

/** One literal with all members: objects put together by spreading cost ten times as much. */
function withEnding(
  asked: AskedColumns,
  { call, ending }: AuditEvent,
  redactor: Redactor,
  notes: Notes,
  documents: Documents,
): AuditRow {
  return {
    id: asked.id,
    ts: asked.ts,
    request_id: asked.request_id,
    tenant: asked.tenant,
    principal_id: asked.principal_id,
    principal_kind: asked.principal_kind,
    role: asked.role,
    roles: asked.roles,
    api_key_id: asked.api_key_id,
    client_ip: asked.client_ip,
    client_name: asked.client_name,
    client_version: asked.client_version,
    protocol_version: asked.protocol_version,
    session_hash: asked.session_hash,
    http_method: asked.http_method,
    method: asked.method,
    server: asked.server,
    target_kind: asked.target_kind,
    tool_name: asked.tool_name,
    outcome: ending.outcome,
    status_code: statusCode(ending.status),
    reason: ending.kind,
    error_message: notes.column(redactor, saidOf(redactor, { call, ending }), MAX_MESSAGE),
    latency_ms: finite(ending.latencyMs) ?? 0,
    upstream_ms: finite(call.upstream?.ms),
    policy_revision: asked.policy_revision,
    request_json: documents.request,
    response_json: documents.response,
    decision: documents.decision,
    // Behind the columns, which are noted too.
    redaction: notes.json(),
  }
}

/** How an attempt ends of which nothing more is heard. */
const UNHEARD = {
  outcome: 'interrupted',
  status: 503,
  kind: null,
  error: null,
  response: null,
  latencyMs: 0,
} as const

/** What is found out about a call when it begins, and need not be again when it ends. */
export interface Begun {
  /** The row, should nothing more be heard of the call. Cheap: no payload, no trace. */
  readonly row: AuditRow
  /** Knows the credentials of the request. */
  readonly redactor: Redactor
  readonly notes: Notes
  /** How much the redactor knew when the columns were made; {@link NOTHING} = they could not be. */
  readonly learned: number
  /** What was known of the call. */
  readonly call: Readonly<Pick<Call, (typeof FACTS)[number]>>
}

const NOTHING = -1
const FACTS = ['head', 'message', 'principal', 'server', 'target', 'hint', 'evaluation', 'clientIp'] as const

/** A list that is put together from several, and a stream that is judged again, learn more while they go on. */
function isStill({ call }: Begun, now: Readonly<Call>): boolean {
  return FACTS.every((name) => call[name] === now[name])
}

/** Looks at an attempt that is about to ask its upstream. */
export function beginRow(call: Readonly<Call>, rules: RowRules = {}): Begun {
  const event = { call, ending: UNHEARD }
  const redactor = createRedactor(rules.keys, rules.hashKey)
  const notes = createNotes()
  const { head, message, principal, server, target, hint, evaluation, clientIp } = call
  const facts = { head, message, principal, server, target, hint, evaluation, clientIp }
  try {
    learnFirst(redactor, notes, event, rules, false)
    const decision = begunDecision(redactor, notes, event)
    const documents = { request: null, response: null, decision }
    const row = withEnding(askedColumns(call, redactor, notes), event, redactor, notes, documents)
    return { row, redactor, notes, learned: redactor.learned, call: facts }
  } catch (thrown) {
    const row = bareRow(event, thrown instanceof Error ? thrown.name : typeof thrown)
    return { row, redactor, notes, learned: NOTHING, call: facts }
  }
}

/** The row of an attempt that was still open when the gateway stopped. */
export function toInterruptedRow(call: Readonly<Call>, nowMs: number, rules?: RowRules): AuditRow {
  return toAuditRow({ call, ending: { ...UNHEARD, latencyMs: nowMs - call.startedMs } }, rules)
}

/** Who did what is gone, that it happened is not. */
function bareRow({ call, ending }: AuditEvent, fault: string): AuditRow {
  const known = { id: call.id, request_id: call.requestId, ts: isoTime(call.startedMs) }
  const made = {
    outcome: ending.outcome,
    status_code: statusCode(ending.status),
    latency_ms: finite(ending.latencyMs) ?? 0,
  }
  return placeholder({ ...known, ...made }, { why: `the row could not be made: ${fault}` })
}

/** What the request itself carried as a credential must not come up anywhere, not even where an upstream echoes it. */
function learnCredentials(redactor: Redactor, call: Readonly<Call>): null {
  const { rawHeaders } = call.head
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const value = rawHeaders[index + 1] ?? ''
    if (!isSecretKey(rawHeaders[index] ?? '')) continue
    redactor.learn(value, 'credential')
    for (const pair of value.split(';')) {
      const cookie = pair.slice(pair.indexOf('=') + 1).trim()
      if (cookie.length >= MIN_COOKIE) redactor.learn(cookie, 'credential')
    }
    const scheme = /^[A-Za-z]+ +/.exec(value)
    if (scheme !== null) redactor.learn(value.slice(scheme[0].length), 'credential')
  }
  return null
}

/** The masks, when all that they hide is known to the redactor. */
function learnMasked(
  redactor: Redactor,
  { call, ending }: AuditEvent,
  masks: readonly Mask[] | null,
): readonly Mask[] | null {
  if (masks === null || masks.length === 0) return masks
  const learn = (json: string, { op }: Mask): void =>
    redactor.learnMasked(json, op === 'hash' ? 'pointer' : 'mask')
  const texts: readonly (readonly [string, MaskPlace | null])[] = [
    [call.message?.argumentsText ?? '{}', placeOf(argumentMasks(masks, []))],
    [call.evaluation?.inputText ?? '{}', placeOf(masksAt(masks, IN_MESSAGES, false))],
    [answerText(ending), placeOf(masksAt(masks, ['result'], true))],
  ]
  // What is too long to be searched may repeat itself anywhere.
  if (texts.some(([text, place]) => place !== null && text.length > MAX_SEARCHED)) return null
  for (const [text, place] of texts) findMasked(text, place, learn)
  // What a policy puts in the place of a value it may have made from that value.
  return masks.map((mask) =>
    mask.json === undefined
      ? mask
      : { ...mask, json: redactor.json(mask.json, { bounds: PAYLOAD_BOUNDS }).json },
  )
}

/** Roots of masks that are no members of the policy's input as it is stored. */
const IN_MESSAGES = ['arguments', 'result']
const MAX_SEARCHED = 1_048_576

function answerText({ kind, response }: Ending): string {
  return kind !== null || response === null ? '{}' : response.toString('utf8', 0, MAX_SEARCHED + 1)
}

/** The JSON-RPC message as the client sent it; null for GET, DELETE and what could not be read. */
function requestJson(
  redactor: Redactor,
  notes: Notes,
  call: Readonly<Call>,
  { level, masks }: Keeping,
): StoredText | null {
  const { message } = call
  if (message === null || message.body.length === 0) return null
  const { body } = message
  if (masks === null) return notes.withheld('request', body.length)
  const learn = body.length <= MAX_UNSEEN || call.evaluation !== null
  const place = placeOf(argumentMasks(masks, argumentsPath(message.method)))
  const walked = redactor.json(body.toString('utf8'), {
    bounds: PAYLOAD_BOUNDS,
    learn,
    isJson: true,
    masks: place,
  })
  if (level === 'metadata') return notes.withheld('request', body.length)
  return notes.walked('request', walked, body.length)
}

/** The error object of a refusal, or the upstream's message. */
function responseJson(
  redactor: Redactor,
  notes: Notes,
  { ending }: AuditEvent,
  { level, masks }: Keeping,
): StoredText | null {
  const { response } = ending
  if (response === null || response.length === 0) return null
  if (ending.kind !== null) return refusalJson(redactor, notes, response)
  if (level !== 'full' || redactor.overflowed) return notes.withheld('response', response.length)
  const partial = response.length > MAX_ANSWER
  const text = response.toString('utf8', 0, MAX_ANSWER)
  const place = placeOf(masksAt(masks ?? [], ['result'], true))
  const walked = redactor.json(text, { bounds: PAYLOAD_BOUNDS, partial, isJson: !partial, masks: place })
  return notes.walked('response', walked, response.length)
}

/** Our own answer to a refused call: `{code, message, data}`, or the result that reports invalid arguments. */
function refusalJson(redactor: Redactor, notes: Notes, response: Buffer): StoredText {
  const message = JSON.parse(response.toString('utf8')) as { error?: unknown; result?: unknown }
  const text = JSON.stringify(message.error ?? message.result ?? null)
  return notes.walked(
    'response',
    redactor.json(text, { bounds: PAYLOAD_BOUNDS, isJson: true }),
    response.length,
  )
}

/** 0 = no HTTP status. */
function statusCode(status: number): number {
  return Number.isInteger(status) && status >= 100 && status <= 999 ? status : 0
}

/** The database's `inet` takes no zone (`fe80::1%eth0`), and would refuse anything that is no address. */
function address(clientIp: string | null): string | null {
  const plain = clientIp?.replace(/%.*$/s, '') ?? ''
  return isIP(plain) === 0 ? null : plain
}

function finite(value: number | null | undefined): number | null {
  return value !== null && value !== undefined && Number.isFinite(value)
    ? Math.round(value * 1000) / 1000
    : null
}
