/**
 * RE2 patterns, compiled once per process and run under the evaluation's budget. The engine (re2js) is linear per
 * search, but a search that finds every match may read the rest of the text for each of them, so the characters it
 * really reads are counted and charged while it runs.
 */
import { LRUCache } from 'lru-cache'
import { RE2JS } from 're2js'
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, spend } from './budget.ts'
import { TextFinder } from './search.ts'

/** Longest pattern text, in UTF-16 units. */
const MAX_PATTERN_CHARS = 4_096
/** Largest compiled pattern, in RE2 instructions (`(a{30}){30}` has 1,800). */
const MAX_PROGRAM_SIZE = 8_192
/** Patterns that are kept, and how many instructions they may have together (a few hundred bytes each). */
const CACHED_PATTERNS = 256
const CACHED_INSTRUCTIONS = 65_536

const NS_PER_COMPILE = 20_000
const NS_PER_PATTERN_CHAR = 4_000
/** Classes such as `\\pL` are tables of hundreds of ranges. */
const NS_PER_UNICODE_CLASS = 40_000
const NS_PER_INSTRUCTION = 500
const NS_PER_SEARCH = 1_500
/** Steps that are charged at once. */
const STEPS_PER_CHARGE = 64

/** Start and end of the match and of each group, -1 where a group took no part. */
export type MatchSpans = readonly number[]

/** What the engine offers behind `RE2JS.re2()`; stable only for the pinned version of re2js. */
interface Engine {
  executeEngine(input: MeteredText, position: number, anchor: 0, spans: number): number[] | null
  numberOfInstructions(): number
  numberOfCapturingGroups(): number
  readonly onepass: unknown
}

type CacheEntry = Pattern | { readonly refusal: Error }

const CACHE = new LRUCache<string, CacheEntry>({
  max: CACHED_PATTERNS,
  maxSize: CACHED_INSTRUCTIONS,
  sizeCalculation: (entry) => (entry instanceof Pattern ? entry.size : 1),
})

/**
 * The compiled pattern. Charges the same whether it was cached or not, so that a decision costs what its input and
 * policy say.
 *
 * @throws {BuiltinError} when RE2 does not accept it
 * @throws {BuiltinLimitError} `pattern_size`
 */
export function compilePattern(text: string, context: BuiltinContext): Pattern {
  if (text.length > MAX_PATTERN_CHARS) {
    throw new BuiltinLimitError('pattern_size', `regular expression over ${MAX_PATTERN_CHARS} characters`)
  }
  const isNew = !context.cache.has(`regex ${text}`)
  if (isNew) spend(context, compileCost(text))
  let entry = CACHE.get(text)
  if (entry === undefined) {
    entry = compileUncached(text)
    CACHE.set(text, entry)
  }
  if (!(entry instanceof Pattern)) throw entry.refusal
  if (isNew) spend(context, NS_PER_INSTRUCTION * entry.size)
  context.cache.set(`regex ${text}`, true)
  return entry
}

function compileCost(text: string): number {
  const classes = text.match(/\\[pP]/g)?.length ?? 0
  return NS_PER_COMPILE + NS_PER_PATTERN_CHAR * text.length + NS_PER_UNICODE_CLASS * classes
}

function compileUncached(text: string): CacheEntry {
  try {
    const compiled = RE2JS.compile(text)
    const engine: Engine = compiled.re2()
    if (engine.numberOfInstructions() > MAX_PROGRAM_SIZE) {
      return { refusal: new BuiltinLimitError('pattern_size', 'regular expression too large when compiled') }
    }
    return new Pattern(engine, compiled.namedGroups())
  } catch (thrown) {
    return { refusal: new BuiltinError(thrown instanceof Error ? thrown.message : String(thrown)) }
  }
}

/** A compiled pattern; made by {@link compilePattern}. */
export class Pattern {
  readonly #engine: Engine
  /** Index of each named group. */
  readonly groups: ReadonlyMap<string, number>

  constructor(engine: Engine, groups: Readonly<Record<string, number>>) {
    this.#engine = engine
    this.groups = new Map(Object.entries(groups))
  }

  /** Instructions of the compiled program. */
  get size(): number {
    return this.#engine.numberOfInstructions()
  }

  /** Whether the pattern matches anywhere in the text. */
  test(text: string, context: BuiltinContext): boolean {
    return this.#search(new MeteredText(text, this.#costPerStep(text.length), context), 0, 1) !== null
  }

