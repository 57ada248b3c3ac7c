/**
 * The one table of all ways a call can end early, and the one class that carries them.
 *
 * `detail` and `cause` are for the audit row and the log; only what {@link toPublic} returns ever leaves the gateway.
 */

/** Where in the pipeline a call ended. These words are also the keys of the audit row's `decision`. */
export type Stage = 'admit' | 'auth' | 'read' | 'authz' | 'rate' | 'validate' | 'upstream' | 'audit'

/** What became of an attempt, as stored in the audit row's `outcome` column. */
export type Outcome =
  | 'allowed'
  | 'denied_admit'
  | 'denied_auth'
  | 'denied_authz'
  | 'killed'
  | 'rate_limited'
  | 'invalid'
  | 'overloaded'
  | 'unavailable'
  | 'upstream_error'
  | 'upstream_timeout'
  | 'client_closed'
  | 'interrupted'
  | 'internal_error'
  | 'gap'

interface EndingRule {
  readonly stage: Stage
  /** HTTP status of the answer. */
  readonly status: number
  /** JSON-RPC error code. Own codes lie outside -32768..-32000, as MCP 2026-07-28 `basic/index` asks. */
  readonly code: number
  readonly outcome: Outcome
  /** The safe text a caller sees: no rule, limit, upstream or policy text. */
  readonly message: string
}

/** kind -> how it is answered and recorded. */
export const ENDINGS = {
  host_refused: {
    stage: 'admit',
    status: 403,
    code: 1403,
    outcome: 'denied_admit',
    message: 'Host not allowed',
  },
  origin_refused: {
    stage: 'admit',
    status: 403,
    code: 1403,
    outcome: 'denied_admit',
    message: 'Origin not allowed',
  },
  address_throttled: {
    stage: 'admit',
    status: 429,
    code: 1429,
    outcome: 'rate_limited',
    message: 'Too many failed attempts',
  },
  overloaded: {
    stage: 'admit',
    status: 503,
    code: 1503,
    outcome: 'overloaded',
    message: 'Gateway overloaded',
  },
  ambiguous_credentials: {
    stage: 'admit',
    status: 400,
    code: 1400,
    outcome: 'invalid',
    message: 'Ambiguous security headers',
  },
  unauthenticated: {
    stage: 'auth',
    status: 401,
    code: 1401,
    outcome: 'denied_auth',
    message: 'Authentication required',
  },
  auth_unavailable: {
    stage: 'auth',
    status: 503,
    code: 1503,
    outcome: 'unavailable',
    message: 'Service unavailable',
  },
  body_too_large: {
    stage: 'read',
    status: 413,
    code: 1413,
    outcome: 'invalid',
    message: 'Request body too large',
  },
  unsupported_media_type: {
    stage: 'read',
    status: 415,
    code: 1415,
    outcome: 'invalid',
    message: 'Content-Type must be application/json',
  },
  not_acceptable: {
    stage: 'read',
    status: 406,
    code: 1406,
    outcome: 'invalid',
    message: 'Accept must allow application/json and text/event-stream',
  },
  parse_error: { stage: 'read', status: 400, code: -32700, outcome: 'invalid', message: 'Parse error' },
  invalid_request: {
    stage: 'read',
    status: 400,
    code: -32600,
    outcome: 'invalid',
    message: 'Invalid request',
  },
  invalid_params: { stage: 'read', status: 400, code: -32602, outcome: 'invalid', message: 'Invalid params' },
  header_mismatch: {
    stage: 'read',
    status: 400,
    code: -32020,
    outcome: 'invalid',
    message: 'Header does not match body',
  },
  unsupported_version: {
    stage: 'read',
    status: 400,
    code: -32022,
    outcome: 'invalid',
    message: 'Unsupported protocol version',
  },
  missing_capability: {
    stage: 'read',
    status: 400,
    code: -32021,
    outcome: 'invalid',
    message: 'Missing required client capability',
  },
  session_unknown: {
    stage: 'read',
    status: 404,
    code: 1404,
    outcome: 'invalid',
    message: 'Session not found',
  },
  mount_unknown: { stage: 'read', status: 404, code: 1404, outcome: 'invalid', message: 'Not found' },
  method_not_allowed: {
    stage: 'read',
    status: 405,
    code: 1405,
    outcome: 'invalid',
    message: 'Method not allowed',
  },
  unknown_method: {
    stage: 'authz',
    status: 404,
    code: -32601,
    outcome: 'denied_authz',
    message: 'Method not found',
  },
  policy_denied: { stage: 'authz', status: 403, code: 1403, outcome: 'denied_authz', message: 'Forbidden' },
  unknown_tool: { stage: 'authz', status: 403, code: 1403, outcome: 'denied_authz', message: 'Forbidden' },
  unknown_upstream: {
    stage: 'authz',
    status: 403,
    code: 1403,
    outcome: 'denied_authz',
    message: 'Forbidden',
  },
  policy_error: { stage: 'authz', status: 403, code: 1403, outcome: 'denied_authz', message: 'Forbidden' },
  policy_budget: { stage: 'authz', status: 403, code: 1403, outcome: 'denied_authz', message: 'Forbidden' },
  policy_malformed: {
    stage: 'authz',
    status: 403,
    code: 1403,
    outcome: 'denied_authz',
    message: 'Forbidden',
  },
  killed: { stage: 'authz', status: 403, code: 1403, outcome: 'killed', message: 'Forbidden' },
  rate_limited: {
    stage: 'rate',
    status: 429,
    code: 1429,
    outcome: 'rate_limited',
    message: 'Rate limit exceeded',
  },
  limiter_unavailable: {
    stage: 'rate',
    status: 503,
    code: 1503,
    outcome: 'unavailable',
    message: 'Service unavailable',
  },
  invalid_arguments: {
    stage: 'validate',
    status: 200,
    code: -32602,
    outcome: 'invalid',
    message: 'Invalid arguments',
  },
  upstream_failed: {
    stage: 'upstream',
    status: 502,
    code: 1502,
    outcome: 'upstream_error',
    message: 'Upstream failed',
  },
  upstream_timeout: {
    stage: 'upstream',
    status: 504,
    code: 1504,
    outcome: 'upstream_timeout',
    message: 'Upstream timed out',
  },
  client_closed: {
    stage: 'upstream',
    status: 499,
    code: 1499,
    outcome: 'client_closed',
    message: 'Client closed the request',
  },
  audit_unavailable: {
    stage: 'audit',
    status: 503,
    code: 1503,
    outcome: 'unavailable',
    message: 'Service unavailable',
  },
  internal_error: {
    stage: 'upstream',
    status: 500,
    code: 1500,
    outcome: 'internal_error',
    message: 'Internal error',
  },
} as const satisfies Record<string, EndingRule>

