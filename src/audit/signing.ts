/**
 * What is signed, and with what: checkpoints of the chain, erasures and retirements, each with Ed25519 over one line of JSON
 * behind a domain of its own, so that a signature of one kind never passes for another.
 */
import type { KeyObject } from 'node:crypto'
import { createHash, createPublicKey, sign, verify } from 'node:crypto'
import type { Leaf, PayloadDigests } from './chain.ts'

/** Signs; holds the private key. */
export interface Signer {
  /** Names the key: the first 16 hex digits of the SHA-256 of its public half (SubjectPublicKeyInfo, DER). */
  readonly keyId: string
  /** The public half, PEM. */
  readonly publicKey: string
  /** Base64. */
  sign(text: string): string
}

/** Stores a signer's public half (`$1` key id, `$2` PEM) for those who verify. */
export const INSERT_KEY =
  'insert into audit_keys (key_id, public_key) values ($1, $2) on conflict (key_id) do nothing'

/** Public keys by key id. */
export type PublicKeys = ReadonlyMap<string, KeyObject>

/** Who signed. Both null: nobody, because no key was configured. */
export interface Signature {
  readonly keyId: string | null
  /** Base64. */
  readonly signature: string | null
}

/** The state of a writer's chain at one moment. */
export interface Checkpoint extends Signature {
  readonly writer: string
  /** Decimal text: the last row it covers. */
  readonly seq: string
  /** Leaf of that row. */
  readonly leaf: Leaf
  /** Rows it covers that no earlier checkpoint of this writer does. */
  readonly rows: number
  /** ISO 8601, UTC, milliseconds. */
  readonly ts: string
  readonly keyId: string
  readonly signature: string
}

/** A payload that was taken out of a row. Nothing else of the row has changed. */
export interface Erasure extends Signature {
  /** The row. */
  readonly id: string
  readonly writer: string
  /** Decimal text. */
  readonly seq: string
  /** ISO 8601, UTC, milliseconds. */
  readonly erasedAt: string
  /** Who asked for it. */
  readonly actor: string
  readonly reason: string
  /** Digests as the leaf covers them; null for a row from before the chain. */
  readonly before: PayloadDigests | null
  /** Unsalted digests of what is left. */
  readonly after: PayloadDigests
}

/** Rows of one writer, without a hole between them, that were dropped because they were old enough. */
export interface Retirement extends Signature {
  readonly writer: string
  /** Decimal text, both ends included. */
  readonly fromSeq: string
  readonly toSeq: string
  /** Rows dropped: fewer than the span where the writer itself left numbers out. */
  readonly rows: number
  /** Leaf of the row `toSeq`, on which the next row stands; null for rows from before the chain. */
  readonly lastLeaf: Leaf | null
  /** The day they belonged to (UTC), `2027-01-31`. */
  readonly day: string
  /** ISO 8601, UTC, milliseconds. */
  readonly retiredAt: string
  /** Where they were put first; null: nowhere. */
  readonly archive: string | null
  /** Hex SHA-256 of the archive. */
  readonly archiveSha256: string | null
}

/** A signed thing without its signature. */
export type Unsigned<T extends Signature> = Omit<T, 'keyId' | 'signature'>

/** @param key an Ed25519 private key; anything else is a TypeError */
export function createSigner(key: KeyObject): Signer {
  if (key.type !== 'private' || key.asymmetricKeyType !== 'ed25519') {
    throw new TypeError('the key is not an Ed25519 private key')
  }
  const publicKey = createPublicKey(key)
  return {
    keyId: keyIdOf(publicKey),
    publicKey: String(publicKey.export({ type: 'spki', format: 'pem' })),
    sign: (text) => sign(null, Buffer.from(text), key).toString('base64'),
  }
}

/** See {@link Signer.keyId}. */
export function keyIdOf(key: KeyObject): string {
  const der = key.export({ type: 'spki', format: 'der' })
  return createHash('sha256').update(der).digest('hex').slice(0, 16)
}

