/** A row -> what a person reads to understand it: sentence, deciding rule, the line that made the difference, the tree. Pure. */
import { parseExact } from './exact.ts'
import type { StoredRow } from './query.ts'
import type { StoredPolicy } from './revisions.ts'
import type { DecisionFacts } from './sentence.ts'
import { sentenceOf } from './sentence.ts'
import type { TraceRule, TraceStep } from './trace-shape.ts'
import { bodyOf, lineOf, parseTrace, ruleName } from './trace-shape.ts'

/** `+` held, `x` failed, `.` not reached. */
export type Mark = '+' | 'x' | '.'

/** A value at a line; `json` null = the reference had none. */
export interface ShownValue {
  readonly name: string
  readonly json: string | null
}

/** One line of the tree. Nothing in it is escaped. */
export interface TreeLine {
  readonly kind: 'rule' | 'step' | 'note'
  /** Levels of indentation. */
  readonly depth: number
  readonly mark: Mark | null
  /** `file:row` on rules, the row on steps. */
  readonly place: string | null
  readonly text: string
  readonly values: readonly ShownValue[]
  /** Part of a rule that decided. */
  readonly decisive: boolean
}

/** Everything `audit explain` prints. */
export interface Explanation {
  readonly id: string
  readonly request_id: string
  readonly outcome: string
  readonly sentence: string
  /** The rule that decided; null when no single one did. */
  readonly rule: { readonly name: string; readonly at: string; readonly title: string | null } | null
  /** The line that made the difference. */
  readonly line: {
    readonly at: string
    readonly expr: string
    readonly ok: boolean
    /** The evaluation ended in it. */
    readonly aborted: boolean
    readonly values: readonly ShownValue[]
  } | null
  /** What stands between the row and the whole truth: cuts, redactions, a policy that is gone. */
  readonly notes: readonly string[]
  readonly tree: readonly TreeLine[]
}

/** How much of it is wanted. */
export interface ExplainOptions {
  /** The policy that decided; null when it is not known. */
  readonly policy: StoredPolicy | null
  /** With the source lines of that policy. */
  readonly source: boolean
  /** Also the insides of rules that did not decide; otherwise they are folded to the line on which they failed. */
  readonly full: boolean
}

/** Explains a row. */
export function explainRow(row: StoredRow, { policy, source, full }: ExplainOptions): Explanation {
  const facts = factsOf(row)
  const trace = parseTrace(facts.authz?.trace)
  const deciding = trace === null ? [] : decidingRules(trace.rules, facts)
  const first = deciding[0] ?? null
  const line = first === null ? null : decisiveStep(first)
  const known = trace?.truncated === true ? null : policy
  return {
    id: row.id,
    request_id: row.request_id,
    outcome: row.outcome,
    sentence: sentenceOf(row, facts),
    rule: first === null ? null : { name: first.rule, at: first.at, title: first.title },
    line:
      line === null
        ? null
        : { at: line.at, expr: line.expr, ok: line.ok, aborted: line.aborted, values: valuesOf(line) },
    notes: notesOf(row, facts, trace?.truncated === true ? trace.dropped : null, source && policy === null),
    tree:
      trace === null
        ? []
        : new Tree({ deciding, full, policy: known, source: source ? policy : null }).lines(trace.rules),
  }
}

function factsOf(row: StoredRow): DecisionFacts {
  const decision = parseExact(row.decision)
  return typeof decision === 'object' && decision !== null ? (decision as DecisionFacts) : {}
}

/**
 * The rules that made the decision: for a denial the `deny` rules that hold, or, where nothing was allowed, the `allow` rule
 * that came furthest; for an allowed call the `allow` rules that hold.
 */
function decidingRules(rules: readonly TraceRule[], { authz }: DecisionFacts): readonly TraceRule[] {
  const named = (name: string, outcome: string) =>
    rules.filter((rule) => ruleName(rule) === name && rule.outcome === outcome)
  const aborted = rules.filter((rule) => rule.outcome === 'aborted')
  if (authz?.failure !== undefined && aborted.length > 0) return aborted.slice(-1)
  const denied = named('deny', 'defined')
  if (denied.length > 0) return denied
  if (authz?.allow === true) return named('allow', 'defined')
  const held = (rule: TraceRule) => rule.steps.filter((step) => step.ok).length
  return named('allow', 'undefined')
    .sort((left, right) => held(right) - held(left))
    .slice(0, 1)
}

