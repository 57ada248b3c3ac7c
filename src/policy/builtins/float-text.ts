/** Doubles as text the way Go's `strconv.FormatFloat` writes them: exact digits, halves rounded to even. */

/** value = 0.digits * 10^point; no zeros at either end of `digits`; zero has none. */
interface Decimal {
  readonly digits: string
  readonly point: number
}

/** Mantissa and binary exponent: magnitude = mantissa * 2^(exponent - 52). */
interface Binary {
  readonly mantissa: bigint
  readonly exponent: number
}

/** Verbs of a float: `x` and `b` are binary, `X`, `E`, `G` write capitals. */
export type FloatVerb = 'e' | 'E' | 'f' | 'g' | 'G' | 'x' | 'X' | 'b'

function binaryOf(magnitude: number): Binary {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, magnitude)
  const bits = view.getBigUint64(0)
  const biased = Number(bits >> 52n) & 0x7ff
  const fraction = bits & 0xfffffffffffffn
  return biased === 0
    ? { mantissa: fraction, exponent: -1022 }
    : { mantissa: fraction | (1n << 52n), exponent: biased - 1023 }
}

function trimZeros(digits: string): string {
  let end = digits.length
  while (end > 0 && digits.charCodeAt(end - 1) === 48) end -= 1
  return digits.slice(0, end)
}

/** All digits of the double: at most 767 of them. */
function exactDecimal(magnitude: number): Decimal {
  const { mantissa, exponent } = binaryOf(magnitude)
  if (mantissa === 0n) return { digits: '', point: 0 }
  const shift = exponent - 52
  const digits = String(shift >= 0 ? mantissa << BigInt(shift) : mantissa * 5n ** BigInt(-shift))
  return { digits: trimZeros(digits), point: digits.length + Math.min(shift, 0) }
}

/** The fewest digits that read back as the same double. */
function shortestDecimal(magnitude: number): Decimal {
  if (magnitude === 0) return { digits: '', point: 0 }
  const [mantissa = '', exponent = '0'] = magnitude.toExponential().split('e')
  return { digits: trimZeros(mantissa.replace('.', '')), point: Number(exponent) + 1 }
}

/** Keeps `count` digits; more than half rounds up, exactly half to even. */
function roundDecimal(decimal: Decimal, count: number): Decimal {
  const { digits, point } = decimal
  if (count < 0 || count >= digits.length) return decimal
  const kept = digits.slice(0, count)
  const next = digits.charCodeAt(count) - 48
  const exactHalf = next === 5 && count + 1 === digits.length
  const lastOdd = count > 0 && (digits.charCodeAt(count - 1) - 48) % 2 === 1
  const up = exactHalf ? lastOdd : next >= 5
  if (!up) return { digits: trimZeros(kept), point: trimZeros(kept) === '' ? 0 : point }
  const raised = String(BigInt(kept === '' ? '0' : kept) + 1n).padStart(count, '0')
  return { digits: trimZeros(raised), point: raised.length > count ? point + 1 : point }
}

function exponentialText({ digits, point }: Decimal, precision: number, letter: string): string {
  const first = digits.charAt(0) === '' ? '0' : digits.charAt(0)
  const fraction = precision > 0 ? `.${digits.slice(1, 1 + precision).padEnd(precision, '0')}` : ''
  const exponent = digits === '' ? 0 : point - 1
  const sign = exponent < 0 ? '-' : '+'
  return `${first}${fraction}${letter}${sign}${String(Math.abs(exponent)).padStart(2, '0')}`
}

function fixedText({ digits, point }: Decimal, precision: number): string {
  const whole = point > 0 ? digits.slice(0, point).padEnd(point, '0') : '0'
  if (precision <= 0) return whole
  const padded = point > 0 ? digits.slice(point) : '0'.repeat(Math.min(-point, precision)) + digits
  return `${whole}.${padded.slice(0, precision).padEnd(precision, '0')}`
}

