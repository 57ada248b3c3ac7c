/**
 * Whether two patterns of characters, `.`, `[sets]`, `+` and `*` have a common match: `regex.globs_match`, with the
 * grammar and the blind spots of the library OPA uses. Results per pair of positions are kept, so the work is
 * polynomial where that library's is exponential.
 */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, BuiltinLimitError, spend } from './budget.ts'

/** Inclusive ranges of code points, sorted and merged; null = any character. */
type Characters = readonly (readonly [from: number, to: number])[] | null

interface Token {
  /** Order matters: characters before dot before sets, as in the library's matching. */
  readonly kind: 'character' | 'dot' | 'set'
  readonly characters: Characters
  readonly flag: '' | '+' | '*'
}

/** Most tokens of a pattern: bounds the depth of the recursion below. */
const MAX_TOKENS = 500
const NS_PER_STEP = 150

class Tokenizer {
  readonly #input: readonly string[]
  #at = 0

  constructor(pattern: string) {
    this.#input = Array.from(pattern)
    if (this.#input.length > MAX_TOKENS) {
      throw new BuiltinLimitError('pattern_size', `glob over ${MAX_TOKENS} characters`)
    }
  }

  run(): Token[] {
    const tokens: Token[] = []
    while (this.#at < this.#input.length) {
      const body = this.#readBody()
      tokens.push({ ...body, flag: this.#readFlag() })
    }
    return tokens
  }

  /** One character, and whether a backslash took its meaning away. */
  #next(): { character: string; escaped: boolean } {
    const character = this.#input[this.#at]
    this.#at += 1
    if (character !== '\\') return { character: character ?? '', escaped: false }
    const escaped = this.#input[this.#at]
    if (escaped === undefined) throw new BuiltinError('input ends with a \\ (escape) character')
    this.#at += 1
    return { character: escaped, escaped: true }
  }

  #readBody(): Omit<Token, 'flag'> {
    const { character, escaped } = this.#next()
    if (!escaped) {
      if (character === '.') return { kind: 'dot', characters: null }
      if (character === '[') return { kind: 'set', characters: this.#readSet() }
      if (/[\]+*]/.test(character)) throw new BuiltinError(`unexpected ${character}`)
    }
    const code = codeOf(character)
    return { kind: 'character', characters: [[code, code]] }
  }

  #readFlag(): '' | '+' | '*' {
    const character = this.#input[this.#at]
    if (character === '\\' && this.#at === this.#input.length - 1) {
      throw new BuiltinError('input ends with a \\ (escape) character')
    }
    if (character !== '+' && character !== '*') return ''
    this.#at += 1
    return character
  }

  #readSet(): Characters {
    const ranges: [number, number][] = []
    let previous: number | undefined
    while (this.#at < this.#input.length) {
      const { character, escaped } = this.#next()
      if (!escaped && character === ']') return mergeRanges(ranges)
      if (!escaped && character === '-') {
        ranges.push([this.#rangeStart(previous), this.#rangeEnd(previous ?? 0)])
        previous = undefined
        continue
      }
      previous = codeOf(character)
      ranges.push([previous, previous])
    }
    throw new BuiltinError('found [ without matching ]')
  }

  #rangeStart(previous: number | undefined): number {
    if (previous === undefined) throw new BuiltinError("range character '-' must be preceded by a character")
    return previous
  }

  #rangeEnd(start: number): number {
    if (this.#at >= this.#input.length - 1) throw new BuiltinError("range character '-' must be followed")
    const { character, escaped } = this.#next()
    if (!escaped && /[\]-]/.test(character))
      throw new BuiltinError("'-' cannot be followed by a special symbol")
    if (codeOf(character) < start) throw new BuiltinError('range is out of order')
    return codeOf(character)
  }
}

function codeOf(character: string): number {
  return character.codePointAt(0) ?? 0
}

function mergeRanges(ranges: readonly (readonly [number, number])[]): Characters {
  const merged: [number, number][] = []
  for (const [from, to] of [...ranges].sort((a, b) => a[0] - b[0])) {
    const last = merged.at(-1)
    if (last !== undefined && from <= last[1] + 1) last[1] = Math.max(last[1], to)
    else merged.push([from, to])
  }
  return merged
}

/** Neighbouring tokens with flags over the same characters are one. */
function simplify(tokens: readonly Token[]): readonly Token[] {
  const simple: Token[] = []
  for (const token of tokens) {
    const latest = simple.at(-1)
    const joins = latest !== undefined && latest.flag !== '' && token.flag !== '' && isSameBody(latest, token)
    if (!joins) simple.push(token)
    else if (token.flag === '+') simple[simple.length - 1] = { ...latest, flag: '+' }
  }
  return simple
}

