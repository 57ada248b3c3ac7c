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
import { compareValues, isArray, RegoObject, RegoSet } from './value.ts'

/** Of comparing one scalar, or so many characters of one. */
const NS_PER_COMPARISON = 100
const CHARS_PER_COMPARISON = 64

/** The places of an array's elements in the order of the elements; equal ones stay as they are. */
function places(operands: readonly RegoValue[], context: BuiltinContext): RegoValue {
  const elements = arrayOperand(operands, 1)
  spend(context, NS_PER_COMPARISON * weight(elements) * Math.log2(elements.length + 1))
  return elements
    .map((element, place) => ({ element, place }))
    .sort((a, b) => compareValues(a.element, b.element))
    .map(({ place }) => new RegoNumber(String(place)))
}

/** How much there is to compare in a value. */
function weight(value: RegoValue): number {
  if (typeof value === 'string') return 1 + value.length / CHARS_PER_COMPARISON
  if (isArray(value) || value instanceof RegoSet)
    return [...value].reduce<number>((sum, one) => sum + weight(one), 1)
  if (!(value instanceof RegoObject)) return 1
  return [...value].reduce((sum, [key, member]) => sum + weight(key) + weight(member), 1)
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
