/**
 * Keeps secrets and hostile texts out of the audit row. Pure: the same event gives the same row.
 *
 * One redactor serves one event. What it catches in the request it remembers, and replaces wherever that text comes up
 * again: in the trace (a policy may have copied it into a variable), in the answer, in an error message.
 */
import { LRUCache } from 'lru-cache'
import { isSecretKey, maskSecrets, mayHoldSecret, SECRET_WORDS } from './secrets.ts'
import type { Masker } from './skip.ts'
import type { Bounds, OwnWords, Walked, WalkPlan } from './walk.ts'
import { cutText, walkJson } from './walk.ts'
import type { Words } from './word-finder.ts'
import { createWordFinder } from './word-finder.ts'

/** What is kept of a request or an answer. */
export const PAYLOAD_BOUNDS: Bounds = {
  // 12 levels of arguments; the JSON-RPC message around them has two.
  depth: 14,
  items: 200,
  keys: 200,
  stringLength: 4096,
  keyLength: 128,
  totalLength: 16_384,
  nodes: 5000,
}

/** What is kept of the policy's input and trace, which have budgets of their own and lose their use when cut. */
export const DECISION_BOUNDS: Bounds = {
  depth: 64,
  items: 2000,
  keys: 1000,
  stringLength: 4096,
  keyLength: 512,
  totalLength: 262_144,
  nodes: 50_000,
}

/** How to treat one text; what is absent has the careful default. */
export interface RedactOptions {
  readonly bounds: Bounds
  /** Remember what is caught. Default false. */
  readonly learn?: boolean
  /** The text was cut off; its end is no error. Default false. */
  readonly partial?: boolean
  readonly own?: OwnWords
  /** Assembled by the gateway from texts it serialised itself, so surely JSON. Allows the fast path. Default false. */
  readonly trusted?: boolean
  /** Of a trusted text: the fragments that came from outside, and all that the gateway's own words can contribute. */
  readonly parts?: { readonly values: string; readonly words: string }
  /** Members to withhold when more secrets were met than can be remembered. */
  readonly withhold?: ReadonlySet<string>
}

/** The redactor of one event. */
export interface Redactor {
  /** JSON text -> redacted, bounded JSON text. @throws RedactionFault when the text is not JSON */
  json(text: string, options: RedactOptions): Walked
  /** Plain text -> redacted, sanitised text of at most `maxLength` characters. `own`: no look for remembered secrets. */
  text(text: string, maxLength: number, own?: boolean): string
  /** Remembers a secret known from elsewhere, such as the credential of the request. */
  learn(secret: string, kind: string): void
  /** More secrets were met than can be remembered: texts that may repeat them have to be withheld. */
  readonly overflowed: boolean
}

/** More secrets than this in one request are hostile; see {@link RedactOptions.withhold}. */
const MAX_SECRETS = 256
/** Longest text that is searched for secrets beyond what is kept of it; takes some 30 ms at worst. */
const MAX_LEARN = 1_048_576
/** Shorter ones would blot out ordinary text; they are replaced where they are the whole value. */
const MIN_PART = 6
const MIN_WHOLE = 3

/** What PostgreSQL refuses in a text, and what is worth a closer look. */
const UNUSUAL = /[^\x20-\x7e]|\d{3}(?<=\d[eE][+-]?\d{3})/
/** Names of secret members in lower-case text, wherever they may stand; says yes too often rather than too seldom. */
const SECRET_NAMES =
  /passw|passphrase|passcode|pwd|secret|token|authoriz|cookie|credential|key(?<=(?:api|private|access|signing|encryption|ssh|master|hmac)[^a-z]{0,2}key)|(?:auth|pass|pin|sid|otp)(?![_. -]{0,4}[a-z0-9])|auth[^a-z]?(?:header|code)|dsn|conn(?:ection)?[^a-z]?str|session[^a-z]?id|jwt|assertion|code[^a-z]?verifier|webhook[^a-z]?url|(?:otp|mfa|pin)[^a-z]?code|cvv|cvc|ssn|social[^a-z]?security|card[^a-z]?n|sas[^a-z]?url|keystore[^a-z]?pass/

