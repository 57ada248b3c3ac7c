/** Lays an explanation out in lines of at most 100 columns, by default on one screen. */
import type { DecisiveLine, Explanation, RuleRole } from '../audit/explain.ts'
import type { StoredRow } from '../audit/query.ts'
import type { TreeLine } from '../trace/tree.ts'
import type { Output } from './output.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'
import { layoutTreeLine, oneLine, valueText, WIDTH, wrap } from './tree-lines.ts'

/** Of everything: what fits a terminal without scrolling. */
const SCREEN_LINES = 40
/** With source lines, which are asked for to be read. */
const MAX_LINES = 150
/** Upstreams of one call to `/mcp`. */
const MAX_PARTS = 12
/** However long what stands before it is. */
const MIN_TREE = 10

/** How much is shown. */
export interface LayoutOptions {
  /** Values uncut and every line, however wide. */
  readonly full: boolean
  /** Source lines are shown. */
  readonly source: boolean
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
  const facts = [...rowFacts(row, options.siblings), ...listFacts(explanation, options.full)]
  return layoutWhy(explanation, facts, out, options)
}

/** A name and what stands beside it. */
export type ShownFact = readonly [name: string, text: string]

/** Sentence, cause, facts, notes and tree. */
export function layoutWhy(
  explanation: Pick<Explanation, 'sentence' | 'rule' | 'line' | 'notes' | 'tree'>,
  facts: readonly ShownFact[],
  out: Pick<Output, 'style'>,
  options: Pick<LayoutOptions, 'full' | 'source'>,
): readonly string[] {
  const page = new Page(out, options.full)
  page.wrapped(explanation.sentence, '', 'strong')
  showCause(page, explanation, options.full)
  if (facts.length + explanation.notes.length > 0) page.blank()
  for (const [name, text] of facts) page.fact(name, text)
  for (const note of explanation.notes) page.fact('note', note)
  if (explanation.tree.length > 0) page.tree(explanation.tree, options.source ? MAX_LINES : SCREEN_LINES)
  return page.lines
}

const MEANINGS: Readonly<Record<RuleRole, string>> = {
  denies: 'denies: all its lines hold, and one rule that denies is enough',
  allows: 'allows: all its lines hold, and no rule denies',
  closest: 'came closest to allowing it, but not all its lines hold, and no other rule allows it',
  ended: 'was being evaluated when the evaluation was ended',
}

/** The rule that decided and the line that made the difference. */
function showCause(page: Page, { rule, line }: Pick<Explanation, 'rule' | 'line'>, full: boolean): void {
  if (rule === null) return
  page.fact('rule', `${rule.name}  ${rule.at}`)
  if (rule.title !== null) page.fact('', rule.title)
  page.fact('', MEANINGS[rule.role])
  if (line === null) return
  page.fact(line.aborted ? 'ended' : line.ok ? 'holds' : 'fails', lineText(line))
  for (const value of line.values) page.fact('', valueText(value, full))
  for (const { row, text } of line.around) page.source(row, text, String(row) === rowOf(line))
}

function rowFacts(row: StoredRow, siblings: readonly string[]): readonly ShownFact[] {
  return [
    ['when', `${row.ts.toISOString()}   ${round(row.latency_ms)} ms   HTTP ${row.status_code}`],
    ['who', whoText(row)],
    ['row', row.id],
    ...(row.request_id === row.id ? [] : [['request', row.request_id] as const]),
    ...siblings.map((id) => ['with', `${id} (same exchange)`] as const),
    ...(row.policy_revision === null ? [] : [['policy', row.policy_revision] as const]),
  ]
}

function listFacts({ listed, parts }: Explanation, full: boolean): readonly ShownFact[] {
  const shown = full ? parts : parts.slice(0, MAX_PARTS)
  return [
    ...(listed === null ? [] : [['list', listed] as const]),
    ...shown.map(({ server, sentence }) => ['at', `${server}: ${sentence}`] as const),
    ...(shown.length === parts.length
      ? []
      : [['', `${parts.length - shown.length} more upstreams: --full`] as const]),
  ]
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

  /** One line of the policy. */
  source(row: number, text: string, isMeant: boolean): void {
    const shown = escapeText(text.replaceAll('\t', '  '))
    const lead = `            ${isMeant ? '>' : ' '} ${String(row).padStart(4)}  `
    const line = `${lead}${this.#full ? shown : cutMiddle(shown, WIDTH - lead.length)}`.trimEnd()
    this.lines.push(isMeant ? line : this.#out.style('dim', line))
  }

  /** As much as fits: rules that decided stand apart, the others below each other. */
  tree(lines: readonly TreeLine[], maxLines: number): void {
    this.blank()
    this.lines.push(this.#out.style('dim', '  + holds   x fails   . not reached'))
    const room = this.#full ? Number.POSITIVE_INFINITY : Math.max(MIN_TREE, maxLines - this.lines.length)
    const end = this.lines.length + room
    let before: TreeLine | null = null
    let shown = 0
    for (const line of lines) {
      const starts = line.kind === 'rule' && line.depth === 0
      const laidOut = layoutTreeLine(line, { out: this.#out, full: this.#full })
      if (starts && before !== null && (line.decisive || before.decisive || this.#full)) laidOut.unshift('')
      // The last line is kept for saying that there are more.
      const left = end - this.lines.length - (shown + 1 < lines.length ? 2 : 0)
      if (laidOut.length > left) break
      this.lines.push(...laidOut)
      before = line
      shown += 1
    }
    if (shown === lines.length) return
    this.blank()
    this.fact('note', `${lines.length - shown} more lines: --full`)
  }
}

function lineText(line: DecisiveLine): string {
  return `line ${rowOf(line)}: ${line.source ?? oneLine(line.expr)}`
}

function rowOf({ at }: DecisiveLine): string {
  return at.replace(/^.*:/s, '')
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
