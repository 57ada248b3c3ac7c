/** One argument of `sprintf` under one verb: Go's fmt package for the four types OPA passes. */
import { BuiltinError } from './budget.ts'
import { toBytes } from './bytes.ts'
import type { FloatVerb } from './float-text.ts'
import { formatFloat } from './float-text.ts'
import { canBackquote, isPrintable, quoteGo } from './quote.ts'

/** An argument as Go sees it; `big` is an integer outside int64. */
export type PrintArgument =
  | { readonly kind: 'int64' | 'big'; readonly value: bigint }
  | { readonly kind: 'float64'; readonly value: number }
  | { readonly kind: 'string'; readonly value: string }

/** Flags, width and precision of a directive; undefined = not given. */
export interface Flags {
  readonly sharp: boolean
  readonly zero: boolean
  readonly plus: boolean
  readonly minus: boolean
  readonly space: boolean
  readonly width?: number | undefined
  readonly precision?: number | undefined
}

/** A directive without any. */
export const NO_FLAGS: Flags = { sharp: false, zero: false, plus: false, minus: false, space: false }

/** Flags under `%v`, where `#` and `+` ask for Go syntax instead. */
interface PrintFlags extends Flags {
  readonly goSyntax: boolean
  readonly plusSyntax: boolean
}

const TYPE_NAMES = { int64: 'int64', big: '*big.Int', float64: 'float64', string: 'string' } as const

/** Go's name of the argument's type. */
export function typeOf(argument: PrintArgument): string {
  return TYPE_NAMES[argument.kind]
}

/** The argument printed under the verb; a verb that does not fit gives Go's `%!verb(type=value)`. */
export function formatArgument(argument: PrintArgument, verb: string, flags: Flags): string {
  const isValueVerb = verb === 'v' || verb === 'w'
  const print: PrintFlags = {
    ...flags,
    sharp: flags.sharp && !isValueVerb,
    plus: flags.plus && !isValueVerb,
    goSyntax: flags.sharp && isValueVerb,
    plusSyntax: flags.plus && isValueVerb,
  }
  if (verb === 'T') return padText(truncate(typeOf(argument), print), print)
  if (argument.kind === 'big') return bigText(argument.value, verb, print)
  return (
    plainText(argument, verb, print) ?? `%!${verb}(${typeOf(argument)}=${plainText(argument, 'v', print)})`
  )
}

function plainText(
  argument: Exclude<PrintArgument, { kind: 'big' }> | PrintArgument,
  verb: string,
  flags: PrintFlags,
): string | undefined {
  if (argument.kind === 'string') return stringText(argument.value, verb, flags)
  if (argument.kind === 'float64') return floatText(argument.value, verb, flags)
  return integerText(argument.value, verb, flags)
}

function codePoints(text: string): number {
  let count = 0
  for (const _ of text) count += 1
  return count
}

/** Pads to the width with spaces, or with zeros on the left when asked for. */
function padText(text: string, flags: Flags): string {
  const missing = (flags.width ?? 0) - codePoints(text)
  if (missing <= 0) return text
  if (flags.minus) return text + ' '.repeat(missing)
  return (flags.zero ? '0' : ' ').repeat(missing) + text
}

function truncate(text: string, { precision }: Flags): string {
  if (precision === undefined || text.length <= precision) return text
  return Array.from(text).slice(0, precision).join('')
}

function stringText(value: string, verb: string, flags: PrintFlags): string | undefined {
  switch (verb) {
    case 'v':
      return flags.goSyntax ? quotedText(value, flags) : padText(truncate(value, flags), flags)
    case 's':
      return padText(truncate(value, flags), flags)
    case 'q':
      return quotedText(value, flags)
    case 'x':
      return hexBytes(value, flags, (text) => text)
    case 'X':
      return hexBytes(value, flags, (text) => text.toUpperCase())
    default:
      return undefined
  }
}

function quotedText(value: string, flags: Flags): string {
  const text = truncate(value, flags)
  if (flags.sharp && canBackquote(text)) return padText(`\`${text}\``, flags)
  return padText(quoteGo(text, { quote: '"', ascii: flags.plus }), flags)
}

function hexBytes(value: string, flags: Flags, toCase: (text: string) => string): string {
  const all = toBytes(value)
  const hex = all.subarray(0, flags.precision ?? all.length).toString('hex')
  const prefix = flags.sharp && hex !== '' ? '0x' : ''
  const text = flags.space ? prefix + (hex.match(/../g) ?? []).join(` ${prefix}`) : prefix + hex
  return padText(toCase(text), flags)
}

const BASES: Readonly<Record<string, number>> = { v: 10, d: 10, b: 2, o: 8, O: 8, x: 16, X: 16 }

function integerText(value: bigint, verb: string, flags: PrintFlags): string | undefined {
  const unpadded = { ...flags, zero: false }
  const codePoint =
    value >= 0n && value <= 0x10ffffn && (value < 0xd800n || value > 0xdfffn) ? Number(value) : 0xfffd
  const character = String.fromCodePoint(codePoint)
  switch (verb) {
    case 'c':
      return padText(character, flags)
    case 'q':
      return padText(quoteGo(character, { quote: "'", ascii: flags.plus }), flags)
    case 'U':
      return padText(unicodeText(value, flags), unpadded)
    default: {
      const base = BASES[verb]
      return base === undefined ? undefined : padText(signedDigits(value, base, verb, flags), unpadded)
    }
  }
}

