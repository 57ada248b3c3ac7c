/**
 * Rego numbers with the digits they were written with. Arithmetic on them is exact or goes through doubles, as OPA
 * does for the builtin at hand; nothing here rounds on its own.
 */
import { BuiltinLimitError } from './budget.ts'

/** Longest number literal that builtins take. */
export const MAX_NUMBER_CHARS = 4_096

/** Most digits an exponent may stand for where an integer must be written out. */
const MAX_EXPANDED_DIGITS = 4_096

/** A number of a policy value. `text` is its JSON literal, digits kept. */
export class RegoNumber {
  readonly text: string
  #parts: DecimalParts | undefined

  constructor(text: string) {
    this.text = text
  }

  /** The value as sign, significant digits and power of ten: equal numbers have equal parts. */
  get parts(): DecimalParts {
    this.#parts ??= decimalParts(this.text)
    return this.#parts
  }
}

/** value = sign * 0.digits * 10^scale, digits without zeros at either end; zero has no digits. */
export interface DecimalParts {
  readonly sign: -1 | 0 | 1
  readonly digits: string
  readonly scale: bigint
}

const LITERAL = /^(-?)(\d*)(?:\.(\d*))?(?:[eE]([+-]?\d+))?$/

function decimalParts(text: string): DecimalParts {
  const match = LITERAL.exec(text)
  if (match === null) throw new BuiltinLimitError('number_size', 'not a JSON number literal')
  const [, minus, whole = '', fraction = '', exponent = '0'] = match
  const all = whole + fraction
  const leading = countLeadingZeros(all)
  if (leading === all.length) return { sign: 0, digits: '', scale: 0n }
  let end = all.length
  while (all.charCodeAt(end - 1) === 48) end -= 1
  return {
    sign: minus === '-' ? -1 : 1,
    digits: all.slice(leading, end),
    scale: BigInt(exponent) + BigInt(whole.length - leading),
  }
}

function countLeadingZeros(digits: string): number {
  let count = 0
  while (count < digits.length && digits.charCodeAt(count) === 48) count += 1
  return count
}

/** -1, 0 or 1: exact comparison of two numbers of any size. */
export function compareNumbers(a: RegoNumber, b: RegoNumber): number {
  const left = a.parts
  const right = b.parts
  if (left.sign !== right.sign) return left.sign < right.sign ? -1 : 1
  const order = compareMagnitudes(left, right)
  return left.sign < 0 ? -order : order
}

function compareMagnitudes(a: DecimalParts, b: DecimalParts): number {
  if (a.scale !== b.scale) return a.scale < b.scale ? -1 : 1
  if (a.digits === b.digits) return 0
  return a.digits < b.digits ? -1 : 1
}

/** A text that is the same for equal numbers and different for others. */
export function numberKey(number: RegoNumber): string {
  const { sign, digits, scale } = number.parts
  return sign === 0 ? '0' : `${sign < 0 ? '-' : ''}${digits}e${scale}`
}

/** The number of an integer. */
export function integer(value: number | bigint): RegoNumber {
  return new RegoNumber(String(value))
}

/** The exact integer value, or undefined when the number has a fraction. Refuses absurd exponents. */
export function toBigInt(number: RegoNumber): bigint | undefined {
  if (isIntegerLiteral(number.text)) return BigInt(number.text)
  const { sign, digits, scale } = number.parts
  if (sign === 0) return 0n
  const zeros = scale - BigInt(digits.length)
  if (zeros < 0n) return undefined
  if (zeros > MAX_EXPANDED_DIGITS) {
    throw new BuiltinLimitError('number_size', `integer of more than ${MAX_EXPANDED_DIGITS} digits`)
  }
  return BigInt(sign) * BigInt(digits) * 10n ** zeros
}

/** Whether the literal is written without fraction and exponent. */
export function isIntegerLiteral(text: string): boolean {
  return /^-?\d+$/.test(text)
}

const INT64_MAX = 9_223_372_036_854_775_807n

/**
 * The value as OPA's `IntOperand` takes it: an integer literal of at most 19 digits in the int64 range, where a
 * fraction of zeros is allowed (`10.00`) and an exponent is not. Undefined for anything else.
 */
export function toInt64(number: RegoNumber): bigint | undefined {
  const match = /^(-?)(\d+)(?:\.(0*))?$/.exec(number.text)
  if (match === null) return undefined
  const [, minus = '', whole = ''] = match
  if (number.text.length - minus.length > 19) return undefined
  const value = BigInt(minus + whole)
  return value > INT64_MAX || value < -INT64_MAX - 1n ? undefined : value
}

/** The nearest double, or undefined when it would be infinite. */
export function toDouble(number: RegoNumber): number | undefined {
  const value = Number(number.text)
  return Number.isFinite(value) ? value : undefined
}
