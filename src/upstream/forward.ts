/** Sends a call's message to its upstream and brings back the final answer. */
import type { Dispatcher } from 'undici'
import type { CallSignal } from '../call-signal.ts'
import { GatewayError } from '../errors.ts'
import type { AnswerSink } from '../gateway/call.ts'
import type { Call, Message, UpstreamAnswer } from '../gateway/types.ts'
import type { Connections, TlsFiles } from './connections.ts'
import { openConnections } from './connections.ts'
import type { Credential } from './credential.ts'
import type { ExchangeReceiver, ExchangeRequest } from './exchange.ts'
import { exchange } from './exchange.ts'
import type { OwnHeaders } from './headers.ts'
import { requestHeaders } from './headers.ts'
import type { Patience } from './patience.ts'
import { createPatience } from './patience.ts'
import type { AnswerReceiver } from './receiver.ts'
import { createReceiver } from './receiver.ts'
import { createSessionOrder } from './session-order.ts'
import type { StreamLimits, StreamWatch } from './stream-watch.ts'

/** Where one upstream is and how to talk to it. Addresses come from configuration alone. */
export interface ForwardTarget {
  readonly name: string
  /** Address of its MCP endpoint, without credentials. */
  readonly url: URL
  readonly own: OwnHeaders
  /** null = the configured headers are all there is. Closed by the forwarder. */
  readonly credential: Credential | null
  readonly tls: TlsFiles | null
  /** To the last byte of a JSON answer; on a stream to its head, and to each message on it. */
  readonly timeoutMs: number
  /** What tools have instead, by name. */
  readonly toolTimeoutsMs: ReadonlyMap<string, number>
  /** Bound on a JSON answer, and on each event of a stream. */
  readonly maxAnswerBytes: number
}

/** What a forwarder is made with. */
export interface ForwarderOptions {
  readonly target: ForwardTarget
  readonly clock: { monotonicMs(): number }
  readonly watch: StreamWatch
  /** Limits of a stream that answers a request. */
  readonly streamLimits: StreamLimits
  /** Age at which a GET stream or a subscription is closed; these may be silent as long as they live. */
  readonly maxStreamMs: number
  readonly connectTimeoutMs: number
  /** Connections at a time for requests, and as many again for long-lived streams. */
  readonly maxConnections: number
  /** What stands in the place of connections; absent = they are made to the target's address. */
  readonly transport?: Transport
}

/** Where requests go. */
export interface Transport {
  /** For callers' requests and streams. */
  readonly calls: Dispatcher
  /** For what the gateway itself asks. */
  readonly own: Dispatcher
  close(): Promise<void>
}