/** A word of each of them. Short and common ones only where a name ends. */
const NAME_WORDS: Words = {
  exact: [],
  anyCase: [
    ...[
      'passw',
      'passphrase',
      'passcode',
      'pwd',
      'secret',
      'token',
      'authoriz',
      'cookie',
      'credential',
      'dsn',
      'jwt',
    ],
    ...['assertion', 'verifier', 'cvv', 'cvc', 'ssn', 'social', 'card', 'session'],
    ...[
      'auth',
      'pass',
      'pin',
      'sid',
      'otp',
      'key',
      'keys',
      'keyid',
      'code',
      'url',
      'string',
      'str',
      'header',
    ].flatMap((word) => ['"', "'", '\\', ']'].map((end) => word + end)),
  ],
}
const hasNameWord = createWordFinder(NAME_WORDS)
/** One pass instead of two over texts that nearly always hold neither. */
const hasAnyWord = createWordFinder({
  exact: SECRET_WORDS.exact,
  anyCase: [...SECRET_WORDS.anyCase, ...NAME_WORDS.anyCase],
})

/** Whether a JSON text may name a secret member; no false negatives for names of ASCII characters as they are usually spelt. */
export function mayNameSecret(text: string): boolean {
  return hasNameWord(text) && SECRET_NAMES.test(text.toLowerCase())
}

/** Makes a redactor; use a fresh one for every event. `moreKeys`: further names of secret members, see {@link toKeySet}. */
export function createRedactor(moreKeys: ReadonlySet<string> = new Set()): Redactor {
  const memory = new Memory(moreKeys)
  return {
    json(text, options) {
      if (isPlain(text, memory, options)) return { json: text, ...NOTHING_CHANGED }
      if (options.learn === true && memory.mayLearnFrom(text)) {
        const before = memory.size
        const walked = memory.learnFromWalk(() => walkJson(text, toPlan(options, memory), memory))
        if (memory.size === before) return walked
      }
      // What was learnt at the end may stand at the beginning too, so the text is walked once more.
      return walkJson(text, { ...toPlan(options, memory), learn: false }, memory)
    },
    text(text, maxLength, own = false) {
      const looked = text.length > maxLength + 1024 ? text.slice(0, maxLength + 1024) : text
      const masked = memory.mask(looked, own, () => undefined)
      return masked.length <= maxLength ? masked : `${cutText(masked, maxLength - 1)}…`
    },
    learn: (secret, kind) => memory.learn(secret, kind),
    get overflowed() {
      return memory.overflowed
    },
  }
}

const NOTHING_CHANGED = { redacted: [], redactedCount: 0, cut: [], cutCount: 0 } as const

function toPlan(options: RedactOptions, memory: Memory): WalkPlan {
  return {
    bounds: options.bounds,
    learn: options.learn ?? false,
    partial: options.partial ?? false,
    own: options.own ?? null,
    withhold: memory.overflowed ? (options.withhold ?? null) : null,
  }
}

/**
 * One look over a whole text, which nearly always shows that nothing in it has to change. Only for texts the gateway has
 * assembled itself (`trusted`): it does not check that they are JSON.
 */
function isPlain(text: string, memory: Memory, options: RedactOptions): boolean {
  if (options.trusted !== true || memory.moreKeys.size > 0 || memory.overflowed) return false
  if (text.length > options.bounds.totalLength) return false
  const { parts } = options
  return parts === undefined
    ? looksPlain(text, memory)
    : areCleanWords(parts.words) && looksPlain(parts.values, memory)
}

function looksPlain(text: string, memory: Memory): boolean {
  return (
    !UNUSUAL.test(text) &&
    // Escapes could hide a secret from a look at raw JSON.
    !text.includes('\\u') &&
    !text.includes('\\/') &&
    !(hasAnyWord(text) && (mayNameSecret(text) || mayHoldSecret(text))) &&
    !memory.mayStandIn(text)
  )
}

