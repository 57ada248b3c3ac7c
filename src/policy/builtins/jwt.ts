/** `io.jwt.decode`, `io.jwt.verify_*`, `io.jwt.decode_verify`: OPA v1/topdown/tokens.go. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, spend } from './budget.ts'
import { toBytes } from './bytes.ts'
import { parseJson } from './json-text.ts'
import type { VerificationKey } from './jwt-keys.ts'
import { parseKeys } from './jwt-keys.ts'
import { verifySignature } from './jwt-signature.ts'
import { compareNumbers, RegoNumber, toDouble } from './number.ts'
import type { Builtin, BuiltinFamily } from './operands.ts'
import { objectOperand, stringOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject } from './value.ts'

const NS_PER_CHAR = 20

/** The three parts of a compact token, still encoded. */
interface Token {
  readonly header: string
  readonly payload: string
  readonly signature: string
}

/** The header parameters that mean something here. */
interface TokenHeader {
  readonly algorithm: string
  readonly keyId: string
  readonly contentType: string
  readonly isValid: boolean
}

function splitToken(text: string, context: BuiltinContext): Token {
  spend(context, text.length * NS_PER_CHAR)
  const parts = text.split('.', 4)
  const [header, payload, signature] = parts
  if (parts.length !== 3 || header === undefined || payload === undefined || signature === undefined) {
    throw new BuiltinError('encoded JWT must have 3 sections')
  }
  return { header, payload, signature }
}

/** base64url, padded or not; line breaks are ignored, as Go does. */
function decodeBase64Url(text: string): Buffer {
  const missing = text.endsWith('=') ? '' : ['', undefined, '==', '='][text.length % 4]
  const padded = missing === undefined ? '' : (text + missing).replace(/[\r\n]/g, '')
  const isWhole = /^[A-Za-z0-9_-]*={0,2}$/.test(padded) && padded.length % 4 === 0
  if (missing === undefined || !isWhole) throw new BuiltinError('illegal base64url data')
  return Buffer.from(padded, 'base64url')
}

function decodeText(part: string): string {
  return decodeBase64Url(part).toString('utf8')
}

function decodeObject(text: string): RegoObject {
  const value = parseJson(text)
  if (!(value instanceof RegoObject)) throw new BuiltinError('decoded JSON type was not an Object')
  return value
}

function decodeHeader(token: Token): RegoObject {
  const header = decodeObject(decodeText(token.header))
  if (header.has('enc')) throw new BuiltinError('JWT is a JWE object, which is not supported')
  return header
}

/** A member that must be a string when it is there. */
function headerText(header: RegoObject, name: string): string {
  const value = header.get(name) ?? ''
  if (typeof value !== 'string') throw new BuiltinError(`${name}: must be a string`)
  return value
}

const KNOWN_PARAMETERS: ReadonlySet<RegoValue> = new Set(['alg', 'kid', 'typ', 'cty', 'crit'])

function parseHeader(header: RegoObject): TokenHeader {
  headerText(header, 'typ')
  const algorithm = headerText(header, 'alg')
  const critical = criticalParameters(header.get('crit'))
  const unknownCritical = critical.some((name) => header.has(name) && !KNOWN_PARAMETERS.has(name))
  return {
    algorithm,
    keyId: headerText(header, 'kid'),
    contentType: headerText(header, 'cty'),
    isValid: algorithm !== '' && !unknownCritical,
  }
}

function criticalParameters(value: RegoValue | undefined): readonly RegoValue[] {
  if (value === undefined) return []
  // OPA stops at the first member that is not a string.
  const end = isArray(value) ? value.findIndex((member) => typeof member !== 'string') : 0
  const names = isArray(value) ? value.slice(0, end < 0 ? value.length : end) : []
  if (names.length === 0) throw new BuiltinError('crit: must be a nonempty list of strings')
  return names
}

