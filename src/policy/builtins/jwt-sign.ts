/**
 * `io.jwt.encode_sign` and `io.jwt.encode_sign_raw` for the algorithms whose signatures are a function of key and text:
 * HMAC, RSA PKCS #1 v1.5 and Ed25519. ECDSA and RSA-PSS signatures are random, so they are undefined here. Useful for
 * tokens in policy tests.
 */
import type { JsonWebKey } from 'node:crypto'
import { createHmac, createPrivateKey, sign } from 'node:crypto'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { toBytes } from './bytes.ts'
import { parseJson, toJsonText } from './json-text.ts'
import { isUsableRsaKey } from './jwt-signature.ts'
import type { BuiltinFamily } from './operands.ts'
import { anyOperand, stringOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject } from './value.ts'

/** An RSA signature costs the cube of the key's length. */
const MAX_RSA_BITS = 4_096
const NS_PER_SIGNATURE = 6_000_000
const NS_PER_CHAR = 20

/** The first key of a JWK or JWK set. */
function firstKey(text: string): RegoObject {
  const document = parseJson(text)
  const keys = document instanceof RegoObject ? (document.get('keys') ?? [document]) : []
  const first = isArray(keys) ? keys[0] : undefined
  if (!(first instanceof RegoObject)) throw new BuiltinError('no keys found in JWK set')
  return first
}

function toJsonWebKey(jwk: RegoObject): JsonWebKey {
  const members = [...jwk].filter(
    (entry): entry is readonly [string, string] =>
      typeof entry[0] === 'string' && typeof entry[1] === 'string',
  )
  return Object.fromEntries(members)
}

function signText(algorithm: string, jwk: RegoObject, input: Buffer): Buffer {
  const type = jwk.get('kty')
  const hash = `sha${algorithm.slice(2)}`
  const secret = jwk.get('k')
  if (/^HS(?:256|384|512)$/.test(algorithm)) {
    if (type !== 'oct' || typeof secret !== 'string') throw new BuiltinError('HMAC needs a symmetric key')
    return createHmac(hash, Buffer.from(secret, 'base64url')).update(input).digest()
  }
  const isRsa = /^RS(?:256|384|512)$/.test(algorithm) && type === 'RSA'
  const isEd = algorithm === 'EdDSA' && type === 'OKP' && jwk.get('crv') === 'Ed25519'
  if (!isRsa && !isEd) throw new BuiltinError(`no reproducible signature with ${algorithm} and this key`)
  try {
    const key = createPrivateKey({ key: toJsonWebKey(jwk), format: 'jwk' })
    if (isRsa && !isUsableRsaKey(key, MAX_RSA_BITS))
      throw new BuiltinError('the RSA key is too short or too long')
    return sign(isRsa ? hash : null, input, key)
  } catch {
    throw new BuiltinError('the key cannot sign')
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The compact token of texts that are taken as they are. */
function encodeSign(header: string, payload: string, key: string, context: BuiltinContext): string {
  spend(context, NS_PER_SIGNATURE + NS_PER_CHAR * (header.length + payload.length + key.length))
  const jwk = firstKey(key)
  const parameters = parseJson(header)
  const algorithm = parameters instanceof RegoObject ? parameters.get('alg') : undefined
  if (!(parameters instanceof RegoObject) || typeof algorithm !== 'string') {
    throw new BuiltinError("missing or invalid 'alg' header")
  }
  const type = parameters.get('typ')
  if ((typeof type !== 'string' || type === 'JWT') && !isJson(payload)) {
    throw new BuiltinError('type is JWT but payload is not JSON')
  }
  const input = [header, payload].map((part) => toBytes(part).toString('base64url')).join('.')
  return `${input}.${signText(algorithm, jwk, toBytes(input)).toString('base64url')}`
}

/** The family, by Rego names. */
export const JWT_SIGN: BuiltinFamily = {
  'io.jwt.encode_sign': (operands, context) => {
    const [header = '', payload = '', key = ''] = [1, 2, 3].map((position) =>
      toJsonText(anyOperand(operands, position), null, context),
    )
    return encodeSign(header, payload, key, context)
  },
  'io.jwt.encode_sign_raw': (operands: readonly RegoValue[], context: BuiltinContext) =>
    encodeSign(stringOperand(operands, 1), stringOperand(operands, 2), stringOperand(operands, 3), context),
}
