/** GraphQL text to tokens, as gqlparser's lexer reads it (it differs from the specification in block strings and numbers). */
import type { BuiltinContext } from '../budget.ts'
import { BuiltinError, boundElements, spend } from '../budget.ts'
import type { CommentGroup } from './document.ts'

const NS_PER_TOKEN = 900
const NS_PER_COMMENT = 200
const NS_PER_CHAR = 15

const PUNCTUATORS = '!$&():=@[]{|}'
const NAME = /[A-Za-z_][A-Za-z0-9_]*/y
const NUMBER = /-?(?:0(?!\d)|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
/** What follows a number that ended too early: `1.`, `1e`. */
const NUMBER_REST = /[.eE]/y
const IGNORED = /[\t\n\r ,\uFEFF]*/y
const COMMENT = /#[\t\u0020-\u{10FFFF}]*/uy
/** A run of a string that stands for itself. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the tab is the one control character a string may hold.
const PLAIN = /[^"\\\u0000-\u0008\u000A-\u001F]*/y
const ESCAPE = /\\(?:u([0-9A-Fa-f]{4})|(["/\\bfnrt]))/y
const ESCAPED: Readonly<Record<string, string>> = { b: '\b', f: '\f', n: '\n', r: '\r', t: '\t' }
// biome-ignore lint/suspicious/noControlCharactersInRegex: what a block string may not hold.
const FORBIDDEN_IN_BLOCK = /[\u0000-\u0008\u000B\u000C\u000E-\u001F]/

/**
 * One token: `name`, `int`, `float`, `string`, `block`, `end`, or a punctuator, which is its own kind and has no value.
 * `comment` stands in front of it.
 */
export interface Token {
  readonly kind: string
  readonly value: string
  readonly comment: CommentGroup | null
}

/** Reads tokens from a text, one at a time. */
export class Lexer {
  readonly #text: string
  readonly #context: BuiltinContext
  #at = 0
  #tokens = 0

  constructor(text: string, context: BuiltinContext) {
    this.#text = text
    this.#context = context
  }

  /**
   * The next token; at the end of the text always `end`.
   *
   * @throws {BuiltinError} for what is no token
   */
  next(): Token {
    const from = this.#at
    const comment = this.#skipIgnored()
    const token = { ...this.#read(), comment }
    this.#tokens += 1
    boundElements(this.#tokens)
    spend(this.#context, NS_PER_TOKEN + NS_PER_CHAR * (this.#at - from))
    return token
  }

  #skipIgnored(): CommentGroup | null {
    const comments: { Value: string }[] = []
    for (;;) {
      this.#match(IGNORED)
      const comment = this.#match(COMMENT)
      if (comment === undefined) return comments.length === 0 ? null : { List: comments }
      spend(this.#context, NS_PER_COMMENT)
      comments.push({ Value: comment[0] })
    }
  }

  #read(): Omit<Token, 'comment'> {
    const character = this.#text.charAt(this.#at)
    if (character === '') return { kind: 'end', value: '' }
    if (PUNCTUATORS.includes(character)) {
      this.#at += 1
      return { kind: character, value: '' }
    }
    if (this.#text.startsWith('...', this.#at)) {
      this.#at += 3
      return { kind: '...', value: '' }
    }
    if (this.#text.startsWith('"""', this.#at)) return { kind: 'block', value: this.#blockString() }
    if (character === '"') return { kind: 'string', value: this.#string() }
    const name = this.#match(NAME)
    if (name !== undefined) return { kind: 'name', value: name[0] }
    return this.#number()
  }

  #number(): Omit<Token, 'comment'> {
    const number = this.#match(NUMBER)?.[0]
    if (number === undefined || this.#startsRest(number)) throw new BuiltinError('unexpected character')
    return { kind: /[.eE]/.test(number) ? 'float' : 'int', value: number }
  }

  /** Whether a fraction or an exponent begins behind a number and has no digits. A second fraction is a token of its own. */
  #startsRest(number: string): boolean {
    const rest = this.#peek(NUMBER_REST)
    if (rest === undefined) return false
    return rest === '.' ? !/[.eE]/.test(number) : !/[eE]/.test(number)
  }

  #string(): string {
    this.#at += 1
    const parts: string[] = []
    for (;;) {
      parts.push(this.#match(PLAIN)?.[0] ?? '')
      if (this.#text.charAt(this.#at) === '"') {
        this.#at += 1
        return parts.join('')
      }
      const sequence = this.#match(ESCAPE)
      if (sequence === undefined) throw new BuiltinError('unterminated string')
      parts.push(characterOf(sequence))
    }
  }

  #blockString(): string {
    this.#at += 3
    const parts: string[] = []
    for (;;) {
      const quote = this.#text.indexOf('"""', this.#at)
      if (quote === -1) throw new BuiltinError('unterminated string')
      const escaped = this.#text.charAt(quote - 1) === '\\'
      parts.push(this.#text.slice(this.#at, escaped ? quote - 1 : quote))
      this.#at = quote + 3
      if (!escaped) break
      parts.push('"""')
    }
    // Of more than three quotes the last three end the string.
    while (this.#text.charAt(this.#at) === '"') {
      parts.push('"')
      this.#at += 1
    }
    const raw = parts.join('')
    if (FORBIDDEN_IN_BLOCK.test(raw)) throw new BuiltinError('invalid character within string')
    return withoutIndentation(raw)
  }

  #match(pattern: RegExp): RegExpExecArray | undefined {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)
    if (match === null) return undefined
    this.#at += match[0].length
    return match
  }

  #peek(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at
    return pattern.exec(this.#text)?.[0]
  }
}

/** Go writes each `\u` as a character of its own, so half a surrogate pair becomes U+FFFD. */
function characterOf([, hex, character = '']: RegExpExecArray): string {
  if (hex === undefined) return ESCAPED[character] ?? character
  const unit = Number.parseInt(hex, 16)
  return unit >= 0xd800 && unit <= 0xdfff ? '\uFFFD' : String.fromCharCode(unit)
}

/** The value of a block string. The first line counts for the common indentation, unlike in the specification. */
function withoutIndentation(raw: string): string {
  const lines = raw.split(/\r\n|\r|\n/)
  const indents = lines.map((line) => line.search(/[^ \t]/))
  const common = indents.reduce(
    (least, indent) => (indent === -1 ? least : Math.min(least, indent)),
    Infinity,
  )
  const cut = lines.map((line, at) => (at === 0 || common === Infinity ? line : line.slice(common)))
  const isBlank = (line: string): boolean => !/[^ \t]/.test(line)
  let [start, end] = [0, cut.length]
  while (start < end && isBlank(cut[start] ?? '')) start += 1
  while (start < end && isBlank(cut[end - 1] ?? '')) end -= 1
  return cut.slice(start, end).join('\n')
}
