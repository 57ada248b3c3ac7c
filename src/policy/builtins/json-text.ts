/** JSON text of Rego values as Go's `encoding/json` writes it: sorted keys, HTML characters escaped. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundText, spend } from './budget.ts'
import { RegoNumber } from './number.ts'
import type { RegoValue } from './value.ts'
import { compareStrings, isArray, RegoObject, RegoSet } from './value.ts'
import { parseRegoValue } from './value-text.ts'

/** Indentation as of Go's `MarshalIndent`; null for one line without spaces. */
export interface JsonLayout {
  readonly prefix: string
  readonly indent: string
}

const NS_PER_PART = 200

const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const HTML_ESCAPES = /[<>&\u2028\u2029\u007f]/g

/** A JSON string literal with Go's escapes. */
export function quoteJson(text: string): string {
  return JSON.stringify(text).replace(HTML_ESCAPES, (character) =>
    character === '\u007f' ? character : `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )
}

/** What a key of a Rego object becomes in JSON: itself when a string, else its JSON text. */
export function jsonKey(key: RegoValue, context: BuiltinContext): string {
  return typeof key === 'string' ? key : toJsonText(key, null, context)
}

/** The members of an object as JSON has them: string keys in byte order; of keys with one text the last stays. */
export function jsonMembers(
  object: RegoObject,
  context: BuiltinContext,
): readonly (readonly [string, RegoValue])[] {
  const members = new Map<string, RegoValue>()
  for (const [key, value] of object) members.set(jsonKey(key, context), value)
  return [...members].sort(([a], [b]) => compareStrings(a, b))
}

/** Whether the text is one JSON value. */
export function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

/**
 * The value of a JSON text, numbers with their digits; of equal keys the last stays, as in Go. `check` is told of every
 * number.
 *
 * @throws {BuiltinError} when it is no JSON
 */
export function parseJson(text: string, check?: (number: RegoNumber) => void): RegoValue {
  if (!isJson(text)) throw new BuiltinError('invalid JSON')
  // JSON is a part of the text of Rego values.
  return parseRegoValue(text, check)
}

/** JSON text of a value; sets become arrays. Bounded like every builtin result. */
export function toJsonText(value: RegoValue, layout: JsonLayout | null, context: BuiltinContext): string {
  const parts: string[] = []
  let length = 0
  const writer = new JsonWriter(
    (part) => {
      length += part.length
      boundText(length)
      spend(context, NS_PER_PART + part.length * 2)
      parts.push(part)
    },
    layout,
    context,
  )
  writer.write(value, 0)
  return parts.join('')
}

class JsonWriter {
  readonly #emit: (part: string) => void
  readonly #layout: JsonLayout | null
  readonly #context: BuiltinContext

  constructor(emit: (part: string) => void, layout: JsonLayout | null, context: BuiltinContext) {
    this.#emit = emit
    this.#layout = layout
    this.#context = context
  }

  write(value: RegoValue, depth: number): void {
    if (value instanceof RegoObject) {
      const members = jsonMembers(value, this.#context)
      this.#writeList('{}', members.length, depth, (at) => {
        const [key, member] = members[at] ?? ['', null]
        this.#emit(quoteJson(key))
        this.#emit(this.#layout === null ? ':' : ': ')
        this.write(member, depth + 1)
      })
    } else if (isArray(value) || value instanceof RegoSet) {
      const elements = isArray(value) ? value : value.sorted()
      this.#writeList('[]', elements.length, depth, (at) => this.write(elements[at] ?? null, depth + 1))
    } else {
      this.#emit(scalarJson(value))
    }
  }

  #writeList(brackets: string, count: number, depth: number, writeAt: (at: number) => void): void {
    if (count === 0) {
      this.#emit(brackets)
      return
    }
    this.#emit(brackets.charAt(0))
    for (let at = 0; at < count; at += 1) {
      if (at > 0) this.#emit(',')
      this.#newLine(depth + 1)
      writeAt(at)
    }
    this.#newLine(depth)
    this.#emit(brackets.charAt(1))
  }

  #newLine(depth: number): void {
    if (this.#layout === null) return
    const { prefix, indent } = this.#layout
    boundText(prefix.length + indent.length * depth)
    this.#emit(`\n${prefix}${indent.repeat(depth)}`)
  }
}

function scalarJson(value: null | boolean | string | RegoNumber): string {
  if (typeof value === 'string') return quoteJson(value)
  if (!(value instanceof RegoNumber)) return String(value)
  if (!JSON_NUMBER.test(value.text)) throw new BuiltinError('invalid number literal')
  return value.text
}
