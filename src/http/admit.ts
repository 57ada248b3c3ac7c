/** The stage `admit`: who is at the door, judged by the head alone. */
import { GatewayError } from '../errors.ts'
import type { Admission, Credential, RequestHead } from '../gateway/types.ts'
import type { ClientAddress } from './address.ts'
import { headerOf } from './content.ts'
import type { AllowList } from './site.ts'

/** What admission is judged by. */
export interface AdmitOptions {
  readonly isAllowedHost: AllowList
  readonly isAllowedOrigin: AllowList
  readonly clientAddress: ClientAddress
}

/**
 * Headers that somebody decides on. Standing twice they would be one thing to us (Node keeps the first of some, joins
 * others) and another to whoever stands in front of or behind us.
 */
const SINGLE_HEADERS: ReadonlySet<string> = new Set([
  ...['authorization', 'proxy-authorization', 'x-api-key', 'host', 'origin', 'expect'],
  ...['content-type', 'content-encoding', 'content-length', 'transfer-encoding'],
  ...['mcp-session-id', 'mcp-protocol-version', 'mcp-method', 'mcp-name', 'last-event-id'],
])

/**
 * Judges a request's head.
 * @throws GatewayError `ambiguous_credentials`, `host_refused`, `origin_refused`
 */
export function admitHead(head: RequestHead, options: AdmitOptions): Admission {
  requireSingleHeaders(head)
  const host = headerOf(head, 'host')
  if (host === null || !options.isAllowedHost(host)) throw new GatewayError('host_refused')
  const origin = headerOf(head, 'origin')
  if (origin !== null && !options.isAllowedOrigin(origin)) throw new GatewayError('origin_refused')
  return {
    clientIp: options.clientAddress(head.peer, headerOf(head, 'x-forwarded-for')),
    credential: credentialOf(head),
  }
}

function requireSingleHeaders(head: RequestHead): void {
  const seen = new Set<string>()
  for (let index = 0; index < head.rawHeaders.length; index += 2) {
    const name = (head.rawHeaders[index] ?? '').toLowerCase()
    const isSingle = SINGLE_HEADERS.has(name) || name.startsWith('mcp-param-')
    if (!isSingle) continue
    if (seen.has(name))
      throw new GatewayError('ambiguous_credentials', { detail: `two headers ${name.slice(0, 64)}` })
    seen.add(name)
  }
}

/** RFC 6750 §2.1: `Bearer` and a token68. */
const BEARER = /^bearer +([A-Za-z0-9\-._~+/]+=*)$/i
const API_KEY = /^[\x21-\x7e]+$/

/** A malformed credential is one that nobody has: its secret is empty, and it fails like any wrong one. */
function credentialOf(head: RequestHead): Credential | null {
  const authorization = headerOf(head, 'authorization')
  const apiKey = headerOf(head, 'x-api-key')
  if (authorization !== null && apiKey !== null) {
    throw new GatewayError('ambiguous_credentials', { detail: 'both Authorization and X-API-Key' })
  }
  if (authorization !== null) return { scheme: 'bearer', secret: BEARER.exec(authorization)?.[1] ?? '' }
  if (apiKey !== null) return { scheme: 'api_key', secret: API_KEY.test(apiKey) ? apiKey : '' }
  return null
}
