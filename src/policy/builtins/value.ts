/** Rego values as builtins see them, with Rego's equality and order. */
import { compareNumbers, numberKey, RegoNumber } from './number.ts'

/** Any ground value of Rego. Arrays are plain arrays; strings are well-formed UTF-16. */
export type RegoValue = null | boolean | string | RegoNumber | readonly RegoValue[] | RegoSet | RegoObject

/** A set; elements are unique by Rego equality (1 equals 1.0) and iterate in Rego's order. */
export class RegoSet implements Iterable<RegoValue> {
  readonly #elements = new Map<string, RegoValue>()
  #sorted: readonly RegoValue[] | undefined
  #key: string | undefined

  constructor(elements: Iterable<RegoValue> = []) {
    for (const element of elements) this.add(element)
  }

  get size(): number {
    return this.#elements.size
  }

  add(element: RegoValue): void {
    const key = valueKey(element)
    if (this.#elements.has(key)) return
    this.#elements.set(key, element)
    this.#sorted = undefined
    this.#key = undefined
  }

  has(element: RegoValue): boolean {
    return this.#elements.has(valueKey(element))
  }

  delete(element: RegoValue): boolean {
    this.#sorted = undefined
    this.#key = undefined
    return this.#elements.delete(valueKey(element))
  }

  /** The elements in Rego's order. */
  sorted(): readonly RegoValue[] {
    this.#sorted ??= [...this.#elements.values()].sort(compareValues)
    return this.#sorted
  }

  /** {@link valueKey} of the set, worked out once. */
  key(): string {
    this.#key ??= `c[${this.sorted().map(lengthPrefixedKey).join('')}]`
    return this.#key
  }

  [Symbol.iterator](): Iterator<RegoValue> {
    return this.sorted()[Symbol.iterator]()
  }
}

/** An object; keys of any type, unique by Rego equality. Iterates as [key, value] in the order of the keys. */
export class RegoObject implements Iterable<readonly [RegoValue, RegoValue]> {
  readonly #entries = new Map<string, readonly [RegoValue, RegoValue]>()
  #sorted: readonly (readonly [RegoValue, RegoValue])[] | undefined
  #key: string | undefined

  constructor(entries: Iterable<readonly [RegoValue, RegoValue]> = []) {
    for (const [key, value] of entries) this.set(key, value)
  }

  get size(): number {
    return this.#entries.size
  }

  get(key: RegoValue): RegoValue | undefined {
    return this.#entries.get(valueKey(key))?.[1]
  }

  has(key: RegoValue): boolean {
    return this.#entries.has(valueKey(key))
  }

  set(key: RegoValue, value: RegoValue): void {
    this.#entries.set(valueKey(key), [key, value])
    this.#sorted = undefined
    this.#key = undefined
  }

  delete(key: RegoValue): boolean {
    this.#sorted = undefined
    this.#key = undefined
    return this.#entries.delete(valueKey(key))
  }

  /** The entries in the order of their keys. */
  sorted(): readonly (readonly [RegoValue, RegoValue])[] {
    this.#sorted ??= [...this.#entries.values()].sort((a, b) => compareValues(a[0], b[0]))
    return this.#sorted
  }

  /** {@link valueKey} of the object, worked out once. */
  key(): string {
    this.#key ??= `o[${this.sorted().flat().map(lengthPrefixedKey).join('')}]`
    return this.#key
  }

  [Symbol.iterator](): Iterator<readonly [RegoValue, RegoValue]> {
    return this.sorted()[Symbol.iterator]()
  }
}

/** Whether the value is an array (narrows, which `Array.isArray` does not do for readonly arrays). */
export function isArray(value: RegoValue | undefined): value is readonly RegoValue[] {
  return Array.isArray(value)
}

/** OPA's name of the value's type. */
export function typeName(value: RegoValue): string {
  if (value === null) return 'null'
  if (value instanceof RegoNumber) return 'number'
  if (value instanceof RegoSet) return 'set'
  if (value instanceof RegoObject) return 'object'
  return isArray(value) ? 'array' : typeof value
}

const TYPE_ORDER: Readonly<Record<string, number>> = {
  null: 0,
  boolean: 1,
  number: 2,
  string: 3,
  array: 4,
  object: 5,
  set: 6,
}

/** Rego's total order: null, booleans, numbers, strings (by code point), arrays, objects, sets. */
export function compareValues(a: RegoValue, b: RegoValue): number {
  if (typeof a === 'string' && typeof b === 'string') return compareStrings(a, b)
  if (a instanceof RegoNumber && b instanceof RegoNumber) return compareNumbers(a, b)
  if (isArray(a) && isArray(b)) return compareLists(a, b)
  if (a instanceof RegoSet && b instanceof RegoSet) return compareLists(a.sorted(), b.sorted())
  if (a instanceof RegoObject && b instanceof RegoObject) return compareObjects(a, b)
  if (typeof a === 'boolean' && typeof b === 'boolean') return Number(a) - Number(b)
  return (TYPE_ORDER[typeName(a)] ?? 0) - (TYPE_ORDER[typeName(b)] ?? 0)
}

function compareLists(a: readonly RegoValue[], b: readonly RegoValue[]): number {
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i += 1) {
    const order = compareValues(a[i] ?? null, b[i] ?? null)
    if (order !== 0) return order
  }
  return Math.sign(a.length - b.length)
}

function compareObjects(a: RegoObject, b: RegoObject): number {
  return compareLists(a.sorted().flat(), b.sorted().flat())
}

/** Compares by code point, which is also the order of the UTF-8 bytes. */
export function compareStrings(a: string, b: string): number {
  const shared = Math.min(a.length, b.length)
  for (let i = 0; i < shared; i += 1) {
    const left = a.charCodeAt(i)
    const right = b.charCodeAt(i)
    if (left !== right) return surrogateLast(left) - surrogateLast(right) < 0 ? -1 : 1
  }
  return Math.sign(a.length - b.length)
}

/** Surrogates stand for code points above U+FFFF, so they sort after U+E000..U+FFFF. */
function surrogateLast(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit
}

/** Rego equality. */
export function equalValues(a: RegoValue, b: RegoValue): boolean {
  return compareValues(a, b) === 0
}

/** A text that equal values share and different values do not; what sets and objects are keyed by. */
export function valueKey(value: RegoValue): string {
  if (typeof value === 'string') return `s${value}`
  if (value instanceof RegoNumber) return `n${numberKey(value)}`
  if (value === null || typeof value === 'boolean') return String(value)
  if (isArray(value)) return `a[${value.map(lengthPrefixedKey).join('')}]`
  return value.key()
}

function lengthPrefixedKey(value: RegoValue): string {
  const key = valueKey(value)
  return `${key.length}:${key}`
}
