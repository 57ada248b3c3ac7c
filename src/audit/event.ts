/** One finished attempt -> its audit row. Pure, and it never throws: a row with less in it beats no row. */
import { isIP } from 'node:net'
import type { AuditEvent, Call, Ending, Principal } from '../gateway/types.ts'
import { begunDecision, decisionSections } from './decision.ts'
import type { Notes } from './notes.ts'
import { createNotes, payloadLevel } from './notes.ts'
import type { Redactor } from './redact.ts'
import { createRedactor, PAYLOAD_BOUNDS } from './redact.ts'
import type { AuditRow } from './row.ts'
import { isoTime, placeholder } from './row.ts'
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

/** Makes the row of an attempt: columns, decision, payloads; redacted, sanitised and bounded. `redactKeys`: see {@link toKeySet}. */
export function toAuditRow(event: AuditEvent, redactKeys: ReadonlySet<string> = NO_KEYS): AuditRow {
  try {
    return build(event, redactKeys)
  } catch (thrown) {
    return bareRow(event, thrown instanceof Error ? thrown.name : typeof thrown)
  }
}

const NO_KEYS: ReadonlySet<string> = new Set()

function build(event: AuditEvent, redactKeys: ReadonlySet<string>): AuditRow {
  const redactor = createRedactor(redactKeys)
  const notes = createNotes()
  const { call, ending } = event
  // The order matters: what the request teaches the redactor is used on everything after it.
  notes.attempt('headers', () => learnCredentials(redactor, call))
  const request = notes.attempt('request', () => requestJson(redactor, notes, call))
  const { decision, core } = decisionSections(redactor, notes, event)
  const response = notes.attempt('response', () => responseJson(redactor, notes, call, ending))
  return {
    ...callColumns(redactor, notes, call),
    ...endingColumns(redactor, notes, ending),
    upstream_ms: finite(call.upstream?.ms),
    request_json: request,
    response_json: response,
    decision,
    redaction: notes.json(),
    core,
  }
}

/** The row of an attempt that is about to ask its upstream, should nothing more be heard of it. Cheap: no payload, no trace. */
export function toBegunRow(call: Readonly<Call>, redactKeys: ReadonlySet<string> = NO_KEYS): AuditRow {
  const ending = {
    outcome: 'interrupted',
    status: 503,
    kind: null,
    error: null,
    response: null,
    latencyMs: 0,
  } as const
  try {
    const redactor = createRedactor(redactKeys)
    const notes = createNotes()
    notes.attempt('headers', () => learnCredentials(redactor, call))
    const decision = begunDecision(redactor, notes, call)
    return {
      ...callColumns(redactor, notes, call),
      ...endingColumns(redactor, notes, ending),
      ...{ upstream_ms: null, request_json: null, response_json: null, decision, redaction: notes.json() },
      core: decision,
    }
  } catch (thrown) {
    return bareRow({ call, ending }, thrown instanceof Error ? thrown.name : typeof thrown)
  }
}

/** The row of an attempt that was still open when the gateway stopped. */
export function toInterruptedRow(
  call: Readonly<Call>,
  nowMs: number,
  redactKeys?: ReadonlySet<string>,
): AuditRow {
  const latencyMs = nowMs - call.startedMs
  const open = { outcome: 'interrupted', status: 503, kind: null, error: null, response: null } as const
  return toAuditRow({ call, ending: { ...open, latencyMs } }, redactKeys)
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

function callColumns(redactor: Redactor, notes: Notes, call: Readonly<Call>) {
  const { message, principal, target } = call
  const text = (value: string | null | undefined) => notes.column(redactor, value, MAX_TEXT)
  return {
    id: call.id,
    ts: isoTime(call.startedMs),
    request_id: call.requestId,
    ...principalColumns(notes, redactor, principal),
    client_ip: address(call.clientIp),
    client_name: text(message?.client?.name),
    client_version: text(message?.client?.version),
    protocol_version: text(message?.protocolVersion),
    session_hash: text(message?.session?.hash),
    http_method: text(call.head.httpMethod),
    method: text(message?.method ?? call.hint?.method),
    server: text(call.server?.name ?? call.head.mount),
    target_kind: text(target?.kind),
    tool_name: text(target?.name ?? call.hint?.name),
    policy_revision: text(call.evaluation?.policy.revision),
  }
}

/** The principal is the gateway's own knowledge, so nothing a caller sent is looked for in it. */
function principalColumns(notes: Notes, redactor: Redactor, principal: Principal | null) {
  const text = (value: string | null | undefined) => notes.column(redactor, value, MAX_TEXT, true)
  const roles = principal?.roles.slice(0, MAX_ROLES).map((role) => text(role) ?? '') ?? null
  return {
    tenant: text(principal?.tenant),
    principal_id: text(principal?.id),
    principal_kind: text(principal?.kind),
    role: roles?.[0] ?? null,
    roles,
    api_key_id: text(principal?.apiKeyId),
  }
}

function endingColumns(redactor: Redactor, notes: Notes, ending: Ending) {
  return {
    outcome: ending.outcome,
    status_code: statusCode(ending.status),
    reason: ending.kind,
    error_message: notes.column(redactor, ending.error?.detail, MAX_MESSAGE),
    latency_ms: finite(ending.latencyMs) ?? 0,
  }
}

/** The JSON-RPC message as the client sent it; null for GET, DELETE and what could not be read. */
function requestJson(redactor: Redactor, notes: Notes, call: Readonly<Call>): string | null {
  const body = call.message?.body
  if (body === undefined || body.length === 0) return null
  const learn = body.length <= MAX_UNSEEN || call.evaluation !== null
  const walked = redactor.json(body.toString('utf8'), { bounds: PAYLOAD_BOUNDS, learn })
  if (payloadLevel(call) === 'metadata') return notes.withheld('request', body.length)
  return notes.walked('request', walked, body.length)
}

/** The error object of a refusal, or the upstream's message. */
function responseJson(redactor: Redactor, notes: Notes, call: Readonly<Call>, ending: Ending): string | null {
  const { response } = ending
  if (response === null || response.length === 0) return null
  if (ending.kind !== null) return refusalJson(redactor, notes, response)
  if (payloadLevel(call) !== 'full' || redactor.overflowed) return notes.withheld('response', response.length)
  const partial = response.length > MAX_ANSWER
  const text = response.toString('utf8', 0, MAX_ANSWER)
  return notes.walked('response', redactor.json(text, { bounds: PAYLOAD_BOUNDS, partial }), response.length)
}

/** Our own answer to a refused call: `{code, message, data}`, or the result that reports invalid arguments. */
function refusalJson(redactor: Redactor, notes: Notes, response: Buffer): string {
  const message = JSON.parse(response.toString('utf8')) as { error?: unknown; result?: unknown }
  const text = JSON.stringify(message.error ?? message.result ?? null)
  return notes.walked('response', redactor.json(text, { bounds: PAYLOAD_BOUNDS }), response.length)
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
