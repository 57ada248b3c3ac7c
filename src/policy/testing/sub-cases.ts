/**
 * Sub-cases of a test: `test_x[note] if { some note, tc in cases; .. }` gives true for each note that holds. Those that do
 * not hold are in no value; that they were tried is read off the events.
 */
import type { TraceRule } from '../../trace/shape.ts'
import type { Dictionary, RuleProbe } from '../dictionary.ts'
import type { HostRun } from '../host.ts'
import { splitArray } from '../trace-value.ts'
import type { TestRule } from './rego-heads.ts'

/** The sub-cases of one test rule. */
export interface SubCases {
  /** In the order in which they were tried, those that hold first. */
  readonly names: readonly string[]
  readonly held: ReadonlySet<string>
  /** The variable that names them; null when names are constants. */
  readonly variable: string | null
}

/** More values than this travel as one array. */
const MAX_DIRECT_VALUES = 4

/** Whether a test has sub-cases. */
export function hasSubCases(rule: TestRule, { rules }: Dictionary): boolean {
  return rules.some(({ path }) => isBelow(path, rule.path))
}

/** null: the rule has no sub-cases, or its evaluation failed. */
export function readSubCases(rule: TestRule, run: HostRun, dictionary: Dictionary): SubCases | null {
  const definitions = dictionary.rules.filter(({ path }) => path !== rule.path && isBelow(path, rule.path))
  if (definitions.length === 0 || run.fault !== null) return null
  const value = typeof run.result === 'object' && run.result !== null ? run.result : {}
  const held = new Set(Object.entries(value).flatMap(([name, one]) => (one === true ? [name] : [])))
  const tried = definitions.flatMap((definition) => namesTried(definition, rule, run, dictionary))
  const names = [...new Set([...Object.keys(value), ...tried])]
  const variable =
    definitions.map((definition) => variableOf(definition, rule)).find((one) => one !== null) ?? null
  // Not one sub-case was reached: that is a failure of the whole, under no name.
  return names.length === 0
    ? { names: ['no sub-case was reached'], held, variable }
    : { names, held, variable }
}

function isBelow(path: string, parent: string): boolean {
  return path.startsWith(`${parent}[`) || path.startsWith(`${parent}.`)
}

/** `note` of `data.p.test_x[note]`. */
function variableOf({ path }: RuleProbe, rule: TestRule): string | null {
  return /^\[([A-Za-z_]\w*)\]$/.exec(path.slice(rule.path.length))?.[1] ?? null
}

function namesTried(
  definition: RuleProbe,
  rule: TestRule,
  run: HostRun,
  dictionary: Dictionary,
): readonly string[] {
  const variable = variableOf(definition, rule)
  if (variable === null) {
    const constant = /^(?:\.([A-Za-z_]\w*)|\["((?:[^"\\]|\\.)*)"\])$/.exec(
      definition.path.slice(rule.path.length),
    )
    return constant === null ? [] : [constant[1] ?? (JSON.parse(`"${constant[2] ?? ''}"`) as string)]
  }
  const binding = dictionary.exprs.find(
    (expr) => expr.rule === definition.id && !expr.begin && expr.vars.includes(variable),
  )
  if (binding === undefined) return []
  const at = binding.vars.indexOf(variable)
  return run.recording().events.flatMap(({ op, id, values }) => {
    if (op !== 'ok' || id !== binding.id) return []
    const all = binding.vars.length > MAX_DIRECT_VALUES ? splitArray(values[0] ?? '[]') : values
    const text = all?.[at] ?? null
    return text === null ? [] : [nameOf(text)]
  })
}

/** A key of an object: of strings the string, of others their text. */
function nameOf(rego: string): string {
  return rego.startsWith('"') ? (JSON.parse(rego) as string) : rego
}

/** The rule with the steps of one sub-case only. */
export function stepsOf(rule: TraceRule, name: string, { variable }: SubCases): TraceRule {
  if (variable === null) return rule
  const nameAt = (step: TraceRule['steps'][number]) => step.vars.find(([one]) => one === variable)?.[1]
  const first = rule.steps.findIndex((step) => nameAt(step) !== undefined)
  if (first < 0) return rule
  let current: string | undefined
  const steps = rule.steps.filter((step, index) => {
    if (index < first) return true
    const bound = nameAt(step)
    if (bound !== undefined) current = nameOf(bound)
    return current === name
  })
  return { ...rule, outcome: 'undefined', value: null, steps }
}