  /** All matches without overlap, at most `limit` of them, as Go's `FindAll` has them. */
  *matches(text: string, limit: number, context: BuiltinContext): Generator<MatchSpans> {
    const input = new MeteredText(text, this.#costPerStep(text.length), context)
    const groups = 1 + this.#engine.numberOfCapturingGroups()
    let position = 0
    let previousEnd = -1
    for (let found = 0; found < limit && position <= text.length; ) {
      const spans = this.#search(input, position, groups)
      if (spans === null) return
      const [start = 0, end = 0] = spans
      // An empty match right behind another match does not count.
      const accepted = end !== position || start !== previousEnd
      position = end === position ? position + input.widthAt(position) : end
      previousEnd = end
      if (accepted) {
        found += 1
        yield spans
      }
    }
  }

  #search(input: MeteredText, position: number, groups: number): MatchSpans | null {
    // The bit-state matcher clears one bit per instruction and position before it starts.
    spend(input.budget, NS_PER_SEARCH + (this.size * input.length) / 64)
    return this.#engine.executeEngine(input, position, 0, 2 * groups)
  }

  /** Nanoseconds per character read: a few for the matchers that follow one path, all instructions for the others. */
  #costPerStep(textLength: number): number {
    if (this.#engine.onepass !== null) return 30
    const isBitState = this.size <= 500 && textLength * this.size <= 262_144
    return isBitState ? 20 + 4 * this.size : 20 + 20 * this.size
  }
}

const END_OF_TEXT = -8
const BEGIN_LINE = 1
const END_LINE = 2
const BEGIN_TEXT = 4
const END_TEXT = 8
const WORD_BOUNDARY = 16
const NO_WORD_BOUNDARY = 32

/** The text as re2js reads it (its `MachineInput`), with every read charged. */
class MeteredText {
  readonly budget: BuiltinContext
  readonly #text: string
  readonly #nsPerStep: number
  #stepsLeft = 0
  #finder: { readonly prefix: string; readonly finder: TextFinder } | undefined

  constructor(text: string, nsPerStep: number, context: BuiltinContext) {
    this.#text = text
    this.#nsPerStep = nsPerStep
    this.budget = context
  }

  get length(): number {
    return this.#text.length
  }

  endPos(): number {
    return this.#text.length
  }

  canCheckPrefix(): boolean {
    return true
  }

  prefixLength(engine: { readonly prefix: string }): number {
    return engine.prefix.length
  }

  /** The prefilter is a short cut only; the search itself is what is metered. */
  hasString(): boolean {
    return true
  }

  hasAnyString(): boolean {
    return true
  }

  /** Code point and width at the position, packed as re2js wants them. */
  step(position: number): number {
    this.#chargeStep()
    const codePoint = this.#text.codePointAt(position)
    if (codePoint === undefined) return END_OF_TEXT
    return (codePoint << 3) | (codePoint > 0xffff ? 2 : 1)
  }

  /** UTF-16 units of the character at the position; 1 past the end. */
  widthAt(position: number): number {
    return (this.#text.codePointAt(position) ?? 0) > 0xffff ? 2 : 1
  }

  /** Distance to the next occurrence of the literal every match starts with, or -1. */
  index(engine: { readonly prefix: string }, position: number): number {
    if (this.#finder?.prefix !== engine.prefix) {
      this.#finder = { prefix: engine.prefix, finder: new TextFinder(engine.prefix) }
    }
    const found = this.#finder.finder.indexIn(this.#text, position)
    const end = found < 0 ? this.#text.length : found + engine.prefix.length
    spend(this.budget, 5 * Math.max(end - position, 0))
    return found < 0 ? -1 : found - position
  }

  /** Which empty-width assertions hold between the characters around the position. */
  context(position: number): number {
    const before = position > 0 ? this.#text.charCodeAt(position - 1) : Number.NaN
    const after = this.#text.charCodeAt(position)
    let holds = isWordUnit(before) === isWordUnit(after) ? NO_WORD_BOUNDARY : WORD_BOUNDARY
    if (Number.isNaN(before)) holds |= BEGIN_TEXT | BEGIN_LINE
    if (before === LINE_FEED) holds |= BEGIN_LINE
    if (Number.isNaN(after)) holds |= END_TEXT | END_LINE
    if (after === LINE_FEED) holds |= END_LINE
    return holds
  }

  #chargeStep(): void {
    if (this.#stepsLeft === 0) {
      spend(this.budget, STEPS_PER_CHARGE * this.#nsPerStep)
      this.#stepsLeft = STEPS_PER_CHARGE
    }
    this.#stepsLeft -= 1
  }
}

const LINE_FEED = 10

/** ASCII letters, digits and underscore: RE2's `\w`. */
function isWordUnit(unit: number): boolean {
  return (
    (unit >= 48 && unit <= 57) || (unit >= 65 && unit <= 90) || unit === 95 || (unit >= 97 && unit <= 122)
  )
}