/** Reads PEM blocks (public keys; of a private one its public half). Throws TypeError for what is no Ed25519 key. */
export function parsePublicKeys(pem: string): PublicKeys {
  const blocks = pem.match(/-----BEGIN [A-Z ]+-----[^-]+-----END [A-Z ]+-----/g) ?? []
  const keys = blocks.map(parsePublicKey)
  if (keys.length === 0) throw new TypeError('holds no key in PEM form')
  return new Map(keys.map((key) => [keyIdOf(key), key]))
}

function parsePublicKey(block: string): KeyObject {
  let key: KeyObject
  try {
    key = createPublicKey(block)
  } catch (cause) {
    throw new TypeError('holds something that is no key', { cause })
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new TypeError('holds a key that is not Ed25519')
  return key
}

/** Signs the state of a chain. */
export function signCheckpoint(checkpoint: Unsigned<Checkpoint>, signer: Signer): Checkpoint {
  return { ...checkpoint, keyId: signer.keyId, signature: signer.sign(checkpointText(checkpoint)) }
}

/** Signs the removal of a payload. */
export function signErasure(erasure: Unsigned<Erasure>, signer: Signer): Erasure {
  return { ...erasure, keyId: signer.keyId, signature: signer.sign(erasureText(erasure)) }
}

/** Signs the removal of old rows; `signer` null: leaves it unsigned. */
export function signRetirement(retirement: Unsigned<Retirement>, signer: Signer | null): Retirement {
  if (signer === null) return { ...retirement, keyId: null, signature: null }
  return { ...retirement, keyId: signer.keyId, signature: signer.sign(retirementText(retirement)) }
}

/** What a look at a signature says. `unsigned` and `unknown_key` prove nothing, `wrong` proves that it was changed. */
export type SignatureState = 'valid' | 'wrong' | 'unknown_key' | 'unsigned'

/** Whether a checkpoint is as it was signed. */
export function checkCheckpoint(checkpoint: Checkpoint, keys: PublicKeys): SignatureState {
  return check(checkpointText(checkpoint), checkpoint, keys)
}

/** Whether an erasure is as it was signed. */
export function checkErasure(erasure: Erasure, keys: PublicKeys): SignatureState {
  return check(erasureText(erasure), erasure, keys)
}

/** Whether a retirement is as it was signed. */
export function checkRetirement(retirement: Retirement, keys: PublicKeys): SignatureState {
  return check(retirementText(retirement), retirement, keys)
}

function check(text: string, { keyId, signature }: Signature, keys: PublicKeys): SignatureState {
  if (keyId === null || signature === null) return 'unsigned'
  const key = keys.get(keyId)
  if (key === undefined) return 'unknown_key'
  return verify(null, Buffer.from(text), key, Buffer.from(signature, 'base64')) ? 'valid' : 'wrong'
}

function checkpointText({ writer, seq, leaf, rows, ts }: Unsigned<Checkpoint>): string {
  return `mcp-policy-gateway/audit-checkpoint/v1\n${JSON.stringify([writer, seq, leaf, rows, ts])}`
}

function erasureText(erasure: Unsigned<Erasure>): string {
  const { id, writer, seq, erasedAt, actor, reason, before, after } = erasure
  const fields = [
    id,
    writer,
    seq,
    erasedAt,
    actor,
    reason,
    before === null ? null : list(before),
    list(after),
  ]
  return `mcp-policy-gateway/audit-erasure/v1\n${JSON.stringify(fields)}`
}

function list(digests: PayloadDigests): readonly (string | null)[] {
  return [digests.request_json, digests.response_json, digests.decision, digests.redaction]
}

function retirementText(retirement: Unsigned<Retirement>): string {
  const { writer, fromSeq, toSeq, rows, lastLeaf, day, retiredAt, archive, archiveSha256 } = retirement
  const fields = [writer, fromSeq, toSeq, rows, lastLeaf, day, retiredAt, archive, archiveSha256]
  return `mcp-policy-gateway/audit-retirement/v1\n${JSON.stringify(fields)}`
}
