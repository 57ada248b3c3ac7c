/** `units.parse` and `units.parse_bytes`: OPA v1/topdown/parse_units.go and parse_bytes.go. */
import { BuiltinError, BuiltinLimitError, spend } from './budget.ts'
import { integer, RegoNumber } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { stringOperand } from './operands.ts'

interface Amount {
  readonly number: string
  readonly unit: string
}

/** A rational number. `denominator` is positive. */
interface Rational {
  readonly numerator: bigint
  readonly denominator: bigint
}

const NS_PER_CHAR = 60
/** Largest power of ten (either sign) that is worked out; OPA goes to 10^999999. */
const MAX_EXPONENT = 4_096

/** Splits "10.5MiB" into number and unit; an `e` counts to the number only when an exponent follows. */
function splitAmount(text: string): Amount {
  let at = 0
  while (/[0-9.eE+-]/.test(text.charAt(at))) {
    if (/[eE]/.test(text.charAt(at))) {
      const exponent = /^([+-]?)(\d*)/.exec(text.slice(at + 1, at + 16))
      const [all = '', sign = '', digits = ''] = exponent ?? []
      if (all === '') break
      if (digits.length > 6) throw new BuiltinError('exponent too large')
      at += sign.length
    }
    at += 1
  }
  return { number: text.slice(0, at), unit: text.slice(at) }
}

const DECIMAL = /^([+-]?)(\d*)\.?(\d*)(?:[eE]([+-]?\d+))?$/

function parseRational(text: string): Rational {
  const match = DECIMAL.exec(text)
  const [, sign, whole = '', fraction = '', exponent = '0'] = match ?? []
  if (match === null || whole + fraction === '') throw new BuiltinError('could not parse amount to a number')
  if (Math.abs(Number(exponent)) > MAX_EXPONENT || text.length > MAX_EXPONENT) {
    throw new BuiltinLimitError('number_size', `units: more than ${MAX_EXPONENT} digits`)
  }
  const digits = BigInt(whole + fraction) * (sign === '-' ? -1n : 1n)
  const scale = Number(exponent) - fraction.length
  return scale < 0
    ? { numerator: digits, denominator: 10n ** BigInt(-scale) }
    : { numerator: digits * 10n ** BigInt(scale), denominator: 1n }
}

function divideHalfAway({ numerator, denominator }: Rational): bigint {
  const magnitude = numerator < 0n ? -numerator : numerator
  const rounded = (2n * magnitude + denominator) / (2n * denominator)
  return numerator < 0n ? -rounded : rounded
}

const PREFIXES = 'kmgtpe'

/** Powers of 1000 and (with `i`) 1024 by unit name; `m` and `M` are for the caller to tell apart. */
function scaleOf(letter: string, binary: boolean): bigint | undefined {
  const power = PREFIXES.indexOf(letter.toLowerCase()) + 1
  if (power === 0 || letter === '') return undefined
  return (binary ? 1024n : 1000n) ** BigInt(power)
}

/** The double 0.001, exactly: OPA scales by it. */
const MILLI: Rational = { numerator: 1_152_921_504_606_847n, denominator: 2n ** 60n }

function unitScale(unit: string): Rational {
  if (unit === '') return { numerator: 1n, denominator: 1n }
  if (unit === 'm') return MILLI
  const rest = unit.slice(1).toLowerCase()
  const scale = rest === '' || rest === 'i' ? scaleOf(unit.charAt(0), rest === 'i') : undefined
  if (scale === undefined) throw new BuiltinError('unit not recognized')
  return { numerator: scale, denominator: 1n }
}

function byteScale(unit: string): bigint {
  if (unit === '') return 1n
  const match = /^([kmgtpe])(i?)b?$/.exec(unit)
  const scale = match === null ? undefined : scaleOf(match[1] ?? '', match[2] === 'i')
  if (scale === undefined) throw new BuiltinError('byte unit not recognized')
  return scale
}

function prepare(text: string): Amount {
  const unquoted = text.replaceAll('"', '')
  if (unquoted.includes(' ')) throw new BuiltinError('spaces not allowed in resource strings')
  const amount = splitAmount(unquoted)
  if (amount.number === '') throw new BuiltinError('no amount provided')
  return amount
}

function parseUnits(text: string): RegoNumber {
  const { number, unit } = prepare(text)
  const scale = unitScale(unit)
  const amount = parseRational(number)
  const numerator = amount.numerator * scale.numerator
  const denominator = amount.denominator * scale.denominator
  if (numerator % denominator === 0n) return integer(numerator / denominator)
  const rounded = divideHalfAway({ numerator: numerator * 10n ** 10n, denominator })
  const digits = String(rounded < 0n ? -rounded : rounded).padStart(11, '0')
  // Go prints the sign of the amount even when it rounds to zero.
  return new RegoNumber(`${numerator < 0n ? '-' : ''}${digits.slice(0, -10)}.${digits.slice(-10)}`)
}

/** Rounds to 64 significant bits, half to even, as Go's default `big.Float` does. */
function toFloat64Bits({ numerator, denominator }: Rational): Rational {
  if (numerator === 0n) return { numerator, denominator: 1n }
  const magnitude = numerator < 0n ? -numerator : numerator
  let shift = BigInt(64 - (bitLength(magnitude) - bitLength(denominator)))
  let { quotient, remainder, divisor } = divideShifted(magnitude, denominator, shift)
  if (bitLength(quotient) > 64) {
    shift -= 1n
    ;({ quotient, remainder, divisor } = divideShifted(magnitude, denominator, shift))
  }
  const half = 2n * remainder
  if (half > divisor || (half === divisor && quotient % 2n === 1n)) quotient += 1n
  const signed = numerator < 0n ? -quotient : quotient
  return shift < 0n
    ? { numerator: signed << -shift, denominator: 1n }
    : { numerator: signed, denominator: 1n << shift }
}

function divideShifted(
  numerator: bigint,
  denominator: bigint,
  shift: bigint,
): { quotient: bigint; remainder: bigint; divisor: bigint } {
  const dividend = shift < 0n ? numerator : numerator << shift
  const divisor = shift < 0n ? denominator << -shift : denominator
  return { quotient: dividend / divisor, remainder: dividend % divisor, divisor }
}

function bitLength(value: bigint): number {
  return value.toString(2).length
}

function parseBytes(text: string): RegoNumber {
  const { number, unit } = prepare(text.toLowerCase())
  const scale = byteScale(unit)
  const amount = toFloat64Bits(parseRational(number))
  const total = toFloat64Bits({ numerator: amount.numerator * scale, denominator: amount.denominator })
  return integer(total.numerator / total.denominator)
}

/** The family, by Rego names. */
export const UNITS: BuiltinFamily = {
  'units.parse': (operands, context) => {
    const text = stringOperand(operands, 1)
    spend(context, text.length * NS_PER_CHAR + 5_000)
    return parseUnits(text)
  },
  'units.parse_bytes': (operands, context) => {
    const text = stringOperand(operands, 1)
    spend(context, text.length * NS_PER_CHAR + 5_000)
    return parseBytes(text)
  },
}