/** The name of a way to end early; stored in the audit row's `reason` column. */
export type EndingKind = keyof typeof ENDINGS

/** Optional parts of a {@link GatewayError}. */
export interface GatewayErrorOptions {
  readonly cause?: unknown
  /** What an operator needs to understand it. Goes to the audit row's `error_message` (redacted) and never to the caller. */
  readonly detail?: string
  /** `data` members that the MCP spec defines for this code, or our own `retryAfterSeconds`. Must be safe to show. */
  readonly data?: Readonly<Record<string, unknown>>
  /** A safe public text that is more precise than the table's. Never echo values of the caller, policy or upstream. */
  readonly message?: string
}

/** A deliberate early end of a call. Anything else that is thrown is a fault and becomes `internal_error`. */
export class GatewayError extends Error {
  readonly kind: EndingKind
  readonly detail: string | null
  readonly data: Readonly<Record<string, unknown>>

  constructor(kind: EndingKind, options: GatewayErrorOptions = {}) {
    super(
      options.message ?? ENDINGS[kind].message,
      options.cause === undefined ? undefined : { cause: options.cause },
    )
    this.name = 'GatewayError'
    this.kind = kind
    this.detail = options.detail ?? null
    this.data = options.data ?? {}
  }
}

/** Turns whatever was thrown into a {@link GatewayError}; a fault keeps its class name and message as detail. */
export function toGatewayError(thrown: unknown): GatewayError {
  if (thrown instanceof GatewayError) return thrown
  const detail =
    thrown instanceof Error
      ? `${thrown.name}: ${thrown.message}`
      : `thrown ${typeof thrown}: ${String(thrown)}`
  return new GatewayError('internal_error', { cause: thrown, detail })
}

/** A mistake of the person who runs a command or writes a file: printed with its way out, without a stack. */
export class UsageError extends Error {
  /** Stable machine code of the command line: `usage`, `config`, `unreachable`, `not_found`, `check_failed`, .. */
  readonly code: string
  constructor(code: string, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'UsageError'
    this.code = code
  }
}
