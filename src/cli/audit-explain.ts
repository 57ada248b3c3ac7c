/** Lays an explanation out in lines of at most 100 columns. */
import type { Explanation } from '../audit/explain.ts'
import type { StoredRow } from '../audit/query.ts'
import type { TreeLine } from '../trace/tree.ts'
import type { Output } from './output.ts'
import { escapeText, textWidth } from './text.ts'
import { layoutTreeLine, oneLine, valueText, WIDTH, wrap } from './tree-lines.ts'

const MAX_LINES = 150

/** How much is shown. */
export interface LayoutOptions {
  /** Values uncut and every line, however wide. */
  readonly full: boolean
  /** Other rows of the same exchange. */
  readonly siblings: readonly string[]
}

/** The lines to print. Foreign text in them is escaped. */
export function layoutExplanation(
  row: StoredRow,
  explanation: Explanation,
  out: Pick<Output, 'style'>,
  options: LayoutOptions,
): readonly string[] {
  const page = new Page(out, options.full)
  page.wrapped(explanation.sentence, '', 'strong')
  showCause(page, explanation, options.full)
  page.blank()
  showFacts(page, row, explanation.notes, options.siblings)
  if (explanation.tree.length > 0) page.tree(explanation.tree)
  return page.lines
}

/** The rule that decided and the line that made the difference. */
function showCause(page: Page, { rule, line }: Explanation, full: boolean): void {
  if (rule !== null) page.fact('rule', `${rule.name}  ${rule.at}`)
  if (rule !== null && rule.title !== null) page.fact('', rule.title)
  if (line === null) return
  page.fact(line.aborted ? 'ended' : line.ok ? 'holds' : 'fails', lineText(line))
  for (const value of line.values) page.fact('', valueText(value, full))
}

function showFacts(page: Page, row: StoredRow, notes: readonly string[], siblings: readonly string[]): void {
  page.fact('when', `${row.ts.toISOString()}   ${round(row.latency_ms)} ms   HTTP ${row.status_code}`)
  page.fact('who', whoText(row))
  page.fact('row', row.id)
  if (row.request_id !== row.id) page.fact('request', row.request_id)
  for (const id of siblings) page.fact('with', `${id} (same exchange)`)
  if (row.policy_revision !== null) page.fact('policy', row.policy_revision)
  for (const note of notes) page.fact('note', note)
}

class Page {
  readonly lines: string[] = []
  readonly #out: Pick<Output, 'style'>
  readonly #full: boolean

  constructor(out: Pick<Output, 'style'>, full: boolean) {
    this.#out = out
    this.#full = full
  }

  blank(): void {
    this.lines.push('')
  }

  /** `name  text`, wrapped under itself. */
  fact(name: string, text: string): void {
    this.wrapped(text, `  ${name.padEnd(8)}  `)
  }

  wrapped(text: string, lead: string, look?: 'strong'): void {
    const room = WIDTH - textWidth(lead)
    const wrapped = this.#full ? [escapeText(text)] : wrap(escapeText(text), room)
    wrapped.forEach((line, at) => {
      const start = at === 0 ? lead : ' '.repeat(textWidth(lead))
      this.lines.push(`${start}${look === undefined ? line : this.#out.style(look, line)}`.trimEnd())
    })
  }

  tree(lines: readonly TreeLine[]): void {
    const shown = this.#full ? lines : lines.slice(0, MAX_LINES)
    for (const line of shown) {
      if (line.kind === 'rule' && line.depth === 0) this.blank()
      this.lines.push(...layoutTreeLine(line, { out: this.#out, full: this.#full }))
    }
    if (shown.length < lines.length) {
      this.blank()
      this.fact('note', `${lines.length - shown.length} more lines: --full`)
    }
  }
}

function lineText(line: NonNullable<Explanation['line']>): string {
  return `line ${line.at.replace(/^.*:/s, '')}: ${oneLine(line.expr)}`
}

function whoText(row: StoredRow): string {
  const name =
    row.principal_id === null ? 'nobody' : `${row.principal_id} (${row.principal_kind ?? 'unknown'})`
  const roles = row.roles === null || row.roles.length === 0 ? '' : `   roles ${row.roles.join(', ')}`
  const key = row.api_key_id === null ? '' : `   key ${row.api_key_id}`
  return `${name}${roles}${key}   from ${row.client_ip ?? 'an unknown address'}`
}

function round(ms: number): string {
  return String(Math.round(ms * 10) / 10)
}
