/**
 * The words of the gateway, and the values that travel between its rooms. Types only.
 *
 * - attempt    one try to use something of an upstream; leaves exactly one audit row
 * - call       the typed scope of one attempt: each stage adds what it learnt, the audit event is made from it
 * - exchange   one HTTP request and the reply to it, as the spine sees them
 * - mount      `/mcp/<upstream>`: the front door of one upstream; `/mcp`, the merged mount: of all that a caller may see
 * - part       what a call to the merged mount that concerns every upstream is at one of them
 * - principal  who is calling, once the credential has been verified
 * - message    what the body says: one JSON-RPC message, or the GET / DELETE of a session
 * - target     what the call wants to use (tool, resource, prompt, ..): DESIGN table "methods -> target"
 * - evaluation one run of the policy that decided, with its trace
 * - obligation something the policy asks of the gateway when it allows a call
 * - upstream   an MCP server behind the gateway
 * - revision   which policy was in force: label and digest
 */
import type { CallSignal } from '../call-signal.ts'
import type { EndingKind, GatewayError, Outcome, Stage } from '../errors.ts'
import type { StoredText } from '../json/stored-text.ts'
import type { SseFields } from '../sse.ts'
import type { ChargeReport, Limit } from './limit-types.ts'

/** 2025-x revisions with sessions, or 2026-07-28 and later: every request stands alone. Decided once, from the body. */
export type Era = 'legacy' | 'modern'

/** The head of an HTTP request. `headers` has lower-case names; `rawHeaders` is name, value, name, value as received. */
export interface RequestHead {
  readonly httpMethod: string
  /**
   * Name of the upstream in the URL, percent-decoded; not yet known to exist. `*` = the merged mount, until the call has been
   * given to one upstream.
   */
  readonly mount: string
  readonly rawHeaders: readonly string[]
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>
  /** Address of the TCP peer. */
  readonly peer: string
}

/** One HTTP exchange. Implemented by `http/`; the spine never sees Express. */
export interface Exchange {
  readonly head: RequestHead
  /** Aborted when the client has gone before the reply was complete. */
  readonly signal: CallSignal
  /** Reads the whole body. Throws `body_too_large`; aborted reads throw `client_closed`. */
  readBody(maxBytes: number): Promise<Buffer>
  /** The body if it is small and has already arrived, else null. Never waits for the client, never throws. */
  peekBody(maxBytes: number): Promise<Buffer | null>
  /** Starts a streamed reply (server-sent events): head out at once. Call it at most once. */
  open(head: ReplyHead): void
  readonly opened: boolean
  /** Writes one event to an opened reply; resolves when the client can take more. Never rejects. An event with an empty
   * `raw` was edited and is encoded from its fields. */
  write(event: SseEvent): Promise<void>
  /** Ends the exchange with this reply; on an opened stream its message goes out as the last event. Never rejects. */
  finish(reply: Reply): Promise<void>
}

/** What the body of an exchange has turned out to be. */
export interface Reading {
  readonly message: Message
  /** Where the message's answer goes: the exchange it was read from, or its part of that. */
  readonly exchange: Exchange
  /** The other messages of a batch, each with an exchange of its own; attempts like any other. */
  readonly others: readonly Exchange[]
}

/** Status and headers of a reply. */
export interface ReplyHead {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
}

/** A complete answer. `message` is one JSON-RPC message or null (202, 405, ..); `frame` keeps the upstream's SSE fields. */
export interface Reply extends ReplyHead {
  readonly message: Buffer | null
  readonly frame: SseEvent | null
  /** Sent with status 200: the client is to find the error in the message. Rows keep the true status. */
  readonly inBand?: boolean
}

/** One server-sent event. `raw` is the block as it arrived, including its blank line; `data` null when it has none. */
export interface SseEvent extends SseFields {
  readonly raw: Buffer
}

/** What `admit` found out about the sender. */
export interface Admission {
  /** The client's address after `trusted_proxies`, canonical text form. */
  readonly clientIp: string
  /** The one credential of the request, undecided; null when there is none. */
  readonly credential: Credential | null
}

/** A credential as presented. `secret` must never reach a log, an error or a row. */
export interface Credential {
  readonly scheme: 'bearer' | 'api_key'
  readonly secret: string
}

/** Who is calling, as policies, limits and rows see it. */
export interface Principal {
  readonly id: string
  readonly kind: 'user' | 'service' | 'agent' | 'anonymous'
  readonly roles: readonly string[]
  readonly tenant: string | null
  readonly teams: readonly string[]
  readonly scopes: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  readonly authMethod: 'api_key' | 'none'
  /** Id of the API key (not its secret); survives rotation. */
  readonly apiKeyId: string | null
}

