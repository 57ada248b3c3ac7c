/**
 * Keeps secrets and hostile texts out of the audit row. Pure: the same event gives the same row.
 *
 * One redactor serves one event. What it catches in the request it remembers, and replaces wherever that text comes up
 * again: in the trace (a policy may have copied it into a variable), in the answer, in an error message.
 */
import { areCleanWords, isJsonText, isWithin, looksPlain } from './glance.ts'
import type { MaskPlace } from './mask.ts'
import { Memory } from './memory.ts'
import type { Bounds, OwnWords, Walked, WalkPlan } from './walk.ts'
import { cutText, walkJson } from './walk.ts'

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
  /** Has been scanned or parsed already. Default false: it is looked whether the text is JSON. */
  readonly isJson?: boolean
  /** Assembled by the gateway within its bounds, from texts it serialised itself. Default false. */
  readonly trusted?: boolean
  /** Of a trusted text: the fragments that came from outside, and all that the gateway's own words can contribute. */
  readonly parts?: { readonly values: string; readonly words: string }
  /** Members to withhold when not everything that has to be hidden is known. */
  readonly withhold?: ReadonlySet<string>
  readonly masks?: MaskPlace | null
}

/** The redactor of one event. */
export interface Redactor {
  /** JSON text -> redacted, bounded JSON text. @throws RedactionFault when the text is not JSON */
  json(text: string, options: RedactOptions): Walked
  /** Plain text -> redacted, sanitised text of at most `maxLength` characters. `own`: no look for remembered secrets. */
  text(text: string, maxLength: number, own?: boolean): string
  /** Remembers a secret known from elsewhere, such as the credential of the request. */
  learn(secret: string, kind: string): void
  /** Remembers every leaf of a masked JSON value, however short. */
  learnMasked(json: string, kind: string): void
  /** Not everything that has to be hidden is known: texts that may hold or repeat it have to be withheld. */
  withholds(): void
  /** {@link Redactor.withholds} was called, or more secrets were met than can be remembered. */
  readonly overflowed: boolean
  /** How many secrets it has met. */
  readonly learned: number
}

const NO_KEYS: ReadonlySet<string> = new Set()

/**
 * Makes a redactor; use a fresh one for every event. `moreKeys`: further names of secret members, see {@link toKeySet}.
 * `hashKey`: markers of secrets that are long enough carry an HMAC-SHA-256 of them, so that rows can be correlated.
 */
export function createRedactor(
  moreKeys: ReadonlySet<string> = NO_KEYS,
  hashKey: Buffer | null = null,
): Redactor {
  const memory = new Memory(moreKeys, hashKey)
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
      const masked = memory.maskColumn(looked, own)
      return masked.length <= maxLength ? masked : `${cutText(masked, maxLength - 1)}…`
    },
    learn: (secret, kind) => memory.learn(secret, kind),
    learnMasked: (json, kind) => memory.learnMasked(json, kind),
    withholds() {
      memory.overflowed = true
    },
    get overflowed() {
      return memory.overflowed
    },
    get learned() {
      return memory.size
    },
  }
}

/**
 * Whether nothing in a text has to change. Texts that the gateway has assembled itself (`trusted`) are surely JSON and
 * within their bounds; of others that is found out.
 */
function isPlain(text: string, memory: Memory, options: RedactOptions): boolean {
  if (memory.moreKeys.size > 0 || memory.overflowed || (options.masks ?? null) !== null) return false
  if (options.trusted !== true) {
    return text.length <= MAX_GLANCE && looksPlain(text, memory) && mayBeKept(text, options)
  }
  if (text.length > options.bounds.totalLength) return false
  const { parts } = options
  return parts === undefined
    ? looksPlain(text, memory)
    : areCleanWords(parts.words) && looksPlain(parts.values, memory)
}

function mayBeKept(text: string, { bounds, isJson = false }: RedactOptions): boolean {
  return isWithin(text, bounds) && (isJson || isJsonText(text))
}

/** Texts of strangers up to this length are looked at as a whole before they are walked. */
const MAX_GLANCE = 4096

const NOTHING_CHANGED = { redacted: [], redactedCount: 0, cut: [], cutCount: 0 } as const

function toPlan(options: RedactOptions, memory: Memory): WalkPlan {
  return {
    bounds: options.bounds,
    learn: options.learn ?? false,
    partial: options.partial ?? false,
    own: options.own ?? null,
    withhold: memory.overflowed ? (options.withhold ?? null) : null,
    masks: options.masks ?? null,
  }
}
