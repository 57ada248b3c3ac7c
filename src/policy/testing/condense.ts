/** A rule of a trace without what does not explain its outcome: insides of lines that hold, all tries of a loop but one. */
import type { TraceRule, TraceStep } from '../../trace/shape.ts'

/** Stands among a line's values; no variable can have this name. */
const TIMES = 'times tried'

/** The rule with one step per line and only the insides of those that failed. */
export function condense(rule: TraceRule): TraceRule {
  return { ...rule, steps: condenseSteps(rule.steps), rules: rule.rules.map(condense) }
}

function condenseSteps(steps: readonly TraceStep[]): readonly TraceStep[] {
  const lines = new Map<string, TraceStep[]>()
  for (const step of steps) {
    const key = `${step.at} ${step.expr}`
    lines.set(key, [...(lines.get(key) ?? []), step])
  }
  return [...lines.values()].flatMap((tries) => {
    const step = tries.findLast((one) => !one.ok) ?? tries.at(-1)
    return step === undefined ? [] : [condenseStep(step, tries.length)]
  })
}

function condenseStep(step: TraceStep, tries: number): TraceStep {
  const explains = !step.ok || step.hasReads
  const counted: TraceStep['vars'] = tries > 1 ? [[TIMES, String(tries)], ...step.vars] : step.vars
  return {
    ...step,
    vars: step.ok && tries === 1 ? [] : counted,
    steps: explains ? condenseSteps(step.steps) : [],
    rules: explains ? step.rules.map(condense) : [],
  }
}
