/**
 * Looking up what a reference read, in JSON text: values come out as they were written, numbers with all their digits. Each
 * object or array that is passed on the way is indexed once, so that many references into one input cost one scan of it.
 */

/** A step of a reference: member of an object, or element of an array. */
export type Step = string | number

interface Span {
  readonly from: number
  readonly to: number
}

/** Members by name, or elements in order; null for a scalar. */
type Index =
  | { readonly kind: 'object'; readonly members: ReadonlyMap<string, Span> }
  | { readonly kind: 'array'; readonly elements: readonly Span[] }
  | null

const SPACE = /[\s]*/y
const STRING = /"[^"\\]*(?:\\.[^"\\]*)*"/sy
const SCALAR = /[^\s,:[\]{}"]+/y
/** Up to the next character that can open or close something. */
const SKIP = /[^"[\]{}]*/y

class TooLong extends Error {}

/** A JSON document as text. */
export class JsonDocument {
  private readonly text: string
  private readonly indexes = new Map<number, Index>()
  private stepsLeft: number

  /** `maxSteps` bounds the work of all look-ups together, in tokens passed over. */
  constructor(text: string, maxSteps: number) {
    this.text = text
    this.stepsLeft = maxSteps
  }

  /** The JSON text of the value at `path`; undefined when there is none, null when finding out takes too long. */
  at(path: readonly Step[]): string | undefined | null {
    try {
      return this.find(path)
    } catch (thrown) {
      if (thrown instanceof TooLong || thrown instanceof SyntaxError) return null
      throw thrown
    }
  }

  private find(path: readonly Step[]): string | undefined {
    let span: Span | undefined = { from: this.match(SPACE, 0), to: this.text.length }
    for (const step of path) {
      span = member(this.indexAt(span.from), step)
      if (span === undefined) return undefined
    }
    return this.text.slice(span.from, span.to).trimEnd()
  }

  private indexAt(from: number): Index {
    const known = this.indexes.get(from)
    if (known !== undefined) return known
    const made = this.readIndex(from)
    this.indexes.set(from, made)
    return made
  }

  private readIndex(from: number): Index {
    const first = this.text.charAt(from)
    if (first !== '{' && first !== '[') return null
    const members = new Map<string, Span>()
    const elements: Span[] = []
    for (let at = this.next(from + 1); at < this.text.length && !'}]'.includes(this.text.charAt(at)); ) {
      let name = ''
      if (first === '{') {
        const end = this.match(STRING, at)
        name = JSON.parse(this.text.slice(at, end)) as string
        at = this.next(end)
      }
      const span = { from: at, to: this.endOfValue(at) }
      if (first === '{') members.set(name, span)
      else elements.push(span)
      at = this.next(span.to)
    }
    return first === '{' ? { kind: 'object', members } : { kind: 'array', elements }
  }

  /** Behind blanks, commas and colons. */
  private next(from: number): number {
    let at = this.match(SPACE, from)
    while (at < this.text.length && ',:'.includes(this.text.charAt(at))) at = this.match(SPACE, at + 1)
    return at
  }

  private endOfValue(from: number): number {
    const first = this.text.charAt(from)
    if (first === '"') return this.match(STRING, from)
    if (first !== '{' && first !== '[') return Math.max(this.match(SCALAR, from), from + 1)
    let depth = 0
    for (let at = from; at < this.text.length; at = this.match(SKIP, at)) {
      const character = this.text.charAt(at)
      if (character === '"') at = this.match(STRING, at)
      else {
        depth += character === '{' || character === '[' ? 1 : -1
        at += 1
        if (depth === 0) return at
      }
    }
    return this.text.length
  }

  /** Where a match of `pattern` at `from` ends; always behind `from` unless nothing matches. */
  private match(pattern: RegExp, from: number): number {
    this.stepsLeft -= 1
    if (this.stepsLeft < 0) throw new TooLong('too many tokens')
    pattern.lastIndex = from
    return pattern.test(this.text) ? pattern.lastIndex : this.text.length
  }
}

function member(index: Index, step: Step): Span | undefined {
  if (index === null) return undefined
  if (index.kind === 'object') return typeof step === 'string' ? index.members.get(step) : undefined
  return typeof step === 'number' ? index.elements[step] : undefined
}
