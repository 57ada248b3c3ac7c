/**
 * `glob.match`: OPA v1/topdown/glob.go on github.com/gobwas/glob. A pattern becomes an RE2 one of the same language, so
 * matching is linear; the pattern's own syntax is read as that library's lexer and parser do.
 */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, spend } from './budget.ts'
import type { BuiltinFamily } from './operands.ts'
import { arrayOperand, stringOperand } from './operands.ts'
import { compilePattern } from './pattern.ts'
import type { RegoValue } from './value.ts'

/** Longest glob, in characters. */
const MAX_GLOB_CHARS = 1_024
const NS_PER_CHAR = 60
const DEFAULT_DELIMITERS = ['.']
const ANYTHING = '(?s:.)'

/** Reads one glob. */
class GlobTranslator {
  readonly #characters: readonly string[]
  readonly #notDelimiter: string
  #at = 0
  #open = 0

  constructor(glob: string, delimiters: readonly string[]) {
    this.#characters = Array.from(glob)
    this.#notDelimiter = delimiters.length === 0 ? ANYTHING : `[^${delimiters.map(inClass).join('')}]`
  }

  translate(): string {
    let source = ''
    while (this.#at < this.#characters.length) source += this.#part(this.#next())
    if (this.#open > 0) throw new BuiltinError('unclosed `{`')
    return `\\A(?:${source})\\z`
  }

  #next(): string {
    const character = this.#characters[this.#at]
    if (character === undefined) throw new BuiltinError('unexpected end of the glob')
    this.#at += 1
    return character
  }

  #take(character: string): boolean {
    if (this.#characters[this.#at] !== character) return false
    this.#at += 1
    return true
  }

  #part(character: string): string {
    switch (character) {
      case '*':
        return `${this.#take('*') ? ANYTHING : this.#notDelimiter}*`
      case '?':
        return this.#notDelimiter
      case '[':
        return this.#characterClass()
      case '{':
        this.#open += 1
        return '(?:'
      case ',':
        return this.#open > 0 ? '|' : ','
      case '}':
        return this.#close()
      case '\\':
        return quoted(this.#next())
      default:
        return quoted(character)
    }
  }

  #close(): string {
    if (this.#open === 0) return quoted('}')
    this.#open -= 1
    return ')'
  }

  /** `[abc]` or `[a-c]`, never both; a `!` in front negates. */
  #characterClass(): string {
    const not = this.#take('!') ? '^' : ''
    const first = this.#next()
    if (this.#take('-')) {
      const last = this.#next()
      if (this.#next() !== ']') throw new BuiltinError('expected close range character')
      if ((last.codePointAt(0) ?? 0) < (first.codePointAt(0) ?? 0)) {
        throw new BuiltinError('range hi character is less than lo')
      }
      return `[${not}${inClass(first)}-${inClass(last)}]`
    }
    this.#at -= 1
    return `[${not}${this.#members().map(inClass).join('')}]`
  }

  #members(): readonly string[] {
    const members: string[] = []
    for (let next = this.#next(); next !== ']'; next = this.#next()) {
      members.push(next === '\\' ? this.#next() : next)
    }
    if (members.length === 0) throw new BuiltinError('could not parse range')
    return members
  }
}

function quoted(character: string): string {
  return /[\\.+*?()|[\]{}^$]/.test(character) ? `\\${character}` : character
}

function inClass(character: string): string {
  return `\\x{${(character.codePointAt(0) ?? 0).toString(16)}}`
}

function delimitersOf(operands: readonly RegoValue[]): readonly string[] {
  if (operands[1] === null) return []
  const delimiters = arrayOperand(operands, 2).map((value) => {
    if (typeof value !== 'string' || Array.from(value).length !== 1) {
      throw new BuiltinError('operand 2 must be an array of single characters')
    }
    return value
  })
  return delimiters.length === 0 ? DEFAULT_DELIMITERS : delimiters
}

function match(operands: readonly RegoValue[], context: BuiltinContext): boolean {
  const glob = stringOperand(operands, 1)
  const delimiters = delimitersOf(operands)
  const text = stringOperand(operands, 3)
  if (glob.length > MAX_GLOB_CHARS) {
    throw new BuiltinLimitError('pattern_size', `glob over ${MAX_GLOB_CHARS} characters`)
  }
  spend(context, (glob.length + delimiters.length) * NS_PER_CHAR)
  return compilePattern(new GlobTranslator(glob, delimiters).translate(), context).test(text, context)
}

/** The family, by Rego names. */
export const GLOB: BuiltinFamily = { 'glob.match': match }
