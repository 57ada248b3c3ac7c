import { cutMiddle, escapeText, textWidth } from './text.ts'

/** One value of a table. null is shown as `-` (empty when piped); dates as RFC 3339; lists joined with commas. */
export type Cell = string | number | boolean | null | Date | readonly string[]

const GAP = '  '
/** A column is not cut below this width, even if the line then wraps. */
const MIN_COLUMN = 8

/** Lines of a table: aligned and cut to a width, first line the header; or tab-separated values without a header. */
export function layoutTable(
  headers: readonly string[],
  rows: readonly (readonly Cell[])[],
  layout: { readonly width: number } | 'tabs',
): string[] {
  if (layout === 'tabs') return rows.map((row) => row.map((cell) => cellText(cell, '')).join('\t'))
  const body = rows.map((row) => row.map((cell) => cellText(cell, '-')))
  const natural = headers.map((header, at) =>
    Math.max(textWidth(header), ...body.map((row) => textWidth(row[at] ?? ''))),
  )
  const widths = fitWidths(natural, layout.width)
  const toLine = (cells: readonly string[], source: readonly Cell[]): string =>
    cells
      .map((cell, at) => pad(cutMiddle(cell, widths[at] ?? 0), widths[at] ?? 0, isNumeric(source[at])))
      .join(GAP)
      .trimEnd()
  const header = toLine(
    headers.map((text) => text.toUpperCase()),
    headers.map((_, at) => (rows.length > 0 ? (rows[0]?.[at] ?? null) : null)),
  )
  return [header, ...body.map((cells, at) => toLine(cells, rows[at] ?? []))]
}

function cellText(cell: Cell, empty: string): string {
  if (cell === null) return empty
  if (cell instanceof Date) return cell.toISOString()
  if (typeof cell === 'object') return escapeText(cell.join(','))
  const text = String(cell)
  return text === '' ? empty : escapeText(text)
}

/** Takes width from the widest columns until the table fits. */
function fitWidths(natural: readonly number[], width: number): number[] {
  const widths = [...natural]
  let over = widths.reduce((sum, one) => sum + one, 0) + GAP.length * (widths.length - 1) - width
  while (over > 0) {
    const widest = widths.indexOf(Math.max(...widths))
    const second = Math.max(MIN_COLUMN, ...widths.filter((_, at) => at !== widest))
    const current = widths[widest] ?? 0
    if (current <= MIN_COLUMN) break
    const take = Math.min(over, Math.max(1, current - second))
    widths[widest] = current - take
    over -= take
  }
  return widths
}

function pad(text: string, width: number, right: boolean): string {
  const room = ' '.repeat(Math.max(0, width - textWidth(text)))
  return right ? room + text : text + room
}

function isNumeric(cell: Cell | undefined): boolean {
  return typeof cell === 'number'
}
