/**
 * Rego values as text -> JSON text. A module writes values in Rego's notation: sets as `{1, 2}` or `set()`, object keys of
 * any type, numbers as the author or caller wrote them. In a trace a set is an array and a key that is no string is its
 * text. Most values are JSON already and pass through untouched.
 */
import { LRUCache } from 'lru-cache'
import type { StoredText } from '../json/stored-text.ts'
import { toStoredText } from '../json/stored-text.ts'

/** Nothing in it can differ between the two notations: no brace, parenthesis, point or escape. */
const PLAIN = /^[\w\s"',:;/@|<>=!?#%&*+~^$[\]-]*$/
const JSON_NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?$/
const KEY = /"\s*:/
const WORDS = new Set(['true', 'false', 'null'])
/** A string, an empty set, or a run of anything that is no punctuation. */
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|set\(\)|[^\s,:[\]{}"]+|[[\]{},:]/gs
const WORD_CHARACTER = /[\w.+/=~-]/
/** The longest word that is looked for, in characters. */
const MAX_WORD = 4096
const HIGH_SURROGATE = /[\ud800-\udbff]/
const LOW_SURROGATE = /[\udc00-\udfff]/
const SCALAR = /^[^\s,:[\]{}"]*$/

/** A container that is being written: `open` and `key` are indexes into the output. */
interface Container {
  readonly open: number
  readonly isArray: boolean
  /** Decided at the first colon. */
  isObject: boolean
  /** Where the current element or key starts. */
  from: number
}

/** The JSON text of a Rego value's text. What is not a Rego value comes out as a JSON string. */
export function toJsonText(rego: string): string {
  if (SCALAR.test(rego)) return rego === 'set()' ? '[]' : scalar(rego)
  if (rego.startsWith('"') || (rego.startsWith('[') && PLAIN.test(rego))) return rego
  if (rego === '{}' || (KEY.test(rego) && isJsonText(rego))) return rego
  return convert(rego) ?? JSON.stringify(rego)
}

/** An array of one scalar, as most rules give. */
const SINGLE = /^\[(?:"[^"\\]*"|[\w.+-]+)\]$/

/** Values of traces that came up lately, as they are stored. Roles, names and labels come up again and again. */
const STORED = new LRUCache<string, StoredText>({ max: 2048 })
const MAX_KEPT = 256
/** Digits, letters and marks that stand for themselves: neither an escape nor a number that may be written in another way. */
const SAME = /^(?:"[^"\\]*"|0|-?[1-9]\d*|true|false|null)$/

/** A JSON text as it is stored. */
export function toStoredValue(json: string): StoredText {
  if (SAME.test(json)) return json as StoredText
  const known = STORED.get(json)
  if (known !== undefined) return known
  const stored = toStoredText(json)
  if (json.length <= MAX_KEPT) STORED.set(json, stored)
  return stored
}

/** The elements of a Rego array's text, as Rego text; null when it is no array. */
export function splitArray(rego: string): readonly string[] | null {
  if (!rego.startsWith('[') || !rego.endsWith(']')) return null
  return SINGLE.test(rego) ? [rego.slice(1, -1)] : elementsOf(rego)
}

function elementsOf(rego: string): readonly string[] {
  const elements: string[] = []
  let depth = 0
  let from = 1
  for (const match of rego.matchAll(TOKEN)) {
    const token = match[0]
    if (token === '[' || token === '{') depth += 1
    else if (token === ']' || token === '}') depth -= 1
    const ends = (depth === 1 && token === ',') || depth === 0
    if (!ends) continue
    const element = rego.slice(from, match.index).trim()
    if (element !== '') elements.push(element)
    from = match.index + 1
  }
  return elements
}

/** Whether the text means the same in both notations: no sets in it, all keys are strings. */
export function isJson(rego: string): boolean {
  return toJsonText(rego) === rego
}

/**
 * At most about `maxLength` characters of a JSON (or Rego) text. A longer value becomes a string that holds its beginning
 * and its end, and says in between how much is missing. A word that the cut would go through is left out whole: half a
 * secret would not be recognised as one.
 */
export function cutJsonText(json: string, maxLength: number): string {
  if (json.length <= maxLength) return json
  const text = json.startsWith('"') ? (JSON.parse(json) as string) : json
  const head = backToBoundary(text, Math.floor(maxLength / 2))
  const tail = onToBoundary(text, text.length - Math.floor(maxLength / 4))
  return JSON.stringify(`${text.slice(0, head)} … ${tail - head} characters left out … ${text.slice(tail)}`)
}

/** The nearest place before `from` that is not inside a word; 0 when it is too far away. */
function backToBoundary(text: string, from: number): number {
  const stop = Math.max(0, from - MAX_WORD)
  let at = from
  while (at > stop && isInWord(text, at - 1)) at -= 1
  if (at === stop && at > 0) return 0
  return HIGH_SURROGATE.test(text.charAt(at - 1)) ? at - 1 : at
}

function onToBoundary(text: string, from: number): number {
  const stop = Math.min(text.length, from + MAX_WORD)
  let at = from
  while (at < stop && isInWord(text, at)) at += 1
  if (at === stop) return text.length
  return LOW_SURROGATE.test(text.charAt(at)) ? at + 1 : at
}

function isInWord(text: string, at: number): boolean {
  return WORD_CHARACTER.test(text.charAt(at))
}

/** Whether the text is valid JSON. */
export function isJsonText(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

function scalar(token: string): string {
  return WORDS.has(token) || JSON_NUMBER.test(token) ? token : JSON.stringify(token)
}

function convert(rego: string): string | null {
  const out: string[] = []
  const open: Container[] = []
  for (const [token] of rego.matchAll(TOKEN)) {
    if (!writeToken(token, out, open)) return null
  }
  return open.length === 0 ? out.join('') : null
}

function writeToken(token: string, out: string[], open: Container[]): boolean {
  const top = open.at(-1)
  switch (token) {
    case '[':
    case '{':
      open.push({ open: out.length, isArray: token === '[', isObject: false, from: out.length + 1 })
      out.push(token)
      return true
    case ']':
    case '}':
      if (top === undefined) return false
      open.pop()
      close(top, out)
      return true
    case ',':
      if (top === undefined) return false
      out.push(',')
      top.from = out.length
      return true
    case ':':
      if (top === undefined || top.isArray) return false
      top.isObject = true
      writeKey(top, out)
      return true
    default:
      out.push(token === 'set()' ? '[]' : token.startsWith('"') ? token : scalar(token))
      return true
  }
}

/** What was written since `from` turns out to be a key. */
function writeKey(container: Container, out: string[]): void {
  const key = out.splice(container.from).join('')
  out.push(key.startsWith('"') ? key : JSON.stringify(key), ':')
}

/** Braces without a colon are a set; empty ones an object, since the empty set has a notation of its own. */
function close(container: Container, out: string[]): void {
  const isSet = !container.isArray && !container.isObject && out.length > container.open + 1
  if (container.isArray || isSet) {
    out[container.open] = '['
    out.push(']')
  } else out.push('}')
}
