/**
 * Places in a JSON text that has passed the strict scan (`scan.ts`), and lossless edits at such places.
 *
 * A value is taken out, or replaced, as the characters it was written with: digits beyond 2^53, key order, escapes and
 * white space survive, which `JSON.parse` followed by `JSON.stringify` would not keep. Nothing here checks syntax: on a
 * text that was not scanned the results mean nothing.
 */

/** Half-open range of characters (UTF-16 units) of a text. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** Puts `text` in the place of `span`. */
export interface SpanEdit {
  readonly span: Span
  readonly text: string
}

/** The characters of a span. */
export function sliceOf(text: string, span: Span): string {
  return text.slice(span.start, span.end)
}

/** The span of the outermost value, without surrounding white space. */
export function rootSpan(text: string): Span {
  const start = skipSpace(text, 0)
  return { start, end: skipValue(text, start) }
}

/**
 * The value that stands at a path of keys and array indexes, starting at `from` (default: the outermost value); null
 * when there is none.
 */
export function findValue(text: string, path: readonly (string | number)[], from?: Span): Span | null {
  let span: Span | null = from ?? rootSpan(text)
  for (const step of path) {
    span = typeof step === 'number' ? elementAt(text, span, step) : memberOf(text, span, step)
    if (span === null) return null
  }
  return span
}

/** The elements of the array at `span`, in order; none when it is not an array. */
export function arrayElements(text: string, span: Span): readonly Span[] {
  const elements: Span[] = []
  walkArray(text, span, (element) => {
    elements.push(element)
    return false
  })
  return elements
}

/** The members of the object at `span`: unescaped key -> its value; none when it is not an object. */
export function objectMembers(text: string, span: Span): ReadonlyMap<string, Span> {
  const members = new Map<string, Span>()
  walkObject(text, span, (key, value) => {
    members.set(keyText(text, key), value)
    return false
  })
  return members
}

/** The unescaped keys of the object at `span`, each as often as it stands there; none when it is not an object. */
export function objectKeys(text: string, span: Span): readonly string[] {
  const keys: string[] = []
  walkObject(text, span, (key) => {
    keys.push(keyText(text, key))
    return false
  })
  return keys
}

/**
 * The text with every edit applied. Throws RangeError when spans overlap or lie outside the text: such an edit would
 * forward something nobody has judged.
 */
export function replaceSpans(text: string, edits: readonly SpanEdit[]): string {
  const sorted = [...edits].sort((a, b) => a.span.start - b.span.start)
  const parts: string[] = []
  let done = 0
  for (const { span, text: replacement } of sorted) {
    if (span.start < done || span.end < span.start || span.end > text.length) {
      throw new RangeError('edits must lie inside the text and must not overlap')
    }
    parts.push(text.slice(done, span.start), replacement)
    done = span.end
  }
  parts.push(text.slice(done))
  return parts.join('')
}

const QUOTE = 0x22
const BACKSLASH = 0x5c
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d
const OPEN_BRACKET = 0x5b
const CLOSE_BRACKET = 0x5d

function skipSpace(text: string, from: number): number {
  let at = from
  while (isSpace(text.charCodeAt(at))) at += 1
  return at
}

function isSpace(code: number): boolean {
  return code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09
}

/** Index after the string whose opening quote is at `from`. */
function skipString(text: string, from: number): number {
  let quote = text.indexOf('"', from + 1)
  while (quote !== -1 && isEscaped(text, quote, from)) quote = text.indexOf('"', quote + 1)
  return quote === -1 ? text.length : quote + 1
}

/** Whether an odd number of backslashes stands before `at`, none of them before `from`. */
function isEscaped(text: string, at: number, from: number): boolean {
  let slash = at - 1
  while (slash > from && text.charCodeAt(slash) === BACKSLASH) slash -= 1
  return (at - 1 - slash) % 2 === 1
}

/** Index after the value that starts at `from`. Brackets are counted, not recursed into. */
function skipValue(text: string, from: number): number {
  const first = text.charCodeAt(from)
  if (first === QUOTE) return skipString(text, from)
  if (first !== OPEN_BRACE && first !== OPEN_BRACKET) return skipScalar(text, from)
  let depth = 0
  let at = from
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (code === QUOTE) {
      at = skipString(text, at)
      continue
    }
    at += 1
    if (code === OPEN_BRACE || code === OPEN_BRACKET) depth += 1
    else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) depth -= 1
    if (depth === 0) break
  }
  return at
}

function skipScalar(text: string, from: number): number {
  let at = from
  while (at < text.length) {
    const code = text.charCodeAt(at)
    if (isSpace(code) || code === 0x2c || code === CLOSE_BRACE || code === CLOSE_BRACKET) break
    at += 1
  }
  return at
}

/** Calls `visit` for each element until it answers true. */
function walkArray(text: string, span: Span, visit: (element: Span, index: number) => boolean): void {
  if (text.charCodeAt(span.start) !== OPEN_BRACKET) return
  let at = skipSpace(text, span.start + 1)
  for (let index = 0; at < span.end && text.charCodeAt(at) !== CLOSE_BRACKET; index += 1) {
    const end = skipValue(text, at)
    if (visit({ start: at, end }, index)) return
    at = skipComma(text, end)
  }
}

/** Calls `visit` with each key (its quotes included) and value until it answers true. */
function walkObject(text: string, span: Span, visit: (key: Span, value: Span) => boolean): void {
  if (text.charCodeAt(span.start) !== OPEN_BRACE) return
  let at = skipSpace(text, span.start + 1)
  while (at < span.end && text.charCodeAt(at) !== CLOSE_BRACE) {
    const keyEnd = skipString(text, at)
    const start = skipSpace(text, skipSpace(text, keyEnd) + 1)
    const end = skipValue(text, start)
    if (visit({ start: at, end: keyEnd }, { start, end })) return
    at = skipComma(text, end)
  }
}

function skipComma(text: string, from: number): number {
  const at = skipSpace(text, from)
  return text.charCodeAt(at) === 0x2c ? skipSpace(text, at + 1) : at
}

function memberOf(text: string, span: Span, name: string): Span | null {
  let found: Span | null = null
  walkObject(text, span, (key, value) => {
    if (keyText(text, key) === name) found = value
    return found !== null
  })
  return found
}

function elementAt(text: string, span: Span, wanted: number): Span | null {
  let found: Span | null = null
  walkArray(text, span, (element, index) => {
    if (index === wanted) found = element
    return found !== null
  })
  return found
}

function keyText(text: string, key: Span): string {
  const raw = text.slice(key.start + 1, key.end - 1)
  return raw.includes('\\') ? String(JSON.parse(text.slice(key.start, key.end))) : raw
}