/** Talks to one upstream. */
export interface Forwarder {
  /** `Rooms.upstreams.forward`. Notes in `call.upstream` what is known also when it throws. */
  forward(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer>
  /** `Rooms.upstreams.refuseServerRequest`. */
  refuseServerRequest(call: Call, idText: string): Promise<void>
  /** For the catalogue's own client: same connections, same bounds on connecting. */
  readonly dispatcher: Dispatcher
  close(): Promise<void>
}

/** How long what a session sends may wait for its stream: a handshake and a round trip to another continent. */
const MAX_STREAM_OPENING_MS = 500

/** Makes a forwarder; nothing is connected yet. */
export function createForwarder(options: ForwarderOptions): Forwarder {
  const { target, clock } = options
  const { calls, streams, own, close } = openTransport(options)
  const order = createSessionOrder(MAX_STREAM_OPENING_MS)

  async function forward(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer> {
    const message = call.message as Message
    const lasting = isLasting(message)
    const timeoutMs = timeoutOf(message, target)
    const startedAt = clock.monotonicMs()
    const entered = order.enter(message)
    const passage = entered instanceof Promise ? await entered : entered
    const patience = createPatience(clock)
    const receiver = createReceiver({
      server: target.name,
      message,
      sink: {
        open(head) {
          passage.opened()
          sink.open(head)
        },
        event: sink.event,
      },
      maxAnswerBytes: target.maxAnswerBytes,
      streamLimits: lasting
        ? { idleMs: null, maxMs: options.maxStreamMs }
        : answerLimits(timeoutMs, patience),
      patience: lasting ? null : patience,
      elapsedMs: () => clock.monotonicMs() - startedAt,
    })
    try {
      await exchange(requestOf(call, message, target), receiver, {
        dispatcher: lasting ? streams : calls,
        signal,
        timeoutMs,
        watch: options.watch,
      })
      return receiver.answer()
    } catch (thrown) {
      const left = leftStream(message, receiver, thrown)
      if (left !== null) return left
      call.upstream = receiver.report()
      throw thrown
    } finally {
      passage.left()
    }
  }

  function answerLimits(withinMs: number, { waitingSince }: Patience): StreamLimits {
    return { ...options.streamLimits, message: { withinMs, waitingSince } }
  }

  async function refuseServerRequest(call: Call, idText: string): Promise<void> {
    const message = call.message as Message
    const refusal = { ...message, kind: 'response', body: refusalBody(idText) } as const
    try {
      await exchange(requestOf(call, refusal, target), IGNORE_ANSWER, {
        dispatcher: calls,
        signal: null,
        timeoutMs: Math.min(target.timeoutMs, REFUSAL_TIMEOUT_MS),
        watch: options.watch,
      })
    } catch {
      // Best effort: an upstream that cannot be told waits for its own timeout.
    }
  }

  return {
    forward,
    refuseServerRequest,
    dispatcher: own,
    close,
  }
}

function openTransport(options: ForwarderOptions): Transport & { readonly streams: Dispatcher } {
  const { transport, target } = options
  if (transport !== undefined) return { ...transport, streams: transport.calls }
  const calls = connectionsTo(options)
  // A pool looks through its busy connections for a free one: thousands of open streams must not stand in that line.
  const streams = connectionsTo(options)
  const close = async (): Promise<void> => {
    await Promise.all([calls.close(), streams.close()])
    await target.credential?.close()
  }
  return { calls: calls.dispatcher, streams: streams.dispatcher, own: calls.dispatcher, close }
}

function connectionsTo({ target, maxConnections, connectTimeoutMs, clock }: ForwarderOptions): Connections {
  const { url, tls, credential } = target
  return openConnections({ origin: url.origin, tls, credential, maxConnections, connectTimeoutMs, clock })
}

function requestOf(call: Call, message: Message, target: ForwardTarget): ExchangeRequest {
  const path = `${target.url.pathname}${target.url.search}`
  const headers = requestHeaders(call.head, message, target.own)
  if (message.kind === 'stream') return { method: 'GET', path, headers, body: null }
  if (message.kind === 'terminate') return { method: 'DELETE', path, headers, body: null }
  return { method: 'POST', path, headers, body: message.body }
}

function timeoutOf(message: Message, target: ForwardTarget): number {
  const name = message.method === 'tools/call' ? message.params['name'] : null
  return (typeof name === 'string' ? target.toolTimeoutsMs.get(name) : undefined) ?? target.timeoutMs
}

/** Streams that stay open for as long as the client wants to hear. */
export function isLasting(message: Message): boolean {
  return message.kind === 'stream' || message.method === 'subscriptions/listen'
}

/** Long-lived streams end when the client leaves, the gateway stops, or they have grown old; null = something else happened. */
function leftStream(message: Message, receiver: AnswerReceiver, thrown: unknown): UpstreamAnswer | null {
  const isOrdinary =
    thrown instanceof GatewayError && (thrown.kind === 'client_closed' || thrown.kind === 'upstream_timeout')
  return isLasting(message) && isOrdinary ? receiver.left() : null
}

const REFUSAL_TIMEOUT_MS = 5000

const IGNORE_ANSWER: ExchangeReceiver = { onHead: () => 'done', onChunk: () => 'done' }

/** -1 is what the specification's own example of a rejected request to the client uses (client/sampling, error handling). */
function refusalBody(idText: string): Buffer {
  return Buffer.from(`{"jsonrpc":"2.0","id":${idText},"error":{"code":-1,"message":"Forbidden"}}`)
}
