/** Lays the report of the policy tests out in lines of at most 100 columns. */
import type { Mismatch, Verdict } from '../policy/testing/expectation.ts'
import { caseName } from '../policy/testing/find-case.ts'
import type { TestFailure, TestReport, TestResult } from '../policy/testing/report.ts'
import type { Output } from './output.ts'
import { shellWord } from './shell-word.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'
import { layoutTreeLine, WIDTH, wrap } from './tree-lines.ts'

/** How much is shown. */
export interface ReportLayout {
  readonly out: Pick<Output, 'style'>
  /** Nothing cut. */
  readonly full: boolean
  /** Every test gets a line, those that pass, too. */
  readonly verbose?: boolean
}

const INDENT = ' '.repeat(8)
const MAX_FAILURES = 50
const MAX_LINES = 40
const MAX_FILE = 44

/** A result that did not hold, and the last line of a report: what a person who watches looks at. */
export function layoutFailures(
  results: readonly TestResult[],
  report: TestReport,
  layout: ReportLayout,
): { readonly failures: readonly (readonly string[])[]; readonly foot: readonly string[] } {
  return { failures: results.map((result) => failureLines(result, layout)), foot: footLines(report) }
}

/** Numbers of a report. */
export interface Counts {
  readonly passed: number
  readonly failed: number
  readonly skipped: number
  readonly todo: number
}

/** Counts results by outcome. */
export function countOutcomes(results: readonly TestResult[]): Counts {
  const of = (outcome: TestResult['outcome']) => results.filter((result) => result.outcome === outcome).length
  return { passed: of('passed'), failed: of('failed'), skipped: of('skipped'), todo: of('todo') }
}

/** The lines to print. Foreign text in them is escaped. */
export function layoutReport(folder: string, report: TestReport, layout: ReportLayout): readonly string[] {
  return [...headLines(folder, report, layout), ...bodyLines(report, layout), ...footLines(report)]
}

function headLines(folder: string, report: TestReport, { out }: ReportLayout): readonly string[] {
  const head = `${escapeText(folder)}  ${report.revision}   opa ${report.opa}   built in ${Math.round(report.buildMs)} ms`
  const lines = [
    out.style('strong', head),
    `  serves      ${shortDigest(report.digest)}   tables run on it, byte for byte`,
  ]
  if (report.ruleDigest !== null) {
    lines.push(
      `  test rules  ${shortDigest(report.ruleDigest)}   the same sources and the tests; compared with topdown`,
    )
  }
  return lines
}

/** Both ends of the digest: enough to compare with a row or a log line. */
function shortDigest(digest: string): string {
  return `${digest.slice(0, 15)}…${digest.slice(-4)}`
}

function bodyLines(report: TestReport, layout: ReportLayout): readonly string[] {
  const { lines, failed } = fileLines(report, layout)
  if (failed <= MAX_FAILURES || layout.full) return lines
  return [...lines, '', `  .. ${failed - MAX_FAILURES} more failed: --full, or --run for some of them`]
}

function fileLines(
  report: TestReport,
  layout: ReportLayout,
): { readonly lines: readonly string[]; readonly failed: number } {
  const lines: string[] = []
  const files = report.files.filter((file) => report.results.some(({ place }) => place.file === file))
  const width = Math.min(MAX_FILE, Math.max(...files.map((file) => textWidth(escapeText(file)))))
  let shown = 0
  for (const file of files) {
    const results = report.results.filter(({ place }) => place.file === file)
    const failed = results.filter(({ outcome }) => outcome === 'failed')
    if (failed.length === 0) lines.push(...okLines(file, results, width, layout))
    if (layout.verbose === true) lines.push(...(failed.length > 0 ? [''] : []), ...testLines(results, layout))
    for (const result of failed) {
      if (shown < MAX_FAILURES || layout.full) lines.push(...failureLines(result, layout))
      shown += 1
    }
  }
  return { lines, failed: shown }
}

