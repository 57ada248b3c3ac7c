/**
 * Paging cursors of the merged mount: where each upstream's own list goes on. Sealed (AES-256-GCM) for one principal and one
 * list, so that nobody learns or makes up what an upstream would take for its own cursor. The same on every replica.
 */
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto'
import { GatewayError } from '../../errors.ts'

/** Upstream -> its own cursor; null = its first page is still to come. */
export type Places = Readonly<Record<string, string | null>>

/** Seals places in lists as cursors, and opens them again. */
export interface CursorSeal {
  seal(owner: readonly (string | null)[], places: Places): string
  /** @throws GatewayError `invalid_params` for one that was not made here, for this owner */
  open(owner: readonly (string | null)[], cursor: unknown): Places
}

const CIPHER = 'aes-256-gcm'
const IV_BYTES = 12
const TAG_BYTES = 16
const MAX_CURSOR_CHARS = 1_048_576

/** `key` has 32 bytes; `owner` is whoever and whatever the cursor is for: it must be the same again. */
export function createCursorSeal(key: Uint8Array): CursorSeal {
  return {
    seal(owner, places) {
      const iv = randomBytes(IV_BYTES)
      const cipher = createCipheriv(CIPHER, key, iv).setAAD(Buffer.from(JSON.stringify(owner)))
      const sealed = Buffer.concat([cipher.update(JSON.stringify(places)), cipher.final()])
      return Buffer.concat([iv, cipher.getAuthTag(), sealed]).toString('base64url')
    },

    open(owner, cursor) {
      try {
        if (typeof cursor !== 'string' || cursor.length > MAX_CURSOR_CHARS) throw new TypeError('no cursor')
        const bytes = Buffer.from(cursor, 'base64url')
        const iv = bytes.subarray(0, IV_BYTES)
        const options = { authTagLength: TAG_BYTES }
        const decipher = createDecipheriv(CIPHER, key, iv, options)
          .setAAD(Buffer.from(JSON.stringify(owner)))
          .setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES))
        const text = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()])
        return JSON.parse(text.toString('utf8')) as Places
      } catch (thrown) {
        throw new GatewayError('invalid_params', { message: 'Invalid params: cursor', cause: thrown })
      }
    },
  }
}
