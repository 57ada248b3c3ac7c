/**
 * A trace as the lines a person reads: rules, their expressions with marks and values, what was not reached. Pure; nothing
 * in the lines is escaped.
 */
import type { TraceRule, TraceStep } from './shape.ts'
import { bodyOf, lineOf, ruleName } from './shape.ts'

/** `+` held, `x` failed, `.` not reached. */
export type Mark = '+' | 'x' | '.'

/** A value at a line; `json` null = the reference had none. */
export interface ShownValue {
  readonly name: string
  readonly json: string | null
}

/** One line of the tree. */
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

/** The policy that was evaluated, for what a trace does not hold. */
export interface TracedPolicy {
  /** Rego files by name. */
  readonly sources: Readonly<Record<string, string>>
  /** The trace dictionary, unchecked. */
  readonly dictionary: unknown
}

/** Which rules are shown, and how much of them. */
export interface TreePlan {
  /** Shown first and whole. */
  readonly deciding: readonly TraceRule[]
  /** The other rules: whole, folded to the line on which they failed, or not at all. */
  readonly others: 'whole' | 'folded' | 'hidden'
  /** Tells what was not reached; null = unknown. */
  readonly policy: TracedPolicy | null
  /** Whose source lines to show; null = show expressions. */
  readonly source: TracedPolicy | null
  /** Which of the rules that were evaluated for a step are shown under it; absent = all. */
  readonly inner?: (rule: TraceRule, step: TraceStep) => boolean
  /** Values to show at a step besides its own. */
  readonly extra?: (step: TraceStep) => readonly ShownValue[]
}

/** What was decided, as far as it tells which rules made the decision. */
export interface Verdict {
  readonly allow: boolean
  /** The evaluation gave no usable decision. */
  readonly failed: boolean
}

/**
 * The rules that made the decision: for a denial the `deny` rules that hold, or, where nothing was allowed, the `allow` rule
 * that came furthest; for an allowed call the `allow` rules that hold.
 */
export function decidingRules(rules: readonly TraceRule[], verdict: Verdict): readonly TraceRule[] {
  const named = (name: string, outcome: string) =>
    rules.filter((rule) => ruleName(rule) === name && rule.outcome === outcome)
  const aborted = rules.filter((rule) => rule.outcome === 'aborted')
  if (verdict.failed && aborted.length > 0) return aborted.slice(-1)
  const denied = named('deny', 'defined')
  if (denied.length > 0) return denied
  if (verdict.allow) return named('allow', 'defined')
  return furthestFirst(named('allow', 'undefined')).slice(0, 1)
}

/** Rules that failed, the one of which most lines held first. */
export function furthestFirst(rules: readonly TraceRule[]): readonly TraceRule[] {
  const held = (rule: TraceRule) => rule.steps.filter((step) => step.ok).length
  return [...rules].sort((left, right) => held(right) - held(left))
}

/** In a rule that failed the last line that failed; in one that holds its last `not`, else its last line. */
export function decisiveStep(rule: TraceRule): TraceStep | null {
  if (rule.outcome === 'defined') {
    return (
      rule.steps.findLast((step) => step.ok && step.hasReads) ??
      rule.steps.findLast((step) => step.ok) ??
      null
    )
  }
  return rule.steps.findLast((step) => !step.ok) ?? rule.steps.at(-1) ?? null
}

/** The values at a step, each name once; references without a value last. */
export function valuesOf(step: TraceStep): readonly ShownValue[] {
  const names = new Set<string>()
  const values: ShownValue[] = []
  for (const [name, json] of [...step.reads, ...step.vars]) {
    if (names.has(name)) continue
    names.add(name)
    values.push({ name, json })
  }
  return [...values, ...step.missing.map((name) => ({ name, json: null }))]
}

/** The tree as lines, deciding rules first. */
export function traceLines(rules: readonly TraceRule[], plan: TreePlan): readonly TreeLine[] {
  return new Tree(plan).lines(rules)
}

class Tree {
  readonly #plan: TreePlan
  #lines: TreeLine[] = []
  #decisive = false

  constructor(plan: TreePlan) {
    this.#plan = plan
  }

  lines(rules: readonly TraceRule[]): readonly TreeLine[] {
    const { deciding, others } = this.#plan
    this.#decisive = true
    for (const rule of deciding) this.#rule(rule, 0)
    this.#decisive = false
    if (others === 'hidden') return this.#lines
    for (const rule of rules) {
      if (deciding.includes(rule)) continue
      if (others === 'whole') this.#rule(rule, 0)
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
      values: this.#values(step),
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
    const values = this.#values(step)
    this.#push({ kind: 'step', depth, mark, place: rowOf(step.at), text, values })
    if (step.aborted) this.#note('the evaluation ended here', depth + 1)
    this.#steps(step.steps, depth + 1)
    const { inner: isShown } = this.#plan
    for (const inner of step.rules) if (isShown?.(inner, step) !== false) this.#rule(inner, depth + 1)
  }

  #values(step: TraceStep): readonly ShownValue[] {
    return [...valuesOf(step), ...(this.#plan.extra?.(step) ?? [])]
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
  #withSource(rule: TraceRule, depth: number, policy: TracedPolicy): boolean {
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