function unicodeText(value: bigint, flags: Flags): string {
  const hex = BigInt.asUintN(64, value).toString(16).toUpperCase()
  const text = `U+${hex.padStart(Math.max(flags.precision ?? 0, 4), '0')}`
  if (!flags.sharp || value < 0n || value > 0x10ffffn) return text
  const character = String.fromCodePoint(Number(value))
  return isPrintable(character) ? `${text} '${character}'` : text
}

function signedDigits(value: bigint, base: number, verb: string, flags: Flags): string {
  if (flags.precision === 0 && value === 0n) return ''
  const negative = value < 0n
  let digits = (negative ? -value : value).toString(base).padStart(minimumDigits(negative, flags), '0')
  if (flags.sharp) digits = withBasePrefix(digits, base)
  if (verb === 'O') digits = `0o${digits}`
  return `${signText(negative, flags)}${verb === 'X' ? digits.toUpperCase() : digits}`
}

/** Zero padding to the width counts as digits, unless a precision says how many there must be. */
function minimumDigits(negative: boolean, flags: Flags): number {
  if (flags.precision !== undefined) return flags.precision
  if (!flags.zero || flags.minus || flags.width === undefined) return 0
  return flags.width - (negative || flags.plus || flags.space ? 1 : 0)
}

function withBasePrefix(digits: string, base: number): string {
  if (base === 2) return `0b${digits}`
  if (base === 16) return `0x${digits}`
  return base === 8 && !digits.startsWith('0') ? `0${digits}` : digits
}

function signText(negative: boolean, flags: Flags): string {
  if (negative) return '-'
  if (flags.plus) return '+'
  return flags.space ? ' ' : ''
}

/** `big.Int` formats itself: other prefixes, other padding. */
function bigText(value: bigint, verb: string, flags: PrintFlags): string {
  if (verb === 'p') throw new BuiltinError('an address is not reproducible')
  if (verb === 'w') return `%!w(*big.Int=${bigStruct(value)})`
  const base = verb === 's' ? 10 : BASES[verb]
  if (base === undefined) return `%!${verb}(big.Int=${value})`
  const sign = signText(value < 0n, { ...flags, plus: flags.plus || flags.plusSyntax })
  const lead = sign + bigPrefix(verb, flags.sharp || flags.goSyntax)
  const text = (value < 0n ? -value : value).toString(base)
  const digits = (verb === 'X' ? text.toUpperCase() : text).padStart(flags.precision ?? 0, '0')
  const missing = Math.max((flags.width ?? 0) - lead.length - digits.length, 0)
  if (flags.minus) return lead + digits + ' '.repeat(missing)
  if (flags.zero && flags.precision === undefined) return lead + '0'.repeat(missing) + digits
  return ' '.repeat(missing) + lead + digits
}

const BIG_PREFIXES: Readonly<Record<string, string>> = { b: '0b', o: '0', x: '0x', X: '0X' }

function bigPrefix(verb: string, sharp: boolean): string {
  if (verb === 'O') return '0o'
  return sharp ? (BIG_PREFIXES[verb] ?? '') : ''
}

/** Go prints the fields of the struct: sign and 64-bit words, lowest first. */
function bigStruct(value: bigint): string {
  const words: bigint[] = []
  for (let rest = value < 0n ? -value : value; rest > 0n; rest >>= 64n) words.push(rest & ((1n << 64n) - 1n))
  return `&{${value < 0n} [${words.join(' ')}]}`
}

const FLOAT_VERBS: Readonly<Record<string, readonly [FloatVerb, number]>> = {
  v: ['g', -1],
  b: ['b', -1],
  g: ['g', -1],
  G: ['G', -1],
  x: ['x', -1],
  X: ['X', -1],
  f: ['f', 6],
  F: ['f', 6],
  e: ['e', 6],
  E: ['E', 6],
}

function floatText(value: number, verb: string, flags: PrintFlags): string | undefined {
  const rule = FLOAT_VERBS[verb]
  if (rule === undefined) return undefined
  const [floatVerb, defaultPrecision] = rule
  const precision = flags.precision ?? defaultPrecision
  const magnitude = formatFloat(Math.abs(value), floatVerb, precision)
  const body = flags.sharp && floatVerb !== 'b' ? keepPoint(magnitude, floatVerb, precision) : magnitude
  const sign = signText(value < 0 || Object.is(value, -0), flags)
  const missing = (flags.width ?? 0) - sign.length - body.length
  if (sign !== '' && flags.zero && !flags.minus && missing > 0) return sign + '0'.repeat(missing) + body
  return padText(sign + body, flags)
}

/** `#` keeps the decimal point, and for `g` the trailing zeros. */
function keepPoint(text: string, verb: FloatVerb, precision: number): string {
  const isHex = verb === 'x' || verb === 'X'
  const tailAt = text.search(isHex ? /[pP]/ : /[eEpP]/)
  const head = tailAt < 0 ? text : text.slice(0, tailAt)
  const tail = tailAt < 0 ? '' : text.slice(tailAt)
  let digits = 0
  if (verb === 'g' || verb === 'G' || verb === 'x') digits = precision === -1 ? 6 : precision
  const significant = head.replace('.', '').replace(/^0*/, '').length
  digits -= significant
  if (head === '0') digits -= 1
  const pointed = head.includes('.') ? head : `${head}.`
  return pointed + '0'.repeat(Math.max(digits, 0)) + tail
}
