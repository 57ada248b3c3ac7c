/** What a call came to -> status, headers and JSON-RPC body. Pure. */

import type { GatewayError } from '../errors.ts'
import { ENDINGS } from '../errors.ts'
import type { Call, Reply, UpstreamAnswer, UpstreamHead } from '../gateway/types.ts'
import { MessageRefusal } from './message-refusal.ts'
import { TOOL_ERROR_VERSION } from './protocol.ts'
import type { SessionBinder } from './session.ts'

/** Headers of every answer that this server gives. */
export function commonHeaders(requestId: string): Record<string, string> {
  return { 'x-request-id': requestId, 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' }
}

/** Headers that keep whoever stands in between from holding back or rewriting a stream. */
const STREAM_HEADERS: Readonly<Record<string, string>> = {
  'content-type': 'text/event-stream',
  'cache-control': 'no-store, no-transform',
  'x-accel-buffering': 'no',
}

/** The head of a streamed reply. Throws `upstream_failed` when the upstream issued an unusable session id. */
export function openHead(call: Call, head: UpstreamHead, sessions: SessionBinder): Reply {
  const headers = Object.assign(answerHeaders(call, head, sessions), STREAM_HEADERS)
  return { status: head.status, headers, message: null, frame: null }
}

/** The upstream's own answer. Throws `upstream_failed` when the upstream issued an unusable session id. */
export function replyWith(call: Call, answer: UpstreamAnswer, sessions: SessionBinder): Reply {
  const { head, message, frame } = answer
  const headers = answerHeaders(call, head, sessions)
  if (message !== null && frame !== null) Object.assign(headers, STREAM_HEADERS)
  else if (message !== null) headers['content-type'] = 'application/json'
  return { status: head.status, headers, message, frame }
}

/**
 * An early end: the table's status and code, our request id, and nothing of why. `how` in_band: sent with status 200, of which
 * clients show the message alone, so it names the request.
 */
export function replyRefusal(call: Call, error: GatewayError, how: 'http' | 'in_band' = 'http'): Reply {
  const headers = { ...commonHeaders(call.requestId), ...call.rateFields, ...refusalHeaders(call, error) }
  if (error.kind === 'client_closed') {
    return { status: ENDINGS.client_closed.status, headers, message: null, frame: null }
  }
  headers['content-type'] = 'application/json'
  const idText = replyId(call, error)
  const member = isToolError(call, error) ? toolErrorMember(call, error) : errorMember(call, error, how)
  const text = `{"jsonrpc":"2.0",${idText === null ? '' : `"id":${idText},`}${member}}`
  const reply = { status: statusOf(call, error), headers, message: Buffer.from(text), frame: null }
  return how === 'http' ? reply : { ...reply, inBand: true }
}

/** What an answer is, how long and of which session, is said here and not by the upstream. */
const OWN_HEADERS: ReadonlySet<string> = new Set(['content-type', 'content-length', 'mcp-session-id'])

function answerHeaders(call: Call, head: UpstreamHead, sessions: SessionBinder): Record<string, string> {
  const headers: Record<string, string> = {}
  for (const [name, value] of Object.entries(head.headers)) if (!OWN_HEADERS.has(name)) headers[name] = value
  Object.assign(headers, call.rateFields, commonHeaders(call.requestId))
  const issued =
    call.message?.method === 'initialize' && call.message.era === 'legacy' ? head.sessionId : null
  if (issued !== null && call.principal !== null) {
    const { id: principalId, tenant } = call.principal
    const owner = { principalId, tenant, mount: call.head.mount }
    headers['mcp-session-id'] = sessions.wrap(owner, issued)
  }
  return headers
}

function refusalHeaders(call: Call, error: GatewayError): Record<string, string> {
  const retryAfter = retryAfterOf(error)
  if (retryAfter !== null) return { 'retry-after': String(Math.max(1, Math.ceil(retryAfter))) }
  if (error.kind === 'unauthenticated') {
    const { authorization, 'x-api-key': apiKey } = call.head.headers
    const presented = authorization !== undefined || apiKey !== undefined
    return { 'www-authenticate': presented ? 'Bearer error="invalid_token"' : 'Bearer' }
  }
  if (error instanceof MessageRefusal && error.allow !== null) return { allow: error.allow }
  return {}
}

/** Seconds. A 503 always says when to come back: what is short or away now may be there again in a moment. */
function retryAfterOf(error: GatewayError): number | null {
  const given = error.data['retryAfterSeconds']
  if (typeof given === 'number') return given
  return ENDINGS[error.kind].status === 503 ? 1 : null
}

/** An id belongs to a request only: a notification has none, and what answers a server request is not answered. */
function replyId(call: Call, error: GatewayError): string | null {
  if (call.message !== null) return call.message.kind === 'request' ? call.message.idText : null
  return error instanceof MessageRefusal ? error.idText : null
}

/**
 * 2025-x servers answer an unknown method with 200 and an error; there a 404 would tell the client that its session has
 * ended. What has no id to answer to (a notification, a response) gets a plain 400 instead.
 */
function statusOf(call: Call, error: GatewayError): number {
  if (error.kind !== 'unknown_method' || call.message?.era !== 'legacy') return ENDINGS[error.kind].status
  return call.message.kind === 'request' ? 200 : 400
}

function isToolError(call: Call, error: GatewayError): boolean {
  const version = call.message?.protocolVersion ?? null
  return error.kind === 'invalid_arguments' && version !== null && version >= TOOL_ERROR_VERSION
}

function errorMember(call: Call, error: GatewayError, how: 'http' | 'in_band'): string {
  const { code } = ENDINGS[error.kind]
  const retryAfterSeconds = retryAfterOf(error)
  const retry = retryAfterSeconds === null ? {} : { retryAfterSeconds }
  const data = { ...error.data, ...retry, requestId: call.requestId }
  const message = how === 'http' ? error.message : `${error.message} (request ${call.requestId})`
  return `"error":${JSON.stringify({ code, message, data })}`
}

/** Where a client shows only results, `_meta` is the place for the id that leads to the row. */
function toolErrorMember(call: Call, error: GatewayError): string {
  const result = {
    content: [{ type: 'text', text: error.message }],
    isError: true,
    // 2026-07-28 `basic/patterns`: every result says what it is.
    ...(call.message?.era === 'modern' ? { resultType: 'complete' } : {}),
    _meta: { 'mcp-policy-gateway/requestId': call.requestId },
  }
  return `"result":${JSON.stringify(result)}`
}
