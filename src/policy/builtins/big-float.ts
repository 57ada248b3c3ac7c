/**
 * Floating-point numbers as Go's `math/big.Float` has them: a binary mantissa of so many bits, rounded to nearest and
 * halves to even. OPA computes with them whenever a number is no integer.
 */
import { BuiltinLimitError } from './budget.ts'
import type { RegoNumber } from './number.ts'

/** value = mantissa * 2^exponent, rounded to `precision` bits; the mantissa carries the sign. */
export interface BigFloat {
  readonly mantissa: bigint
  readonly exponent: number
  readonly precision: number
  /** Tells -0 from 0. */
  readonly negative: boolean
}

/** Bits of a number that was read from text. */
export const READ_PRECISION = 64
/** Largest power of ten that is computed with, beyond what doubles hold; OPA has a bound of its own, far above. */
const MAX_POWER = 512

/** The nearest float of so many bits. `sticky`: there is more below the last bit. */
function rounded(mantissa: bigint, exponent: number, precision: number, sticky = false): BigFloat {
  const negative = mantissa < 0n
  const magnitude = negative ? -mantissa : mantissa
  const excess = bitLength(magnitude) - precision
  if (excess <= 0) return { mantissa, exponent, precision, negative }
  const shift = BigInt(excess)
  const kept = magnitude >> shift
  const rest = magnitude & ((1n << shift) - 1n)
  const half = 1n << (shift - 1n)
  const up = rest > half || (rest === half && (sticky || (kept & 1n) === 1n))
  const result = up ? kept + 1n : kept
  return { mantissa: negative ? -result : result, exponent: exponent + excess, precision, negative }
}

function bitLength(magnitude: bigint): number {
  return magnitude === 0n ? 0 : magnitude.toString(16).length * 4 - leadingZeroBits(magnitude)
}

/** Of the first hexadecimal digit. */
function leadingZeroBits(magnitude: bigint): number {
  return Math.clz32(Number.parseInt(magnitude.toString(16).charAt(0), 16)) - 28
}

/** The float nearest to a number's digits. Refuses absurd exponents. */
export function readFloat(number: RegoNumber): BigFloat {
  const { sign, digits, scale } = number.parts
  const power = scale - BigInt(digits.length)
  if (power > MAX_POWER || power < -MAX_POWER) {
    throw new BuiltinLimitError('number_size', `number beyond 10^${MAX_POWER}`)
  }
  if (sign === 0) return zero(number.text.startsWith('-'))
  const integer = BigInt(sign) * BigInt(digits)
  if (power >= 0n) return rounded(integer * 10n ** power, 0, READ_PRECISION)
  return quotient(integer, 10n ** -power, 0, READ_PRECISION)
}

function zero(negative: boolean): BigFloat {
  return { mantissa: 0n, exponent: 0, precision: READ_PRECISION, negative }
}

/** The float of an integer, with as many bits as it takes. */
export function floatOf(integer: bigint): BigFloat {
  const precision = Math.max(READ_PRECISION, bitLength(integer < 0n ? -integer : integer))
  return { mantissa: integer, exponent: 0, precision, negative: integer < 0n }
}

function quotient(above: bigint, below: bigint, exponent: number, precision: number): BigFloat {
  const negative = above < 0n !== below < 0n
  const [dividend, divisor] = [above < 0n ? -above : above, below < 0n ? -below : below]
  const shift = Math.max(0, precision + 2 + bitLength(divisor) - bitLength(dividend))
  const scaled = dividend << BigInt(shift)
  const whole = scaled / divisor
  const result = rounded(whole, exponent - shift, precision, scaled % divisor !== 0n)
  return { ...result, mantissa: negative ? -result.mantissa : result.mantissa, negative }
}

function aligned(a: BigFloat, b: BigFloat): readonly [bigint, bigint, number] {
  const exponent = Math.min(a.exponent, b.exponent)
  return [a.mantissa << BigInt(a.exponent - exponent), b.mantissa << BigInt(b.exponent - exponent), exponent]
}

/** a + b */
export function addFloats(a: BigFloat, b: BigFloat): BigFloat {
  const [x, y, exponent] = aligned(a, b)
  const sum = rounded(x + y, exponent, Math.max(a.precision, b.precision))
  return sum.mantissa === 0n ? { ...sum, negative: a.negative && b.negative } : sum
}

/** a * b, rounded to `precision` bits. */
export function multiplyFloats(
  a: BigFloat,
  b: BigFloat,
  precision = Math.max(a.precision, b.precision),
): BigFloat {
  const product = rounded(a.mantissa * b.mantissa, a.exponent + b.exponent, precision)
  return { ...product, negative: a.negative !== b.negative }
}

