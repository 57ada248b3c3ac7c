/**
 * Where the masks of a call apply: in the policy's input, in the message that carried the arguments, in the answer, and in
 * what a trace says was read. Pure.
 */
import type { Mask } from '../gateway/types.ts'
import { parsePointer } from '../json/pointer.ts'
import type { Span } from '../json/span.ts'
import { arrayElements, objectMembers, rootSpan, sliceOf } from '../json/span.ts'

/** A place in a document, followed from its root on. */
export interface MaskPlace {
  /** The mask of this very value; null = none. */
  readonly mask: Mask | null
  /** The place of a member or element; null when there is no mask at it or below it. */
  at(name: string): MaskPlace | null
}

/** The root of a document in which these masks are at their paths; null = none is. */
export function placeOf(masks: readonly Mask[]): MaskPlace | null {
  return masks.length === 0 ? null : new Place(masks)
}

/** Members have few different places, which are made once: a document may have any number of members. */
class Place implements MaskPlace {
  readonly mask: Mask | null
  readonly #masks: readonly Mask[]
  readonly #named = new Map<string, MaskPlace | null>()
  #any: MaskPlace | null | undefined = undefined

  constructor(masks: readonly Mask[]) {
    // Where several apply the one that says least wins.
    const here = masks.filter(({ path }) => path.length === 0)
    this.mask = here.find(({ op }) => op === 'remove') ?? here[0] ?? null
    this.#masks = masks
    for (const { path } of masks) if (path[0] !== undefined && path[0] !== ANY) this.#named.set(path[0], null)
  }

  at(name: string): MaskPlace | null {
    const named = this.#named.get(name)
    if (named === undefined) {
      if (this.#any === undefined) this.#any = this.#below((token) => token === ANY)
      return this.#any
    }
    if (named !== null) return named
    const place = this.#below((token) => token === name || token === ANY)
    this.#named.set(name, place)
    return place
  }

  #below(fits: (token: string) => boolean): MaskPlace | null {
    return placeOf(this.#masks.flatMap((mask) => tailOf(mask, fits)))
  }
}

/** The masks with paths in the arguments, moved to where the arguments stand. */
export function argumentMasks(masks: readonly Mask[], at: readonly string[]): readonly Mask[] {
  return masks.flatMap(({ path: [root, ...rest], ...mask }) =>
    root === 'arguments' ? [{ ...mask, path: [...at, ...rest] }] : [],
  )
}

/** The masks whose path begins with none of these roots, or only those that begin with one. */
export function masksAt(masks: readonly Mask[], roots: readonly string[], wanted: boolean): readonly Mask[] {
  return masks.filter(({ path: [root = ''] }) => roots.includes(root) === wanted)
}

/** The place of a whole trace: nothing is masked in it but what stands in a `reads` under the name of a masked reference. */
export function placeOfTrace(masks: readonly Mask[]): MaskPlace | null {
  if (masks.length === 0) return null
  // A reader of the trace must see that something was read there.
  const shown = masks.map(
    (mask): Mask => (mask.op === 'remove' ? { ...mask, op: 'upsert', json: MARK } : mask),
  )
  const reads: MaskPlace = { mask: null, at: (name) => placeOfRead(shown, name) }
  const trace: MaskPlace = { mask: null, at: (name) => (name === 'reads' ? reads : trace) }
  return trace
}

const ANY = '*'
const MARK = '"[redacted:mask]"'
const STEP = /\.?([^.[\]]+)|\["((?:[^"\\]|\\.)*)"\]|\[([^\]]*)\]/y
const INDEX = /^\d+$/

/** `input.arguments.rows[i]["a b"]`: what a variable stands for is not known, so it may be anything. */
function placeOfRead(masks: readonly Mask[], read: string): MaskPlace | null {
  const tokens = tokensOf(read)
  if (tokens[0] !== 'input') return null
  let left = masks
  for (const token of tokens.slice(1)) {
    const masked = left.find(({ path }) => path.length === 0)
    if (masked !== undefined) return placeOf([masked])
    left = left.flatMap((mask) => tailOf(mask, (own) => token === null || own === token || own === ANY))
  }
  return placeOf(left)
}

/** null = not known. */
function tokensOf(read: string): readonly (string | null)[] {
  const tokens: (string | null)[] = []
  const step = new RegExp(STEP)
  for (let match = step.exec(read); match !== null; match = step.exec(read)) {
    const [, name, quoted, inner] = match
    if (name !== undefined) tokens.push(name)
    else if (quoted !== undefined) tokens.push(unquoted(quoted))
    else tokens.push(inner !== undefined && INDEX.test(inner) ? inner : null)
  }
  return tokens
}

function unquoted(text: string): string | null {
  try {
    return String(JSON.parse(`"${text}"`))
  } catch {
    return null
  }
}

function tailOf(
  { path: [first, ...rest], ...mask }: Mask,
  fits: (token: string) => boolean,
): readonly Mask[] {
  return first !== undefined && fits(first) ? [{ ...mask, path: rest }] : []
}

/** Calls `onValue` with every masked value of a JSON text that has passed the strict scan. */
export function findMasked(
  text: string,
  place: MaskPlace | null,
  onValue: (value: string, mask: Mask) => void,
): void {
  if (place !== null) search(text, rootSpan(text), place, onValue)
}

function search(
  text: string,
  span: Span,
  place: MaskPlace,
  onValue: (value: string, mask: Mask) => void,
): void {
  if (place.mask !== null) {
    onValue(sliceOf(text, span), place.mask)
    return
  }
  const isArray = text.startsWith('[', span.start)
  const inner = isArray ? arrayElements(text, span).entries() : objectMembers(text, span).entries()
  for (const [name, value] of inner) {
    const below = place.at(String(name))
    if (below !== null) search(text, value, below, onValue)
  }
}

/** Masks that leave a keyed digest in the place of what they hide. @throws TypeError when one is no JSON Pointer */
export function hashMasks(pointers: readonly string[]): readonly Mask[] {
  return pointers.map((pointer) => {
    const path = parsePointer(pointer)
    if (path === null) throw new TypeError('a pointer passed the schema and is none')
    return { op: 'hash', path }
  })
}
