/** `hex.*`, `base64.decode`, `base64.is_valid`, `base64url.encode_no_pad`, `urlquery.*`, `uri.*`: OPA v1/topdown/encoding.go and uri.go. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundElements, boundText, spend } from './budget.ts'
import { toBytes, toText } from './bytes.ts'
import { jsonKey } from './json-text.ts'
import type { BuiltinFamily } from './operands.ts'
import { objectOperand, stringOperand } from './operands.ts'
import { isUri, parseUri } from './uri.ts'
import type { RegoValue } from './value.ts'
import { compareStrings, isArray, RegoObject, RegoSet } from './value.ts'

const NS_PER_CHAR = 15

/** A string operand of a builtin whose cost is linear in it. */
function chargedText(operands: readonly RegoValue[], context: BuiltinContext, factor = 1): string {
  const text = stringOperand(operands, 1)
  spend(context, text.length * NS_PER_CHAR * factor)
  return text
}

function hexDecode(text: string): string {
  if (text.length % 2 !== 0 || !/^[0-9a-f]*$/i.test(text)) throw new BuiltinError('invalid hex')
  return toText(Buffer.from(text, 'hex'))
}

/** Percent-encodes as Go's `url.QueryEscape`: everything but letters, digits and `-_.~`; a space becomes `+`. */
export function escapeQuery(text: string): string {
  return encodeURIComponent(text)
    .replaceAll('%20', '+')
    .replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
}

/** Undoes {@link escapeQuery}; undefined when a `%` is not followed by two hex digits. */
function unescapeQuery(text: string): string | undefined {
  if (!text.includes('%')) return text.replaceAll('+', ' ')
  if (/%(?![0-9a-fA-F]{2})/.test(text)) return undefined
  const bytes = toBytes(text.replaceAll('+', ' '))
  let length = 0
  for (let at = 0; at < bytes.length; at += 1, length += 1) {
    const byte = bytes[at] ?? 0
    if (byte === 0x25) {
      bytes[length] = Number.parseInt(bytes.toString('latin1', at + 1, at + 3), 16)
      at += 2
    } else {
      bytes[length] = byte
    }
  }
  return toText(bytes.subarray(0, length))
}

function requireUnescaped(text: string): string {
  const value = unescapeQuery(text)
  if (value === undefined) throw new BuiltinError('invalid URL escape')
  return value
}

function decodeQueryObject(text: string): RegoObject {
  const values = new Map<string, string[]>()
  const pairs = text.split('&')
  boundElements(pairs.length)
  for (const pair of pairs) {
    // As Go since 1.17: a bare semicolon is an error, not a separator.
    if (pair.includes(';')) throw new BuiltinError('invalid semicolon separator in query')
    if (pair === '') continue
    const equals = pair.indexOf('=')
    const key = requireUnescaped(equals < 0 ? pair : pair.slice(0, equals))
    const value = requireUnescaped(equals < 0 ? '' : pair.slice(equals + 1))
    const list = values.get(key)
    if (list === undefined) values.set(key, [value])
    else list.push(value)
  }
  return new RegoObject(values)
}

function queryValues(value: RegoValue): readonly string[] {
  if (typeof value === 'string') return [value]
  if (!isArray(value) && !(value instanceof RegoSet)) {
    throw new BuiltinError('values must be string, array[string], or set[string]')
  }
  return [...value].map((element) => {
    if (typeof element !== 'string') throw new BuiltinError('values must be strings')
    return element
  })
}

function encodeQueryObject(object: RegoObject, context: BuiltinContext): string {
  const entries = object.sorted().map(([key, value]) => [jsonKey(key, context), queryValues(value)] as const)
  const chars = entries.reduce(
    (sum, [key, values]) => sum + values.reduce((total, value) => total + key.length + value.length, 0),
    0,
  )
  boundText(chars)
  spend(context, chars * NS_PER_CHAR * 4)
  return [...entries]
    .sort(([a], [b]) => compareStrings(a, b))
    .flatMap(([key, values]) => values.map((value) => `${escapeQuery(key)}=${escapeQuery(value)}`))
    .join('&')
}

/** What Go's `base64.StdEncoding` decodes: padded, line breaks anywhere. */
const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/

function isBase64(text: string): boolean {
  return BASE64.test(text.replace(/[\r\n]/g, ''))
}

function base64Decode(text: string): string {
  if (!isBase64(text)) throw new BuiltinError('illegal base64 data')
  return toText(Buffer.from(text, 'base64'))
}

/** The family, by Rego names. */
export const ENCODING: BuiltinFamily = {
  'base64.decode': (operands, context) => base64Decode(chargedText(operands, context)),
  'base64.is_valid': (operands, context) =>
    typeof operands[0] === 'string' && isBase64(chargedText(operands, context)),
  'base64url.encode_no_pad': (operands, context) =>
    toBytes(chargedText(operands, context)).toString('base64url'),
  'hex.decode': (operands, context) => hexDecode(chargedText(operands, context)),
  'hex.encode': (operands, context) => toBytes(chargedText(operands, context)).toString('hex'),
  'uri.is_valid': (operands, context) => {
    if (typeof operands[0] !== 'string' || operands[0] === '') return false
    return isUri(chargedText(operands, context, 4))
  },
  'uri.parse': (operands, context) => {
    const parts = parseUri(chargedText(operands, context, 4))
    if (parts === undefined) throw new BuiltinError('not a URI')
    return new RegoObject(Object.entries(parts))
  },
  'urlquery.decode': (operands, context) => requireUnescaped(chargedText(operands, context, 4)),
  'urlquery.decode_object': (operands, context) => decodeQueryObject(chargedText(operands, context, 10)),
  'urlquery.encode': (operands, context) => escapeQuery(chargedText(operands, context, 4)),
  'urlquery.encode_object': (operands, context) => encodeQueryObject(objectOperand(operands, 1), context),
}