/** In a rule that failed the last line that failed; in one that holds its last `not`, else its last line. */
function decisiveStep(rule: TraceRule): TraceStep | null {
  if (rule.outcome === 'defined') {
    return (
      rule.steps.findLast((step) => step.ok && step.hasReads) ??
      rule.steps.findLast((step) => step.ok) ??
      null
    )
  }
  return rule.steps.findLast((step) => !step.ok) ?? rule.steps.at(-1) ?? null
}

function valuesOf(step: TraceStep): readonly ShownValue[] {
  const names = new Set<string>()
  const values: ShownValue[] = []
  for (const [name, json] of [...step.reads, ...step.vars]) {
    if (names.has(name)) continue
    names.add(name)
    values.push({ name, json })
  }
  return [...values, ...step.missing.map((name) => ({ name, json: null }))]
}

function notesOf(
  row: StoredRow,
  facts: DecisionFacts,
  dropped: number | null,
  sourceGone: boolean,
): readonly string[] {
  const { stored, authz } = facts
  const notes: string[] = []
  if (dropped !== null) notes.push(`The trace was cut: ${dropped} of its rules and lines are not kept.`)
  if (stored !== undefined) {
    notes.push(
      `The row is kept ${label(stored.as)}: ${stored.why ?? 'unknown'}${stored.sqlstate === undefined ? '' : ` (SQLSTATE ${stored.sqlstate})`}.`,
    )
  }
  notes.push(...redactionNotes(row.redaction))
  if (authz === undefined && stored === undefined && row.outcome !== 'gap')
    notes.push('The policy was not asked.')
  else if (authz !== undefined && authz.trace === undefined && authz.policy !== undefined)
    notes.push('The row holds no trace.')
  if (sourceGone)
    notes.push('The policy of that time is not stored any more; these are the lines of the trace.')
  return notes
}

function redactionNotes(redaction: string | null): readonly string[] {
  if (redaction === null) return []
  const sections = Object.entries(
    JSON.parse(redaction) as Record<string, Record<string, unknown> | undefined>,
  )
  const having = (member: string) =>
    sections.filter(([, note]) => note?.[member] !== undefined).map(([name]) => name)
  const told: readonly (readonly [string, readonly string[]])[] = [
    ['Secrets were replaced in', having('redacted_count')],
    ['Cut to size', having('cut_count')],
    ['Not kept, as the policy asks', having('withheld')],
    ['Left out, because it could not be made safe', redactionFailures(redaction)],
  ]
  return told.filter(([, names]) => names.length > 0).map(([text, names]) => `${text}: ${names.join(', ')}.`)
}

function redactionFailures(redaction: string): readonly string[] {
  const { redaction_failed: failed } = JSON.parse(redaction) as { redaction_failed?: unknown }
  return Array.isArray(failed) ? failed.map(String) : []
}

function label(as: string | undefined): string {
  return as === 'placeholder' ? 'as a placeholder' : 'without payload and trace'
}

interface TreePlan {
  readonly deciding: readonly TraceRule[]
  readonly full: boolean
  /** Tells what was not reached; null = unknown. */
  readonly policy: StoredPolicy | null
  /** Whose source lines to show; null = show expressions. */
  readonly source: StoredPolicy | null
}

/** The tree as lines, deciding rules first. */
class Tree {
  readonly #plan: TreePlan
  #lines: TreeLine[] = []
  #decisive = false

  constructor(plan: TreePlan) {
    this.#plan = plan
  }

  lines(rules: readonly TraceRule[]): readonly TreeLine[] {
    const { deciding, full } = this.#plan
    this.#decisive = true
    for (const rule of deciding) this.#rule(rule, 0)
    this.#decisive = false
    for (const rule of rules) {
      if (deciding.includes(rule)) continue
      if (full) this.#rule(rule, 0)
      else this.#folded(rule)
    }
    return this.#lines
  }

