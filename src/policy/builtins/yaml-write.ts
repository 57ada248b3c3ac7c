/** Values to YAML text in the layout of go-yaml v3: two spaces, sorted keys, quotes only where they are needed. */
import type { BuiltinContext } from './budget.ts'
import { boundText } from './budget.ts'
import { formatFloat } from './float-text.ts'
import { jsonMembers } from './json-text.ts'
import { RegoNumber } from './number.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet } from './value.ts'
import { resolvePlain } from './yaml-scalar.ts'

/** Longest key (UTF-8 bytes) that is written before its colon; longer ones are marked with `?`. */
const MAX_SIMPLE_KEY_BYTES = 128

/** The YAML text of a value, with a final line break. */
export function formatYaml(value: RegoValue, context: BuiltinContext): string {
  const writer = new YamlWriter(context)
  writer.writeRoot(value)
  return writer.text
}

class YamlWriter {
  text = ''
  readonly #context: BuiltinContext

  constructor(context: BuiltinContext) {
    this.#context = context
  }

  writeRoot(value: RegoValue): void {
    const text = inlineText(value, 0)
    if (text === undefined) this.#writeBlock(value, 0, false)
    else this.#emit(`${text}\n`)
  }

  #emit(part: string): void {
    this.text += part
    boundText(this.text.length)
  }

  /** Writes a collection that is not empty. `inLine` = the first entry continues the current line. */
  #writeBlock(value: RegoValue, indent: number, inLine: boolean): void {
    if (value instanceof RegoObject) {
      for (const [at, [key, member]] of sortedMembers(value, this.#context).entries()) {
        if (at > 0 || !inLine) this.#emit(' '.repeat(indent))
        this.#writeEntry(key, member, indent)
      }
      return
    }
    for (const [at, element] of elementsOf(value).entries()) {
      if (at > 0 || !inLine) this.#emit(' '.repeat(indent))
      this.#emit('-')
      this.#writeValue(element, indent + 2, true)
    }
  }

  #writeEntry(key: string, member: RegoValue, indent: number): void {
    const keyText = scalarText(key, indent, true)
    const isSimple = !key.includes('\n') && Buffer.byteLength(key) <= MAX_SIMPLE_KEY_BYTES
    if (!isSimple) {
      this.#emit(`? ${scalarText(key, indent + 2, false)}\n${' '.repeat(indent)}:`)
      this.#writeValue(member, indent + 2, true)
      return
    }
    this.#emit(`${keyText}:`)
    this.#writeValue(member, indent + 2, false)
  }

  /** Writes what stands behind `-` or `key:`. */
  #writeValue(value: RegoValue, indent: number, compact: boolean): void {
    const text = inlineText(value, indent)
    if (text !== undefined) {
      this.#emit(text.startsWith('\n') ? `${text}\n` : ` ${text}\n`)
      return
    }
    this.#emit(compact ? ' ' : '\n')
    this.#writeBlock(value, indent, compact)
  }
}

function elementsOf(value: RegoValue): readonly RegoValue[] {
  if (isArray(value)) return value
  return value instanceof RegoSet ? value.sorted() : []
}

/** The text of a scalar or of an empty collection; undefined for anything that needs lines of its own. */
function inlineText(value: RegoValue, indent: number): string | undefined {
  if (typeof value === 'string') return scalarText(value, indent, false)
  if (value instanceof RegoNumber) return numberText(value)
  if (value instanceof RegoObject) return value.size === 0 ? '{}' : undefined
  if (isArray(value)) return value.length === 0 ? '[]' : undefined
  if (value instanceof RegoSet) return value.size === 0 ? '[]' : undefined
  return String(value)
}

/** Numbers pass through go-yaml's own reading: integers of 64 bits keep their digits, others become doubles. */
function numberText({ text }: RegoNumber): string {
  const resolved = resolvePlain(text)
  if (resolved.kind === 'integer') return String(resolved.value)
  if (resolved.kind !== 'float') return text
  const sign = resolved.value < 0 || Object.is(resolved.value, -0) ? '-' : ''
  return sign + formatFloat(Math.abs(resolved.value), 'g', -1)
}

