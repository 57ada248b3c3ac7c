/**
 * The text in which Rego values cross the border to the Wasm module (`opa_value_dump`, `opa_value_parse`): JSON plus
 * set literals `{1, 2}` / `set()` and object keys of any type.
 */
import { BuiltinLimitError, boundText, MAX_VALUE_DEPTH } from './budget.ts'
import { MAX_NUMBER_CHARS, RegoNumber } from './number.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet } from './value.ts'

/**
 * Reads the text of a value as the module writes it. A text it cannot have written is a fault and throws `SyntaxError`.
 * `check` is told of every number.
 */
export function parseRegoValue(text: string, check: (number: RegoNumber) => void = () => {}): RegoValue {
  const reader = new ValueReader(text, check)
  const value = reader.readValue(0)
  reader.expectEnd()
  return value
}

/** The lexer of the module, plus a missing whole part: Rego source may say `.5`, and its digits are kept. */
const NUMBER_AT = /-?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?/y
const SPACE_AT = /[ \t\r\n]*/y

class ValueReader {
  readonly #text: string
  readonly #check: (number: RegoNumber) => void
  #at = 0

  constructor(text: string, check: (number: RegoNumber) => void) {
    this.#text = text
    this.#check = check
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
    const number = new RegoNumber(match[0])
    this.#check(number)
    return number
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
