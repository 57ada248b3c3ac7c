/** What `gateway policy diff` prints. Pure. */
import type { NamedChange, RuleChange, TextChanges } from '../policy/comparison/rules.ts'
import type { AskedVerdict, VerdictChange } from '../policy/comparison/verdicts.ts'
import type { Output } from './output.ts'
import { escapeText } from './text.ts'

/** Everything that differs between two policies; `--json` prints it as it is. */
export interface PolicyDifference extends TextChanges {
  /** Revisions. */
  readonly before: string
  readonly after: string
  readonly cases: { readonly asked: number; readonly changes: readonly VerdictChange[] }
  readonly rows: {
    readonly asked: number
    /** Rows that do not hold everything that was asked then. */
    readonly not_whole: number
    readonly changes: readonly VerdictChange[]
  }
}

const SIGNS = { added: '+', removed: '-', changed: '~' } as const
const LOOKS = { added: 'good', removed: 'bad', changed: 'warn' } as const
/** `--json` has them all. */
const MAX_LINES = 50

/** Whether anything differs that a reader of policies would call a difference. */
export function isDifferent({ rules, data, files, cases, rows }: PolicyDifference): boolean {
  return [rules, data, files, cases.changes, rows.changes].some((changes) => changes.length > 0)
}

/** The lines of a terminal. */
export function layoutDifference(difference: PolicyDifference, out: Output): readonly string[] {
  const { before, after, rules, data, files, cases, rows } = difference
  const missing = rows.not_whole === 0 ? '' : `, ${rows.not_whole} do not hold all that was asked`
  return [
    `${before} -> ${after}`,
    ...section(out, `rules: ${countText(rules.length)}`, rules, ruleLine),
    ...section(out, `data: ${countText(data.length)}`, data, nameLine),
    ...section(out, `files: ${countText(files.length)}`, files, nameLine),
    ...section(
      out,
      `cases: ${cases.asked} asked, ${countText(cases.changes.length)}`,
      cases.changes,
      verdictLine,
    ),
    ...section(
      out,
      `recorded decisions: ${rows.asked} asked${missing}, ${countText(rows.changes.length)}`,
      rows.changes,
      verdictLine,
    ),
  ]
}

function section<T>(
  out: Output,
  title: string,
  changes: readonly T[],
  toLine: (change: T, out: Output) => string,
): readonly string[] {
  const more = changes.length - MAX_LINES
  return [
    title,
    ...changes.slice(0, MAX_LINES).map((change) => `  ${toLine(change, out)}`),
    ...(more > 0 ? [`  and ${more} more (--json)`] : []),
  ]
}

function countText(count: number): string {
  return count === 0 ? 'no difference' : count === 1 ? '1 difference' : `${count} differences`
}

function ruleLine({ kind, rule, before, after }: RuleChange, out: Output): string {
  const places = [before.join(' '), after.join(' ')].filter((text) => text !== '').join(' -> ')
  return `${sign(kind, out)} ${escapeText(rule)}  ${escapeText(places)}`
}

function nameLine({ kind, name }: NamedChange, out: Output): string {
  return `${sign(kind, out)} ${escapeText(name)}`
}

function sign(kind: RuleChange['kind'], out: Output): string {
  return out.style(LOOKS[kind], SIGNS[kind])
}

function verdictLine({ name, before, after }: VerdictChange): string {
  const at = before.findIndex((one, index) => JSON.stringify(one) !== JSON.stringify(after[index]))
  return `${escapeText(name)}: ${verdictText(before[at])} -> ${verdictText(after[at])}`
}

function verdictText(verdict: AskedVerdict | undefined): string {
  if (verdict === undefined) return 'nothing'
  const { allow, allowedBy, deniedBy, failure, limits, obligations } = verdict
  const reasons = [...(allow ? allowedBy : deniedBy), ...(failure === null ? [] : [failure])]
  const more = [
    ...limits.map(({ name }) => `limit ${name}`),
    ...(obligations.length === 0 ? [] : [`${obligations.length} obligations`]),
  ]
  const inner = [...reasons, ...more].map(escapeText).join(', ')
  return `${allow ? 'allow' : 'deny'}${inner === '' ? '' : ` (${inner})`}`
}
