/**
 * Door of the merged mount (`/mcp`): one endpoint over all upstreams that a caller may see. It only translates: a call that
 * concerns one upstream becomes that upstream's own call and passes the spine as such; one that concerns all is decided for
 * each of them, answered in parts and recorded in one row.
 */
import type { CallSignal } from '../../call-signal.ts'
import { GatewayError } from '../../errors.ts'
import type { Review } from '../answer.ts'
import type { OpenStreams } from '../streams.ts'
import { target, targetOf } from '../targets.ts'
import type { Call, Exchange, Message, SseEvent, UpstreamAnswer } from '../types.ts'
import type { Asking } from './asking.ts'
import { createAsking, ownAnswer, quietSink } from './asking.ts'
import { createCursorSeal } from './cursor.ts'
import type { Greeting } from './greeting.ts'
import { createGreeting } from './greeting.ts'
import { inwardOf } from './inward.ts'
import type { ListParts } from './lists.ts'
import { mergedList } from './lists.ts'
import type { LiveStreams } from './live.ts'
import { createLiveStreams } from './live.ts'
import { MERGED } from './names.ts'
import { parseOpening } from './opening.ts'
import { outwardAnswer, outwardAnswerEvent } from './outward.ts'
import { authorizeParts, chargeParts } from './parts.ts'
import { createUpstreamSessions } from './sessions.ts'

/** What the merged mount is made with. */
export interface FederationSettings {
  /** How long an answer made of several parts waits for each of them, in ms. */
  readonly partTimeoutMs: number
  /** Age at which a lasting stream is ended, in ms. */
  readonly maxStreamMs: number
  /** Seals paging cursors; 32 bytes, the same on every replica. */
  readonly cursorKey: Uint8Array
  /** Version of the gateway, as clients see it. */
  readonly version: string
}

/** Steps of the spine that are others on the merged mount. */
export interface Federation {
  /** Says whom a message that came to the merged mount concerns: sets `merged`, `head`, `server` and `message` of the call. */
  route(call: Call, message: Message): void
  /** The stage authz for a call that does not concern one upstream. Throws as that stage does. */
  authorize(call: Call): Promise<void>
  /** The stage rate for a call that concerns all upstreams. Throws as that stage does. */
  charge(call: Call): Promise<void>
  /** Sends on what was routed to one upstream. */
  ask: Asking['ask']
  /** What that upstream sends during the answer, and the answer, as the client gets them. */
  outwardEvent(call: Call, event: SseEvent): SseEvent
  outwardAnswer(call: Call, answer: UpstreamAnswer): UpstreamAnswer
  /** Answers a call that concerns all upstreams. */
  answer(call: Call, exchange: Exchange): Promise<UpstreamAnswer>
  /** Once a second. */
  tick(): void
  /** Ends all lasting streams. */
  endStreams(): void
}

/** What it shares with the stages of the spine. */
export interface FederationParts extends Review {
  readonly streams: OpenStreams
}

