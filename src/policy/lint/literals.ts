/** Which texts an expression compares a field of the input with, as far as they stand in it. */
import type { ExprProbe } from '../dictionary.ts'

/** One such text and where it stands. */
export interface Literal {
  readonly value: string
  readonly file: string
  readonly row: number
  readonly col: number
  /** First column behind it. */
  readonly endCol: number
}

const TEXT = String.raw`"(?:[^"\\\n]|\\.)*"`

/**
 * The texts of `field == "a"`, `"a" == field` and `field in {"a", "b"}`, with `==`, `=` or `:=` alike; null when the expression
 * does not compare the field like that.
 *
 * @param field such as `input.target.name`
 */
export function literalsOf(expr: ExprProbe, field: string): readonly Literal[] | null {
  const name = field.replaceAll('.', String.raw`\.`)
  const forms = [
    String.raw`^(?:not\s+)?${name}\s*:?={1,2}\s*(${TEXT})$`,
    String.raw`^(?:not\s+)?(${TEXT})\s*={1,2}\s*${name}$`,
    String.raw`^(?:not\s+)?${name}\s+in\s+([{[]\s*${TEXT}(?:\s*,\s*${TEXT})*\s*,?\s*[}\]])$`,
  ]
  for (const form of forms) {
    const found = new RegExp(form, 'sd').exec(expr.text)
    const [from = 0] = found?.indices?.[1] ?? []
    if (found?.[1] !== undefined) return textsIn(expr, found[1], from)
  }
  return null
}

function textsIn(expr: ExprProbe, list: string, from: number): readonly Literal[] {
  return [...list.matchAll(new RegExp(TEXT, 'g'))].map(({ 0: text, index }) => {
    const before = expr.text.slice(0, from + index).split('\n')
    const column = [...(before.at(-1) ?? '')].length + (before.length === 1 ? expr.col : 1)
    return {
      value: JSON.parse(text) as string,
      file: expr.file,
      row: expr.row + before.length - 1,
      col: column,
      endCol: column + [...text].length,
    }
  })
}

/** All texts that the expressions of one body compare the field with; null when none does. */
export function valuesIn(body: readonly ExprProbe[], field: string): ReadonlySet<string> | null {
  const found = body.flatMap((expr) => (expr.negated ? [] : [literalsOf(expr, field)]))
  const known = found.flatMap((one) => one ?? [])
  return known.length === 0 ? null : new Set(known.map(({ value }) => value))
}
