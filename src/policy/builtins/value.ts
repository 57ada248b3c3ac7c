/**
 * Rego values, and the text in which they cross the border to the Wasm module (`opa_value_dump`, `opa_value_parse`):
 * JSON plus set literals `{1, 2}` / `set()` and object keys of any type.
 */
import { BuiltinLimitError, boundText, MAX_VALUE_DEPTH } from './budget.ts'
import { compareNumbers, MAX_NUMBER_CHARS, numberKey, RegoNumber } from './number.ts'

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

/** Reads the text of a value as the module writes it. A text it cannot have written is a fault and throws `SyntaxError`. */
export function parseRegoValue(text: string): RegoValue {
  const reader = new ValueReader(text)
  const value = reader.readValue(0)
  reader.expectEnd()
  return value
}

/** The lexer of the module, plus a missing whole part: Rego source may say `.5`, and its digits are kept. */
const NUMBER_AT = /-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/y
const SPACE_AT = /[ \t\r\n]*/y

class ValueReader {
  readonly #text: string
  #at = 0

  constructor(text: string) {
    this.#text = text
  }

  readValue(depth: number): RegoValue {
    if (depth > MAX_VALUE_DEPTH) {
      throw new BuiltinLimitError('value_depth', `value nested deeper than ${MAX_VALUE_DEPTH}`)
    }
    this.#skipSpace()
    switch (this.#text[this.#at]) {
      case '"':
        return this.#readString()
      case '[':
        return this.#readArray(depth)
      case '{':
        return this.#readBraces(depth)
      case 'n':
        return this.#readWord('null', null)
      case 't':
        return this.#readWord('true', true)
      case 'f':
        return this.#readWord('false', false)
      case 's':
        return this.#readWord('set()', new RegoSet())
      default:
        return this.#readNumber()
    }
  }

  expectEnd(): void {
    this.#skipSpace()
    if (this.#at !== this.#text.length) this.#unexpected()
  }

  #unexpected(): never {
    throw new SyntaxError(`not the text of a Rego value (at character ${this.#at})`)
  }

  #skipSpace(): void {
    SPACE_AT.lastIndex = this.#at
    SPACE_AT.test(this.#text)
    this.#at = SPACE_AT.lastIndex
  }

  /** Takes the character if it is next. */
  #take(character: string): boolean {
    this.#skipSpace()
    if (this.#text[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  #readWord<T extends RegoValue>(word: string, value: T): T {
    if (!this.#text.startsWith(word, this.#at)) this.#unexpected()
    this.#at += word.length
    return value
  }

  #readNumber(): RegoNumber {
    NUMBER_AT.lastIndex = this.#at
    const match = NUMBER_AT.exec(this.#text)
    if (match === null) this.#unexpected()
    if (match[0].length > MAX_NUMBER_CHARS) {
      throw new BuiltinLimitError('number_size', `number of more than ${MAX_NUMBER_CHARS} characters`)
    }
    this.#at = NUMBER_AT.lastIndex
    return new RegoNumber(match[0])
  }

  #readString(): string {
    const start = this.#at
    let end = start + 1
    let escaped = false
    for (;;) {
      const unit = this.#text.charCodeAt(end)
      if (unit === 0x22) break
      if (Number.isNaN(unit)) this.#unexpected()
      if (unit === 0x5c) {
        escaped = true
        end += 1
      }
      end += 1
    }
    this.#at = end + 1
    if (!escaped) return this.#text.slice(start + 1, end)
    return wellFormed(String(JSON.parse(this.#text.slice(start, end + 1))))
  }

  #readArray(depth: number): readonly RegoValue[] {
    this.#at += 1
    const elements: RegoValue[] = []
    if (this.#take(']')) return elements
    do {
      elements.push(this.readValue(depth + 1))
    } while (this.#take(','))
    if (!this.#take(']')) this.#unexpected()
    return elements
  }

  #readBraces(depth: number): RegoSet | RegoObject {
    this.#at += 1
    if (this.#take('}')) return new RegoObject()
    const first = this.readValue(depth + 1)
    return this.#take(':') ? this.#readObject(first, depth) : this.#readSet(first, depth)
  }

  #readSet(first: RegoValue, depth: number): RegoSet {
    const set = new RegoSet([first])
    while (this.#take(',')) set.add(this.readValue(depth + 1))
    if (!this.#take('}')) this.#unexpected()
    return set
  }

  #readObject(firstKey: RegoValue, depth: number): RegoObject {
    const object = new RegoObject([[firstKey, this.readValue(depth + 1)]])
    while (this.#take(',')) {
      const key = this.readValue(depth + 1)
      if (!this.#take(':')) this.#unexpected()
      object.set(key, this.readValue(depth + 1))
    }
    if (!this.#take('}')) this.#unexpected()
    return object
  }
}

/**
 * Writes a value so that the module reads back exactly it. Bounded in size and depth; `charge` is told of every part
 * before it is kept.
 */
export function formatRegoValue(value: RegoValue, charge: (chars: number) => void = () => {}): string {
  const parts: string[] = []
  let length = 0
  const emit = (part: string): void => {
    length += part.length
    boundText(length)
    charge(part.length)
    parts.push(part)
  }
  writeValue(value, emit, 0)
  return parts.join('')
}

function writeValue(value: RegoValue, emit: (part: string) => void, depth: number): void {
  if (depth > MAX_VALUE_DEPTH) {
    throw new BuiltinLimitError('value_depth', `value nested deeper than ${MAX_VALUE_DEPTH}`)
  }
  const write = (child: RegoValue): void => writeValue(child, emit, depth + 1)
  const separate = createSeparator(emit)
  if (value instanceof RegoObject) {
    emit('{')
    for (const [key, member] of value) {
      separate()
      write(key)
      emit(': ')
      write(member)
    }
    emit('}')
  } else if (isArray(value) || (value instanceof RegoSet && value.size > 0)) {
    emit(isArray(value) ? '[' : '{')
    for (const element of value) {
      separate()
      write(element)
    }
    emit(isArray(value) ? ']' : '}')
  } else {
    emit(scalarText(value))
  }
}

/** A function that emits `, ` on each call but the first. */
function createSeparator(emit: (part: string) => void): () => void {
  let first = true
  return () => {
    if (!first) emit(', ')
    first = false
  }
}

/** The text of anything that has no parts: scalars and the empty set. */
function scalarText(value: RegoValue): string {
  if (typeof value === 'string') return quoteText(value)
  if (value instanceof RegoNumber) return value.text
  return value instanceof RegoSet ? 'set()' : String(value)
}

/** JSON string literal; a lone surrogate becomes U+FFFD, since the module aborts on one. */
function quoteText(text: string): string {
  return JSON.stringify(wellFormed(text))
}

const LONE_SURROGATE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g

/** The string with each lone surrogate replaced by U+FFFD, as Go reads one. */
export function wellFormed(text: string): string {
  return text.replace(LONE_SURROGATE, '\ufffd')
}
