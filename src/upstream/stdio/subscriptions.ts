/** Which resources the sessions on one shared server want to hear of: the server is told of the first and the last of them. */
import { GatewayError } from '../../errors.ts'
import type { StdioSession } from './session.ts'

/** Which sessions of a shared server want to hear of which resource. */
export interface Subscriptions {
  /** Throws `overloaded`. */
  add(session: StdioSession, uri: string): void
  /** Returns whether nobody wants to hear of it any more. */
  remove(session: StdioSession, uri: string): boolean
  /** All of them, each once. */
  uris(): Iterable<string>
}

/** Of all sessions together. */
const MAX_SUBSCRIPTIONS = 10_000

/** Makes an empty book. */
export function createSubscriptions(): Subscriptions {
  /** Resource -> how many sessions. */
  const counts = new Map<string, number>()
  return {
    add(session, uri) {
      if (session.subscriptions.has(uri)) return
      if (counts.size >= MAX_SUBSCRIPTIONS && !counts.has(uri))
        throw new GatewayError('overloaded', { detail: `${MAX_SUBSCRIPTIONS} resources are subscribed to` })
      session.subscriptions.add(uri)
      counts.set(uri, (counts.get(uri) ?? 0) + 1)
    },
    remove(session, uri) {
      if (!session.subscriptions.delete(uri)) return !counts.has(uri)
      const left = (counts.get(uri) ?? 1) - 1
      if (left > 0) counts.set(uri, left)
      else counts.delete(uri)
      return left === 0
    },
    uris: () => counts.keys(),
  }
}
