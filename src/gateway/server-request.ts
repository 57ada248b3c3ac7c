/**
 * Requests that an upstream sends to the client (sampling, elicitation, roots): refused unless a policy allows them.
 * Each one is an attempt of its own, with its own evaluation and row; it shares the exchange's request id.
 */
import { LRUCache } from 'lru-cache'
import { GatewayError, toGatewayError } from '../errors.ts'
import { findValue, replaceSpans, sliceOf } from '../json/span.ts'
import type { Rooms } from './call.ts'
import { answered, refused } from './ending.ts'
import { undecided } from './open-call.ts'
import { SERVER_REQUESTS, target } from './targets.ts'
import type { AskedOfClient, Call, Message, RequestHead, UpstreamAnswer } from './types.ts'
import { chargeLimits, refuseUnlessAllowed } from './verdict.ts'

/** One request of an upstream, as found on a stream or inside an `input_required` result. */
export interface ServerRequest {
  readonly method: string
  /** Exact JSON text of the id; null when the request is embedded in a result and has none. */
  readonly idText: string | null
  /** Exact JSON text of its params, or null. */
  readonly paramsText: string | null
}

/** Where questions to clients and their answers are decided and recorded. */
export interface ServerRequestGate {
  /** Decides, records and, for a request with an id, answers the upstream in the client's place when refused. */
  admit(call: Call, request: ServerRequest): Promise<boolean>
  /** Decides and records one answer of the client that stands inside a request. `answerText` is its JSON text. */
  admitAnswer(call: Call, method: string, answerText: string): Promise<boolean>
  /** An admitted request, or the upstream's taking one back, under the id that this client answers; other texts as they are. */
  outward(call: Call, text: string, parsed: Readonly<Record<string, unknown>>): string
  /**
   * Method of the request that the client answers with the message of this call, which becomes the upstream's own: its id,
   * and on the merged mount the session in which it asked. null when this client was not asked under that id.
   */
  takeAnswer(call: Call): string | null
}

/** Requests that their upstream may still take back; an older one the client goes on with, and the upstream ignores what it says. */
const MAX_REVOCABLE = 10_000
/** Of their ids together, in characters. */
const MAX_REVOCABLE_CHARS = 16 * 1024 * 1024
const REVOCABLE_MS = 10 * 60_000

/** Makes the gate. It remembers only what upstreams may still take back. */
export function createServerRequestGate(rooms: Rooms): ServerRequestGate {
  /** The upstream's id, in its session -> the client's. */
  const revocable = new LRUCache<string, string>({
    max: MAX_REVOCABLE,
    maxSize: MAX_REVOCABLE_CHARS,
    sizeCalculation: (bound, key) => bound.length + key.length,
    ttl: REVOCABLE_MS,
  })

  return {
    async admit(call, request) {
      const attempt = childCall(rooms, call, request)
      const isAllowed = await decided(rooms, attempt, SERVER_REQUESTS.has(request.method))
      if (!isAllowed && request.idText !== null)
        await rooms.upstreams.refuseServerRequest(call, request.idText)
      return isAllowed
    },

    async admitAnswer(call, method, answerText) {
      const attempt = childCall(rooms, call, { method, idText: null, paramsText: answerText })
      attempt.message = { ...(attempt.message as Message), kind: 'response', method: 'response' }
      return await decided(rooms, attempt, true)
    },

    outward(call, text, parsed) {
      const { method } = parsed
      if (typeof method !== 'string') return text
      const path = 'id' in parsed ? ['id'] : method === CANCELLED ? ['params', 'requestId'] : null
      const span = path === null ? null : findValue(text, path)
      if (span === null) return text
      const idText = sliceOf(text, span)
      const key = askedKey(call, idText)
      const bound =
        method === CANCELLED
          ? revocable.get(key)
          : rooms.http.bindServerRequest(call, askedOfClient(call, method, idText))
      if (bound === undefined) return text
      revocable.set(key, bound)
      return replaceSpans(text, [{ span, text: JSON.stringify(bound) }])
    },

    takeAnswer(call) {
      const message = call.message as Message
      const presented: unknown = JSON.parse(message.idText ?? 'null')
      const asked = typeof presented === 'string' ? rooms.http.askedUnder(call, presented) : null
      if (asked === null || asked.session?.hash !== message.session?.hash) return null
      call.message = answerTo(asked, message)
      if (asked.protocolVersion !== null) call.head = withVersion(call.head, asked.protocolVersion)
      return asked.method
    },
  }
}

