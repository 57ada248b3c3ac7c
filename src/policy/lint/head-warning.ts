/** A warning about a rule as a whole: it points at the head. */
import type { PolicyError } from '../compiler.ts'

/** Where a head stands, and how it begins. */
export interface HeadPlace {
  readonly file: string
  readonly row: number
  readonly col: number
}

/** @param sources Rego texts by file */
export function headWarning(
  { file, row, col }: HeadPlace,
  sources: Readonly<Record<string, string>>,
  { code, message, hint }: Pick<PolicyError, 'code' | 'message' | 'hint'>,
): PolicyError {
  const line = sources[file]?.split('\n')[row - 1]?.replace(/\r$/, '') ?? null
  return { file, row, col, endCol: headEnd(line, col), code, message, hint, line }
}

/** Up to the body: what stands before ` if `, `:=` or `=`. */
function headEnd(line: string | null, col: number): number {
  const text = [...(line ?? '')].slice(col - 1).join('')
  const head = /^.*?(?=\s+if\b|\s*:?=|\s*\{\s*$|$)/.exec(text)?.[0] ?? text
  return col + Math.max(1, [...head].length)
}
