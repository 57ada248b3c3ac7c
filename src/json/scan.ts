/**
 * The strict scan of a JSON text, done before `JSON.parse` ever sees it.
 *
 * Two JSON readers must never see two different messages in the same bytes: what the policy judged is what the upstream
 * gets. So everything on which readers are known to disagree is refused here: duplicate keys (compared after
 * unescaping), keys that only case-insensitive readers take for protocol keys, byte order marks, invalid UTF-8, numbers
 * outside the range of a double, NUL in keys, lone surrogates in keys (readers that replace them would make two keys
 * one), and nesting deep enough to overflow somebody's stack.
 *
 * Lone surrogate escapes in string VALUES pass: they are valid JSON (RFC 8259 §8.2) and stand as ASCII escapes in the
 * text. Whoever reads a name out of a message has to ask {@link isWellFormed} itself.
 *
 * The scan accepts a subset of what `JSON.parse` accepts, so after it `JSON.parse` cannot throw. It takes linear time
 * and recurses at most `maxDepth` levels.
 */
import { isUtf8 } from 'node:buffer'

/** Why a text was refused. `offset` of the refusal is an index into the text (UTF-16 units). */
export type JsonRefusalKind =
  | 'encoding'
  | 'bom'
  | 'syntax'
  | 'depth'
  | 'too_many_keys'
  | 'duplicate_key'
  | 'nul_key'
  | 'lookalike_key'
  | 'number_range'

const REFUSAL_TEXTS: Readonly<Record<JsonRefusalKind, string>> = {
  encoding: 'text must be valid UTF-8, and keys must hold no lone surrogates',
  bom: 'text must not start with a byte order mark',
  syntax: 'text must be one JSON value (RFC 8259)',
  depth: 'objects and arrays are nested too deeply',
  too_many_keys: 'the objects have too many keys in all',
  duplicate_key: 'an object must not have the same key twice',
  nul_key: 'a key must not contain U+0000',
  lookalike_key: 'a key must not differ from a protocol key in letter case only',
  number_range: 'a number must fit the range of a double',
}

/** A JSON text that is refused. The message holds the rule and the offset, never a part of the text. */
export class JsonRefusal extends Error {
  readonly kind: JsonRefusalKind
  /** Index into the text (UTF-16 units); null when the bytes are no text at all. */
  readonly offset: number | null

  constructor(kind: JsonRefusalKind, offset: number | null) {
    super(`${REFUSAL_TEXTS[kind]}${offset === null ? '' : ` (at offset ${offset})`}`)
    this.name = 'JsonRefusal'
    this.kind = kind
    this.offset = offset
  }
}

/**
 * Keys whose look-alikes are refused in one object, and in the objects that stand under its keys. A look-alike folds to
 * a watched key under full Unicode case folding (`METHOD`, `paramſ`, `toKen` with U+212A) without being equal to it.
 */
export interface KeyWatch {
  readonly keys: ReadonlySet<string>
  /** Key -> what to watch in the object that is its value. */
  readonly inside: ReadonlyMap<string, KeyWatch>
  /** The keys folded; made by {@link watchKeys}. */
  readonly folded: ReadonlySet<string>
}

/** Options of a scan. */
export interface ScanOptions {
  /** Most nested objects and arrays, the outermost counted. Default 64. */
  readonly maxDepth?: number
  /**
   * Most keys of all objects together. Default 100,000: what costs `JSON.parse` dearly is not bytes but objects of ever
   * new shapes (0.5 s for 4 MiB of them).
   */
  readonly maxKeys?: number
  /** Look-alikes to refuse, starting at the outermost object. Default none. */
  readonly watch?: KeyWatch
}

/** A text that passed. `JSON.parse(text)` cannot throw. */
export interface Scan {
  readonly text: string
  /** What the outermost value is. */
  readonly root: 'object' | 'array' | 'scalar'
}

/** Folds letter case as far as any reader does: full case folding, never less. */
export function foldCase(key: string): string {
  return key.toLowerCase().toUpperCase().toLowerCase()
}

/** Makes a {@link KeyWatch}. */
export function watchKeys(
  keys: readonly string[],
  inside: Readonly<Record<string, KeyWatch>> = {},
): KeyWatch {
  return { keys: new Set(keys), inside: new Map(Object.entries(inside)), folded: new Set(keys.map(foldCase)) }
}

