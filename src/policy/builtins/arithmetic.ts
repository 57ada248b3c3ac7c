/**
 * Arithmetic: OPA v1/topdown/arithmetic.go and aggregates.go. Integers of any size are exact; anything else is computed
 * with floats of 64 bits, where OPA's Wasm has decimals: 0.1 * 0.2 is 0.020000000000000000001.
 */
import type { BigFloat } from './big-float.ts'
import {
  addFloats,
  divideFloats,
  floatOf,
  floatText,
  multiplyFloats,
  negateFloat,
  READ_PRECISION,
  readFloat,
  truncateFloat,
} from './big-float.ts'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, spend } from './budget.ts'
import { integer, MAX_NUMBER_CHARS, RegoNumber, toBigInt } from './number.ts'
import type { Builtin, BuiltinFamily } from './operands.ts'
import { elementsOperand, numberOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { RegoSet } from './value.ts'

const NS_PER_ELEMENT = 600
const NS_PER_DIGIT = 20
/** Reading, computing and writing one float. */
const NS_PER_FLOAT = 15_000
const NS_PER_POWER = 100
/** Bits of the product of a collection that does not hold integers alone: OPA starts from a double. */
const PRODUCT_PRECISION = 53
const HALF: BigFloat = { mantissa: 1n, exponent: -1, precision: PRODUCT_PRECISION, negative: false }

interface Operation {
  readonly exact: (a: bigint, b: bigint) => bigint
  readonly float: (a: BigFloat, b: BigFloat) => BigFloat
}

const PLUS: Operation = { exact: (a, b) => a + b, float: addFloats }
const MINUS: Operation = { exact: (a, b) => a - b, float: (a, b) => addFloats(a, negateFloat(b)) }
const TIMES: Operation = { exact: (a, b) => a * b, float: (a, b) => multiplyFloats(a, b) }

function result(value: bigint | BigFloat): RegoNumber {
  const number = typeof value === 'bigint' ? integer(value) : new RegoNumber(floatText(value))
  if (number.text.length > MAX_NUMBER_CHARS) {
    throw new BuiltinLimitError('number_size', `number of more than ${MAX_NUMBER_CHARS} characters`)
  }
  return number
}

function compute(operation: Operation, a: RegoNumber, b: RegoNumber, context: BuiltinContext): RegoNumber {
  spend(context, (a.text.length + b.text.length) * NS_PER_DIGIT)
  const [x, y] = [toBigInt(a), toBigInt(b)]
  if (x !== undefined && y !== undefined) return result(operation.exact(x, y))
  return result(operation.float(chargedFloat(a, context), chargedFloat(b, context)))
}

/** Powers of ten are what makes floats slow. */
function chargedFloat(number: RegoNumber, context: BuiltinContext): BigFloat {
  const { digits, scale } = number.parts
  spend(context, NS_PER_FLOAT + Math.min(Math.abs(Number(scale)) + digits.length, 4_096) * NS_PER_POWER)
  return readFloat(number)
}

function binary(operation: Operation): Builtin {
  return (operands, context) =>
    compute(operation, numberOperand(operands, 1), numberOperand(operands, 2), context)
}

/** The difference of numbers, or of sets. */
function minus(operands: readonly RegoValue[], context: BuiltinContext): RegoValue {
  const [left, right] = operands
  if (!(left instanceof RegoSet) || !(right instanceof RegoSet))
    return binary(MINUS)(operands, context) ?? null
  spend(context, (left.size + right.size) * NS_PER_ELEMENT)
  return new RegoSet([...left].filter((element) => !right.has(element)))
}

const MAX_TOTAL = 10n ** BigInt(MAX_NUMBER_CHARS)
const SMALL = 1n << 31n

/** An integer quotient is one only when the operands fit 32 bits; any other quotient is a float. */
function divide(operands: readonly RegoValue[], context: BuiltinContext): RegoNumber {
  const [a, b] = [numberOperand(operands, 1), numberOperand(operands, 2)]
  spend(context, (a.text.length + b.text.length) * NS_PER_DIGIT)
  const [x, y] = [toBigInt(a), toBigInt(b)]
  if (b.parts.sign === 0) throw new BuiltinError('divide by zero')
  if (x !== undefined && y !== undefined && isSmall(x) && isSmall(y) && x !== 0n && x % y === 0n)
    return integer(x / y)
  return result(divideFloats(chargedFloat(a, context), chargedFloat(b, context)))
}

function isSmall(value: bigint): boolean {
  return value >= -SMALL && value < SMALL
}

/** Integers of 32 bits are themselves; others go through a float of 64 bits, which may round them. */
function unary(small: (value: bigint) => bigint, float: (value: BigFloat) => BigFloat): Builtin {
  return (operands, context) => {
    const number = numberOperand(operands, 1)
    spend(context, number.text.length * NS_PER_DIGIT)
    const value = toBigInt(number)
    return result(value !== undefined && isSmall(value) ? small(value) : float(chargedFloat(number, context)))
  }
}

const itself = (value: bigint): bigint => value

function round(value: BigFloat): BigFloat {
  return floatOf(truncateFloat(addFloats(value, value.negative ? negateFloat(HALF) : HALF)))
}

/** Down or up to the next integer, away from what truncation does. */
function towards(direction: 1n | -1n): (value: BigFloat) => BigFloat {
  return (value) => {
    const whole = truncateFloat(value)
    const rest = addFloats(value, negateFloat(floatOf(whole))).mantissa
    const beyond = direction > 0n ? rest > 0n : rest < 0n
    return beyond ? addFloats(floatOf(whole), floatOf(direction)) : floatOf(whole)
  }
}

function fold(
  operands: readonly RegoValue[],
  context: BuiltinContext,
  operation: Operation,
  [start, first]: readonly [bigint, BigFloat],
): RegoNumber {
  const numbers = elementsOperand(operands, 1).map((element) => {
    if (!(element instanceof RegoNumber)) throw new BuiltinError('operand 1 must be a collection of numbers')
    return element
  })
  spend(
    context,
    numbers.reduce((sum, { text }) => sum + NS_PER_ELEMENT + text.length * NS_PER_DIGIT * 10, 0),
  )
  const exact = foldExactly(numbers, operation.exact, start)
  return result(
    exact ?? numbers.map((number) => chargedFloat(number, context)).reduce(operation.float, first),
  )
}

/** Undefined when one of the numbers is no integer. */
function foldExactly(
  numbers: readonly RegoNumber[],
  operation: Operation['exact'],
  start: bigint,
): bigint | undefined {
  let total = start
  for (const number of numbers) {
    const whole = toBigInt(number)
    if (whole === undefined) return undefined
    total = operation(total, whole)
    if (total > MAX_TOTAL || total < -MAX_TOTAL) {
      throw new BuiltinLimitError('number_size', `number of more than ${MAX_NUMBER_CHARS} characters`)
    }
  }
  return total
}

const SUM_START: readonly [bigint, BigFloat] = [0n, { ...floatOf(0n), precision: READ_PRECISION }]
const PRODUCT_START: readonly [bigint, BigFloat] = [1n, { ...floatOf(1n), precision: PRODUCT_PRECISION }]
const PRODUCT: Operation = { ...TIMES, float: (a, b) => multiplyFloats(a, b, PRODUCT_PRECISION) }

/** The family, by Rego names. */
export const ARITHMETIC: BuiltinFamily = {
  abs: unary(
    (value) => (value < 0n ? -value : value),
    (value) => (value.negative ? negateFloat(value) : value),
  ),
  ceil: unary(itself, towards(1n)),
  div: divide,
  floor: unary(itself, towards(-1n)),
  minus,
  mul: binary(TIMES),
  plus: binary(PLUS),
  product: (operands, context) => fold(operands, context, PRODUCT, PRODUCT_START),
  round: unary(itself, round),
  sum: (operands, context) => fold(operands, context, PLUS, SUM_START),
}
