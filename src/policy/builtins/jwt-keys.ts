/** Keys that verify tokens: PEM certificates, PEM public keys, JWKs and JWK sets, as OPA v1/topdown/tokens.go takes them. */
import type { JsonWebKey, KeyObject } from 'node:crypto'
import { createPublicKey, X509Certificate } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { parseJson } from './json-text.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject } from './value.ts'

/** A key with what its JWK says about it; empty strings where it says nothing. */
export interface VerificationKey {
  readonly algorithm: string
  readonly id: string
  /** A public key, the bytes of a symmetric key, or null for a private key, which verifies nothing. */
  readonly key: KeyObject | Buffer | null
}

/** The JWS algorithms OPA knows. */
const TOKEN_ALGORITHMS: ReadonlySet<string> = new Set([
  'RS256',
  'RS384',
  'RS512',
  'PS256',
  'PS384',
  'PS512',
  'ES256',
  'ES384',
  'ES512',
  'HS256',
  'HS384',
  'HS512',
  'EdDSA',
])

const NS_PER_KEY = 200_000
const NS_PER_CHAR = 30
const PARSED = new LRUCache<string, readonly VerificationKey[]>({ max: 64 })

const PEM = /-----BEGIN ([A-Z0-9 ]+)-----\r?\n([A-Za-z0-9+/=\s]*?)-----END \1-----[ \t]*(?:\r?\n|$)/

/**
 * The keys in a PEM block or a JWK (set).
 *
 * @throws {BuiltinError} when there is none, or more than the one PEM block
 */
export function parseKeys(text: string, context: BuiltinContext): readonly VerificationKey[] {
  spend(context, NS_PER_KEY + text.length * NS_PER_CHAR)
  const known = PARSED.get(text)
  const keys = known ?? parseUncached(text)
  // Charged by the number of keys, not by whether they were known.
  spend(context, NS_PER_KEY * keys.length)
  if (known === undefined && text.length <= 65_536) PARSED.set(text, keys)
  return keys
}

function parseUncached(text: string): readonly VerificationKey[] {
  const block = PEM.exec(text)
  if (block === null) return parseJwks(text)
  if (block.index + block[0].length < text.length) {
    throw new BuiltinError('extra data after a PEM certificate block')
  }
  const [, type = '', body = ''] = block
  const der = Buffer.from(body, 'base64')
  return [{ algorithm: '', id: '', key: parseDer(type, der) }]
}

function parseDer(type: string, der: Buffer): KeyObject {
  try {
    if (type === 'CERTIFICATE') return new X509Certificate(der).publicKey
    if (type === 'PUBLIC KEY') return createPublicKey({ key: der, format: 'der', type: 'spki' })
  } catch {
    throw new BuiltinError('failed to parse a PEM key')
  }
  throw new BuiltinError('failed to extract a key from the PEM block')
}

function parseJwks(text: string): readonly VerificationKey[] {
  const document = parseJson(text)
  if (!(document instanceof RegoObject)) throw new BuiltinError('not a JWK (set)')
  const keys = document.get('keys')
  const members = keys === undefined ? [document] : keys
  if (!isArray(members)) throw new BuiltinError('not a JWK set')
  return members.map(parseJwk).filter(({ algorithm }) => !OTHER_ALGORITHM.test(algorithm))
}

function textMember(jwk: RegoObject, name: string): string {
  const value = jwk.get(name)
  if (value === undefined) return ''
  if (typeof value !== 'string') throw new BuiltinError(`JWK member ${name} must be a string`)
  return value
}

/** Algorithms that a JWK may name and that sign no token here: such a key is passed over, any other name is an error. */
const OTHER_ALGORITHM =
  /^(?:none|ES256K|RSA1_5|RSA-OAEP(?:-(?:256|384|512))?|dir|A(?:128|192|256)(?:GCM)?KW|ECDH-ES(?:\+A(?:128|192|256)KW)?|PBES2-HS(?:256\+A128|384\+A192|512\+A256)KW)$/

const PUBLIC_MEMBERS = ['kty', 'crv', 'x', 'y', 'n', 'e']

function parseJwk(jwk: RegoValue): VerificationKey {
  if (!(jwk instanceof RegoObject)) throw new BuiltinError('a JWK must be an object')
  const described = { algorithm: textMember(jwk, 'alg'), id: textMember(jwk, 'kid') }
  if (
    ![...TOKEN_ALGORITHMS, ''].includes(described.algorithm) &&
    !OTHER_ALGORITHM.test(described.algorithm)
  ) {
    throw new BuiltinError('invalid key algorithm')
  }
  const type = textMember(jwk, 'kty')
  if (type === 'oct') return { ...described, key: Buffer.from(textMember(jwk, 'k'), 'base64url') }
  if (!['RSA', 'EC', 'OKP'].includes(type)) throw new BuiltinError('unsupported JWK type')
  if (jwk.has('d')) return { ...described, key: null }
  const members = PUBLIC_MEMBERS.map((name) => [name, textMember(jwk, name)] as const)
  const key: JsonWebKey = Object.fromEntries(members.filter(([, value]) => value !== ''))
  try {
    return { ...described, key: createPublicKey({ key, format: 'jwk' }) }
  } catch {
    throw new BuiltinError('failed to parse a JWK')
  }
}
