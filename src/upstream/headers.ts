/**
 * The header allow-lists of DESIGN "upstream": what may go up, what may come back. A header that is not named here does not
 * pass: credentials, cookies and forwarding headers of the caller, and anything the upstream adds, stay on their side.
 */
import type { IncomingHttpHeaders } from 'node:http'
import { UsageError } from '../errors.ts'
import { nameHeader } from '../gateway/federation/names.ts'
import type { Message, RequestHead } from '../gateway/types.ts'

/** Names that the gateway sets itself, or that belong to the connection: not for configuration. */
const MANAGED = new Set([
  'accept',
  'accept-encoding',
  'connection',
  'content-encoding',
  'content-length',
  'content-type',
  'expect',
  'host',
  'keep-alive',
  'last-event-id',
  'mcp-method',
  'mcp-name',
  'mcp-protocol-version',
  'mcp-session-id',
  'proxy-connection',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
])

const HEADER_NAME = /^[!#$%&'*+.^_`|~0-9a-z-]+$/
/** What a header's value may be made of. */
export const HEADER_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/

/** Checks an upstream's configured headers and lower-cases their names. Throws a UsageError that never shows a value. */
export function parseStaticHeaders(
  upstream: string,
  headers: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const checked: Record<string, string> = {}
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase()
    const at = `upstreams.${upstream}.headers.${name}`
    if (!HEADER_NAME.test(lower)) throw new UsageError('config', `${at}: not a header name`)
    if (MANAGED.has(lower) || lower.startsWith('mcp-param-'))
      throw new UsageError('config', `${at}: the gateway sets this header itself; remove it`)
    if (!HEADER_VALUE.test(value))
      throw new UsageError('config', `${at}: the value holds characters that a header cannot carry`)
    checked[lower] = value
  }
  return checked
}

const TRACE = ['traceparent', 'tracestate', 'baggage'] as const
/** Validated against the body by the reader; on 2025-x traffic nobody checks them, so they do not pass. */
const ROUTING = ['mcp-method', 'mcp-name'] as const

/** Headers of the upstream's own that every request carries: the configured ones and our name. */
export interface OwnHeaders {
  readonly configured: Readonly<Record<string, string>>
  readonly userAgent: string
}

/** The headers that go up with this message. */
export function requestHeaders(head: RequestHead, message: Message, own: OwnHeaders): Record<string, string> {
  const headers: Record<string, string> = {
    'user-agent': own.userAgent,
    'accept-encoding': 'identity',
  }
  if (message.kind === 'stream') headers['accept'] = 'text/event-stream'
  else if (message.kind !== 'terminate') {
    headers['accept'] = 'application/json, text/event-stream'
    headers['content-type'] = 'application/json'
  }
  const session = message.session?.upstreamId ?? null
  if (session !== null) headers['mcp-session-id'] = session
  copy(head, headers, ['mcp-protocol-version', ...TRACE])
  if (message.kind === 'stream') copy(head, headers, ['last-event-id'])
  if (message.era === 'modern') {
    const params = Object.keys(head.headers).filter((name) => name.startsWith('mcp-param-'))
    copy(head, headers, [...ROUTING, ...params])
    // The client's header names the task by the id that was bound to it.
    const { taskId } = message.params
    if (message.method.startsWith('tasks/') && typeof taskId === 'string')
      headers['mcp-name'] = nameHeader(taskId)
  }
  return Object.assign(headers, own.configured)
}

function copy(head: RequestHead, into: Record<string, string>, names: readonly string[]): void {
  for (const name of names) {
    const value = head.headers[name]
    if (typeof value === 'string') into[name] = value
  }
}

const MAX_SESSION_ID = 1024
/** Visible ASCII (2025-11-25 basic/transports, session management). */
const SESSION_ID = /^[\x21-\x7e]+$/

/** The session id the upstream issues; null when none, undefined when it is not one that may be used. */
export function issuedSession(headers: IncomingHttpHeaders): string | null | undefined {
  const value = headers['mcp-session-id']
  if (value === undefined) return null
  const valid = typeof value === 'string' && value.length <= MAX_SESSION_ID && SESSION_ID.test(value)
  return valid ? value : undefined
}

/** A header that stands several times is an array in undici, whatever Node's types say. */
function only(value: string | readonly string[] | undefined): string | null {
  return typeof value === 'object' ? null : (value ?? '').trim().toLowerCase()
}

/** Essence of the content type, lower-cased; '' when there is none, or more than one. */
export function mediaType(headers: IncomingHttpHeaders): string {
  return only(headers['content-type'])?.split(';', 1)[0]?.trim() ?? ''
}

/** true when the body is sent as it is. */
export function isIdentity(headers: IncomingHttpHeaders): boolean {
  const encoding = only(headers['content-encoding'])
  return encoding === '' || encoding === 'identity'
}

/** The headers of an answer that may come back: its type and, for a 429, how long to wait. */
export function answerHeaders(
  status: number,
  headers: IncomingHttpHeaders,
  contentType: string | null,
): Record<string, string> {
  const back: Record<string, string> = {}
  if (contentType !== null) back['content-type'] = contentType
  const retryAfter = headers['retry-after']
  if (status === 429 && typeof retryAfter === 'string' && /^[0-9]{1,6}$/.test(retryAfter))
    back['retry-after'] = retryAfter
  return back
}
