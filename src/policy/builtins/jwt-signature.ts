/** JWS signature checks through node:crypto, with Go's view of what fits together. */
import { constants, createHmac, KeyObject, timingSafeEqual, verify } from 'node:crypto'
import type { BuiltinContext } from './budget.ts'
import { spend } from './budget.ts'

const NS_PER_VERIFY = 400_000
const NS_PER_BYTE = 10

/** Bounds of an RSA key: Go refuses shorter moduli and larger exponents, the rest bounds the work. */
const MIN_RSA_BITS = 1_024
const MAX_RSA_BITS = 8_192
const MAX_RSA_EXPONENT = 2n ** 31n - 1n

/** Whether this is an RSA key that is worth, and allows, working with. */
export function isUsableRsaKey(key: KeyObject, maxBits: number = MAX_RSA_BITS): boolean {
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {}
  return (
    key.asymmetricKeyType === 'rsa' &&
    modulusLength >= MIN_RSA_BITS &&
    modulusLength <= maxBits &&
    publicExponent <= MAX_RSA_EXPONENT
  )
}

/**
 * Whether the signature is the key's, under a JWS algorithm. A key of another kind than the algorithm's gives false.
 * `looseCurve` lets an ECDSA key of any curve verify any ES algorithm, as OPA's `verify_es*` do.
 */
export function verifySignature(
  algorithm: string,
  key: KeyObject | Buffer | null,
  signed: { readonly input: Buffer; readonly signature: Buffer; readonly looseCurve: boolean },
  context: BuiltinContext,
): boolean {
  spend(context, NS_PER_VERIFY + NS_PER_BYTE * signed.input.length)
  const hash = `sha${algorithm.slice(2)}`
  if (algorithm.startsWith('HS'))
    return !(key instanceof KeyObject) && key !== null && verifyHmac(hash, key, signed)
  if (!(key instanceof KeyObject)) return false
  try {
    return verifyAsymmetric(algorithm, hash, key, signed)
  } catch {
    return false
  }
}

interface Signed {
  readonly input: Buffer
  readonly signature: Buffer
  readonly looseCurve: boolean
}

function verifyHmac(hash: string, secret: Buffer, { input, signature }: Signed): boolean {
  const expected = createHmac(hash, secret).update(input).digest()
  return expected.length === signature.length && timingSafeEqual(expected, signature)
}

const CURVES: Readonly<Record<string, string>> = {
  ES256: 'prime256v1',
  ES384: 'secp384r1',
  ES512: 'secp521r1',
}

/** Curves Go knows; a key may not bring its own. */
const KNOWN_CURVES: ReadonlySet<string> = new Set(['secp224r1', ...Object.values(CURVES)])

function verifyAsymmetric(algorithm: string, hash: string, key: KeyObject, signed: Signed): boolean {
  const { input, signature } = signed
  const { namedCurve = '' } = key.asymmetricKeyDetails ?? {}
  switch (algorithm.slice(0, 2)) {
    case 'RS':
    case 'PS': {
      if (!isUsableRsaKey(key)) return false
      if (algorithm.startsWith('RS')) return verify(hash, input, key, signature)
      const padding = constants.RSA_PKCS1_PSS_PADDING
      return verify(hash, input, { key, padding, saltLength: constants.RSA_PSS_SALTLEN_AUTO }, signature)
    }
    case 'ES': {
      const fits = signed.looseCurve ? KNOWN_CURVES.has(namedCurve) : namedCurve === CURVES[algorithm]
      return key.asymmetricKeyType === 'ec' && fits && verify(hash, input, key, toDer(signature))
    }
    case 'Ed':
      return key.asymmetricKeyType === 'ed25519' && verify(null, input, key, signature)
    default:
      return false
  }
}

/** JWS has r and s side by side; node:crypto takes them as a DER sequence. */
function toDer(signature: Buffer): Buffer {
  const half = Math.floor(signature.length / 2)
  const body = Buffer.concat([derInteger(signature.subarray(0, half)), derInteger(signature.subarray(half))])
  return Buffer.concat([Buffer.from([0x30]), derLength(body.length), body])
}

function derInteger(magnitude: Buffer): Buffer {
  let start = 0
  while (start < magnitude.length - 1 && magnitude[start] === 0) start += 1
  const digits = magnitude.subarray(start)
  const padded = (digits[0] ?? 0x80) >= 0x80 ? Buffer.concat([Buffer.from([0]), digits]) : digits
  return Buffer.concat([Buffer.from([0x02]), derLength(padded.length), padded])
}

function derLength(length: number): Buffer {
  if (length < 0x80) return Buffer.from([length])
  return length < 0x100 ? Buffer.from([0x81, length]) : Buffer.from([0x82, length >> 8, length & 0xff])
}
