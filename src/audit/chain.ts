/**
 * What the chain is over. Every row has a leaf: the SHA-256 of the leaf before it and of the row, so that no row can be
 * changed, taken out or moved without all later leaves of its writer becoming wrong.
 *
 *     digest = SHA-256( hex(salt) || text of the column )                     of each JSON column, as `column::text` prints it
 *     leaf   = SHA-256( domain || hex(leaf before) || "\n" || JSON array )    64 zeros stand before the first
 *
 * The array holds the columns in the order of {@link toRowText}, JSON columns by their digest, and is written as
 * `JSON.stringify` does. Because the chain covers digests, a payload can be erased and the row stays provable; because
 * they are salted, and the salt goes with the payload, nobody can find out by trying what was erased.
 */
import { hash, randomFillSync } from 'node:crypto'
import { SocketAddress } from 'node:net'
import { LRUCache } from 'lru-cache'

/** Hex, 32 bytes. */
export type Leaf = string

/** What stands before the first leaf of a writer. */
export const NO_LEAF: Leaf = '0'.repeat(64)

const ROW_DOMAIN = 'mcp-policy-gateway/audit-row/v1\n'

/** The columns that hold JSON, in the order in which their digests enter the row. */
export const PAYLOAD_COLUMNS = ['request_json', 'response_json', 'decision', 'redaction'] as const

/** Text of each JSON column, exactly as `jsonb` prints it. */
export type PayloadTexts = Readonly<Record<(typeof PAYLOAD_COLUMNS)[number], string | null>>

/** Hex digest of each JSON column; null where the column is null. */
export type PayloadDigests = Readonly<Record<(typeof PAYLOAD_COLUMNS)[number], string | null>>

/** All other columns that are chained. */
export interface ChainedColumns {
  readonly id: string
  /** Milliseconds since the epoch. */
  readonly ts: number
  readonly writer: string
  /** Decimal text. */
  readonly seq: string
  readonly request_id: string
  readonly tenant: string | null
  readonly principal_id: string | null
  readonly principal_kind: string | null
  readonly role: string | null
  readonly roles: readonly (string | null)[] | null
  readonly api_key_id: string | null
  /** As `inet::text` prints it: with its mask. */
  readonly client_ip: string | null
  readonly client_name: string | null
  readonly client_version: string | null
  readonly protocol_version: string | null
  readonly session_hash: string | null
  readonly http_method: string | null
  readonly method: string | null
  readonly server: string | null
  readonly target_kind: string | null
  readonly tool_name: string | null
  readonly outcome: string
  readonly status_code: number
  readonly reason: string | null
  readonly error_message: string | null
  readonly latency_ms: number
  readonly upstream_ms: number | null
  readonly policy_revision: string | null
}

const SALT_BYTES = 16
/** Random bytes for many salts: asking for few costs as much as for all of them. */
const SALTS = Buffer.alloc(256 * SALT_BYTES)
let nextSalt = SALTS.length

/** A fresh salt: 16 bytes, hex. */
export function newSalt(): string {
  if (nextSalt === SALTS.length) {
    randomFillSync(SALTS)
    nextSalt = 0
  }
  nextSalt += SALT_BYTES
  return SALTS.toString('hex', nextSalt - SALT_BYTES, nextSalt)
}

/** @param salt hex; null where there is none (any more) */
export function digestPayload(texts: PayloadTexts, salt: string | null): PayloadDigests {
  const digest = (text: string | null): string | null =>
    text === null ? null : hash('sha256', (salt ?? '') + text, 'hex')
  return {
    request_json: digest(texts.request_json),
    response_json: digest(texts.response_json),
    decision: digest(texts.decision),
    redaction: digest(texts.redaction),
  }
}

/** The row as the leaf covers it. */
export function toRowText(row: ChainedColumns, digests: PayloadDigests): string {
  return JSON.stringify([
    row.id,
    row.ts,
    row.writer,
    row.seq,
    row.request_id,
    row.tenant,
    row.principal_id,
    row.principal_kind,
    row.role,
    row.roles,
    row.api_key_id,
    row.client_ip === null ? null : canonicalAddress(row.client_ip),
    row.client_name,
    row.client_version,
    row.protocol_version,
    row.session_hash,
    row.http_method,
    row.method,
    row.server,
    row.target_kind,
    row.tool_name,
    row.outcome,
    row.status_code,
    row.reason,
    row.error_message,
    canonicalDouble(row.latency_ms),
    row.upstream_ms === null ? null : canonicalDouble(row.upstream_ms),
    row.policy_revision,
    digests.request_json,
    digests.response_json,
    digests.decision,
    digests.redaction,
  ])
}

/** The leaf of a row. */
export function toLeaf(previous: Leaf, rowText: string): Leaf {
  return hash('sha256', `${ROW_DOMAIN}${previous}\n${rowText}`, 'hex')
}

/** One spelling for each address; a single host carries its full mask, as `inet::text` prints it. */
function canonicalAddress(text: string): string {
  const known = ADDRESSES.get(text)
  if (known !== undefined) return known
  const [address = '', bits] = text.split('/')
  const family = address.includes(':') ? 'ipv6' : 'ipv4'
  const { address: canonical } = new SocketAddress({ address, family })
  const spelt = `${canonical}/${bits ?? (family === 'ipv6' ? 128 : 32)}`
  ADDRESSES.set(text, spelt)
  return spelt
}

/** Addresses and their one spelling. */
const ADDRESSES = new LRUCache<string, string>({ max: 1024 })

/** What JSON numbers cannot tell apart, or hold, enters as text. */
function canonicalDouble(value: number): number | string {
  if (Object.is(value, -0)) return '-0'
  return Number.isFinite(value) ? value : String(value)
}