/** Whether a string is free of lone surrogates, so that every reader of its UTF-8 form sees the same string. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text)
}

/** Scans the bytes of one JSON value. Throws {@link JsonRefusal}. */
export function scanJson(bytes: Uint8Array, options: ScanOptions = {}): Scan {
  if (bytes[0] === 0xef && bytes[1] === 0xbb && bytes[2] === 0xbf) throw new JsonRefusal('bom', 0)
  if (!isUtf8(bytes)) throw new JsonRefusal('encoding', null)
  return scanText(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8'), options)
}

/** Scans text that has already been decoded. Throws {@link JsonRefusal}. */
export function scanText(text: string, options: ScanOptions = {}): Scan {
  if (text.charCodeAt(0) === 0xfeff) throw new JsonRefusal('bom', 0)
  const cursor: Cursor = {
    text,
    at: 0,
    escaped: false,
    maxDepth: options.maxDepth ?? 64,
    keysLeft: options.maxKeys ?? 100_000,
    keys: [],
  }
  const first = skipSpace(cursor)
  scanValue(cursor, 0, options.watch ?? null)
  skipSpace(cursor)
  if (cursor.at < text.length) throw new JsonRefusal('syntax', cursor.at)
  return { text, root: first === OPEN_BRACE ? 'object' : first === OPEN_BRACKET ? 'array' : 'scalar' }
}

interface Cursor {
  readonly text: string
  /** Index of the next unread character. */
  at: number
  /** Whether the string read last held an escape. */
  escaped: boolean
  readonly maxDepth: number
  /** How many more keys are allowed. */
  keysLeft: number
  /** Keys of the small objects that are open, innermost last. */
  readonly keys: string[]
}

const QUOTE = 0x22
const COMMA = 0x2c
const MINUS = 0x2d
const DOT = 0x2e
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const LOWER_F = 0x66
const LOWER_T = 0x74
const LOWER_U = 0x75
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** Objects with more keys than this are checked by hash instead of by comparing. */
const FEW_KEYS = 8
/** No digit string of this length or shorter overflows a double without an exponent. */
const SAFE_DIGITS = 300
/** Exponents beyond this many digits are refused even on zero: readers with decimal arithmetic choke on them. */
const MAX_EXPONENT_DIGITS = 4

/** Moves to the next character that is not white space and returns its code; NaN at the end of the text. */
function skipSpace(cursor: Cursor): number {
  const { text } = cursor
  let code = text.charCodeAt(cursor.at)
  while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) {
    cursor.at += 1
    code = text.charCodeAt(cursor.at)
  }
  return code
}

function scanValue(cursor: Cursor, depth: number, watch: KeyWatch | null): void {
  const code = cursor.text.charCodeAt(cursor.at)
  if (code === QUOTE) scanString(cursor)
  else if (code === OPEN_BRACE) scanObject(cursor, depth + 1, watch)
  else if (code === OPEN_BRACKET) scanArray(cursor, depth + 1)
  else if (code === MINUS || (code >= ZERO && code <= NINE)) scanNumber(cursor)
  else scanLiteral(cursor, code)
}

function scanLiteral(cursor: Cursor, code: number): void {
  const word = code === LOWER_T ? 'true' : code === LOWER_F ? 'false' : 'null'
  if (!cursor.text.startsWith(word, cursor.at)) throw new JsonRefusal('syntax', cursor.at)
  cursor.at += word.length
}

/** Reads a string; on entry `at` is the opening quote, on exit the character after the closing one. */
function scanString(cursor: Cursor): void {
  const { text } = cursor
  let at = cursor.at + 1
  cursor.escaped = false
  for (;;) {
    const code = text.charCodeAt(at)
    // NaN (end of text) fails this comparison too.
    if (!(code >= 0x20)) throw new JsonRefusal('syntax', at)
    if (code === QUOTE) break
    if (code === BACKSLASH) {
      cursor.escaped = true
      at += escapeLength(text, at)
    } else {
      at += 1
    }
  }
  cursor.at = at + 1
}

function escapeLength(text: string, at: number): number {
  const code = text.charCodeAt(at + 1)
  if (code === LOWER_U) {
    for (let digit = at + 2; digit < at + 6; digit += 1) {
      if (!isHexDigit(text.charCodeAt(digit))) throw new JsonRefusal('syntax', digit)
    }
    return 6
  }
  // " \ / b f n r t
  const simple =
    code === QUOTE ||
    code === BACKSLASH ||
    code === 0x2f ||
    code === 0x62 ||
    code === LOWER_F ||
    code === 0x6e
  if (!simple && code !== 0x72 && code !== LOWER_T) throw new JsonRefusal('syntax', at + 1)
  return 2
}

function isHexDigit(code: number): boolean {
  return (code >= ZERO && code <= NINE) || (code >= 0x41 && code <= 0x46) || (code >= 0x61 && code <= 0x66)
}

function skipDigits(cursor: Cursor): number {
  const start = cursor.at
  let code = cursor.text.charCodeAt(cursor.at)
  while (code >= ZERO && code <= NINE) {
    cursor.at += 1
    code = cursor.text.charCodeAt(cursor.at)
  }
  if (cursor.at === start) throw new JsonRefusal('syntax', start)
  return cursor.at - start
}

