/**
 * Ids of requests that upstreams send to clients (2025-x: sampling, elicitation, roots, ping), bound to whom was asked, in
 * which session and what for; see `binding.ts`. So every replica knows which answers were really asked for, of this caller,
 * and where they go, whichever replica had the stream. The same request always has the same id: on a resumed stream, too.
 */
import type { AskedOfClient } from '../gateway/types.ts'
import type { Owner } from './binding.ts'
import { createBinder } from './binding.ts'

/** Binds and checks ids of requests to clients. */
export interface ServerRequestBinder {
  /** The id that the client is asked under. */
  wrap(owner: Owner, asked: AskedOfClient): string
  /** What a client answers; null when the id is forged, someone else's or no id of such a request. */
  unwrap(owner: Owner, presented: string): AskedOfClient | null
}

/** In base64url, with room to spare: an id of at most 1 Ki characters and a session id of at most 4 Ki, as JSON escapes them. */
const MAX_CHARS = 24_576

/** Makes a binder from a secret key of at least 32 bytes. */
export function createServerRequestBinder(key: Uint8Array): ServerRequestBinder {
  const binder = createBinder('gwr1', key, MAX_CHARS)
  return {
    wrap: (owner, { method, idText, session, protocolVersion }) =>
      binder.wrap(owner, JSON.stringify([method, idText, session, protocolVersion])),
    unwrap(owner, presented) {
      const bound = binder.unwrap(owner, presented)
      if (bound === null) return null
      // Only what `wrap` wrote carries the MAC.
      const [method, idText, session, protocolVersion] = JSON.parse(bound.upstreamId) as BoundFacts
      return { method, idText, session, protocolVersion }
    },
  }
}

type BoundFacts = [
  AskedOfClient['method'],
  AskedOfClient['idText'],
  AskedOfClient['session'],
  AskedOfClient['protocolVersion'],
]
