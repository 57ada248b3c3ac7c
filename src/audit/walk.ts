/**
 * JSON text in, redacted and bounded JSON text of the same shape out, in one pass and without building values: digits of
 * numbers stay as they are, `__proto__` is a name like any other, and the depth of the text costs no stack.
 */
import { toPointer } from '../json/pointer.ts'
import type { MaskPlace } from './mask.ts'
import type { Masker } from './skip.ts'
import { decode, RedactionFault, skipJson, stringEnd } from './skip.ts'

/** Most of a value that is kept. Lengths count characters. */
export interface Bounds {
  readonly depth: number
  readonly items: number
  readonly keys: number
  readonly stringLength: number
  readonly keyLength: number
  /** Of the whole output; what does not fit is left out at the end. */
  readonly totalLength: number
  readonly nodes: number
}

/**
 * Which members are the gateway's or the policy's own words. What a caller sent as a secret is not looked for in them:
 * otherwise a "password" of `data.gateway.authz.deny` would blot out the trace.
 */
export interface OwnWords {
  readonly own: boolean
  /** Elements of an array have the shape of the array. */
  readonly members: ReadonlyMap<string, OwnWords>
}

/** How to walk one text. */
export interface WalkPlan {
  readonly bounds: Bounds
  /** Remember what is caught, also in the parts that the bounds leave out. */
  readonly learn: boolean
  /** The text is the beginning of a longer one: its end is a cut, not an error. */
  readonly partial: boolean
  readonly own: OwnWords | null
  /** Members whose value is withheld whole. */
  readonly withhold: ReadonlySet<string> | null
  readonly masks: MaskPlace | null
}

/** What became of a text: JSON, and where and why it differs. Lists hold at most 50 entries; the counts are complete. */
export interface Walked {
  readonly json: string
  readonly redacted: readonly (readonly [pointer: string, kind: string])[]
  readonly redactedCount: number
  readonly cut: readonly (readonly [pointer: string, what: string])[]
  readonly cutCount: number
}

const MAX_NOTES = 50
const MAX_POINTER = 256
/** Looked at beyond the bound of a string, so that a secret across the cut is seen whole. */
const MARGIN = 1024
/** Longest number kept with all its digits, and its largest exponent: well within PostgreSQL's `numeric`. */
const MAX_DIGITS = 400

const NUMBER = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y
const LITERAL = /true|false|null/y
// biome-ignore lint/suspicious/noControlCharactersInRegex: these are what JSON must escape
const CONTROL = /[\u0000-\u001f]/
const EXPONENT = /[eE]([+-]?\d+)$/

/** @throws RedactionFault when `text` is no JSON value (or no beginning of one, if `plan.partial`) */
export function walkJson(text: string, plan: WalkPlan, masker: Masker): Walked {
  const walk = new Walk(text, plan, masker)
  return walk.run()
}

class Walk {
  readonly #text: string
  readonly #plan: WalkPlan
  readonly #masker: Masker
  readonly #path: string[] = []
  readonly #redacted: [string, string][] = []
  readonly #cut: [string, string][] = []
  #redactedCount = 0
  #cutCount = 0
  #at = 0
  #out = ''
  #nodes = 0
  /** The text has ended early: close what is open. */
  #ended = false

  constructor(text: string, plan: WalkPlan, masker: Masker) {
    this.#text = text
    this.#plan = plan
    this.#masker = masker
  }

