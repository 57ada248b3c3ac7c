/**
 * Whether a trace tells why a decision is a denial: a failing expression, or a rule `deny` that held, with the values they had.
 * What was read under a `with` is not known.
 */
import type { Dictionary } from '../../../src/policy/dictionary.ts'
import type { RuleView, StepView, TraceView } from '../engine-fixture.ts'

/** What is wrong with the trace of a denial; null = it tells why. */
export function unexplained({ rules }: TraceView, { exprs }: Pick<Dictionary, 'exprs'>): string | null {
  const all = rules.flatMap(within)
  const failing = all.flatMap(({ steps }) => steps.flatMap(below)).filter(({ ok }) => !ok)
  const replaces = exprs.some(({ withTargets }) => withTargets.length > 0)
  const mute = failing.find((step) => {
    const probe = exprs.find(({ file, row, text }) => `${file}:${row}` === step.at && text === step.expr)
    return probe !== undefined && probe.reads.length > 0 && !replaces && !hasValues(step)
  })
  if (mute !== undefined) return `${mute.at} ${mute.expr} failed, and nothing tells with which values`
  if (failing.length > 0) return null
  // A rule that is false has not failed.
  const denies = all.some(
    ({ rule, outcome, value }) =>
      outcome === 'defined' && (value === false || (/\.deny$/.test(rule) && value !== undefined)),
  )
  return denies ? null : 'no expression failed and no rule denied'
}

function within(rule: RuleView): readonly RuleView[] {
  const steps = rule.steps.flatMap(below)
  return [rule, ...[...(rule.rules ?? []), ...steps.flatMap((step) => step.rules ?? [])].flatMap(within)]
}

function below(step: StepView): readonly StepView[] {
  return [step, ...(step.steps ?? []).flatMap(below)]
}

function hasValues({ reads, missing, vars, steps, rules }: StepView): boolean {
  const shown = Object.keys(reads ?? {}).length + Object.keys(vars).length
  return shown + (missing?.length ?? 0) + (steps?.length ?? 0) + (rules?.length ?? 0) > 0
}
