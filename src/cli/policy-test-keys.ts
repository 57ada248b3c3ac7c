/** The keys of `gateway policy test --watch`: what a person types -> what they want to see. */

/** What was asked for. An empty pattern stands for all tests. */
export type Wish =
  | { readonly kind: 'all' | 'failed' | 'uncut' | 'coverage' | 'quit' }
  | { readonly kind: 'pattern'; readonly pattern: RegExp | null }

/** Reads what is typed. */
export interface KeyReader {
  /** Takes what was typed at once; returns what it asks for. */
  read(text: string): readonly Wish[]
  /** The line in which a pattern is being typed, the way out with it; null = none is. */
  prompt(): string | null
}

const WISHES: Readonly<Record<string, Exclude<Wish['kind'], 'pattern'>>> = {
  '\r': 'all',
  '\n': 'all',
  f: 'failed',
  e: 'uncut',
  c: 'coverage',
  q: 'quit',
}

/** Ctrl-C and Ctrl-D come as characters as long as single keys are read. */
const QUIT = new Set(['\u0003', '\u0004'])
const ERASE = new Set(['\u0008', '\u007f'])
const ESCAPE = '\u001b'
const SEQUENCES = [`${ESCAPE}[`, `${ESCAPE}O`]
const MAX_PATTERN = 200

/** The line that says which keys there are. */
export const KEY_LINE = '[enter] all  [f] only failed  [p] pattern  [e] uncut  [c] coverage  [q] quit'

/** Makes a reader; it remembers the pattern that is being typed. */
export function createKeyReader(): KeyReader {
  let typed: string | null = null
  let problem = ''

  /** null = nothing is asked for yet. */
  function finish(text: string): Wish | null {
    try {
      const pattern = text === '' ? null : new RegExp(text, 'u')
      typed = null
      return { kind: 'pattern', pattern }
    } catch {
      problem = '   (no regular expression)'
      return null
    }
  }

  function type(char: string, text: string): Wish | null {
    problem = ''
    if (char === '\r' || char === '\n') return finish(text)
    if (char === ESCAPE) typed = null
    else if (ERASE.has(char)) typed = [...text].slice(0, -1).join('')
    else if (!/\p{Cc}/u.test(char) && text.length < MAX_PATTERN) typed = text + char
    return null
  }

  function press(char: string): Wish | null {
    if (QUIT.has(char)) return { kind: 'quit' }
    if (typed !== null) return type(char, typed)
    if (char === 'p') typed = ''
    const kind = WISHES[char]
    return kind === undefined ? null : { kind }
  }

  return {
    read(text) {
      // An arrow, a function key: not Escape and letters.
      if (SEQUENCES.some((lead) => text.startsWith(lead))) return []
      return [...text].flatMap((char) => press(char) ?? [])
    },
    prompt: () =>
      typed === null ? null : `only tests that match (enter = done, esc = back): ${typed}${problem}`,
  }
}