  /** A rule that did not decide, with the line on which it failed. */
  #folded(rule: TraceRule): void {
    this.#head(rule, 0)
    const step = rule.outcome === 'defined' ? null : decisiveStep(rule)
    if (step === null) return
    const mark = step.ok ? '+' : 'x'
    this.#push({
      kind: 'step',
      depth: 1,
      mark,
      place: rowOf(step.at),
      text: step.expr,
      values: valuesOf(step),
    })
  }

  #rule(rule: TraceRule, depth: number): void {
    this.#head(rule, depth)
    if (rule.title !== null) this.#note(rule.title, depth + 1)
    const { source } = this.#plan
    const shown = source !== null && this.#withSource(rule, depth + 1, source)
    if (!shown) this.#steps(rule.steps, depth + 1)
    for (const inner of rule.rules) this.#rule(inner, depth + 1)
    if (!shown) this.#notReached(rule, depth + 1)
  }

  #head(rule: TraceRule, depth: number): void {
    const values = [
      { name: rule.outcome, json: rule.value },
      ...rule.args.map(([name, json]) => ({ name, json })),
    ]
    this.#push({ kind: 'rule', depth, mark: null, place: rule.at, text: rule.rule, values })
  }

  #note(text: string, depth: number): void {
    this.#push({ kind: 'note', depth, mark: null, place: null, text, values: [] })
  }

  #steps(steps: readonly TraceStep[], depth: number): void {
    for (const step of steps) this.#step(step, depth, step.expr)
  }

  #step(step: TraceStep, depth: number, text: string): void {
    const mark = step.ok ? '+' : 'x'
    this.#push({ kind: 'step', depth, mark, place: rowOf(step.at), text, values: valuesOf(step) })
    if (step.aborted) this.#note('the evaluation ended here', depth + 1)
    this.#steps(step.steps, depth + 1)
    for (const inner of step.rules) this.#rule(inner, depth + 1)
  }

  #notReached(rule: TraceRule, depth: number): void {
    if (rule.outcome === 'defined') return
    for (const { at, text } of this.#unreached(rule)) {
      this.#push({ kind: 'step', depth, mark: '.', place: rowOf(at), text, values: [] })
    }
  }

  /** Lines of the body behind the last one that was tried. */
  #unreached(rule: TraceRule): readonly { readonly at: string; readonly text: string }[] {
    const { policy } = this.#plan
    const body = policy === null ? null : bodyOf(policy.dictionary, rule)
    if (body === null) return []
    const last = body.findLastIndex((expr) =>
      rule.steps.some((step) => step.at === expr.at && step.expr === expr.text),
    )
    return body.slice(last + 1)
  }

  /** The rule's lines as they stood in the file. False when the file is not known. */
  #withSource(rule: TraceRule, depth: number, policy: StoredPolicy): boolean {
    const [file, head] = lineOf(rule.at)
    const lines = policy.sources[file]?.split('\n')
    if (lines === undefined || head === null) return false
    const stepsAt = stepsByRow(rule.steps, file)
    const unreached = new Set(this.#unreached(rule).map((expr) => rowIn(file, expr.at)))
    const last = Math.max(head, ...[...stepsAt.keys(), ...unreached].filter((row) => row !== null))
    for (let row = head; row <= last; row += 1) {
      const text = lines[row - 1] ?? ''
      const [first, ...more] = stepsAt.get(row) ?? []
      if (first === undefined) {
        const mark = unreached.has(row) && row !== head ? '.' : null
        this.#push({ kind: 'step', depth, mark, place: String(row), text, values: [] })
      } else {
        this.#step(first, depth, text)
        this.#steps(more, depth + 1)
      }
    }
    this.#steps(stepsAt.get(null) ?? [], depth)
    return true
  }

  #push(line: Omit<TreeLine, 'decisive'>): void {
    this.#lines.push({ ...line, decisive: this.#decisive })
  }
}

function stepsByRow(
  steps: readonly TraceStep[],
  file: string,
): ReadonlyMap<number | null, readonly TraceStep[]> {
  const byRow = new Map<number | null, TraceStep[]>()
  for (const step of steps) {
    const row = rowIn(file, step.at)
    byRow.set(row, [...(byRow.get(row) ?? []), step])
  }
  return byRow
}

/** The row of a place in `file`; null for other files. */
function rowIn(file: string, at: string): number | null {
  const [other, row] = lineOf(at)
  return other === file ? row : null
}

function rowOf(at: string): string {
  return String(lineOf(at)[1] ?? at)
}