const CANCELLED = 'notifications/cancelled'
const VERSION_HEADER = 'mcp-protocol-version'

function askedOfClient({ message, head }: Call, method: string, idText: string): AskedOfClient {
  const version = head.headers[VERSION_HEADER]
  const protocolVersion = typeof version === 'string' ? version : null
  return { method, idText, session: message?.session ?? null, protocolVersion }
}

function answerTo({ idText, session }: AskedOfClient, message: Message): Message {
  const text = message.body.toString('utf8')
  const span = findValue(text, ['id'])
  if (span === null) throw new Error('an answer without its id in the body')
  return { ...message, idText, session, body: Buffer.from(replaceSpans(text, [{ span, text: idText }])) }
}

function withVersion(head: RequestHead, version: string): RequestHead {
  return { ...head, headers: { ...head.headers, [VERSION_HEADER]: version } }
}

/** Evaluates, charges and records an attempt that shares its exchange with the call it belongs to. */
async function decided(rooms: Rooms, attempt: Call, isKnown: boolean): Promise<boolean> {
  try {
    if (!isKnown) throw new GatewayError('unknown_method')
    attempt.evaluation = rooms.policy.decide(attempt)
    refuseUnlessAllowed(attempt.evaluation)
    await chargeLimits(rooms.rate, attempt)
    await rooms.audit.begin(attempt)
    await recordAllowed(rooms, attempt)
    return true
  } catch (thrown) {
    await recordRefused(rooms, attempt, toGatewayError(thrown))
    return false
  }
}

const MAX_ID_CHARS = 1024

/**
 * The request to the client that a JSON-RPC message is, from its text; null when it is none. A method that asks the client
 * for something is a request also without an id: not every client minds.
 * @throws GatewayError `upstream_failed` when its id is not one that JSON-RPC and MCP know
 */
export function serverRequestOf(
  text: string,
  parsed: Readonly<Record<string, unknown>>,
): ServerRequest | null {
  const { method, id } = parsed
  if (typeof method !== 'string' || !('id' in parsed || SERVER_REQUESTS.has(method))) return null
  const idText = memberText(text, 'id')
  const isId = id === undefined || typeof id === 'string' || Number.isInteger(id)
  if (!isId || (idText ?? '').length > MAX_ID_CHARS)
    throw new GatewayError('upstream_failed', { detail: 'a request to the client has an unusable id' })
  return { method, idText, paramsText: memberText(text, 'params') }
}

function memberText(text: string, key: string): string | null {
  const span = findValue(text, [key])
  return span === null ? null : sliceOf(text, span)
}

function askedKey(call: Call, idText: string): string {
  const session = call.message?.session?.hash ?? ''
  return JSON.stringify([call.principal?.tenant, call.principal?.id, call.server?.name, session, idText])
}

function childCall(rooms: Rooms, call: Call, request: ServerRequest): Call {
  const startedMs = rooms.clock.nowMs()
  return {
    ...call,
    id: rooms.newId(startedMs),
    startedMs,
    startedAt: rooms.clock.monotonicMs(),
    stage: 'authz',
    message: {
      ...(call.message as Message),
      kind: 'request',
      method: request.method,
      idText: request.idText,
      params: {},
      argumentsText: request.paramsText ?? '{}',
      body: Buffer.alloc(0),
    },
    target: target('server_request', request.method),
    ...undecided(),
  }
}

async function recordAllowed(rooms: Rooms, attempt: Call): Promise<void> {
  const answer: UpstreamAnswer = {
    head: { status: 200, headers: {}, sessionId: null, stream: false },
    message: null,
    parsed: null,
    frame: null,
    report: {
      server: attempt.server?.name ?? '',
      status: null,
      jsonRpcError: null,
      toolIsError: false,
      ms: 0,
      bytes: 0,
      sha256: null,
    },
  }
  const event = { call: attempt, ending: answered(attempt, answer, rooms.clock.monotonicMs()) }
  await rooms.audit.end(event)
  rooms.observe(event)
}

async function recordRefused(rooms: Rooms, attempt: Call, error: GatewayError): Promise<void> {
  const reply = rooms.http.replyRefusal(attempt, error)
  const event = { call: attempt, ending: refused(attempt, error, reply, rooms.clock.monotonicMs()) }
  // The row stays in the writer's memory when it cannot be stored now; the request is refused either way.
  await rooms.audit.end(event).catch(() => undefined)
  rooms.observe(event)
}