function okLines(
  file: string,
  results: readonly TestResult[],
  width: number,
  { out, verbose }: ReportLayout,
): readonly string[] {
  const name = cutMiddle(escapeText(file), MAX_FILE)
  const pad = ' '.repeat(Math.max(0, width - textWidth(name)))
  const unit = results[0]?.kind === 'case' ? 'case' : 'test'
  const count = `${String(results.length).padStart(4)} ${unit}${results.length === 1 ? '' : 's'}`
  const counts = countOutcomes(results)
  const apart = [
    ...(counts.skipped > 0 ? [`${counts.skipped} skipped`] : []),
    ...(counts.todo > 0 ? [`${counts.todo} todo`] : []),
  ].map((text) => `, ${text}`)
  const lines = [`  ${out.style('good', 'ok')}    ${name}${pad}  ${count}${apart.join('')}`]
  if (verbose !== true) for (const result of results) lines.push(...notRunLines(result, out))
  return lines
}

const MARKS = { passed: 'ok', failed: 'FAIL', skipped: 'skipped', todo: 'todo' } as const
const MARK_LOOKS = { passed: 'good', failed: 'bad', skipped: 'warn', todo: 'warn' } as const
const MS_WIDTH = 13

/** A line for each test: outcome, row, name, milliseconds. */
function testLines(results: readonly TestResult[], { out, full }: ReportLayout): readonly string[] {
  return results.map(({ outcome, place, name, labels, reason, ms }) => {
    const mark = out.style(MARK_LOOKS[outcome], MARKS[outcome].padEnd(7))
    const combination = labels.length === 0 ? '' : ` [${labels.join(', ')}]`
    const text = escapeText(`${name}${combination}${reason === null ? '' : `: ${reason}`}`)
    const lead = `${INDENT}${mark} ${String(place.row).padStart(4)}  `
    const room = WIDTH - INDENT.length - 14 - MS_WIDTH
    const shown = full ? text : cutMiddle(text, room)
    const time = outcome === 'skipped' ? '' : `${ms.toFixed(2)} ms`.padStart(MS_WIDTH)
    return `${lead}${shown}${' '.repeat(Math.max(0, room - textWidth(shown)))}${time}`.trimEnd()
  })
}

/** What was not run says why, each reason once. */
function notRunLines({ outcome, name, reason }: TestResult, out: ReportLayout['out']): readonly string[] {
  if (outcome !== 'skipped' && outcome !== 'todo') return []
  const why = reason === null ? '' : `: ${escapeText(reason)}`
  return [`${INDENT}${out.style('warn', outcome)} ${cutMiddle(`${escapeText(name)}${why}`, WIDTH - 16)}`]
}

function failureLines(result: TestResult, layout: ReportLayout): readonly string[] {
  const { out, full } = layout
  const { place, name, labels, failure } = result
  const title = `${escapeText(place.file)}:${place.row}  ${escapeText(name)}`
  const labelText = labels.length === 0 ? '' : `[${labels.map(escapeText).join(', ')}]`
  const oneLine = `${title}  ${labelText}`.trimEnd()
  const isOne = full || textWidth(oneLine) <= WIDTH - 8
  const lines = ['', `  ${out.style('bad', 'FAIL')}  ${isOne ? oneLine : cutMiddle(title, WIDTH - 8)}`]
  if (!isOne && labelText !== '') lines.push(`${INDENT}${cutMiddle(labelText, WIDTH - INDENT.length)}`)
  if (failure === null) return lines
  lines.push(...outcomeLines(failure, layout))
  const tree = treeLines(failure, layout)
  lines.push(...(full ? tree : tree.slice(0, MAX_LINES)))
  if (!full && tree.length > MAX_LINES)
    lines.push(`${INDENT}.. ${tree.length - MAX_LINES} more lines: --full`)
  if (failure.why !== null) lines.push(...labelled('why: ', failure.why))
  lines.push(`${INDENT}only this: --run ${shellWord(`${escapeRegExp(place.file)}:${place.row}\\b`)}`)
  if (result.kind === 'case')
    lines.push(`${INDENT}all rules: gateway policy eval --case ${shellWord(caseName(result))}`)
  return lines
}

function treeLines(failure: TestFailure, { out, full }: ReportLayout): readonly string[] {
  return failure.lines.flatMap((line) => [
    ...(line.kind === 'rule' && line.depth === 0 ? [''] : []),
    ...layoutTreeLine(line, { out, full, indent: INDENT, words: true }),
  ])
}

const PLAIN: ReportLayout = { out: { style: (_look, text) => text }, full: true }