function decode(text: string, context: BuiltinContext): readonly RegoValue[] {
  const token = splitToken(text, context)
  const header = decodeHeader(token)
  const payload = decodeText(token.payload)
  // A token in a token: its text may stand in quotes.
  if (headerText(header, 'cty') === 'JWT') return decode(payload.replace(/^["']+|["']+$/g, ''), context)
  return [header, decodeObject(payload), decodeBase64Url(token.signature).toString('hex')]
}

function signingInput(token: Token): Buffer {
  return toBytes(`${token.header}.${token.payload}`)
}

/** Tries the key the header names, else every key whose algorithm does not contradict the header. */
function someKeyVerifies(
  header: TokenHeader,
  keys: readonly VerificationKey[],
  verifies: (key: VerificationKey) => boolean,
): boolean {
  const named = header.keyId === '' ? undefined : keys.find((key) => key.id === header.keyId)
  if (named !== undefined) return verifies(named)
  return keys.some((key) => (key.algorithm === '' || key.algorithm === header.algorithm) && verifies(key))
}

function verifyWithKeys(algorithm: string): Builtin {
  return (operands, context) => {
    const token = splitToken(stringOperand(operands, 1), context)
    const keys = parseKeys(stringOperand(operands, 2), context)
    const signature = decodeBase64Url(token.signature)
    const header = parseHeader(decodeHeader(token))
    const signed = { input: signingInput(token), signature, looseCurve: true }
    return someKeyVerifies(header, keys, ({ key }) => verifySignature(algorithm, key, signed, context))
  }
}

function verifyWithSecret(algorithm: string): Builtin {
  return (operands, context) => {
    const token = splitToken(stringOperand(operands, 1), context)
    const secret = toBytes(stringOperand(operands, 2))
    const signature = decodeBase64Url(token.signature)
    const signed = { input: signingInput(token), signature, looseCurve: false }
    return verifySignature(algorithm, secret, signed, context)
  }
}

/** What `io.jwt.decode_verify` was asked to check. Empty strings ask for nothing. */
interface Constraints {
  readonly keys: readonly VerificationKey[] | undefined
  readonly secret: string
  readonly algorithm: string
  readonly issuer: string
  readonly audience: string
  /** Seconds since 1970. */
  readonly time: RegoNumber
}

const CONSTRAINTS: ReadonlySet<RegoValue> = new Set(['cert', 'secret', 'alg', 'iss', 'aud', 'time'])

function parseConstraints(object: RegoObject, context: BuiltinContext): Constraints {
  for (const [name] of object) {
    if (!CONSTRAINTS.has(name)) throw new BuiltinError('unknown token validation constraint')
  }
  const time = object.get('time') ?? new RegoNumber(String(context.nowNs))
  const nanoseconds = time instanceof RegoNumber ? toDouble(time) : undefined
  if (nanoseconds === undefined || nanoseconds < 0) {
    throw new BuiltinError('time constraint: must be a number that is not negative')
  }
  const keys = object.has('cert') ? parseKeys(headerText(object, 'cert'), context) : undefined
  const secret = headerText(object, 'secret')
  if ((keys === undefined) === (secret === '')) throw new BuiltinError('one key constraint needed')
  return {
    keys,
    secret,
    algorithm: headerText(object, 'alg'),
    issuer: headerText(object, 'iss'),
    audience: headerText(object, 'aud'),
    time: new RegoNumber(String(nanoseconds / 1_000_000_000)),
  }
}

const UNVERIFIED: readonly RegoValue[] = [false, new RegoObject(), new RegoObject()]

/** Verifies a token, and the one in it when it says so; null when a signature or the header does not hold. */
function verifyNested(
  text: string,
  constraints: Constraints,
  context: BuiltinContext,
): { header: RegoObject; payload: RegoObject } | null {
  const token = splitToken(text, context)
  const decoded = decodeHeader(token)
  const header = parseHeader(decoded)
  if (!header.isValid) return null
  if (constraints.algorithm !== '' && constraints.algorithm !== header.algorithm) return null
  const signed = {
    input: signingInput(token),
    signature: decodeBase64Url(token.signature),
    looseCurve: false,
  }
  const keys = constraints.keys ?? [{ algorithm: '', id: '', key: toBytes(constraints.secret) }]
  const holds = someKeyVerifies(header, keys, ({ key }) =>
    verifySignature(header.algorithm, key, signed, context),
  )
  if (!holds) return null
  const payload = decodeText(token.payload)
  if (header.contentType.toUpperCase() === 'JWT') return verifyNested(payload, constraints, context)
  return { header: decoded, payload: decodeObject(payload) }
}

/** Whether issuer, audience and times of the payload are what was asked for. */
function claimsHold(payload: RegoObject, constraints: Constraints): boolean {
  return (
    issuerHolds(payload, constraints) &&
    audienceHolds(payload, constraints) &&
    timesHold(payload, constraints)
  )
}

function issuerHolds(payload: RegoObject, { issuer }: Constraints): boolean {
  return issuer === '' || (payload.has('iss') && headerText(payload, 'iss') === issuer)
}

function audienceHolds(payload: RegoObject, { audience }: Constraints): boolean {
  const claimed = payload.get('aud')
  if (claimed === undefined) return audience === ''
  return isArray(claimed) ? claimed.includes(audience) : claimed === audience
}

function timesHold(payload: RegoObject, { time }: Constraints): boolean {
  const expires = numericClaim(payload, 'exp')
  const notBefore = numericClaim(payload, 'nbf')
  if (expires !== undefined && compareNumbers(time, expires) >= 0) return false
  return notBefore === undefined || compareNumbers(time, notBefore) >= 0
}

function numericClaim(payload: RegoObject, name: string): RegoNumber | undefined {
  const value = payload.get(name)
  if (value !== undefined && !(value instanceof RegoNumber))
    throw new BuiltinError(`${name} must be a number`)
  return value
}

function decodeVerify(operands: readonly RegoValue[], context: BuiltinContext): readonly RegoValue[] {
  const text = stringOperand(operands, 1)
  const constraints = parseConstraints(objectOperand(operands, 2), context)
  const verified = verifyNested(text, constraints, context)
  if (verified === null || !claimsHold(verified.payload, constraints)) return UNVERIFIED
  return [true, verified.header, verified.payload]
}

/** The family, by Rego names. */
export const JWT: BuiltinFamily = {
  'io.jwt.decode': (operands, context) => decode(stringOperand(operands, 1), context),
  'io.jwt.decode_verify': decodeVerify,
  'io.jwt.verify_eddsa': verifyWithKeys('EdDSA'),
  'io.jwt.verify_es256': verifyWithKeys('ES256'),
  'io.jwt.verify_es384': verifyWithKeys('ES384'),
  'io.jwt.verify_es512': verifyWithKeys('ES512'),
  'io.jwt.verify_hs256': verifyWithSecret('HS256'),
  'io.jwt.verify_hs384': verifyWithSecret('HS384'),
  'io.jwt.verify_hs512': verifyWithSecret('HS512'),
  'io.jwt.verify_ps256': verifyWithKeys('PS256'),
  'io.jwt.verify_ps384': verifyWithKeys('PS384'),
  'io.jwt.verify_ps512': verifyWithKeys('PS512'),
  'io.jwt.verify_rs256': verifyWithKeys('RS256'),
  'io.jwt.verify_rs384': verifyWithKeys('RS384'),
  'io.jwt.verify_rs512': verifyWithKeys('RS512'),
}
