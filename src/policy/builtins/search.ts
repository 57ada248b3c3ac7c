/** Substring search whose worst case is linear, unlike `indexOf` on repetitive text. */

/**
 * Where `needle` occurs in `text`, as UTF-16 indices in rising order. `overlapping` also reports occurrences that
 * share characters. `needle` must not be empty. At most `limit` indices.
 */
export function* occurrences(text: string, needle: string, overlapping: boolean): Generator<number> {
  const failure = failureTable(needle)
  let matched = 0
  for (let at = 0; at < text.length; at += 1) {
    const unit = text.charCodeAt(at)
    while (matched > 0 && needle.charCodeAt(matched) !== unit) matched = failure[matched - 1] ?? 0
    if (needle.charCodeAt(matched) === unit) matched += 1
    if (matched === needle.length) {
      yield at - needle.length + 1
      matched = overlapping ? (failure[matched - 1] ?? 0) : 0
    }
  }
}

/** Finds one text in others from any position on; the preparation is done once. */
export class TextFinder {
  readonly #needle: string
  readonly #failure: Uint32Array

  constructor(needle: string) {
    this.#needle = needle
    this.#failure = failureTable(needle)
  }

  /** Index of the first occurrence at or after `from`, or -1. */
  indexIn(text: string, from: number): number {
    if (this.#needle === '') return from
    let matched = 0
    for (let at = from; at < text.length; at += 1) {
      const unit = text.charCodeAt(at)
      while (matched > 0 && this.#needle.charCodeAt(matched) !== unit)
        matched = this.#failure[matched - 1] ?? 0
      if (this.#needle.charCodeAt(matched) === unit) matched += 1
      if (matched === this.#needle.length) return at - matched + 1
    }
    return -1
  }
}

/** Knuth-Morris-Pratt: for each prefix, the length of its longest border. */
function failureTable(needle: string): Uint32Array {
  const table = new Uint32Array(needle.length)
  let border = 0
  for (let at = 1; at < needle.length; at += 1) {
    while (border > 0 && needle.charCodeAt(at) !== needle.charCodeAt(border)) border = table[border - 1] ?? 0
    if (needle.charCodeAt(at) === needle.charCodeAt(border)) border += 1
    table[at] = border
  }
  return table
}
