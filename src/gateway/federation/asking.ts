/** Asking upstreams in the name of a call to the merged mount: one, in the session the client has there, or many at once. */
import type { CallSignal } from '../../call-signal.ts'
import { CallAbort } from '../../call-signal.ts'
import { GatewayError, toGatewayError } from '../../errors.ts'
import type { AnswerSink, Rooms } from '../call.ts'
import { serverRequestOf } from '../server-request.ts'
import type { Call, CallPart, Message, UpstreamAnswer } from '../types.ts'
import { MERGED } from './names.ts'
import type { Opening } from './opening.ts'
import { parseOpening } from './opening.ts'
import type { UpstreamSessions } from './sessions.ts'

/** Asks upstreams in the sessions that a client of the merged mount has there. */
export interface Asking {
  /**
   * Sends the message of a call on to the upstream of its `head.mount`, in the client's session there. What is known when it
   * throws is noted in `call.upstream`.
   */
  ask(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer>
  /**
   * Asks all parts that are not refused, together. One that fails or takes too long is refused with that; the others do not
   * wait for it longer than the deadline, and not at all while it is known to be slow.
   */
  askAll(
    parts: readonly CallPart[],
    signal: CallSignal,
    run: (part: CallPart, signal: CallSignal) => Promise<void>,
  ): Promise<void>
  /** Upstreams that had no share in an answer for being away or late, and may have by now; each is told once. */
  returned(): readonly string[]
}

/** What it is made with. */
export interface AskingOptions {
  readonly rooms: Pick<Rooms, 'upstreams' | 'clock'>
  readonly sessions: UpstreamSessions
  /** How long answers made of several parts wait for each. */
  readonly partTimeoutMs: number
}

/** Parts that are asked at the same time. */
const MAX_AT_ONCE = 128
/** How long one that was too late once is waited for, and until when. */
const LATE_TIMEOUT_MS = 100
const LATE_MS = 30_000

/** Makes it. It remembers which upstreams were late or away. */
export function createAsking({ rooms, sessions, partTimeoutMs }: AskingOptions): Asking {
  /** Upstream -> until when (monotonic ms) it counts as slow. */
  const late = new Map<string, number>()
  const missing = new Set<string>()

  function isLate(upstream: string): boolean {
    const until = late.get(upstream)
    if (until === undefined || rooms.clock.monotonicMs() < until) return until !== undefined
    late.delete(upstream)
    return false
  }

  async function enter(call: Call, message: Message, opening: Opening, signal: CallSignal) {
    const own = await orAborted(sessions.open(opening, call), signal)
    const hash = message.session?.hash ?? ''
    call.message = { ...message, session: { upstreamId: own.id, hash } }
    const headers = { ...call.head.headers, 'mcp-protocol-version': own.protocolVersion }
    call.head = { ...call.head, headers }
    return own
  }

  async function askPart(
    part: CallPart,
    signal: CallSignal,
    run: (part: CallPart, signal: CallSignal) => Promise<void>,
  ): Promise<void> {
    const upstream = part.call.head.mount
    const timeoutMs = isLate(upstream) ? Math.min(LATE_TIMEOUT_MS, partTimeoutMs) : partTimeoutMs
    const deadline = createDeadline(signal, timeoutMs)
    try {
      await run(part, deadline.signal)
      late.delete(upstream)
    } catch (thrown) {
      part.refusal = toGatewayError(thrown)
      if (signal.aborted || isOwnRefusal(part.refusal)) return
      missing.add(upstream)
      if (deadline.isOver()) late.set(upstream, rooms.clock.monotonicMs() + LATE_MS)
    } finally {
      deadline.clear()
    }
  }

  return {
    async ask(call, sink, signal) {
      const message = call.message as Message
      if (message.session === null) return await rooms.upstreams.forward(call, sink, signal)
      if (message.kind === 'response') return await sendAnswer(rooms, call, sink, signal)
      const opening = parseOpening(message.session)
      const session = await enter(call, message, opening, signal)
      const answer = await rooms.upstreams.forward(call, sink, signal)
      noteSubscription(sessions, opening, call, answer)
      if (answer.head.status !== 404 || session.id === null) return answer
      sessions.forget(opening, call.head.mount, session)
      // Not a tool: the upstream may have run it, whatever it says.
      if (message.method === 'tools/call') throw lost(call, answer, NOT_TWICE)
      await enter(call, message, opening, signal)
      const second = await rooms.upstreams.forward(call, sink, signal)
      noteSubscription(sessions, opening, call, second)
      return second
    },

    async askAll(parts, signal, run) {
      const queue = parts.filter(({ refusal }) => refusal === null).values()
      const worker = async (): Promise<void> => {
        for (const part of queue) await askPart(part, signal, run)
      }
      await Promise.all(Array.from({ length: MAX_AT_ONCE }, worker))
      if (signal.aborted) throw new GatewayError('client_closed')
    },

    returned() {
      const back = [...missing].filter((upstream) => rooms.upstreams.isUp(upstream) && !isLate(upstream))
      for (const upstream of back) missing.delete(upstream)
      return back
    },
  }
}

/** What a session is subscribed to outlives the upstream's own. */
function noteSubscription(
  sessions: UpstreamSessions,
  opening: Opening,
  { message, head }: Call,
  { parsed }: UpstreamAnswer,
): void {
  const isWanted = message?.method === 'resources/subscribe'
  if (!isWanted && message?.method !== 'resources/unsubscribe') return
  const { uri } = message.params
  if (typeof uri === 'string' && parsed?.['result'] !== undefined)
    sessions.setSubscription(opening, head.mount, { uri, isWanted })
}

/** An answer of the client goes to the session in which the upstream asked, whoever has opened that. */
async function sendAnswer(
  rooms: AskingOptions['rooms'],
  call: Call,
  sink: AnswerSink,
  signal: CallSignal,
): Promise<UpstreamAnswer> {
  const answer = await rooms.upstreams.forward(call, sink, signal)
  // The client's session, which is another one, is as good as ever.
  if (answer.head.status === 404) throw lost(call, answer, 'the session in which it asked has ended')
  return answer
}

/** What the policy or a switch refused stays away until that changes. */
function isOwnRefusal({ kind }: GatewayError): boolean {
  return kind !== 'upstream_failed' && kind !== 'upstream_timeout' && kind !== 'overloaded'
}

function lost(call: Call, { report }: UpstreamAnswer, detail: string): GatewayError {
  call.upstream = report
  return new GatewayError('upstream_failed', { detail })
}

const NOT_TWICE = 'its session had ended; tools are not called twice, and the next call finds a new one'

interface Deadline {
  readonly signal: CallSignal
  isOver(): boolean
  clear(): void
}

function createDeadline(signal: CallSignal, ms: number): Deadline {
  const controller = new CallAbort()
  let isOver = false
  const leave = (): void => controller.abort(signal.reason)
  const timer = setTimeout(() => {
    isOver = true
    controller.abort(new GatewayError('upstream_timeout', { detail: `it had no share within ${ms} ms` }))
  }, ms)
  if (signal.aborted) leave()
  signal.addEventListener('abort', leave)
  return {
    signal: controller,
    isOver: () => isOver,
    clear: () => {
      clearTimeout(timer)
      signal.removeEventListener('abort', leave)
    },
  }
}

/** Rejects as soon as the signal is aborted; the promise goes on for others. */
export function orAborted<T>(promise: Promise<T>, signal: CallSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const leave = (): void =>
      reject(signal.reason instanceof GatewayError ? signal.reason : new GatewayError('client_closed'))
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave)
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', leave))
  })
}

/** For answers that are put together: events are not passed on, and what an upstream asks of the client is refused. */
export function quietSink(rooms: Pick<Rooms, 'upstreams'>, call: Call): AnswerSink {
  return {
    open: () => undefined,
    async event({ data }) {
      if (data === null || data === '') return
      const request = serverRequestOf(data, JSON.parse(data) as Record<string, unknown>)
      if (request !== null && request.idText !== null)
        await rooms.upstreams.refuseServerRequest(call, request.idText)
    },
  }
}

/** An answer of the gateway's own. `sessionId` is one to be bound to the caller. */
export function ownAnswer(
  idText: string | null,
  result: string | null,
  options: { readonly status?: number; readonly sessionId?: string } = {},
): UpstreamAnswer {
  const message = result === null ? null : Buffer.from(`{"jsonrpc":"2.0","id":${idText},"result":${result}}`)
  return {
    head: { status: options.status ?? 200, headers: {}, sessionId: options.sessionId ?? null, stream: false },
    message,
    parsed: null,
    frame: null,
    report: NO_REPORT,
  }
}

const NO_REPORT = {
  server: MERGED,
  status: null,
  jsonRpcError: null,
  toolIsError: false,
  ms: 0,
  bytes: 0,
  sha256: null,
} as const