  run(): Walked {
    const { own, masks } = this.#plan
    if (!this.#value(0, own, masks)) this.#out = 'null'
    if (!this.#ended && !Number.isNaN(this.#peek())) throw new RedactionFault(this.#at)
    return {
      json: this.#out,
      redacted: this.#redacted,
      redactedCount: this.#redactedCount,
      cut: this.#cut,
      cutCount: this.#cutCount,
    }
  }

  /** Code of the next character that is not white space; NaN at the end. */
  #peek(): number {
    const text = this.#text
    let code = text.charCodeAt(this.#at)
    while (code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09) {
      this.#at += 1
      code = text.charCodeAt(this.#at)
    }
    return code
  }

  #fail(): void {
    if (!this.#plan.partial || this.#at < this.#text.length) throw new RedactionFault(this.#at)
    if (!this.#ended) this.#noteCut('bytes')
    this.#ended = true
  }

  /** Whether a value was written. Nothing is written where the text ends before it. */
  #value(depth: number, own: OwnWords | null, masks: MaskPlace | null): boolean {
    const code = this.#peek()
    this.#nodes += 1
    if (code === QUOTE) return this.#string(own)
    if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      if (depth >= this.#plan.bounds.depth)
        return this.#hide(
          () => '"[cut:depth]"',
          () => this.#noteCut('depth'),
          false,
        )
      this.#at += 1
      if (code === OPEN_BRACE) this.#object(depth + 1, own, masks)
      else this.#array(depth + 1, own, masks)
      return true
    }
    return this.#scalar(own)
  }

  #scalar(own: OwnWords | null): boolean {
    const literal = this.#match(LITERAL)
    if (literal !== null) {
      this.#out += literal
      return true
    }
    const number = this.#match(NUMBER)
    if (number === null) {
      if (this.#plan.partial && this.#text.length - this.#at < 'false'.length) this.#at = this.#text.length
      this.#fail()
      return false
    }
    const kind = own?.own === true ? null : this.#masker.known(number)
    if (kind !== null) this.#noteRedacted(kind)
    this.#out += kind !== null ? JSON.stringify(this.#masker.mark(kind, number)) : this.#numberText(number)
    return true
  }

  #match(pattern: RegExp): string | null {
    pattern.lastIndex = this.#at
    const match = pattern.exec(this.#text)
    if (match === null) return null
    this.#at += match[0].length
    return match[0]
  }

  /** All digits, as far as the database takes them. */
  #numberText(number: string): string {
    const exponent = Math.abs(Number(EXPONENT.exec(number)?.[1] ?? 0))
    if (number.length <= MAX_DIGITS && exponent <= MAX_DIGITS) return number
    this.#noteCut(`number:${number.length}`)
    const double = Number(number)
    return Number.isFinite(double) ? JSON.stringify(double) : JSON.stringify(number.slice(0, 64))
  }

  #string(own: OwnWords | null): boolean {
    const { bounds, learn } = this.#plan
    const room = Math.max(0, Math.min(bounds.stringLength, bounds.totalLength - this.#out.length))
    const { raw, closed } = this.#rawString()
    const looked = raw.length <= room + MARGIN ? raw : raw.slice(0, room + MARGIN)
    if (learn && looked.length < raw.length) this.#masker.learnFrom(decode(raw, closed))
    const text = decode(looked, closed && looked.length === raw.length)
    const masked = this.#masker.mask(text, own?.own === true, (kind) => this.#noteRedacted(kind))
    if (masked.length <= room && looked.length === raw.length && closed) {
      this.#out += masked === raw && !CONTROL.test(raw) ? `"${raw}"` : JSON.stringify(masked)
      return true
    }
    if (closed) this.#noteCut(`string:${raw.length}`)
    this.#out += JSON.stringify(`${cutText(masked, room)}…`)
    return true
  }

  /** What stands between the quotes, escapes undecoded. */
  #rawString(): { raw: string; closed: boolean } {
    const start = this.#at + 1
    const end = stringEnd(this.#text, this.#at)
    if (end > this.#text.length) {
      this.#at = this.#text.length
      this.#fail()
      return { raw: this.#text.slice(start), closed: false }
    }
    this.#at = end
    return { raw: this.#text.slice(start, end - 1), closed: true }
  }

  #object(depth: number, own: OwnWords | null, masks: MaskPlace | null): void {
    const { bounds } = this.#plan
    this.#out += '{'
    let written = 0
    for (let seen = 0; !this.#closes(CLOSE_BRACE, seen); seen += 1) {
      if (seen >= bounds.keys || this.#full()) {
        this.#noteCut(`keys:${seen + 1 + this.#skip(1, false)}`)
        break
      }
      const before = this.#out
      if (written > 0) this.#out += ','
      if (this.#member(depth, own, masks)) written += 1
      else this.#out = before
    }
    this.#out += '}'
  }

  /** One `"key": value`. Whether it was written. */
  #member(depth: number, own: OwnWords | null, masks: MaskPlace | null): boolean {
    if (this.#peek() !== QUOTE) return this.#missing()
    const { raw, closed } = this.#rawString()
    if (!closed || this.#peek() !== COLON) return this.#missing()
    this.#at += 1
    const key = decode(raw, true)
    const name = this.#keyText(key, own)
    this.#path.push(name)
    this.#out += `${JSON.stringify(name)}:`
    const place = masks?.at(key) ?? null
    const hidden = this.#masked(place) ?? (this.#secretMember(key) ? true : null)
    const written = hidden ?? this.#value(depth, this.#ownOf(key, own), place)
    this.#path.pop()
    return written
  }

  #missing(): false {
    this.#fail()
    return false
  }

  #keyText(key: string, own: OwnWords | null): string {
    const { keyLength } = this.#plan.bounds
    const looked = key.length > keyLength + MARGIN ? key.slice(0, keyLength + MARGIN) : key
    const isOwn = own !== null && (own.own || own.members.has(key))
    const name = this.#masker.mask(looked, isOwn, (kind) => this.#noteRedacted(kind))
    if (name.length <= keyLength) return name
    this.#noteCut(`key:${key.length}`)
    return `${cutText(name, keyLength)}…`
  }

  #ownOf(key: string, own: OwnWords | null): OwnWords | null {
    return own === null || own.own ? own : (own.members.get(key) ?? null)
  }

  /** Replaces the value of a member whose name says that it is a secret. Flags and null tell nothing and stay. */
  #secretMember(key: string): boolean {
    const withheld = this.#plan.withhold?.has(key) === true
    if (!withheld && !this.#masker.isSecretKey(key)) return false
    const code = this.#peek()
    if (Number.isNaN(code) || code === LOWER_T || code === LOWER_F || code === LOWER_N) return false
    if (code === QUOTE && this.#text.charCodeAt(this.#at + 1) === QUOTE) return false
    const kind = withheld ? 'withheld' : 'key'
    const note = (): void => this.#noteRedacted(kind)
    return this.#hide(
      (raw) => JSON.stringify(this.#masker.mark(kind, withheld ? null : scalarOf(raw))),
      note,
      !withheld,
    )
  }

  /** Applies the mask of the value that comes next. Whether it left something in its place; null = none applies. */
  #masked(place: MaskPlace | null): boolean | null {
    const mask = place?.mask ?? null
    if (mask === null || Number.isNaN(this.#peek())) return null
    const kind = mask.op === 'hash' ? 'pointer' : 'mask'
    const note = (): void => this.#noteRedacted(kind)
    if (mask.op === 'hash') {
      return this.#hide((raw) => JSON.stringify(this.#masker.mark(kind, scalarOf(raw))), note, false)
    }
    this.#hide(() => mask.json ?? '', note, false)
    return mask.op === 'upsert'
  }

  /** Writes what `text` makes of the value that comes next in its place. */
  #hide(text: (raw: string) => string, note: () => void, secret: boolean): true {
    note()
    this.#peek()
    const from = this.#at
    this.#skip(0, secret)
    this.#out += text(this.#text.slice(from, this.#at))
    return true
  }

  #array(depth: number, own: OwnWords | null, masks: MaskPlace | null): void {
    const { bounds } = this.#plan
    this.#out += '['
    let written = 0
    for (let seen = 0; !this.#closes(CLOSE_BRACKET, seen); seen += 1) {
      if (seen >= bounds.items || this.#full()) {
        this.#noteCut(`items:${seen + 1 + this.#skip(1, false)}`)
        break
      }
      const before = this.#out
      if (written > 0) this.#out += ','
      this.#path.push(String(seen))
      const place = masks?.at(String(seen)) ?? null
      if (this.#masked(place) ?? this.#value(depth, own, place)) written += 1
      else this.#out = before
      this.#path.pop()
    }
    this.#out += ']'
  }

  #full(): boolean {
    return this.#nodes >= this.#plan.bounds.nodes || this.#out.length >= this.#plan.bounds.totalLength
  }

  /** Steps over the comma before member number `seen`, or over the closing bracket. Whether the container is done. */
  #closes(bracket: number, seen: number): boolean {
    if (this.#ended) return true
    const code = this.#peek()
    if (code === bracket) {
      this.#at += 1
      return true
    }
    if (seen > 0) {
      if (code !== COMMA) {
        this.#fail()
        return true
      }
      this.#at += 1
    }
    return false
  }

  /** Steps over the next value (`level` 0) or the rest of the open container (`level` 1); returns its further members. */
  #skip(level: 0 | 1, secret: boolean): number {
    this.#peek()
    const skipped = skipJson(this.#text, this.#at, level, secret, this.#plan.learn ? this.#masker : null)
    this.#at = skipped.at
    if (skipped.ended) this.#fail()
    return skipped.commas
  }

  #pointer(): string {
    const pointer = toPointer(this.#path)
    return pointer.length <= MAX_POINTER ? pointer : `${cutText(pointer, MAX_POINTER)}…`
  }

  #noteRedacted(kind: string): void {
    this.#redactedCount += 1
    if (this.#redacted.length < MAX_NOTES) this.#redacted.push([this.#pointer(), kind])
  }

  #noteCut(what: string): void {
    this.#cutCount += 1
    if (this.#cut.length < MAX_NOTES) this.#cut.push([this.#pointer(), what])
  }
}

/** What a digest is made of: the text of a string or number; null of anything else. */
function scalarOf(raw: string): string | null {
  if (raw.startsWith('{') || raw.startsWith('[')) return null
  return raw.startsWith('"') && raw.endsWith('"') && raw.length > 1 ? decode(raw.slice(1, -1), false) : raw
}

const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d
const LOWER_F = 0x66
const LOWER_N = 0x6e
const LOWER_T = 0x74
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** The first `length` characters, never half of a pair. */
export function cutText(text: string, length: number): string {
  if (text.length <= length) return text
  const code = text.charCodeAt(length - 1)
  return text.slice(0, code >= 0xd800 && code <= 0xdbff ? length - 1 : length)
}
