/** What one event has taught its redactor: the secrets met so far, and what is put in their place. */
import { createHmac } from 'node:crypto'
import { mayHoldAnything } from './glance.ts'
import type { Finding } from './secrets.ts'
import { escapePattern, isSecretKey, maskSecrets } from './secrets.ts'
import type { Learner, Masker } from './skip.ts'
import { skipJson } from './skip.ts'
import type { Walked } from './walk.ts'

/** More secrets than this in one request are hostile; see {@link RedactOptions.withhold}. */
const MAX_SECRETS = 256
/** Longest text that is searched for secrets beyond what is kept of it; takes some 30 ms at worst. */
const MAX_LEARN = 1_048_576
/** Shorter ones would blot out ordinary text; they are replaced where they are the whole value. */
const MIN_PART = 6
const MIN_WHOLE = 3

/**
 * Texts in which nothing is secret by its shape. A policy's rules, names of tools and clients come up in every row. Only
 * saves time: forgetting is harmless.
 */
const CLEAN = new Set<string>()
const MAX_CLEAN = 4096
const MAX_CLEAN_LENGTH = 512

function rememberClean(text: string): void {
  if (text.length > MAX_CLEAN_LENGTH) return
  if (CLEAN.size >= MAX_CLEAN) CLEAN.clear()
  CLEAN.add(text)
}

/** A spelling of a secret. `word`: it is too short to be replaced within a longer word. */
interface Part {
  readonly part: string
  readonly secret: string
  readonly kind: string
  readonly word: RegExp | null
}

/** As it may stand in a text, in JSON inside a text, in a URL. */
function spellingsOf(text: string): Iterable<string> {
  if (/^[\w.~-]*$/.test(text)) return [text]
  return new Set([text, JSON.stringify(text).slice(1, -1), encodeURIComponent(text)])
}

function wordOf(part: string): RegExp | null {
  return part.length >= MIN_PART ? null : new RegExp(`(?<!\\w)${escapePattern(part)}(?!\\w)`, 'g')
}

/** Shorter ones could be guessed one after the other by who may call and read rows. */
const MIN_HASHED = 8
const HASH_DIGITS = 12
/** Whoever masks a value for good wants nothing of it kept. */
const UNHASHED: ReadonlySet<string> = new Set(['mask', 'withheld', 'cut'])
/** What a trace puts in the middle of a long value. */
const CUT = / … \d+ characters left out … /

const ignore = (): void => undefined

/** The secrets met so far. */
export class Memory implements Masker {
  overflowed = false
  readonly moreKeys: ReadonlySet<string>
  /** Whether what is caught now is remembered. */
  #learning = false
  readonly #kinds = new Map<string, string>()
  /** The secrets that are looked for inside other texts, as they may be spelt there, the longest first. */
  #parts: Part[] = []
  /** Holds a secret that a cut can go through. */
  #hasPhrase = false
  readonly #hashKey: Buffer | null
  readonly #marks = new Map<string, string>()

  constructor(moreKeys: ReadonlySet<string>, hashKey: Buffer | null) {
    this.moreKeys = moreKeys
    this.#hashKey = hashKey
  }

