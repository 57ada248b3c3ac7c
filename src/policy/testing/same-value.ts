/** Equality of what a module and OPA's interpreter came to: with all digits, though the module's answer is JSON. */
import type { BuiltinContext } from '../builtins/budget.ts'
import { isJson, jsonKey, toJsonText } from '../builtins/json-text.ts'
import type { RegoValue } from '../builtins/value.ts'
import { compareValues, isArray, RegoObject, RegoSet } from '../builtins/value.ts'
import { parseRegoValue } from '../builtins/value-text.ts'

const UNBOUNDED: BuiltinContext = { nowNs: 0n, charge: () => {}, cache: new Map() }

/** Equality of values where either may have become JSON: a set an array in any order, a key its JSON text. */
export function sameAsJson(a: RegoValue, b: RegoValue): boolean {
  if (a instanceof RegoSet || b instanceof RegoSet) return sameElements(elements(a), elements(b))
  if (isArray(a) && isArray(b)) return a.length === b.length && a.every((x, i) => sameAsJson(x, b[i] ?? null))
  if (a instanceof RegoObject && b instanceof RegoObject) return sameMembers(a, b)
  return compareValues(a, b) === 0
}

function elements(value: RegoValue): readonly RegoValue[] | null {
  if (value instanceof RegoSet) return value.sorted()
  return isArray(value) ? value : null
}

function sameElements(a: readonly RegoValue[] | null, b: readonly RegoValue[] | null): boolean {
  if (a === null || b === null || a.length !== b.length) return false
  const left = [...b]
  return a.every((x) => {
    const at = left.findIndex((y) => sameAsJson(x, y))
    if (at >= 0) left.splice(at, 1)
    return at >= 0
  })
}

function sameMembers(a: RegoObject, b: RegoObject): boolean {
  const [left, right] = [jsonKeyed(a), jsonKeyed(b)]
  return (
    left.size === right.size &&
    [...left].every(([key, value]) => {
      const other = right.get(key)
      return other !== undefined && sameAsJson(value, other)
    })
  )
}

function jsonKeyed(object: RegoObject): Map<string, RegoValue> {
  // Wasm does not sort what is inside a key that is an object.
  const text = (key: RegoValue) =>
    typeof key === 'string' && /^[[{]/.test(key) && isJson(key)
      ? toJsonText(parseRegoValue(key), null, UNBOUNDED)
      : jsonKey(key, UNBOUNDED)
  return new Map([...object].map(([key, value]) => [text(key), value]))
}
