/**
 * What to make of an upstream's answer, from its status line and headers alone. One rule for each kind of message; what no
 * rule names is a failed upstream. [MCP basic/transports of each revision; DESIGN "Ways to end early"]
 */
import type { IncomingHttpHeaders } from 'node:http'
import { GatewayError } from '../errors.ts'
import type { Message } from '../gateway/types.ts'
import { isIdentity, mediaType } from './headers.ts'

/**
 * - json      one JSON-RPC response, whole
 * - stream    server-sent events
 * - accepted  nothing more to come; `status` is what the client gets
 * - refused   an HTTP error whose JSON-RPC error is the upstream's own answer; `bare` = without one the status still is
 */
export type HeadPlan =
  | { readonly kind: 'json' }
  | { readonly kind: 'stream' }
  | { readonly kind: 'accepted'; readonly status: number }
  | { readonly kind: 'refused'; readonly bare: boolean }

/**
 * Errors that speak about the message, not about our standing with the upstream: version negotiation (400), unknown methods
 * and ended sessions (404), no GET stream (405) or only one (409), the upstream's own limits (413, 429). 401, 403 and 407
 * mean that our credential failed, 5xx that the upstream did: neither is for the caller to see.
 */
const RELAYED = new Set([400, 404, 405, 406, 409, 413, 415, 422, 429])

/** Media type of an answer that is one message. */
export const JSON_TYPE = 'application/json'
/** Media type of an answer that is a stream. */
export const EVENT_STREAM = 'text/event-stream'

/** Throws `upstream_failed` for an answer that must not be relayed. */
export function planOf(message: Message, status: number, headers: IncomingHttpHeaders): HeadPlan {
  if (RELAYED.has(status)) return { kind: 'refused', bare: isBareRefusal(message, status) }
  if (status >= 300)
    throw failed(status >= 400 ? `it answered ${status}` : `it answered a redirect (${status})`)
  if (message.kind === 'notification' || message.kind === 'response') return { kind: 'accepted', status: 202 }
  if (message.kind === 'terminate') return { kind: 'accepted', status }
  if (status !== 200) throw failed(`it answered ${status} without a message`)
  if (!isIdentity(headers)) throw failed('it compressed its answer, which it was asked not to do')
  const type = mediaType(headers)
  if (type === EVENT_STREAM) return { kind: 'stream' }
  if (type === JSON_TYPE && message.kind === 'request') return { kind: 'json' }
  throw failed('its answer is neither JSON nor an event stream')
}

/**
 * Refusals that mean something without a body: an ended session makes the client start a new one, an upstream without a GET
 * stream or DELETE says 405, and clients take any refusal of `server/discover` as "this is a 2025-x server".
 */
function isBareRefusal(message: Message, status: number): boolean {
  if (message.kind === 'stream' || message.kind === 'terminate') return status === 404 || status === 405
  if (message.method === 'server/discover') return status !== 429
  return status === 404 && message.session !== null
}

/** `upstream_failed` with what an operator needs to know. Never pass upstream text. */
export function failed(detail: string, cause?: unknown): GatewayError {
  return new GatewayError('upstream_failed', { detail, ...(cause === undefined ? {} : { cause }) })
}
