/**
 * What lets a page of an allowed origin read our answers (WHATWG Fetch, "CORS protocol"): the origin itself, never `*`, and no
 * credentials that a browser adds by itself.
 */
import type { ReplyHead, RequestHead } from '../gateway/types.ts'
import { headerOf } from './content.ts'
import type { AllowList } from './site.ts'

/** Headers that MCP clients send; of `Mcp-Param-*` there are as many as tools have parameters. */
const REQUEST_HEADERS: readonly string[] = [
  ...['accept', 'authorization', 'content-type', 'last-event-id', 'x-api-key'],
  ...['mcp-method', 'mcp-name', 'mcp-protocol-version', 'mcp-session-id'],
  ...['traceparent', 'tracestate', 'baggage'],
]
const PARAM_HEADER = /^mcp-param-[a-z0-9_-]{1,64}$/

/** Headers of our answers that a page may read besides those that it always may. */
const ANSWER_HEADERS =
  'mcp-session-id, ratelimit, ratelimit-policy, retry-after, www-authenticate, x-request-id'

/** How long a browser may remember the answer to a preflight, in seconds. */
const MAX_AGE_S = 600

/**
 * The answer to a preflight; null when the request is none, or comes from a site that is not allowed: then it is an attempt,
 * refused and recorded like any other.
 */
export function preflightReply(
  head: RequestHead,
  isAllowedHost: AllowList,
  isAllowedOrigin: AllowList,
): ReplyHead | null {
  const origin = headerOf(head, 'origin')
  const isPreflight =
    head.httpMethod === 'OPTIONS' && headerOf(head, 'access-control-request-method') !== null
  if (!isPreflight || origin === null) return null
  if (!isAllowedHost(headerOf(head, 'host') ?? '') || !isAllowedOrigin(origin)) return null
  const asked = (headerOf(head, 'access-control-request-headers') ?? '').toLowerCase().split(',')
  const params = asked.map((name) => name.trim()).filter((name) => PARAM_HEADER.test(name))
  return {
    status: 204,
    headers: {
      'access-control-allow-origin': origin,
      'access-control-allow-methods': 'GET, POST, DELETE',
      'access-control-allow-headers': [...REQUEST_HEADERS, ...new Set(params)].join(', '),
      'access-control-max-age': String(MAX_AGE_S),
      vary: 'Origin, Access-Control-Request-Headers',
    },
  }
}

/** Fields of every answer to a page of an allowed origin; null for anybody else. */
export function crossOriginFields(
  head: RequestHead,
  isAllowedOrigin: AllowList,
): Readonly<Record<string, string>> | null {
  const origin = headerOf(head, 'origin')
  if (origin === null || !isAllowedOrigin(origin)) return null
  return {
    'access-control-allow-origin': origin,
    'access-control-expose-headers': ANSWER_HEADERS,
    vary: 'Origin',
  }
}