/** Makes it. Throws what `createCipheriv` throws for a key of the wrong length, with the first cursor. */
export function createFederation(parts: FederationParts, settings: FederationSettings): Federation {
  const { rooms, gate, tasks } = parts
  const { partTimeoutMs, maxStreamMs, version } = settings
  const sessions = createUpstreamSessions(rooms)
  const asking = createAsking({ rooms, sessions, partTimeoutMs })
  const cursors = createCursorSeal(settings.cursorKey)
  const answering: Answering = {
    ...{ rooms, gate, tasks, sessions, asking, cursors },
    greeting: createGreeting({ rooms, sessions, asking, version }),
    live: createLiveStreams({ ...parts, asking, maxStreamMs, partTimeoutMs }),
  }
  /** Session and request id -> the upstream that is working on it, for whoever cancels it. */
  const running = new Map<string, string>()

  function owner(message: Message): string | null {
    if (message.method !== 'notifications/cancelled') return null
    return running.get(runningKey(message, message.params['requestId'])) ?? null
  }

  return {
    route(call, message) {
      call.message = message
      const upstream = owner(message)
      const inward =
        upstream === null
          ? inwardOf(message, call.head)
          : ({ kind: 'one', upstream, message, head: { ...call.head, mount: upstream } } as const)
      const facts = inward.kind === 'one' ? rooms.upstreams.facts(inward.upstream) : null
      call.merged = inward.kind === 'one' && facts === null ? 'nobody' : inward.kind
      call.server = facts ?? { name: MERGED, labels: {} }
      if (inward.kind !== 'one' || facts === null) return
      call.message = inward.message
      call.head = inward.head
    },

    async authorize(call) {
      if (call.merged === 'all') return await authorizeParts(rooms, call)
      const message = call.message as Message
      call.target =
        message.kind === 'response' ? target('server_request', 'unknown') : targetOf(message, MERGED)
      throw new GatewayError('unknown_upstream')
    },

    charge: (call) => chargeParts(rooms.rate, call),

    async ask(call, sink, signal) {
      const message = call.message as Message
      const key =
        message.kind === 'request' ? runningKey(message, JSON.parse(message.idText ?? 'null')) : null
      if (key !== null) running.set(key, call.head.mount)
      try {
        return await asking.ask(call, sink, signal)
      } finally {
        if (key !== null) running.delete(key)
      }
    },

    outwardEvent: (call, event) => outwardAnswerEvent(call.head.mount, event),
    outwardAnswer: (call, answer) => outwardAnswer(call.head.mount, answer),
    answer: (call, exchange) => answerAll(answering, call, exchange),
    tick: answering.live.tick,
    endStreams: answering.live.endAll,
  }
}

interface Answering extends ListParts {
  readonly greeting: Greeting
  readonly live: LiveStreams
}

async function answerAll(own: Answering, call: Call, exchange: Exchange): Promise<UpstreamAnswer> {
  const { method, kind, idText } = call.message as Message
  switch (method) {
    case 'initialize':
      return await own.greeting.initialize(call, exchange.signal)
    case 'server/discover':
      return await own.greeting.discover(call, exchange.signal)
    case 'GET':
    case 'subscriptions/listen':
      return await own.live.run(call, exchange)
    case 'DELETE':
      return await endSession(own, call, exchange.signal)
    case 'ping':
      return ownAnswer(idText, '{}')
    case 'logging/setLevel':
      return await setLevel(own, call, exchange.signal)
    case 'notifications/initialized':
      // Each upstream has been told by whoever opened the session there.
      return ownAnswer(null, null, { status: 202 })
    default:
      if (kind === 'request') return await mergedList(own, call, exchange.signal)
      await tellOpen(own, call, exchange.signal)
      return ownAnswer(null, null, { status: 202 })
  }
}

/** Passes a message on to every upstream where the session is open; what they make of it changes nothing. */
async function tellOpen(
  { rooms, sessions, asking }: Answering,
  call: Call,
  signal: CallSignal,
): Promise<void> {
  const { session } = call.message as Message
  const open = session === null ? null : new Set(sessions.openAt(parseOpening(session)))
  const parts = (call.parts ?? []).filter(({ call: own }) => open === null || open.has(own.head.mount))
  await asking.askAll(parts, signal, async ({ call: own }, within) => {
    own.upstream = (await asking.ask(own, quietSink(rooms, own), within)).report
  })
}

async function setLevel(own: Answering, call: Call, signal: CallSignal): Promise<UpstreamAnswer> {
  const { session, params, idText } = call.message as Message
  const level = JSON.stringify(params['level'])
  if (session !== null && level !== undefined) own.sessions.setLevel(parseOpening(session), level)
  await tellOpen(own, call, signal)
  return ownAnswer(idText, '{}')
}

async function endSession(own: Answering, call: Call, signal: CallSignal): Promise<UpstreamAnswer> {
  const { session } = call.message as Message
  await tellOpen(own, call, signal)
  if (session !== null) own.sessions.end(parseOpening(session))
  return ownAnswer(null, null)
}

function runningKey({ session }: Message, id: unknown): string {
  return JSON.stringify([session?.hash, id])
}