function isSameBody(a: Token, b: Token): boolean {
  return a.kind === b.kind && JSON.stringify(a.characters) === JSON.stringify(b.characters)
}

function overlaps(a: Token, b: Token): boolean {
  if (a.characters === null || b.characters === null) return true
  const others = b.characters
  return a.characters.some(([from, to]) => others.some((other) => from <= other[1] && other[0] <= to))
}

type Glob = readonly Token[]

class Intersection {
  readonly #globs: readonly [Glob, Glob]
  readonly #context: BuiltinContext
  readonly #known = new Map<string, boolean>()

  constructor(left: Glob, right: Glob, context: BuiltinContext) {
    this.#globs = [left, right]
    this.#context = context
  }

  run(): boolean {
    return this.#normal(0, 0, 0)
  }

  /** Token of the `side` glob, counted from its start; `swapped` = 1 when the right glob plays the first part. */
  #token(swapped: 0 | 1, side: 0 | 1, at: number): Token | undefined {
    return this.#globs[side === swapped ? 0 : 1][at]
  }

  #once(key: string, decide: () => boolean): boolean {
    const known = this.#known.get(key)
    if (known !== undefined) return known
    spend(this.#context, NS_PER_STEP)
    const result = decide()
    this.#known.set(key, result)
    return result
  }

  #normal(swapped: 0 | 1, i: number, j: number): boolean {
    return this.#once(`n${swapped},${i},${j}`, () => {
      for (let step = 0; ; step += 1) {
        const a = this.#token(swapped, 0, i + step)
        const b = this.#token(swapped, 1, j + step)
        if (a === undefined || b === undefined) return a === b
        if (a.flag !== '' || b.flag !== '') return this.#special(swapped, i + step, j + step)
        spend(this.#context, NS_PER_STEP)
        if (!overlaps(a, b)) return false
      }
    })
  }

  #special(swapped: 0 | 1, i: number, j: number): boolean {
    const flag = this.#token(swapped, 0, i)?.flag
    if (flag === '+') return this.#plus(swapped, i, j)
    if (flag === '*') return this.#star(swapped, i, j)
    const other = swapped === 0 ? 1 : 0
    return this.#token(swapped, 1, j)?.flag === '+' ? this.#plus(other, j, i) : this.#star(other, j, i)
  }

  #plus(swapped: 0 | 1, i: number, j: number): boolean {
    const plussed = this.#token(swapped, 0, i)
    const other = this.#token(swapped, 1, j)
    if (plussed === undefined || other === undefined || !overlaps(plussed, other)) return false
    if (this.#star(swapped, i, j + 1)) return true
    return other.flag !== '' && this.#normal(swapped, i + 1, j)
  }

  #star(swapped: 0 | 1, i: number, j: number): boolean {
    return this.#once(`s${swapped},${i},${j}`, () => {
      const starred = this.#token(swapped, 0, i)
      const next = this.#token(swapped, 0, i + 1)
      for (let at = j; ; at += 1) {
        const token = this.#token(swapped, 1, at)
        if (token === undefined) return next === undefined
        spend(this.#context, NS_PER_STEP)
        if (next !== undefined && overlaps(token, next) && this.#normal(swapped, i + 1, at)) return true
        if (starred === undefined || !overlaps(token, starred)) return false
      }
    })
  }
}

/** Cuts equal plain ends off, all but one token of each; null when they differ. */
function trim(left: Glob, right: Glob): readonly [Glob, Glob] | null {
  let start = 0
  for (let a = left[0], b = right[0]; isPlain(a) && isPlain(b); a = left[start], b = right[start]) {
    if (!overlaps(a, b)) return null
    start += 1
  }
  start = Math.max(start - 1, 0)
  let leftEnd = left.length - 1
  let rightEnd = right.length - 1
  while (leftEnd >= start && rightEnd >= start) {
    const a = left[leftEnd]
    const b = right[rightEnd]
    if (!isPlain(a) || !isPlain(b)) break
    if (!overlaps(a, b)) return null
    leftEnd -= 1
    rightEnd -= 1
  }
  const keep = leftEnd < left.length - 1 ? 2 : 1
  return [left.slice(start, leftEnd + keep), right.slice(start, rightEnd + keep)]
}

function isPlain(token: Token | undefined): token is Token {
  return token !== undefined && token.flag === ''
}

/** Whether the two globs have a common match. A malformed glob throws {@link BuiltinError}. */
export function globsIntersect(left: string, right: string, context: BuiltinContext): boolean {
  spend(context, (left.length + right.length) * NS_PER_STEP)
  const globs = [left, right].map((pattern) => simplify(new Tokenizer(pattern).run()))
  const trimmed = trim(globs[0] ?? [], globs[1] ?? [])
  return trimmed !== null && new Intersection(trimmed[0], trimmed[1], context).run()
}
