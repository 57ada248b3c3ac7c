/** Lays an explanation out in lines of at most 100 columns. */
import type { Explanation, ShownValue, TreeLine } from '../audit/explain.ts'
import type { StoredRow } from '../audit/query.ts'
import type { Output } from './output.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'

const WIDTH = 100
/** Values begin here where the expression leaves room. */
const VALUE_COLUMN = 60
const MAX_VALUE = 60
const MAX_LINES = 150
const LOOKS = { '+': 'good', x: 'bad', '.': 'dim' } as const

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
      this.#treeLine(line)
    }
    if (shown.length < lines.length) {
      this.blank()
      this.fact('note', `${lines.length - shown.length} more lines: --full`)
    }
  }

  #treeLine(line: TreeLine): void {
    const indent = '  '.repeat(Math.min(line.depth, 12) + 1)
    const gutter = line.kind === 'step' ? `${line.mark ?? ' '} ${(line.place ?? '').padStart(4)}  ` : ''
    const place = line.kind === 'rule' ? `  ${escapeText(line.place ?? '')}` : ''
    const text = escapeText(line.kind === 'step' ? oneLine(line.text) : line.text)
    const values = line.values.map((value) =>
      line.kind === 'rule' ? ruleValue(value, this.#full) : valueText(value, this.#full),
    )
    const room = WIDTH - textWidth(indent) - textWidth(gutter) - textWidth(place)
    const head = `${indent}${gutter}${this.#full ? text : cutMiddle(text, room)}${place}`
    const [inline, below] = this.#place(head, values, line.kind === 'rule' ? 1 : 0)
    const painted = line.mark === null ? this.#rule(line, head) : this.#out.style(LOOKS[line.mark], head)
    this.lines.push(`${painted}${inline}`.trimEnd())
    const under = indent + ' '.repeat(gutter.length + 2)
    for (const value of below)
      this.lines.push(`${under}${this.#full ? value : cutMiddle(value, WIDTH - under.length)}`)
  }

  #rule(line: TreeLine, head: string): string {
    if (line.kind !== 'rule') return head
    return this.#out.style(line.decisive ? 'strong' : 'dim', head)
  }

  /** Values beside the line where there is room, else under it; the first `always` stay beside it. */
  #place(
    head: string,
    values: readonly string[],
    always: number,
  ): readonly [inline: string, below: readonly string[]] {
    const gap = ' '.repeat(Math.max(2, VALUE_COLUMN - textWidth(head)))
    const fits = (text: string) => text !== '' && textWidth(head) + gap.length + textWidth(text) <= WIDTH
    const all = values.join('  ')
    if (fits(all)) return [`${gap}${all}`, []]
    const first = values.slice(0, always).join('  ')
    return fits(first) ? [`${gap}${first}`, values.slice(always)] : ['', values]
  }
}

/** Source text on one line, tabs as two spaces. */
function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').replaceAll('\t', '  ')
}

function lineText(line: NonNullable<Explanation['line']>): string {
  return `line ${line.at.replace(/^.*:/s, '')}: ${oneLine(line.expr)}`
}

function valueText({ name, json }: ShownValue, full: boolean): string {
  return json === null ? `${escapeText(name)} is undefined` : `${escapeText(name)} = ${jsonText(json, full)}`
}

/** On a rule the name is its outcome, or an argument's. */
function ruleValue({ name, json }: ShownValue, full: boolean): string {
  return json === null ? escapeText(name) : `${escapeText(name)} = ${jsonText(json, full)}`
}

function jsonText(json: string, full: boolean): string {
  const text = escapeText(json)
  return full ? text : cutMiddle(text, MAX_VALUE)
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

/** Lines of at most `width` columns, broken at spaces where there are any. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = []
  let line = ''
  for (const word of text.split(' ')) {
    const longer = line === '' ? word : `${line} ${word}`
    if (textWidth(longer) <= width) {
      line = longer
      continue
    }
    if (line !== '') lines.push(line)
    line = cutMiddle(word, width)
  }
  return [...lines, line]
}
