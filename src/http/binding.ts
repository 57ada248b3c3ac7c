/**
 * Ids of an upstream, bound to the principal and mount they were issued to.
 *
 * What a client gets is `<prefix>.<upstream id>.<MAC>` (both parts base64url). Nothing is stored: any replica with the same
 * key can check it, and an id that leaks is worth nothing to another principal or at another mount.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'

/** To whom an id belongs. */
export interface Owner {
  readonly principalId: string
  /** Principals are named within their tenant: two tenants may each have an `ada`. */
  readonly tenant: string | null
  readonly mount: string
}

/** An id that was presented by its owner. */
export interface BoundId {
  readonly upstreamId: string
  readonly mac: Buffer
}

/** Binds ids of one kind and checks them. */
export interface Binder {
  /** The id to hand to the client. */
  wrap(owner: Owner, upstreamId: string): string
  /** null when what was presented is forged, unknown or someone else's. */
  unwrap(owner: Owner, presented: string): BoundId | null
}

/**
 * @param prefix names kind and version, and keeps ids of different kinds apart
 * @param key secret of at least 32 bytes, for ids of this kind alone
 * @param maxChars of an upstream's id in base64url
 * @throws RangeError when the key is too short
 */
export function createBinder(prefix: string, key: Uint8Array, maxChars: number): Binder {
  if (key.length < 32) throw new RangeError(`the key for ${prefix} must have at least 32 bytes`)
  const form = new RegExp(`^${prefix}\\.([A-Za-z0-9_-]{2,${maxChars}})\\.([A-Za-z0-9_-]{43})$`)

  // JSON keeps the parts apart: no two owners can spell the same text.
  const macOf = ({ principalId, tenant, mount }: Owner, upstreamId: string) =>
    createHmac('sha256', key)
      .update(JSON.stringify([principalId, tenant, mount, upstreamId]))
      .digest()

  return {
    wrap(owner, upstreamId) {
      const id = Buffer.from(upstreamId, 'utf8').toString('base64url')
      return `${prefix}.${id}.${macOf(owner, upstreamId).toString('base64url')}`
    },

    unwrap(owner, presented) {
      const [, id = '', mac = ''] = form.exec(presented) ?? []
      const upstreamId = Buffer.from(id, 'base64url').toString('utf8')
      const expected = macOf(owner, upstreamId)
      const given = Buffer.from(mac, 'base64url')
      if (given.length !== expected.length || !timingSafeEqual(given, expected)) return null
      return { upstreamId, mac: expected }
    },
  }
}