/** An upstream session as the client named it, already verified to belong to this principal and mount. */
export interface Session {
  /** The upstream's own session id; null = it gave none. On the merged mount, until one upstream is meant: see `federation/opening.ts`. */
  readonly upstreamId: string | null
  /** What policies and rows see: a hash. */
  readonly hash: string
}

/** What one body says, or the GET or DELETE of a session. */
export interface Message {
  /** `response` = the client answers a server-to-client request; `stream` = GET; `terminate` = DELETE. */
  readonly kind: 'request' | 'notification' | 'response' | 'stream' | 'terminate'
  readonly era: Era
  readonly protocolVersion: string | null
  /** JSON-RPC method; for `response`, `stream`, `terminate`: `response`, `GET`, `DELETE`. */
  readonly method: string
  /** The id's exact JSON text, null when there is none. */
  readonly idText: string | null
  /** Parsed `params` (numbers as doubles: for reading names, never for forwarding). */
  readonly params: Readonly<Record<string, unknown>>
  /** Exact JSON text of what the policy sees as `input.arguments`; null = the method has none. */
  readonly argumentsText: string | null
  /** The original body; empty for GET and DELETE. */
  readonly body: Buffer
  readonly session: Session | null
  readonly client: { readonly name: string; readonly version: string } | null
}

/** A request that an upstream has sent to a client, as far as the answer needs it. */
export interface AskedOfClient {
  readonly method: string
  /** The upstream's own id, its exact JSON text. */
  readonly idText: string
  /** In which session: what is the client's on the mount of an upstream is another one on the merged mount. */
  readonly session: Session | null
  /** Revision of that session. */
  readonly protocolVersion: string | null
}

/** What calls can use. [DESIGN 4.3] */
export type TargetKind =
  | 'server'
  | 'tool'
  | 'resource'
  | 'resource_template'
  | 'prompt'
  | 'completion'
  | 'task'
  | 'server_request'

/** What a call wants to use. */
export interface Target {
  readonly kind: TargetKind
  readonly name: string
  /** The upstream's own hints about a tool; its claim, not a fact. */
  readonly annotations: Readonly<Record<string, unknown>>
  /** SHA-256 (hex) of a tool's input schema; null when it has none or is not a tool. */
  readonly schemaDigest: string | null
}

/** The upstream a call is for, as far as policies may see it. */
export interface ServerFacts {
  readonly name: string
  readonly labels: Readonly<Record<string, string>>
}

/** Something the policy asks of the gateway; further members depend on `kind`. */
export interface Obligation {
  readonly kind: string
  readonly [member: string]: unknown
}

/** A part of the payloads that the row must not hold, wherever its value comes up again. */
export interface Mask {
  /** `remove` leaves the member or element out, `upsert` puts `json` in its place, `hash` a marker with a keyed digest. */
  readonly op: 'remove' | 'upsert' | 'hash'
  /** From the input document on: `arguments` is the call's, `result` that of the answer. `*` = every member or element. */
  readonly path: readonly string[]
  /** JSON text, of `upsert` only. */
  readonly json?: string
}

/** Which policy it was. */
export interface PolicyRevision {
  /** Label of the source, e.g. a short digest or the bundle's revision. */
  readonly revision: string
  /** `sha256:<hex>` of the serving module. */
  readonly digest: string
  /** Version of OPA whose compiler made it. */
  readonly opa: string
}

/** One policy evaluation that decided something. */
export interface Evaluation {
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
  readonly limits: readonly Limit[]
  readonly obligations: readonly Obligation[]
  readonly masks: readonly Mask[]
  /** Why it is not known what the policy wants masked, so that the row must not hold payloads; null = it is known. */
  readonly maskFailure: string | null
  /** Why there is no usable decision; the call is denied with this kind. */
  readonly failure: {
    readonly kind: 'policy_error' | 'policy_budget' | 'policy_malformed'
    readonly message: string
  } | null
  readonly policy: PolicyRevision & { readonly entrypoint: string }
  /** The frozen clock of the evaluation, nanoseconds since the epoch as decimal text. */
  readonly nowNs: string
  readonly evalUs: number
  /** Fuel used: a deterministic measure of work, see `policy/meter`. */
  readonly fuel: number
  /** JSON text of the policy input without `arguments`. */
  readonly inputText: string
  /** Keyed digest (HMAC-SHA-256, hex) of the exact input bytes. */
  readonly inputMac: string
  /** Assembles the text of the trace (`v`, `truncated`, `dropped`, `rules`: see `policy/trace.ts`). Call it off the hot path. */
  traceText(): StoredText
  /**
   * For redaction: what in the trace's text came from outside (`values`, JSON fragments), and all that the
   * policy's own text can contribute (`words`, the same for every evaluation of a policy). Call it after `traceText`.
   */
  traceParts(): { readonly values: string; readonly words: string }
  /** What names, places and source texts in the trace were made from: the very object the policy came with. */
  readonly traceDictionary: object
}