  mark(kind: string, secret: string | null): string {
    if (this.#hashKey === null || secret === null || secret.length < MIN_HASHED || UNHASHED.has(kind)) {
      return `[redacted:${kind}]`
    }
    const known = this.#marks.get(secret)
    if (known !== undefined) return `[redacted:${kind} hmac:${known}]`
    const hash = createHmac('sha256', this.#hashKey).update(secret).digest('hex').slice(0, HASH_DIGITS)
    this.#marks.set(secret, hash)
    return `[redacted:${kind} hmac:${hash}]`
  }

  isSecretKey(name: string): boolean {
    return isSecretKey(name, this.moreKeys)
  }

  mask(text: string, own: boolean, note: (kind: string) => void): string {
    if (!own) return this.#maskKnown(this.#maskShapes(text, note), note)
    if (CLEAN.has(text)) return text
    const masked = this.#maskShapes(text, note)
    if (masked === text) rememberClean(text)
    return masked
  }

  /** As {@link mask}, for texts that come up in many rows. */
  maskColumn(text: string, own: boolean): string {
    const masked = this.mask(text, true, ignore)
    return own ? masked : this.#maskKnown(masked, ignore)
  }

  #maskShapes(text: string, note: (kind: string) => void): string {
    const onFound = ({ kind, secret }: Finding): void => {
      note(kind)
      if (this.#learning) this.learn(secret, kind)
    }
    const masked = maskSecrets(sanitise(text), onFound, ({ kind, secret }) => this.mark(kind, secret))
    return masked
  }

  known(text: string): string | null {
    return this.#kinds.get(text) ?? null
  }

  learn(secret: string, kind: string): void {
    this.#remember(secret, kind, MIN_WHOLE, MIN_PART)
  }

  /** What somebody has named as secret is one however short it is. */
  learnMasked(json: string, kind: string): void {
    const learn = (text: string): void => this.#remember(text, kind, 1, MIN_WHOLE)
    const learner: Learner = { learn, learnFrom: learn, isSecretKey: () => false }
    skipJson(json, 0, 0, true, learner)
  }

  #remember(secret: string, kind: string, minWhole: number, minPart: number): void {
    const text = sanitise(secret).trim()
    if (text.length < minWhole || this.#kinds.has(text)) return
    if (this.#kinds.size >= MAX_SECRETS) {
      this.overflowed = true
      return
    }
    this.#kinds.set(text, kind)
    if (text.length < minPart) return
    if (/[^\w.+/=~-]/.test(text)) this.#hasPhrase = true
    for (const part of spellingsOf(text)) this.#parts.push({ part, secret: text, kind, word: wordOf(part) })
    this.#parts.sort((left, right) => right.part.length - left.part.length)
  }

  get size(): number {
    return this.#kinds.size
  }

  /** Whether a text has anything to teach. One that is too long to learn from counts as full of secrets. */
  mayLearnFrom(text: string): boolean {
    if (this.moreKeys.size === 0 && !/[^\x20-\x7e]|\\[u/]/.test(text) && !mayHoldAnything(text)) return false
    if (text.length <= MAX_LEARN) return true
    this.overflowed = true
    return false
  }

  /** Runs a walk and remembers what it masks. */
  learnFromWalk(walk: () => Walked): Walked {
    this.#learning = true
    try {
      return walk()
    } finally {
      this.#learning = false
    }
  }

  learnFrom(text: string): void {
    maskSecrets(text, ({ kind, secret }) => this.learn(secret, kind))
  }

  /** Whether a JSON text may repeat one of the secrets. */
  mayStandIn(json: string): boolean {
    for (const secret of this.#kinds.keys()) if (json.includes(secret)) return true
    return this.#parts.some(({ part, secret }) => part !== secret && json.includes(part))
  }

  #maskKnown(text: string, note: (kind: string) => void): string {
    if (this.#kinds.size === 0) return text
    const kind = this.known(text.trim())
    if (kind !== null) {
      note(kind)
      return this.mark(kind, text.trim())
    }
    // Only between words is a value cut, so only a secret of several can have been cut in two.
    if (this.#hasPhrase && CUT.test(text)) {
      note('cut')
      return '[redacted:cut]'
    }
    let masked = text
    for (const { part, secret, kind: partKind, word } of this.#parts) {
      if (!masked.includes(part)) continue
      const replaced = masked.replaceAll(word ?? part, () => this.mark(partKind, secret))
      if (replaced !== masked) note(partKind)
      masked = replaced
    }
    return masked
  }
}

/** Without what PostgreSQL refuses in text: NUL becomes U+2400, half of a pair U+FFFD. */
function sanitise(text: string): string {
  const whole = /[\ud800-\udfff]/.test(text) ? text.replace(/\p{Surrogate}/gu, '\ufffd') : text
  return whole.includes('\0') ? whole.replaceAll('\0', '\u2400') : whole
}
