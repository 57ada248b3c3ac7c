/** Operand checks of builtins, with OPA's messages: each returns the typed operand or throws {@link BuiltinError}. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError } from './budget.ts'
import { RegoNumber, toBigInt, toInt64 } from './number.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet, typeName } from './value.ts'

/** One builtin: operands in, result out; undefined or a {@link BuiltinError} is Rego undefined. */
export type Builtin = (operands: readonly RegoValue[], context: BuiltinContext) => RegoValue | undefined

/** A family of builtins by their Rego names. */
export type BuiltinFamily = Readonly<Record<string, Builtin>>

function mistyped(value: RegoValue | undefined, position: number, expected: string): BuiltinError {
  const got = value === undefined ? 'nothing' : typeName(value)
  return new BuiltinError(`operand ${position} must be ${expected} but got ${got}`)
}

/** The operand at this position (1-based) of whatever type. */
export function anyOperand(operands: readonly RegoValue[], position: number): RegoValue {
  const value = operands[position - 1]
  if (value === undefined) throw mistyped(value, position, 'a value')
  return value
}

/** A string operand. */
export function stringOperand(operands: readonly RegoValue[], position: number): string {
  const value = operands[position - 1]
  if (typeof value !== 'string') throw mistyped(value, position, 'string')
  return value
}

/** A number operand with its digits. */
export function numberOperand(operands: readonly RegoValue[], position: number): RegoNumber {
  const value = operands[position - 1]
  if (!(value instanceof RegoNumber)) throw mistyped(value, position, 'number')
  return value
}

/** An int64 operand; wider or fractional numbers are an operand error, as in OPA. */
export function int64Operand(operands: readonly RegoValue[], position: number): bigint {
  const value = toInt64(numberOperand(operands, position))
  if (value === undefined) throw mistyped(operands[position - 1], position, 'integer number')
  return value
}

/** An integer operand of any size; `1e3` and `2.0` count as integers, as in OPA's `BigIntOperand`. */
export function bigIntOperand(operands: readonly RegoValue[], position: number): bigint {
  const value = toBigInt(numberOperand(operands, position))
  if (value === undefined) throw mistyped(operands[position - 1], position, 'integer number')
  return value
}

/** An array operand. */
export function arrayOperand(operands: readonly RegoValue[], position: number): readonly RegoValue[] {
  const value = operands[position - 1]
  if (!isArray(value)) throw mistyped(value, position, 'array')
  return value
}

/** An object operand. */
export function objectOperand(operands: readonly RegoValue[], position: number): RegoObject {
  const value = operands[position - 1]
  if (!(value instanceof RegoObject)) throw mistyped(value, position, 'object')
  return value
}

/** The elements of an array or set operand, a set's in Rego's order. */
export function elementsOperand(operands: readonly RegoValue[], position: number): readonly RegoValue[] {
  const value = operands[position - 1]
  if (isArray(value)) return value
  if (value instanceof RegoSet) return value.sorted()
  throw mistyped(value, position, 'one of {array, set}')
}

/** The elements of an array or set operand, all of which must be strings. */
export function stringsOperand(operands: readonly RegoValue[], position: number): readonly string[] {
  return elementsOperand(operands, position).map((element) => {
    if (typeof element !== 'string') throw mistyped(element, position, 'a collection of strings')
    return element
  })
}
