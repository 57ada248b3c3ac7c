/** Session ids of upstreams, bound to the principal and mount they were issued to; see `binding.ts`. */
import { hash } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Session } from '../gateway/types.ts'
import type { Owner } from './binding.ts'
import { createBinder } from './binding.ts'

/** Binds and checks session ids. */
export interface SessionBinder {
  /** The id to hand to the client. Throws `upstream_failed` when the upstream's id is not 1..4096 visible ASCII characters. */
  wrap(owner: Owner, upstreamId: string): string
  /** The session of an id that a client presented; null when it is forged, unknown or someone else's. */
  unwrap(owner: Owner, presented: string): Session | null
}

/** That of the merged mount holds what the client said in its `initialize`. */
const MAX_UPSTREAM_ID = 4096

/** Makes a binder from a secret key of at least 32 bytes. */
export function createSessionBinder(key: Uint8Array): SessionBinder {
  const binder = createBinder('gws1', key, 5462)
  return {
    wrap(owner, upstreamId) {
      if (!isVisibleAscii(upstreamId)) {
        throw new GatewayError('upstream_failed', { detail: 'the upstream issued an unusable session id' })
      }
      return binder.wrap(owner, upstreamId)
    },

    unwrap(owner, presented) {
      const bound = binder.unwrap(owner, presented)
      if (bound === null || !isVisibleAscii(bound.upstreamId)) return null
      // Hashed once more: whoever reads the rows must not learn the MAC.
      return { upstreamId: bound.upstreamId, hash: hash('sha256', bound.mac, 'hex').slice(0, 32) }
    },
  }
}

function isVisibleAscii(id: string): boolean {
  return id.length <= MAX_UPSTREAM_ID && /^[\x21-\x7e]+$/.test(id)
}