/** Why a test failed, whole and without colours, for formats that programs read. Foreign text is escaped. */
export function failureTexts({ failure }: TestResult): readonly string[] {
  if (failure === null) return []
  const why = failure.why === null ? [] : labelled('why: ', failure.why)
  const lines = [...outcomeLines(failure, PLAIN), ...treeLines(failure, PLAIN), ...why]
  return lines.map((line) => (line.startsWith(INDENT) ? line.slice(INDENT.length) : line).trimEnd())
}

/** Expected and got; or for a rule what it gave. */
function outcomeLines({ mismatches, got, notes }: TestFailure, { full }: ReportLayout): readonly string[] {
  const lines: string[] = []
  if (got !== null) {
    const expected = mismatches.map(({ member, expected: value }) => memberText(member, value, full))
    lines.push(...labelled('expected  ', expected.join('   ')))
    lines.push(...labelled('got       ', gotTexts(mismatches, got, full).join('   ')))
  }
  return [...lines, ...notes.flatMap((note) => labelled('', note))]
}

/** What differs first, then the verdict as far as it is not said yet. */
function gotTexts(mismatches: readonly Mismatch[], got: Verdict, full: boolean): readonly string[] {
  const told = new Set(mismatches.map(({ member }) => member))
  const rest: readonly (readonly [Mismatch['member'], unknown])[] = [
    ['denied_by', got.deniedBy],
    ['allowed_by', got.allowedBy],
  ]
  return [
    ...mismatches.map(({ member, got: value }) => memberText(member, value, full)),
    ...rest
      .filter(([member]) => !told.has(member) && got.failure === null)
      .map(([member, value]) => memberText(member, value, full)),
  ]
}

const MAX_VALUE = 72

function memberText(member: string, value: unknown, full: boolean): string {
  const text = escapeText(value === null ? 'none' : JSON.stringify(value))
  return `${member} ${full ? text : cutMiddle(text, MAX_VALUE)}`
}

/** A text that is wrapped under itself. */
function labelled(label: string, text: string): readonly string[] {
  const lead = `${INDENT}${label}`
  return wrap(escapeText(text), WIDTH - lead.length).map((line, at) =>
    at === 0 ? `${lead}${line}` : `${' '.repeat(lead.length)}${line}`,
  )
}

function footLines(report: TestReport): readonly string[] {
  const { passed, failed, skipped, todo } = countOutcomes(report.results)
  const counts = [
    `${passed} passed`,
    ...(failed > 0 ? [`${failed} failed`] : []),
    ...(skipped > 0 ? [`${skipped} skipped`] : []),
    ...(todo > 0 ? [`${todo} todo`] : []),
  ].join(', ')
  const seconds = (report.runMs / 1000).toFixed(2)
  const { length } = report.results
  const some = length < report.total ? ` (${length} of ${report.total} tests)` : ''
  if (failed > 0) return ['', `${length}: ${counts} in ${seconds} s${some}`]
  const served = report.results.some(({ kind }) => kind === 'case')
    ? '. This is the module `gateway serve` loads.'
    : ''
  return [`${counts} in ${seconds} s${some}${served}`]
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$*+?()[\]{}|]/g, '\\$&')
}

/** The report as programs read it; what was asked for besides stands in members of its own. */
export function toReportDocument(report: TestReport): object {
  const { revision, opa, digest, ruleDigest, total, buildMs, runMs } = report
  return {
    revision,
    opa,
    digest,
    rule_digest: ruleDigest,
    build_ms: Math.round(buildMs),
    run_ms: Math.round(runMs),
    total,
    ...countOutcomes(report.results),
    results: report.results.map(({ kind, place, name, labels, outcome, reason, failure, ms }) => ({
      kind,
      file: place.file,
      row: place.row,
      name,
      labels,
      outcome,
      ms: Math.round(ms * 1000) / 1000,
      ...(reason === null ? {} : { reason }),
      ...(failure === null ? {} : { failure: toFailureDocument(failure) }),
    })),
  }
}

function toFailureDocument({ mismatches, got, notes, lines, why }: TestFailure): object {
  const members = (side: 'expected' | 'got') =>
    Object.fromEntries(mismatches.map((mismatch) => [mismatch.member, mismatch[side]]))
  return {
    ...(got === null
      ? {}
      : { expected: members('expected'), got: { ...verdictDocument(got), ...members('got') } }),
    notes,
    why,
    trace: lines,
  }
}

function verdictDocument({ allow, allowedBy, deniedBy }: Verdict): object {
  return { allow, allowed_by: allowedBy, denied_by: deniedBy }
}
