/**
 * Upstream session ids, bound to the principal and mount they were issued to.
 *
 * What a client gets is `gws1.<upstream id>.<MAC>` (both parts base64url). Nothing is stored: any replica with the same
 * key can check it, and a session id that leaks is worth nothing to another principal or at another mount.
 */
import { createHmac, hash, timingSafeEqual } from 'node:crypto'
import { GatewayError } from '../errors.ts'
import type { Session } from '../gateway/types.ts'

/** To whom a session belongs. */
export interface SessionOwner {
  readonly principalId: string
  /** Principals are named within their tenant: two tenants may each have an `ada`. */
  readonly tenant: string | null
  readonly mount: string
}

/** Binds and checks session ids. */
export interface SessionBinder {
  /** The id to hand to the client. Throws `upstream_failed` when the upstream's id is not 1..4096 visible ASCII characters. */
  wrap(owner: SessionOwner, upstreamId: string): string
  /** The session of an id that a client presented; null when it is forged, unknown or someone else's. */
  unwrap(owner: SessionOwner, presented: string): Session | null
}

/** That of the merged mount holds what the client said in its `initialize`. */
const MAX_UPSTREAM_ID = 4096
const PRESENTED = /^gws1\.([A-Za-z0-9_-]{2,5462})\.([A-Za-z0-9_-]{43})$/

/** Makes a binder from a secret key of at least 32 bytes. */
export function createSessionBinder(key: Uint8Array): SessionBinder {
  if (key.length < 32) throw new RangeError('the session key must have at least 32 bytes')

  // JSON keeps the parts apart: no two owners can spell the same text.
  const macOf = ({ principalId, tenant, mount }: SessionOwner, upstreamId: string) =>
    createHmac('sha256', key)
      .update(JSON.stringify([principalId, tenant, mount, upstreamId]))
      .digest()

  return {
    wrap(owner, upstreamId) {
      if (!isVisibleAscii(upstreamId)) {
        throw new GatewayError('upstream_failed', { detail: 'the upstream issued an unusable session id' })
      }
      const id = Buffer.from(upstreamId, 'latin1').toString('base64url')
      return `gws1.${id}.${macOf(owner, upstreamId).toString('base64url')}`
    },

    unwrap(owner, presented) {
      const [, id = '', mac = ''] = PRESENTED.exec(presented) ?? []
      const upstreamId = Buffer.from(id, 'base64url').toString('latin1')
      const expected = macOf(owner, upstreamId)
      const given = Buffer.from(mac, 'base64url')
      if (
        given.length !== expected.length ||
        !timingSafeEqual(given, expected) ||
        !isVisibleAscii(upstreamId)
      ) {
        return null
      }
      // Hashed once more: whoever reads the rows must not learn the MAC.
      return { upstreamId, hash: hash('sha256', expected, 'hex').slice(0, 32) }
    },
  }
}

function isVisibleAscii(id: string): boolean {
  return id.length <= MAX_UPSTREAM_ID && /^[\x21-\x7e]+$/.test(id)
}
