/**
 * One 2025-x session of a client with a stdio server: which requests of it are under way, its GET stream, and what waits for
 * that stream. The server may be its own, or one that others use as well.
 */
import { GatewayError } from '../../errors.ts'
import type { HttpReply } from './http-reply.ts'
import type { Link, Unsolicited } from './link.ts'
import { cancelledId } from './message.ts'

/** How a request ended: with a result, with an error of the server, or without an answer. */
export type Settled = 'result' | 'error' | 'none'

/** A request of a client on its way to a server. */
export interface Relay {
  readonly link: Link
  /** The request as the client wrote it. */
  readonly text: string
  /** Exact JSON text of its id. */
  readonly idText: string
  readonly reply: HttpReply
  /** HTTP status of a response that is JSON. */
  readonly statusOf?: (response: Readonly<Record<string, unknown>>) => number
  /** What the client's call ends with when the server has ended. */
  readonly toFailure?: (reason: GatewayError) => GatewayError
  /** Called once, before the answer goes out. */
  readonly onSettled?: (how: Settled) => void
}

/**
 * Sends a request on and brings back what belongs to it; a client that leaves takes its request back. Returns our number of
 * it. Throws `upstream_failed`.
 */
export function relay({ link, text, idText, reply, statusOf, toFailure, onSettled }: Relay): number {
  const number = link.ask(text, {
    idText,
    onNotification: (notification) => reply.event(notification),
    onResponse(response, parsed) {
      onSettled?.('result' in parsed ? 'result' : 'error')
      reply.respond(statusOf?.(parsed) ?? 200, response)
    },
    onFailure(reason) {
      onSettled?.('none')
      reply.fail(toFailure?.(reason) ?? reason)
    },
  })
  reply.onAbandoned = () => {
    link.cancel(number)
    onSettled?.('none')
  }
  return number
}

/** One session of a client with a stdio server. */
export interface StdioSession {
  readonly id: string
  /** Its own server; null = one that others use as well. */
  readonly own: Link | null
  /** Resources it wants to hear of, on a server that others use as well. */
  readonly subscriptions: Set<string>
  /** Monotonic ms of its last message. */
  usedAt: number
  /** Nothing is under way and nobody listens. */
  isIdle(): boolean
  /** {@link relay} for a request of this session. */
  ask(request: Relay): void
  /** The client gives up a request of its own. */
  cancel(text: string): void
  /** The client answers the server's request with this id; false when there was none. */
  takeQuestion(idText: string): boolean
  /** Becomes the GET stream; false when there is one. */
  listen(reply: HttpReply): boolean
  /** Something of the server for this client that belongs to no request. */
  deliver(message: Unsolicited): void
  /** Ends all its streams. */
  end(reason: GatewayError): void
}

/** Messages that wait for the GET stream; the oldest give way. */
const MAX_BACKLOG = 64
/** Requests of the server that wait for the client. */
const MAX_QUESTIONS = 1000
/** What tells of a change, and belongs to no request. */
const CHANGES = /^notifications\/(?:(?:tools|prompts|resources)\/list_changed|resources\/updated)$/

interface Exchange {
  readonly request: Relay
  /** Our number of it. */
  readonly number: number
}

/** Makes a session; `own` is its own server, if it has one. */
export function createSession(id: string, own: Link | null, clock: { monotonicMs(): number }): StdioSession {
  /** In the order they came. */
  const exchanges = new Set<Exchange>()
  const questions = new Set<string>()
  const backlog: string[] = []
  let listener: HttpReply | null = null

  /** Where something goes that is for the client, but for no request of its own in particular. */
  function streamFor(message: Unsolicited): HttpReply | null {
    const isChange = message.kind === 'notification' && CHANGES.test(message.method)
    const latest = isChange ? undefined : [...exchanges].at(-1)
    return latest?.request.reply ?? listener
  }

  return {
    id,
    own,
    subscriptions: new Set(),
    usedAt: clock.monotonicMs(),
    isIdle: () => exchanges.size === 0 && listener === null,
    ask(request) {
      const onSettled = (how: Settled): void => {
        exchanges.delete(exchange)
        request.onSettled?.(how)
      }
      const exchange = { request, number: relay({ ...request, onSettled }) }
      exchanges.add(exchange)
    },
    cancel(text) {
      const wanted = cancelledId(text)
      const found = [...exchanges].find(({ request }) => request.idText === wanted)
      if (found === undefined) return
      exchanges.delete(found)
      found.request.link.cancel(found.number, text)
      const detail = 'the client has cancelled the request'
      found.request.reply.fail(new GatewayError('client_closed', { detail }))
    },
    takeQuestion: (idText) => questions.delete(idText),
    listen(reply) {
      if (listener !== null) return false
      listener = reply
      reply.onAbandoned = () => {
        if (listener === reply) listener = null
      }
      reply.open()
      for (const text of backlog.splice(0)) reply.event(text)
      return true
    },
    deliver(message) {
      if (message.kind === 'request') {
        if (questions.size >= MAX_QUESTIONS) return
        questions.add(message.idText)
      }
      const stream = streamFor(message)
      if (stream !== null) stream.event(message.text)
      else if (backlog.push(message.text) > MAX_BACKLOG) backlog.shift()
    },
    end(reason) {
      listener?.end()
      listener = null
      for (const { request, number } of exchanges) {
        request.link.cancel(number)
        request.reply.fail(reason)
      }
      exchanges.clear()
    },
  }
}
