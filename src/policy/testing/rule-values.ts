/** What rules gave in one evaluation: a failing line such as `not tool_kind in may_use` names them, their values explain it. */
import type { Trace, TraceRule, TraceStep } from '../../trace/shape.ts'
import type { ShownValue } from '../../trace/tree.ts'
import type { Dictionary } from '../dictionary.ts'
import { wordsOf } from './reference.ts'

/** The values of the rules that a step's expression names. */
export type RuleValues = (step: TraceStep) => readonly ShownValue[]

const NONE: RuleValues = () => []

/**
 * Reads them off the trace. Nothing is said of functions, of rules with a default (which leaves no trace), nor when the
 * trace is not whole.
 */
export function createRuleValues(
  trace: Trace,
  {
    dictionary,
    sources,
  }: { readonly dictionary: Dictionary; readonly sources: Readonly<Record<string, string>> },
): RuleValues {
  if (trace.truncated) return NONE
  const packages = new Map(dictionary.rules.map(({ file, path }) => [file, packageOf(path)]))
  const functions = new Set(dictionary.rules.filter(({ args }) => args.length > 0).map(({ path }) => path))
  const sets = new Set(
    dictionary.rules.filter(({ text }) => /^[\w.]+\s+contains\s/.test(text)).map(({ path }) => path),
  )
  const known = new Set(dictionary.rules.map(({ path }) => path))
  for (const [file, text] of Object.entries(sources)) {
    for (const [, name] of text.matchAll(/^default\s+(\w+)/gm)) known.delete(`${packages.get(file)}.${name}`)
  }
  const seen = new Map<string, Set<string>>()
  collect(trace.rules, seen)
  return (step) => {
    const home = packages.get(step.at.replace(/:\d+$/, ''))
    const own = new Set(step.vars.map(([name]) => name))
    return wordsOf(step.expr).flatMap((word) => {
      const path = word.startsWith('data.') ? word : `${home}.${word}`
      if (own.has(word) || !known.has(path) || functions.has(path) || isRead(step, path)) return []
      const json = valueIn([...(seen.get(path) ?? [])], sets.has(path))
      return json === 'unknown' ? [] : [{ name: word, json }]
    })
  }
}

/** Whether the step itself tells what it read of the rule. */
function isRead({ reads, missing }: TraceStep, path: string): boolean {
  return [...reads.map(([name]) => name), ...missing].some(
    (name) => name.startsWith(path) && /^(?:$|[.[])/.test(name.slice(path.length)),
  )
}

/** null = undefined. */
function valueIn(values: readonly string[], isSet: boolean): string | null | 'unknown' {
  if (!isSet) return values.length > 1 ? 'unknown' : (values[0] ?? null)
  const members = values.flatMap((json) => {
    const list: unknown = JSON.parse(json)
    return Array.isArray(list) ? list.map((member) => JSON.stringify(member)) : []
  })
  return `[${[...new Set(members)].sort().join(',')}]`
}

function collect(rules: readonly TraceRule[], seen: Map<string, Set<string>>): void {
  for (const rule of rules) {
    const values = seen.get(rule.rule) ?? new Set()
    seen.set(rule.rule, values)
    if (rule.outcome === 'defined' && rule.value !== null) values.add(rule.value)
    collect(rule.rules, seen)
    collectSteps(rule.steps, seen)
  }
}

function collectSteps(steps: readonly TraceStep[], seen: Map<string, Set<string>>): void {
  for (const step of steps) {
    collect(step.rules, seen)
    collectSteps(step.steps, seen)
  }
}

function packageOf(path: string): string {
  return path.replace(/(\.[A-Za-z_]\w*|\[[^\]]*\])$/, '')
}
