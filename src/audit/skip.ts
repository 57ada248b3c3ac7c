/** Steps over parts of a JSON text that are not kept, without recursion, and remembers the secrets in them. */
/** What the walk asks of the redactor it works for. */
export interface Masker {
  /** A string with its secrets replaced and its characters sanitised. `own`: only secrets by shape. */
  mask(text: string, own: boolean, note: (kind: string) => void): string
  /** Kind of the remembered secret that is exactly this text; null = none. */
  known(text: string): string | null
  /** Whether the value of a member of this name is a secret. */
  isSecretKey(name: string): boolean
  /** Remembers a secret of the caller. */
  learn(secret: string, kind: string): void
  /** What stands in the place of a secret. */
  mark(kind: string, secret: string | null): string
  /** Remembers the secrets by shape in a text that is not kept. */
  learnFrom(text: string): void
}

/** What a skip tells of what it steps over. */
export type Learner = Pick<Masker, 'learn' | 'learnFrom' | 'isSecretKey'>

/** The text is not JSON. The message holds no part of it. */
export class RedactionFault extends Error {
  constructor(offset: number) {
    super(`not JSON at offset ${offset}`)
    this.name = 'RedactionFault'
  }
}

/** Where a skip came to. */
export interface Skipped {
  /** Index after what was skipped. */
  readonly at: number
  /** The text ended first, or what stands there is no JSON. */
  readonly ended: boolean
  /** Commas of the outermost container met. */
  readonly commas: number
}

const TOKEN = /["[\]{},]|-?\d[\d.eE+-]*|[a-z]+/g

/**
 * Steps over the value that begins at `at` (`level` 0), or from inside a container over its rest (`level` 1).
 * `secret`: every leaf of it is one. `masker` null: remember nothing.
 */
export function skipJson(
  text: string,
  at: number,
  level: 0 | 1,
  secret: boolean,
  masker: Learner | null,
): Skipped {
  const skip = new Skip(text, level, secret, masker)
  const token = new RegExp(TOKEN)
  token.lastIndex = at
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    // Only one value was asked for, and here begins something else.
    if (level === 0 && skip.depth === 0 && text.slice(at, match.index).trim() !== '') break
    const end = match[0] === '"' ? stringEnd(text, match.index) : token.lastIndex
    if (end > text.length) break
    if (skip.take(match[0], match.index, end)) return { at: end, ended: false, commas: skip.commas }
    token.lastIndex = end
  }
  const rest = text.slice(at).trimStart()
  return { at: rest === '' || skip.depth > 0 ? text.length : at, ended: true, commas: skip.commas }
}

class Skip {
  readonly #text: string
  readonly #masker: Learner | null
  depth: number
  commas = 0
  /** All leaves at this depth or deeper are secrets; Infinity = none is. */
  #secretFrom: number

  constructor(text: string, level: 0 | 1, secret: boolean, masker: Learner | null) {
    this.#text = text
    this.#masker = masker
    this.depth = level
    this.#secretFrom = secret ? -1 : Number.POSITIVE_INFINITY
  }

  /** Takes one token. Whether everything asked for has been stepped over. */
  take(token: string, start: number, end: number): boolean {
    if (token === '{' || token === '[') {
      this.depth += 1
      return false
    }
    if (token === '}' || token === ']') {
      this.depth -= 1
      if (this.depth < this.#secretFrom) this.#plain()
      return this.depth <= 0
    }
    if (token === ',') {
      if (this.depth === 1) this.commas += 1
      if (this.depth === this.#secretFrom) this.#plain()
      return false
    }
    if (this.#masker !== null) this.#leaf(this.#masker, token, start, end)
    return this.depth === 0
  }

  #plain(): void {
    if (this.#secretFrom !== -1) this.#secretFrom = Number.POSITIVE_INFINITY
  }

  #leaf(masker: Learner, token: string, start: number, end: number): void {
    const secret = this.depth >= this.#secretFrom
    if (token !== '"') {
      if (secret && !/^[a-z]/.test(token)) masker.learn(token, 'key')
      return
    }
    const text = decode(this.#text.slice(start + 1, end - 1), true)
    if (this.#isKey(end)) {
      if (masker.isSecretKey(text)) this.#secretFrom = Math.min(this.#secretFrom, this.depth)
    } else if (secret) masker.learn(text, 'key')
    else masker.learnFrom(text)
  }

  #isKey(end: number): boolean {
    let at = end
    while (WHITE.has(this.#text.charCodeAt(at))) at += 1
    return this.#text.charCodeAt(at) === COLON
  }
}

const COLON = 0x3a
const WHITE: ReadonlySet<number> = new Set([0x20, 0x0a, 0x0d, 0x09])

/** Index after the closing quote of the string that opens at `start`; beyond the text when it has none. */
export function stringEnd(text: string, start: number): number {
  for (let at = start + 1; ; ) {
    const quote = text.indexOf('"', at)
    if (quote === -1) return text.length + 1
    let slashes = quote - 1
    while (slashes > start && text[slashes] === '\\') slashes -= 1
    if ((quote - 1 - slashes) % 2 === 0) return quote + 1
    at = quote + 1
  }
}

/** Decodes the inside of a JSON string. A piece cut out of a longer one may end within an escape. */
export function decode(raw: string, whole: boolean): string {
  if (!raw.includes('\\')) return raw
  try {
    return JSON.parse(`"${raw}"`) as string
  } catch {
    if (whole) throw new RedactionFault(0)
  }
  for (let drop = 1; drop <= 6; drop += 1) {
    try {
      return JSON.parse(`"${raw.slice(0, -drop)}"`) as string
    } catch {
      // one character less
    }
  }
  return ''
}