function generalText(magnitude: number, precision: number, letter: string): string {
  const shortest = precision < 0
  const wanted = precision === 0 ? 1 : precision
  const decimal = shortest ? shortestDecimal(magnitude) : roundDecimal(exactDecimal(magnitude), wanted)
  const count = decimal.digits.length
  const significant = shortest ? count : wanted
  let limit = significant
  if (limit > count && count >= decimal.point) limit = count
  if (shortest) limit = 6
  const exponent = decimal.digits === '' ? -1 : decimal.point - 1
  if (exponent < -4 || exponent >= limit) {
    return exponentialText(decimal, Math.min(significant, count) - 1, letter)
  }
  return fixedText(decimal, Math.max(count - decimal.point, 0))
}

const MASK_64 = (1n << 64n) - 1n

function hexText(magnitude: number, precision: number, upper: boolean): string {
  let { mantissa, exponent } = binaryOf(magnitude)
  if (mantissa === 0n) exponent = 0
  mantissa <<= 8n
  while (mantissa !== 0n && mantissa >> 60n === 0n) {
    mantissa <<= 1n
    exponent -= 1
  }
  if (precision >= 0 && precision < 15) {
    const dropped = BigInt(60 - precision * 4)
    const rest = mantissa & ((1n << dropped) - 1n)
    mantissa >>= dropped
    const half = 1n << (dropped - 1n)
    if (rest > half || (rest === half && (mantissa & 1n) === 1n)) mantissa += 1n
    mantissa <<= dropped
    if (mantissa >> 61n !== 0n) {
      mantissa >>= 1n
      exponent += 1
    }
  }
  const lead = mantissa >> 60n
  const all = ((mantissa << 4n) & MASK_64).toString(16).padStart(16, '0')
  const fraction = precision < 0 ? trimZeros(all) : all.padEnd(precision, '0').slice(0, precision)
  const sign = exponent < 0 ? '-' : '+'
  const text = `0x${lead}${fraction === '' ? '' : '.'}${fraction}p${sign}${String(Math.abs(exponent)).padStart(2, '0')}`
  return upper ? text.toUpperCase() : text
}

function binaryText(magnitude: number): string {
  const { mantissa, exponent } = binaryOf(magnitude)
  return `${mantissa}p${exponent - 52 < 0 ? '' : '+'}${exponent - 52}`
}

/** The magnitude as text, without sign. `precision` -1 asks for the shortest text that reads back the same. */
export function formatFloat(magnitude: number, verb: FloatVerb, precision: number): string {
  switch (verb) {
    case 'b':
      return binaryText(magnitude)
    case 'x':
    case 'X':
      return hexText(magnitude, precision, verb === 'X')
    case 'e':
    case 'E':
      return exponentialText(roundDecimal(exactDecimal(magnitude), precision + 1), precision, verb)
    case 'f': {
      const exact = exactDecimal(magnitude)
      return fixedText(roundDecimal(exact, exact.point + precision), precision)
    }
    case 'g':
      return generalText(magnitude, precision, 'e')
    case 'G':
      return generalText(magnitude, precision, 'E')
    default:
      return verb satisfies never
  }
}

/** The shortest text without exponent that reads back as the same non-negative double. */
export function shortestFixed(magnitude: number): string {
  const decimal = shortestDecimal(magnitude)
  return fixedText(decimal, Math.max(decimal.digits.length - decimal.point, 0))
}

/** A decimal (value = 0.digits * 10^point) as `%v` prints it: exponents from 10^6 on, as Go does for its shortest form. */
export function shortestGeneral(digits: string, point: number): string {
  const exponent = digits === '' ? 0 : point - 1
  if (exponent < -4 || exponent >= 6) {
    return exponentialText({ digits, point }, digits.length - 1, 'e')
  }
  return fixedText({ digits, point }, Math.max(digits.length - point, 0))
}
