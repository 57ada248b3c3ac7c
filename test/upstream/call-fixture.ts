/** Calls as the spine hands them to this room, and a sink that records what it gets. */
import type { AnswerSink } from '../../src/gateway/call.ts'
import type { Call, Message, RequestHead, SseEvent, UpstreamHead } from '../../src/gateway/types.ts'
import type { Forwarder, ForwarderOptions, ForwardTarget } from '../../src/upstream/forward.ts'
import { createForwarder } from '../../src/upstream/forward.ts'
import type { UpstreamSettings } from '../../src/upstream/room.ts'
import { createStreamWatch } from '../../src/upstream/stream-watch.ts'
import { callAt, toolsCallWith } from '../support/call.ts'

export const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() }

export interface CallParts {
  readonly message?: Partial<Message>
  readonly headers?: RequestHead['headers']
  readonly httpMethod?: string
}

/** A tools/call of `echo` with id 1 unless told otherwise. */
export function callOf({ message = {}, headers = {}, httpMethod = 'POST' }: CallParts = {}): Call {
  const body = { jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'echo', arguments: {} } }
  return callAt('up', {
    head: { httpMethod, mount: 'up', rawHeaders: [], headers, peer: '127.0.0.1' },
    stage: 'upstream',
    message: toolsCallWith({ params: body.params, body: Buffer.from(JSON.stringify(body)), ...message }),
  })
}

export const notification: Partial<Message> = {
  kind: 'notification',
  method: 'notifications/cancelled',
  idText: null,
  body: Buffer.from('{"jsonrpc":"2.0","method":"notifications/cancelled"}'),
}
export const getStream: CallParts = {
  httpMethod: 'GET',
  message: { kind: 'stream', method: 'GET', idText: null, body: Buffer.alloc(0) },
}
export const terminate: CallParts = {
  httpMethod: 'DELETE',
  message: { kind: 'terminate', method: 'DELETE', idText: null, body: Buffer.alloc(0) },
}
export const session = { upstreamId: 'upstream-session', hash: 'hash' }

export interface RecordingSink extends AnswerSink {
  readonly heads: UpstreamHead[]
  readonly events: SseEvent[]
  /** Resolves with the head once the stream is open. */
  readonly opened: Promise<UpstreamHead>
  /** Resolves with the n-th event. */
  nth(index: number): Promise<SseEvent>
}

/** `hold` is awaited for each event: backpressure, or a throw. */
export function recordingSink(hold: (event: SseEvent) => Promise<void> = async () => {}): RecordingSink {
  const heads: UpstreamHead[] = []
  const events: SseEvent[] = []
  const waiting = new Set<() => void>()
  let open: (head: UpstreamHead) => void = () => {}
  const opened = new Promise<UpstreamHead>((resolve) => {
    open = resolve
  })
  return {
    heads,
    events,
    opened,
    open: (head) => {
      heads.push(head)
      open(head)
    },
    event: async (event) => {
      events.push(event)
      for (const look of [...waiting]) look()
      await hold(event)
    },
    nth: (index) =>
      new Promise((resolve) => {
        const look = () => {
          const event = events[index]
          if (event === undefined) return
          waiting.delete(look)
          resolve(event)
        }
        waiting.add(look)
        look()
      }),
  }
}

export type ForwarderParts = Partial<Omit<ForwarderOptions, 'target'>> & Partial<ForwardTarget>

/** Settings as configured without a word, but for what is named: no probes, so that only a test asks an upstream. */
export function settingsOf(settings: Partial<UpstreamSettings>): UpstreamSettings {
  return {
    url: 'http://127.0.0.1:1/mcp',
    stdio: null,
    headers: {},
    credential: null,
    tls: null,
    labels: {},
    timeoutMs: 2000,
    tools: {},
    connectTimeoutMs: 2000,
    idleTimeoutMs: 60_000,
    breaker: { failures: 5, openMs: 30_000 },
    probeIntervalMs: null,
    maxAnswerBytes: 1 << 20,
    ...settings,
  }
}

/** A forwarder to this address with tight limits. */
export function forwarderTo(url: string, parts: ForwarderParts = {}): Forwarder {
  const { name = 'up', own, credential = null, tls = null, ...more } = parts
  const { timeoutMs = 5000, maxAnswerBytes = 1 << 20, ...rest } = more
  const { toolTimeoutsMs = new Map<string, number>(), ...options } = rest
  return createForwarder({
    target: {
      name,
      url: new URL(url),
      own: own ?? { configured: { authorization: 'Bearer upstream-secret' }, userAgent: 'gateway-test' },
      credential,
      tls,
      timeoutMs,
      toolTimeoutsMs,
      maxAnswerBytes,
    },
    clock,
    watch: createStreamWatch({ clock, sweepMs: 10 }),
    streamLimits: { idleMs: 60_000, maxMs: 60_000 },
    maxStreamMs: 60_000,
    connectTimeoutMs: 2000,
    maxConnections: 16,
    ...options,
  })
}
