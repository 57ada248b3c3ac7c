/** The examples in a Markdown page: its fenced blocks, and the policies folder that those with a file name make. */

/** One fenced block. */
export interface Block {
  /** First word behind the fence. */
  readonly language: string
  /** The rest of that line: a file's name, or empty. */
  readonly file: string
  readonly text: string
  /** 1-based; of the fence. */
  readonly row: number
  /** Where `text` begins in the page. */
  readonly offset: number
}

const FENCE = /^```([^\s`]*)[ ]*([^\n`]*)\n([\s\S]*?)^```[ \t]*$/gm

/** The blocks of a page, in order. */
export function blocksOf(page: string): readonly Block[] {
  return [...page.matchAll(FENCE)].map((match) => {
    const [, language = '', file = '', text = ''] = match
    const row = page.slice(0, match.index).split('\n').length
    const offset = match.index + match[0].indexOf('\n') + 1
    return { language, file: file.trim(), text, row, offset }
  })
}

/** Files by name; a later block takes the place of an earlier one of the same name. */
export function filesOf(blocks: readonly Block[]): Readonly<Record<string, string>> {
  return Object.fromEntries(blocks.filter(({ file }) => file !== '').map(({ file, text }) => [file, text]))
}