/** The words of the policies looked at last, and whether something in them has to be masked. */
const WORDS = new LRUCache<string, boolean>({ max: 16 })

/** Whether a policy's own words hold no secret. They are the same for every row, so they are looked through once. */
function areCleanWords(words: string): boolean {
  const known = WORDS.get(words)
  if (known !== undefined) return known
  const clean = !words.includes('\\u') && maskSecrets(words, () => undefined) === words
  WORDS.set(words, clean)
  return clean
}

/**
 * Words of the gateway's own in which there was nothing to mask. A policy's rules and expressions come up in every trace.
 * Only saves time: forgetting is harmless.
 */
const CLEAN = new Set<string>()
const MAX_CLEAN = 4096
const MAX_CLEAN_LENGTH = 512

function rememberClean(text: string): void {
  if (text.length > MAX_CLEAN_LENGTH) return
  if (CLEAN.size >= MAX_CLEAN) CLEAN.clear()
  CLEAN.add(text)
}

/** The secrets met so far. */
class Memory implements Masker {
  overflowed = false
  readonly moreKeys: ReadonlySet<string>
  /** Whether what is caught now is remembered. */
  #learning = false
  readonly #kinds = new Map<string, string>()
  /** The secrets that are looked for inside other texts, as they may be spelt there, the longest first. */
  #parts: (readonly [part: string, kind: string])[] = []

  constructor(moreKeys: ReadonlySet<string>) {
    this.moreKeys = moreKeys
  }

  isSecretKey(name: string): boolean {
    return isSecretKey(name, this.moreKeys)
  }

  mask(text: string, own: boolean, note: (kind: string) => void): string {
    if (own && CLEAN.has(text)) return text
    const masked = maskSecrets(sanitise(text), ({ kind, secret }) => {
      note(kind)
      if (this.#learning) this.learn(secret, kind)
    })
    if (!own) return this.#maskKnown(masked, note)
    if (masked === text) rememberClean(text)
    return masked
  }

  known(text: string): string | null {
    return this.#kinds.get(text) ?? null
  }

  learn(secret: string, kind: string): void {
    const text = sanitise(secret).trim()
    if (text.length < MIN_WHOLE || this.#kinds.has(text)) return
    if (this.#kinds.size >= MAX_SECRETS) {
      this.overflowed = true
      return
    }
    this.#kinds.set(text, kind)
    if (text.length < MIN_PART) return
    const spellings = new Set([text, JSON.stringify(text).slice(1, -1), encodeURIComponent(text)])
    for (const spelling of spellings) this.#parts.push([spelling, kind])
    this.#parts.sort((left, right) => right[0].length - left[0].length)
  }

  get size(): number {
    return this.#kinds.size
  }

  /** Whether a text has anything to teach. One that is too long to learn from counts as full of secrets. */
  mayLearnFrom(text: string): boolean {
    if (this.moreKeys.size === 0 && !/[^\x20-\x7e]|\\[u/]/.test(text) && !hasAnyWord(text)) return false
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
    return this.#parts.some(([part]) => json.includes(part))
  }

  #maskKnown(text: string, note: (kind: string) => void): string {
    if (this.#kinds.size === 0) return text
    const kind = this.known(text.trim())
    if (kind !== null) {
      note(kind)
      return `[redacted:${kind}]`
    }
    let masked = text
    for (const [part, partKind] of this.#parts) {
      if (!masked.includes(part)) continue
      masked = masked.replaceAll(part, () => `[redacted:${partKind}]`)
      note(partKind)
    }
    return masked
  }
}

/** Without what PostgreSQL refuses in text: NUL becomes U+2400, half of a pair U+FFFD. */
function sanitise(text: string): string {
  const whole = /[\ud800-\udfff]/.test(text) ? text.replace(/\p{Surrogate}/gu, '\ufffd') : text
  return whole.includes('\0') ? whole.replaceAll('\0', '\u2400') : whole
}
