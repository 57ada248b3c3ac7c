/**
 * Looks for many words in one pass over a text: a table-driven automaton, so its time depends on the length of the text
 * alone, neither on what stands in it nor on how many words there are.
 */

/** Words to look for, in ASCII. `anyCase` ones are given in lower case. */
export interface Words {
  readonly exact: readonly string[]
  readonly anyCase: readonly string[]
}

/** Whether any of the words stands in `text`. */
export type WordFinder = (text: string) => boolean

/** Where in a word a match has come to. */
interface Place {
  readonly word: string
  readonly anyCase: boolean
  readonly at: number
}

const ASCII = 128
/** In the table: a word has been read to its end. */
const FOUND = 0xffff

/** Makes a finder. The automaton is built when it is first used: some milliseconds. */
export function createWordFinder(words: Words): WordFinder {
  let finder: WordFinder | null = null
  return (text) => {
    finder ??= buildFinder(words)
    return finder(text)
  }
}

function buildFinder(words: Words): WordFinder {
  const starts: readonly Place[] = [
    ...words.exact.map((word) => ({ word, anyCase: false, at: 0 })),
    ...words.anyCase.map((word) => ({ word, anyCase: true, at: 0 })),
  ]
  const columns = columnsOf(starts)
  const table = tableOf(starts, columns)
  const width = Math.max(...columns.values()) + 1
  const columnOf = Uint16Array.from(
    { length: ASCII },
    (_, code) => columns.get(String.fromCharCode(code)) ?? 0,
  )
  return (text) => {
    let row = 0
    for (let index = 0; index < text.length; index += 1) {
      const code = text.charCodeAt(index)
      row = code < ASCII ? (table[row * width + (columnOf[code] ?? 0)] ?? 0) : 0
      if (row === FOUND) return true
    }
    return false
  }
}

/** A column for every character that occurs in a word; all others share column 0. */
function columnsOf(starts: readonly Place[]): ReadonlyMap<string, number> {
  const chars = new Set(
    starts.flatMap(({ word, anyCase }) => [...(anyCase ? word + word.toUpperCase() : word)]),
  )
  return new Map([...chars].map((char, index) => [char, index + 1]))
}

/** One row for every set of places that can be open at once, one column for every character. */
function tableOf(starts: readonly Place[], columns: ReadonlyMap<string, number>): Uint16Array {
  const rows: (readonly Place[])[] = [[]]
  const known = new Map([['', 0]])
  const fresh: number[] = [0]
  const begun = new Map([...columns.keys()].map((char) => [char, advance(starts, char)] as const))
  for (const [char, column] of columns) fresh[column] = rowOf(begun.get(char) ?? [], rows, known)
  const cells = [fresh]
  // Rows are added while this runs.
  for (let index = 1; index < rows.length; index += 1) {
    const open = rows[index] ?? []
    const line = [...fresh]
    // Only for what an open place waits for does it matter that the place is open.
    for (const char of new Set(open.flatMap(awaited))) {
      const next = [...advance(open, char), ...(begun.get(char) ?? [])]
      line[columns.get(char) ?? 0] = rowOf(next, rows, known)
    }
    cells.push(line)
  }
  return Uint16Array.from(cells.flat())
}

function awaited({ word, anyCase, at }: Place): readonly string[] {
  const char = word.charAt(at)
  return anyCase ? [char, char.toUpperCase()] : [char]
}

function advance(open: readonly Place[], char: string): readonly Place[] {
  return open
    .filter(({ word, anyCase, at }) => (anyCase ? char.toLowerCase() : char) === word[at])
    .map((place) => ({ ...place, at: place.at + 1 }))
}

function rowOf(places: readonly Place[], rows: (readonly Place[])[], known: Map<string, number>): number {
  if (places.some(({ word, at }) => at === word.length)) return FOUND
  const key = places.map(({ word, anyCase, at }) => `${anyCase ? 'i' : 'e'}${at}${word}`).join('\n')
  const row = known.get(key) ?? rows.push(places) - 1
  known.set(key, row)
  return row
}
