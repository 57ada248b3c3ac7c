/**
 * What the policy sees: a call -> the exact JSON text of `input` (schemas/policy-input.schema.json).
 *
 * The call's arguments go in as the text they came in, so that numbers keep their digits. What is not known is absent.
 */
import type { Call, Principal, ServerFacts, Target, TargetKind } from '../gateway/types.ts'
import { PolicyFault } from './host-fault.ts'

/** The input of one evaluation. */
export interface PolicyInput {
  /** The exact bytes the module gets. */
  readonly bytes: Uint8Array<ArrayBuffer>
  /** The same as JSON text, without `arguments`. */
  readonly headText: string
  /** JSON text of `arguments` as the module sees it; null = none. */
  readonly argumentsText: string | null
  /** Why it must not be evaluated. */
  readonly fault: PolicyFault | null
}

/** Which question is asked about the call. */
export type InputSubject =
  | { readonly phase: 'call' }
  | { readonly phase: 'list'; readonly targets: readonly Target[] }
  /** About targets of one kind, all at once: of each the JSON text of what the rules read. */
  | { readonly phase: 'list'; readonly kind: TargetKind; readonly elements: readonly string[] }

/** The clock and the bound of an input. */
export interface InputOptions {
  /** Nanoseconds since the epoch. */
  readonly nowNs: bigint
  readonly maxBytes: number
}

const MAX_INT64 = 2n ** 63n - 1n
const MIN_INT64 = -(2n ** 63n)
/** An integer outside 64 bits has at least this many digits. */
const MAY_BE_LARGE = /\d{19}/
const MAX_DIGITS = 20
const STRING_OR_NUMBER = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/gs
const INTEGER = /^-?\d+$/
const MAY_BE_SURROGATE = /\\u[dD][89a-fA-F]/
/** One escape at a time; an unpaired surrogate is captured. */
const ESCAPE =
  /\\(?:u[dD][89abAB][\da-fA-F]{2}\\u[dD][c-fC-F][\da-fA-F]{2}|(u[dD][89a-fA-F][\da-fA-F]{2})|.)/gs
const encoder = new TextEncoder()

/**
 * Builds the input of a call that has passed `read`.
 * @throws Error when a stage before authz has left something out
 */
export function toPolicyInput(call: Call, subject: InputSubject, options: InputOptions): PolicyInput {
  const headText = withoutLoneSurrogates(headOf(call, subject, options.nowNs))
  const raw = subject.phase === 'call' ? (call.message?.argumentsText ?? null) : null
  // Replacing makes a text at most half as short: of one that is too large even then, not every character is looked at.
  const isHopeless = raw !== null && raw.length > 2 * options.maxBytes
  const argumentsText = raw === null || isHopeless ? raw : withoutLoneSurrogates(raw)
  const text = argumentsText === null ? headText : `${headText.slice(0, -1)},"arguments":${argumentsText}}`
  const bytes = encoder.encode(text)
  return {
    bytes,
    headText,
    argumentsText,
    fault: refusalOf(bytes.byteLength, argumentsText, options.maxBytes),
  }
}

/** A target's name as the policy sees it: unpaired surrogates are U+FFFD. */
export function nameAsSeen(target: Target): string {
  return JSON.parse(withoutLoneSurrogates(JSON.stringify(target.name))) as string
}

function headOf(call: Call, subject: InputSubject, nowNs: bigint): string {
  const { message, principal, server, target } = call
  if (message === null || principal === null || server === null) {
    throw new Error('a policy is asked about a call that has not been read')
  }
  if (subject.phase === 'call' && target === null)
    throw new Error('a policy is asked about a call without a target')
  const request =
    `"id":${quoted(call.requestId)},"time":"${new Date(Number(nowNs / 1_000_000n)).toISOString()}"` +
    `,"method":${quoted(message.method)}${optional('protocol_version', message.protocolVersion)}` +
    `${optional('ip', call.clientIp)}${optional('session', message.session?.hash)}`
  const asked = askedText(subject, target)
  const { client } = message
  const clientText =
    client === null ? '' : `,"client":{"name":${quoted(client.name)},"version":${quoted(client.version)}}`
  // A double cannot hold the nanoseconds.
  return (
    `{"phase":"${subject.phase}","request":{${request},"now_ns":${nowNs}}` +
    `,"principal":${principalText(principal)},"server":${serverText(server)},${asked}${clientText}}`
  )
}