/** a / b; b is not zero. */
export function divideFloats(a: BigFloat, b: BigFloat): BigFloat {
  const precision = Math.max(a.precision, b.precision)
  const result = quotient(a.mantissa, b.mantissa, a.exponent - b.exponent, precision)
  return { ...result, negative: a.negative !== b.negative }
}

/** -a */
export function negateFloat(a: BigFloat): BigFloat {
  return { ...a, mantissa: -a.mantissa, negative: !a.negative }
}

/** The integer part. */
export function truncateFloat({ mantissa, exponent }: BigFloat): bigint {
  if (exponent >= 0) return mantissa << BigInt(exponent)
  const magnitude = (mantissa < 0n ? -mantissa : mantissa) >> BigInt(-exponent)
  return mantissa < 0n ? -magnitude : magnitude
}

/** Whether nothing stands behind the point. */
export function isIntegral({ mantissa, exponent }: BigFloat): boolean {
  return exponent >= 0 || mantissa % (1n << BigInt(-exponent)) === 0n
}

/** Digits of a decimal fraction: value = 0.digits * 10^point. */
interface Digits {
  readonly digits: string
  readonly point: number
}

function digitsOf(magnitude: bigint, exponent: number): Digits {
  const all = String(exponent >= 0 ? magnitude << BigInt(exponent) : magnitude * 5n ** BigInt(-exponent))
  return { digits: all.replace(/0+$/, ''), point: all.length + Math.min(exponent, 0) }
}

/** The fewest digits that read back as the same float, as Go's `roundShortest` finds them. */
function shortest(a: BigFloat): Digits {
  const magnitude = a.mantissa < 0n ? -a.mantissa : a.mantissa
  const shift = a.precision + 1 - bitLength(magnitude)
  const middle = magnitude << BigInt(shift)
  const exponent = a.exponent - shift
  const inclusive = (middle & 2n) === 0n
  const [value, lower, upper] = [middle, middle - 1n, middle + 1n].map((m) => digitsOf(m, exponent))
  if (value === undefined || lower === undefined || upper === undefined) throw new Error('three of three')
  for (let at = 0; at < value.digits.length; at += 1) {
    const [m, l, u] = [value, lower, upper].map(({ digits }) => Number(digits.charAt(at) || '0'))
    const down = l !== m || (inclusive && at + 1 === lower.digits.length)
    const up = m !== u && (inclusive || Number(m) + 1 < Number(u) || at + 1 < upper.digits.length)
    if (down && up) return cutNearest(value, at + 1)
    if (down) return { ...value, digits: value.digits.slice(0, at + 1) }
    if (up) return roundUp(value, at + 1)
  }
  return value
}

function cutNearest(value: Digits, count: number): Digits {
  const rest = value.digits.slice(count)
  const isOdd = Number(value.digits.charAt(count - 1)) % 2 === 1
  const up = rest === '5' ? isOdd : rest >= '5'
  return up ? roundUp(value, count) : { ...value, digits: value.digits.slice(0, count).replace(/0+$/, '') }
}

function roundUp({ digits, point }: Digits, count: number): Digits {
  const raised = String(BigInt(digits.slice(0, count)) + 1n)
  return { digits: raised.replace(/0+$/, ''), point: point + raised.length - count }
}

/** From this exponent on a number with a fraction is written in the notation of science. */
const LARGE_EXPONENT = 6
const SMALL_EXPONENT = -4

/** The text OPA gives the number: `Text('f', -1)` of an integer, `Text('g', -1)` of anything else. */
export function floatText(a: BigFloat): string {
  const sign = a.negative ? '-' : ''
  if (a.mantissa === 0n) return `${sign}0`
  const { digits, point } = shortest(a)
  const exponent = point - 1
  if (isIntegral(a) || (exponent >= SMALL_EXPONENT && exponent < LARGE_EXPONENT))
    return sign + plain(digits, point)
  const head = digits.length > 1 ? `${digits.charAt(0)}.${digits.slice(1)}` : digits
  return `${sign}${head}e${exponent < 0 ? '-' : '+'}${String(Math.abs(exponent)).padStart(2, '0')}`
}

function plain(digits: string, point: number): string {
  if (point <= 0) return `0.${'0'.repeat(-point)}${digits}`
  if (point >= digits.length) return digits.padEnd(point, '0')
  return `${digits.slice(0, point)}.${digits.slice(point)}`
}