function scanNumber(cursor: Cursor): void {
  const { text } = cursor
  const start = cursor.at
  if (text.charCodeAt(cursor.at) === MINUS) cursor.at += 1
  if (text.charCodeAt(cursor.at) === ZERO) cursor.at += 1
  else skipDigits(cursor)
  if (text.charCodeAt(cursor.at) === DOT) {
    cursor.at += 1
    skipDigits(cursor)
  }
  const exponentDigits = skipExponent(cursor)
  if (exponentDigits === 0 && cursor.at - start <= SAFE_DIGITS) return
  if (exponentDigits > MAX_EXPONENT_DIGITS) throw new JsonRefusal('number_range', start)
  const literal = text.slice(start, cursor.at)
  const value = Number(literal)
  // A literal that is not zero and becomes zero is as far outside the range as one that becomes infinite.
  const vanished = value === 0 && /^-?[0.]*[1-9]/.test(literal)
  if (vanished || !Number.isFinite(value)) throw new JsonRefusal('number_range', start)
}

/** Reads an exponent if there is one; returns how many digits it has, 0 for none. */
function skipExponent(cursor: Cursor): number {
  const mark = cursor.text.charCodeAt(cursor.at)
  if (mark !== 0x65 && mark !== 0x45) return 0
  cursor.at += 1
  const sign = cursor.text.charCodeAt(cursor.at)
  if (sign === MINUS || sign === 0x2b) cursor.at += 1
  return skipDigits(cursor)
}

function scanArray(cursor: Cursor, depth: number): void {
  if (depth > cursor.maxDepth) throw new JsonRefusal('depth', cursor.at)
  cursor.at += 1
  if (skipSpace(cursor) === CLOSE_BRACKET) {
    cursor.at += 1
    return
  }
  for (;;) {
    scanValue(cursor, depth, null)
    const code = skipSpace(cursor)
    if (code !== COMMA && code !== CLOSE_BRACKET) throw new JsonRefusal('syntax', cursor.at)
    cursor.at += 1
    if (code === CLOSE_BRACKET) return
    skipSpace(cursor)
  }
}

function scanObject(cursor: Cursor, depth: number, watch: KeyWatch | null): void {
  if (depth > cursor.maxDepth) throw new JsonRefusal('depth', cursor.at)
  cursor.at += 1
  if (skipSpace(cursor) === CLOSE_BRACE) {
    cursor.at += 1
    return
  }
  const base = cursor.keys.length
  let many: Set<string> | null = null
  for (;;) {
    const start = cursor.at
    const key = scanKey(cursor)
    many = rememberKey(cursor.keys, base, many, key, start)
    const inside = watch === null ? null : watchedInside(watch, key, start)
    if (skipSpace(cursor) !== COLON) throw new JsonRefusal('syntax', cursor.at)
    cursor.at += 1
    skipSpace(cursor)
    scanValue(cursor, depth, inside)
    const code = skipSpace(cursor)
    if (code !== COMMA && code !== CLOSE_BRACE) throw new JsonRefusal('syntax', cursor.at)
    cursor.at += 1
    if (code === CLOSE_BRACE) break
    skipSpace(cursor)
  }
  cursor.keys.length = base
}

/**
 * Reads a key and returns it unescaped, with a quote in front. The quote keeps keys like "123" from being hashed as
 * array indexes: those hashes are predictable, and a caller could make every lookup in the set a collision.
 */
function scanKey(cursor: Cursor): string {
  const start = cursor.at
  if (cursor.text.charCodeAt(start) !== QUOTE) throw new JsonRefusal('syntax', start)
  cursor.keysLeft -= 1
  if (cursor.keysLeft < 0) throw new JsonRefusal('too_many_keys', start)
  scanString(cursor)
  if (!cursor.escaped) return cursor.text.slice(start, cursor.at - 1)
  const key = String(JSON.parse(cursor.text.slice(start, cursor.at)))
  if (key.includes('\u0000')) throw new JsonRefusal('nul_key', start)
  if (!isWellFormed(key)) throw new JsonRefusal('encoding', start)
  return `"${key}`
}

/** Adds a key to those of its object: a short list first, a set from {@link FEW_KEYS} on. */
function rememberKey(
  keys: string[],
  base: number,
  many: Set<string> | null,
  key: string,
  offset: number,
): Set<string> | null {
  if (many !== null) {
    const before = many.size
    if (many.add(key).size === before) throw new JsonRefusal('duplicate_key', offset)
    return many
  }
  for (let index = base; index < keys.length; index += 1) {
    if (keys[index] === key) throw new JsonRefusal('duplicate_key', offset)
  }
  keys.push(key)
  return keys.length - base > FEW_KEYS ? new Set(keys.slice(base)) : null
}

/** Refuses a look-alike; returns what to watch in the value of this key. */
function watchedInside(watch: KeyWatch, quotedKey: string, offset: number): KeyWatch | null {
  const key = quotedKey.slice(1)
  if (watch.keys.has(key)) return watch.inside.get(key) ?? null
  if (watch.folded.has(foldCase(key))) throw new JsonRefusal('lookalike_key', offset)
  return null
}