function askedText(subject: InputSubject, target: Target | null): string {
  if (subject.phase === 'call') return `"target":${targetText(target as Target)}`
  if ('targets' in subject) return `"targets":[${subject.targets.map(targetText).join(',')}]`
  return `"target":{"kind":"${subject.kind}"},"targets":[${subject.elements.join(',')}]`
}

const quoted = (text: string): string => JSON.stringify(text)

function optional(name: string, text: string | null | undefined): string {
  return text === null || text === undefined ? '' : `,"${name}":${quoted(text)}`
}

const principalText = remembered(({ authMethod, ...principal }: Principal): string => {
  const { id, kind, roles, tenant, teams, scopes, claims } = principal
  return JSON.stringify({
    ...{ id, kind, roles, tenant: tenant ?? undefined, teams, scopes, claims },
    auth_method: authMethod,
  })
})

const serverText = remembered(({ name, labels }: ServerFacts): string => JSON.stringify({ name, labels }))

/** A target as it stands in the input of an evaluation: JSON text. */
export const targetText = remembered(({ kind, name, annotations, schemaDigest }: Target): string =>
  JSON.stringify({ kind, name, annotations, schema_digest: schemaDigest ?? undefined }),
)

/** Who calls, whom and what is the same for many calls: the text of a frozen object is made once. */
function remembered<T extends object>(toText: (value: T) => string): (value: T) => string {
  const texts = new WeakMap<T, string>()
  return (value) => {
    const known = texts.get(value)
    if (known !== undefined) return known
    const text = toText(value)
    if (Object.isFrozen(value)) texts.set(value, text)
    return text
  }
}

function refusalOf(bytes: number, argumentsText: string | null, maxBytes: number): PolicyFault | null {
  if (bytes > maxBytes) {
    return new PolicyFault('size', `the policy input has ${bytes} bytes, more than the ${maxBytes} allowed`)
  }
  if (argumentsText === null) return null
  if (!isJson(argumentsText)) return new PolicyFault('error', 'the arguments of the call are not JSON')
  const large = findLargeInteger(argumentsText)
  if (large === null) return null
  // OPA's Wasm runtime would go on with a rounded number: the policy would judge another call than the upstream gets.
  const shown = large.length > MAX_DIGITS + 1 ? `${large.slice(0, MAX_DIGITS)}…` : large
  return new PolicyFault(
    'error',
    `input.arguments holds ${shown}, an integer outside the signed 64-bit range`,
  )
}

/** They are spliced in: text that is no JSON value of its own could say something about the rest of the input. */
function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/** The first integer literal outside the signed 64-bit range. */
function findLargeInteger(json: string): string | null {
  if (!MAY_BE_LARGE.test(json)) return null
  for (const [token] of json.matchAll(STRING_OR_NUMBER)) {
    if (INTEGER.test(token) && isLarge(token)) return token
  }
  return null
}

function isLarge(integer: string): boolean {
  if (integer.length > MAX_DIGITS) return true
  const value = BigInt(integer)
  return value > MAX_INT64 || value < MIN_INT64
}

/**
 * Unpaired surrogate escapes become U+FFFD, which is how OPA reads them. Its Wasm runtime would take the escape behind one
 * for its other half and swallow that character.
 */
function withoutLoneSurrogates(json: string): string {
  if (!MAY_BE_SURROGATE.test(json)) return json
  return json.replace(ESCAPE, (found: string, lone: string | undefined) =>
    lone === undefined ? found : '\\ufffd',
  )
}
