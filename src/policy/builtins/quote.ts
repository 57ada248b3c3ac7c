/** Go string literals (`strconv.Quote`), and the text of values as OPA prints them (`ast.Value.String`). */
import { RegoNumber } from './number.ts'
import type { RegoObject, RegoValue } from './value.ts'
import { isArray, RegoSet } from './value.ts'

const ESCAPES: Readonly<Record<string, string>> = {
  '\u0007': '\\a',
  '\b': '\\b',
  '\f': '\\f',
  '\n': '\\n',
  '\r': '\\r',
  '\t': '\\t',
  '\u000b': '\\v',
  '\\': '\\\\',
}

/** Go's notion of printable: letters, marks, numbers, punctuation, symbols and the ASCII space. */
const PRINTABLE = /^[\p{L}\p{M}\p{N}\p{P}\p{S} ]$/u

/** Whether Go prints this character as itself. */
export function isPrintable(character: string): boolean {
  return PRINTABLE.test(character)
}

interface QuoteStyle {
  readonly quote: '"' | "'"
  /** Escape everything that is not ASCII. */
  readonly ascii: boolean
}

function escapeCharacter(character: string, { quote, ascii }: QuoteStyle): string {
  if (character === quote) return `\\${quote}`
  const short = ESCAPES[character]
  if (short !== undefined) return short
  const codePoint = character.codePointAt(0) ?? 0
  if (isPrintable(character) && !(ascii && codePoint > 0x7e)) return character
  const hex = codePoint.toString(16)
  if (codePoint < 0x80) return `\\x${hex.padStart(2, '0')}`
  return codePoint < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`
}

/** A quoted Go literal: a string with `"`, a single character with `'`. */
export function quoteGo(text: string, style: QuoteStyle = { quote: '"', ascii: false }): string {
  // Most strings need no escape at all.
  if (style.quote === '"' && /^[ !#-[\]-~]*$/.test(text)) return `"${text}"`
  const body = Array.from(text, (character) => escapeCharacter(character, style)).join('')
  return `${style.quote}${body}${style.quote}`
}

/** Whether Go can write the text between backquotes on one line. */
export function canBackquote(text: string): boolean {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is looked for
  return !/[\u0000-\u0008\u000a-\u001f`\u007f\ufeff]/.test(text)
}

/** The text of a value as OPA prints it in messages and `%v`. */
export function printValue(value: RegoValue): string {
  if (typeof value === 'string') return quoteGo(value)
  if (value instanceof RegoNumber) return value.text
  if (value === null || typeof value === 'boolean') return String(value)
  if (isArray(value)) return `[${value.map(printValue).join(', ')}]`
  if (value instanceof RegoSet) {
    return value.size === 0 ? 'set()' : `{${value.sorted().map(printValue).join(', ')}}`
  }
  return `{${printMembers(value)}}`
}

function printMembers(object: RegoObject): string {
  return object
    .sorted()
    .map(([key, member]) => `${printValue(key)}: ${printValue(member)}`)
    .join(', ')
}
