/** The gateway's one secret, and the keys made from it. What may be read where (file, environment) is `config/`'s business. */
import { hkdfSync } from 'node:crypto'
import { UsageError } from './errors.ts'

/**
 * What a derived key is for. Keys of different uses tell nothing about each other, so one that leaks endangers one use.
 *
 * - `session`   binds the session ids handed to clients to principal and mount
 * - `cursor`    seals the paging cursors of lists
 * - `input_mac` keyed digest of the policy input in the audit row
 * - `redaction` keyed digests in the markers that stand for secrets in the audit row
 * - `task`      task ids handed to clients
 * - `server_request` ids under which clients are asked by upstreams
 */
export type SecretUse = 'session' | 'cursor' | 'input_mac' | 'redaction' | 'task' | 'server_request'

/** 32 random bytes are 43 characters of base64, 64 of hex. */
const MIN_LENGTH = 43
/** A rough measure, length times log2 of the different characters. One random secret in 10^12 would miss it. */
const MIN_ESTIMATED_BITS = 170

/**
 * The secret as it is used: without surrounding white space. Throws UsageError `config` when it cannot have come from 32
 * random bytes: too short, too few different characters, or a repeated pattern. The text is not shown.
 */
export function parseSecret(text: string): string {
  const secret = text.trim()
  const problem = weakness(secret)
  if (problem === null) return secret
  throw new UsageError(
    'config',
    `The gateway's secret ${problem}. It must hold 32 random bytes: make one with \`openssl rand -base64 32\`.`,
  )
}

/** 32 bytes of key for one use (HKDF-SHA-256, RFC 5869). The same on every gateway that has the same secret. */
export function deriveKey(secret: string, use: SecretUse): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `mcp-policy-gateway/${use}`, 32))
}

function weakness(secret: string): string | null {
  if (secret.length < MIN_LENGTH) return `has ${secret.length} characters, fewer than ${MIN_LENGTH}`
  const different = new Set(secret).size
  if (secret.length * Math.log2(different) < MIN_ESTIMATED_BITS) return 'has too few different characters'
  // A text that repeats itself is found again inside its own double before the end.
  if ((secret + secret).indexOf(secret, 1) < secret.length) return 'repeats a shorter text'
  return null
}