/** The verdict on one target of a list. */
export interface TargetVerdict {
  readonly name: string
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
}

/** What the gateway knows of one tool, from the upstream's own list. */
export interface ToolEntry {
  readonly name: string
  readonly annotations: Readonly<Record<string, unknown>>
  readonly inputSchema: unknown
  readonly schemaDigest: string
}

/** What became of a call at its upstream, for the row. */
export interface UpstreamReport {
  readonly server: string
  readonly status: number | null
  readonly jsonRpcError: number | null
  readonly toolIsError: boolean
  readonly ms: number
  readonly bytes: number
  /** Hex SHA-256 of the answer's JSON-RPC message (or of all bytes of a stream). */
  readonly sha256: string | null
}

/** The head of an upstream's answer, already cut down to the headers that may come back. */
export interface UpstreamHead extends ReplyHead {
  /** The session id the upstream has just issued, unwrapped; null when none. */
  readonly sessionId: string | null
  readonly stream: boolean
}

/** The upstream's final answer: well formed and belonging to the request, or nothing at all (202, end of a GET stream). */
export interface UpstreamAnswer {
  readonly head: UpstreamHead
  /** The JSON-RPC message as bytes; null when there is none. */
  readonly message: Buffer | null
  /** The parsed message, null when there is none. */
  readonly parsed: Readonly<Record<string, unknown>> | null
  /** The event that carried it, when the answer was a stream. */
  readonly frame: SseEvent | null
  readonly report: UpstreamReport
}

/**
 * The scope of one attempt. Stages fill it in order; whatever is null was not reached. `audit/event` turns it and its
 * {@link Ending} into the row.
 */
export interface Call {
  /** Row id: UUID v7 whose millisecond is `startedMs`. */
  readonly id: string
  /** = X-Request-Id. Equal to `id` except for rows that share an exchange (server-to-client requests). */
  readonly requestId: string
  /** Wall clock, ms since the epoch. */
  readonly startedMs: number
  /** Monotonic clock at the start, ms. */
  readonly startedAt: number
  /** On the merged mount it becomes that of the upstream which the call is given to. */
  head: RequestHead
  stage: Stage
  clientIp: string | null
  principal: Principal | null
  server: ServerFacts | null
  message: Message | null
  target: Target | null
  evaluation: Evaluation | null
  /** What became of the limits the policy asked for; null when it asked for none or the call did not get there. */
  rate: ChargeReport | null
  /** Header fields that the answer carries whatever becomes of the call: what is left of the limits. */
  rateFields: Readonly<Record<string, string>>
  /** Verdicts on the elements of a list answer. */
  listed: readonly TargetVerdict[] | null
  upstream: UpstreamReport | null
  /** How a call to the merged mount goes on; null = it came to the mount of one upstream. See `federation/inward.ts`. */
  merged: 'one' | 'all' | 'nobody' | null
  /** Of a call that concerns all upstreams: one for each that there is. */
  parts: readonly CallPart[] | null
  /** What a refused call tried to use, read from a body that was already there (401 only). */
  hint: { readonly method: string | null; readonly name: string | null } | null
  /** Microseconds spent in each stage; `queue` = waiting for its turn, before all of them. */
  readonly timingsUs: Partial<Record<Stage | 'queue', number>>
  /** Only of rows that stand for several attempts. */
  readonly counted?: Counted
}

/** Attempts that share one row. Times in ms since the epoch. */
export interface Counted {
  readonly count: number
  readonly fromMs: number
  readonly toMs: number
  /** How many came from which address, for as many as are named. */
  readonly addresses: Readonly<Record<string, number>>
  /** How many came from addresses that are not named. */
  readonly others: number
}

/** A call to the merged mount, as it is at one upstream. */
export interface CallPart {
  /** Its own server, target, evaluation, verdicts and upstream report; the rest is the whole call's. */
  readonly call: Call
  /** Why the upstream has no share in the answer; null = it has. */
  refusal: GatewayError | null
}

/** How an attempt ended; with the {@link Call} all that the audit row needs. */
export interface Ending {
  readonly outcome: Outcome
  /** HTTP status that was (or would have been) sent. */
  readonly status: number
  /** null when the upstream's own answer was relayed. */
  readonly kind: EndingKind | null
  readonly error: GatewayError | null
  /** What was answered: our own error object or the upstream's message. Unredacted, unbounded. */
  readonly response: Buffer | null
  /** Milliseconds from start to end. */
  readonly latencyMs: number
}

/** One finished attempt, as handed to the audit room. */
export interface AuditEvent {
  readonly call: Readonly<Call>
  readonly ending: Ending
}
