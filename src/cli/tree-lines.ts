/** Lays the lines of a trace out in at most 100 columns: mark, line number, source text, values. */
import type { ShownValue, TreeLine } from '../trace/tree.ts'
import type { Output } from './output.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'

/** Columns of everything that is laid out. */
export const WIDTH = 100
/** Values begin here where the expression leaves room. */
const VALUE_COLUMN = 60
const MAX_VALUE = 60
const LOOKS = { '+': 'good', x: 'bad', '.': 'dim' } as const

/** How a trace is laid out. */
export interface TreeLayout {
  readonly out: Pick<Output, 'style'>
  /** Values uncut and lines however wide. */
  readonly full: boolean
  /** Spaces before everything. */
  readonly indent?: string
  /** Says beside lines without values what their mark means. */
  readonly words?: boolean
}

const WORDS = { '+': 'true', x: 'false', '.': 'not reached' } as const

/** The printed lines of one line of a trace: the line itself, and values that found no room beside it. Foreign text is escaped. */
export function layoutTreeLine(line: TreeLine, layout: TreeLayout): string[] {
  const { full } = layout
  const indent = `${layout.indent ?? '  '}${'  '.repeat(Math.min(line.depth, 12))}`
  const gutter = line.kind === 'step' ? `${line.mark ?? ' '} ${(line.place ?? '').padStart(4)}  ` : ''
  const place = line.kind === 'rule' ? `  ${escapeText(line.place ?? '')}` : ''
  const text = escapeText(line.kind === 'step' ? oneLine(line.text) : line.text)
  const values = line.values.map((value) =>
    line.kind === 'rule' ? ruleValue(value, full) : valueText(value, full),
  )
  if (layout.words === true && line.mark !== null && values.length === 0) values.push(WORDS[line.mark])
  const room = WIDTH - textWidth(indent) - textWidth(gutter) - textWidth(place)
  const head = `${indent}${gutter}${full ? text : cutMiddle(text, room)}${place}`
  const [inline, below] = besideOrBelow(head, values, line.kind === 'rule' ? 1 : 0)
  const painted =
    line.mark === null ? paintRule(line, head, layout) : layout.out.style(LOOKS[line.mark], head)
  const under = indent + ' '.repeat(gutter.length + 2)
  return [
    `${painted}${inline}`.trimEnd(),
    ...below.map((value) => `${under}${full ? value : cutMiddle(value, WIDTH - under.length)}`),
  ]
}

function paintRule(line: TreeLine, head: string, { out }: TreeLayout): string {
  if (line.kind !== 'rule') return head
  return out.style(line.decisive ? 'strong' : 'dim', head)
}

/** Values beside the line where there is room, else under it; the first `always` stay beside it. */
function besideOrBelow(
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

/** Source text on one line, tabs as two spaces. */
export function oneLine(text: string): string {
  return text.replace(/\s*\n\s*/g, ' ').replaceAll('\t', '  ')
}

/** A value that a line read, such as `input.phase = "call"`. */
export function valueText({ name, json }: ShownValue, full: boolean): string {
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

/** Lines of at most `width` columns, broken at spaces where there are any. */
export function wrap(text: string, width: number): string[] {
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