const OLD_BOOLEAN = /^(?:y|Y|yes|Yes|YES|on|On|ON|n|N|no|No|NO|off|Off|OFF)$/
const BASE_60 = /^[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?$/
const TIMESTAMP = /^\d{4}-\d\d?-\d\d?(?:[Tt ]\d{1,2}:\d{1,2}:\d{1,2}(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)?)?$/

function readsAsText(text: string): boolean {
  if (OLD_BOOLEAN.test(text) || BASE_60.test(text)) return false
  return resolvePlain(text).kind === 'string' && !TIMESTAMP.test(text)
}

const BREAK = '\n\r\u0085\u2028\u2029'
/** What YAML writes as it is: no control characters, no byte order mark, nothing beyond the basic plane. */
const PRINTABLE = /^[\n\u0020-\u007e\u00a0-\ud7ff\ue000-\ufefe\uff00-\ufffd]*$/

function needsDoubleQuotes(text: string): boolean {
  const hasSpecial = !PRINTABLE.test(text.replaceAll('\t', ''))
  return hasSpecial || text.includes('\t') || / [\n\u2028\u2029]|[\n\u2028\u2029] /.test(text)
}

/** Whether the text may stand without quotes, as far as its characters go. */
function isPlainSafe(text: string): boolean {
  if (/^(?:---|\.\.\.)/.test(text)) return false
  if (/^[#,[\]{}&*!|>'"%@`]/.test(text) || /^[?:-](?:[ \t\n]|$)/.test(text)) return false
  if (/:(?:[ \t\n]|$)/.test(text) || /[ \t\n]#/.test(text)) return false
  return !/^ | $/.test(text) && !text.split('').some((character) => BREAK.includes(character))
}

function scalarText(text: string, indent: number, isKey: boolean): string {
  if (text.includes('\n') && !isKey) return blockText(text, indent)
  if (!readsAsText(text) || text.includes('\n')) return doubleQuoted(text)
  if (needsDoubleQuotes(text)) return doubleQuoted(text)
  return isPlainSafe(text) ? text : `'${text.replaceAll("'", "''")}'`
}

/** A literal block (`|`), unless the text has what such a block cannot hold. */
function blockText(text: string, indent: number): string {
  const hasSpecial = !PRINTABLE.test(text.replaceAll('\t', ''))
  if (hasSpecial || / [\n\u2028\u2029]/.test(text) || text.endsWith(' ')) return doubleQuoted(text)
  const hint = /^[ \n\u2028\u2029]/.test(text) ? '2' : ''
  const chomp = chompHint(text)
  const margin = ' '.repeat(Math.max(indent, 2))
  const lines = text.replace(/\n$/, '').split('\n')
  return `|${hint}${chomp}\n${lines.map((line) => (line === '' ? '' : margin + line)).join('\n')}`
}

function chompHint(text: string): string {
  if (!/[\n\u2028\u2029]$/.test(text)) return '-'
  return text.length === 1 || /[\n\u2028\u2029]{2}$/.test(text) ? '+' : ''
}

const ESCAPES: Readonly<Record<string, string>> = {
  '\0': '\\0',
  '\u0007': '\\a',
  '\b': '\\b',
  '\t': '\\t',
  '\n': '\\n',
  '\u000b': '\\v',
  '\f': '\\f',
  '\r': '\\r',
  '\u001b': '\\e',
  '"': '\\"',
  '\\': '\\\\',
  '\u0085': '\\N',
  '\u00a0': '\\_',
  '\u2028': '\\L',
  '\u2029': '\\P',
}

function doubleQuoted(text: string): string {
  return `"${Array.from(text, escapeCharacter).join('')}"`
}

function escapeCharacter(character: string): string {
  const isPlain = PRINTABLE.test(character) && !BREAK.includes(character) && !'"\\'.includes(character)
  if (isPlain) return character
  const short = ESCAPES[character]
  if (short !== undefined) return short
  const codePoint = character.codePointAt(0) ?? 0
  const hex = codePoint.toString(16).toUpperCase()
  if (codePoint <= 0xff) return `\\x${hex.padStart(2, '0')}`
  return codePoint <= 0xffff ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`
}

/** Members with their keys in go-yaml's natural order: numbers in them count as numbers. */
function sortedMembers(
  object: RegoObject,
  context: BuiltinContext,
): readonly (readonly [string, RegoValue])[] {
  return [...jsonMembers(object, context)].sort(([a], [b]) => compareNaturally(Array.from(a), Array.from(b)))
}

function compareNaturally(a: readonly string[], b: readonly string[]): number {
  const shared = Math.min(a.length, b.length)
  let at = 0
  while (at < shared && a[at] === b[at]) at += 1
  if (at === shared) return a.length - b.length
  return isBefore(a, b, at) ? -1 : 1
}

function isBefore(a: readonly string[], b: readonly string[], at: number): boolean {
  const left = a[at] ?? ''
  const right = b[at] ?? ''
  const letters = [isLetter(left), isLetter(right)]
  if (letters[0] && letters[1]) return codeOf(left) < codeOf(right)
  // After digits a letter comes first, elsewhere it comes last.
  if (letters[0] || letters[1]) return isDigit(a[at - 1] ?? '') ? letters[0] === true : letters[1] === true
  const leading = left === '0' || right === '0' ? leadingOne(a, at) : 0n
  const leftRun = digitRun(a, at, leading)
  const rightRun = digitRun(b, at, leading)
  if (leftRun.value !== rightRun.value) return leftRun.value < rightRun.value
  if (leftRun.end !== rightRun.end) return leftRun.end < rightRun.end
  return codeOf(left) < codeOf(right)
}

function codeOf(character: string): number {
  return character.codePointAt(0) ?? 0
}

function isLetter(character: string): boolean {
  return /^\p{L}$/u.test(character)
}

function isDigit(character: string): boolean {
  return /^\p{Nd}$/u.test(character)
}

/** 1 when the digits before this place are more than zeros, so that a zero here counts. */
function leadingOne(characters: readonly string[], at: number): bigint {
  for (let before = at - 1; before >= 0 && isDigit(characters[before] ?? ''); before -= 1) {
    if (characters[before] !== '0') return 1n
  }
  return 0n
}

function digitRun(
  characters: readonly string[],
  start: number,
  leading: bigint,
): { value: bigint; end: number } {
  let value = leading
  let end = start
  for (; isDigit(characters[end] ?? ''); end += 1) {
    value = BigInt.asIntN(64, value * 10n + BigInt(codeOf(characters[end] ?? '') - 48))
  }
  return { value, end }
}
