/**
 * What the compiler writes into modules where Wasm is not topdown. Orders that can be seen: Wasm goes through sets and objects
 * by hash, topdown by value (compiler/instrument/ordered.go). Keys of the data: text to topdown, values to Wasm (datakeys.go).
 */
import type { BuiltinContext } from './budget.ts'
import { spend } from './budget.ts'
import { RegoNumber } from './number.ts'
import type { BuiltinFamily } from './operands.ts'
import { arrayOperand } from './operands.ts'
import { printValue } from './quote.ts'
import type { RegoValue } from './value.ts'
import { compareValues } from './value.ts'

const NS_PER_COMPARISON = 100

/** The places of an array's elements in the order of the elements; equal ones stay as they are. */
function places(operands: readonly RegoValue[], context: BuiltinContext): RegoValue {
  const elements = arrayOperand(operands, 1)
  spend(context, NS_PER_COMPARISON * elements.length * Math.log2(elements.length + 1))
  return elements
    .map((element, place) => ({ element, place }))
    .sort((a, b) => compareValues(a.element, b.element))
    .map(({ place }) => new RegoNumber(String(place)))
}

/** The text of a composite value in an interpolated string; any other value as it is. */
function text([value = null]: readonly RegoValue[]): RegoValue {
  return typeof value === 'object' && value !== null && !(value instanceof RegoNumber)
    ? printValue(value)
    : value
}

/** The name that a number has as a key of JSON; any other value as it is. */
function member([value = null]: readonly RegoValue[]): RegoValue {
  return value instanceof RegoNumber ? value.text : value
}

/** The builtins, by the names that no source can write. */
export const ORDER: BuiltinFamily = { 'gwtr.order': places, 'gwtr.text': text, 'gwtr.member': member }
