/** Which rules explain that a case is not as expected, and the sentence that names the line. */
import { nearestName } from '../../nearest-name.ts'
import type { Trace, TraceRule, TraceStep } from '../../trace/shape.ts'
import { lineOf, ruleName } from '../../trace/shape.ts'
import type { TracedPolicy, TreeLine } from '../../trace/tree.ts'
import { decisiveStep, furthestFirst, traceLines } from '../../trace/tree.ts'
import type { Dictionary, RuleProbe } from '../dictionary.ts'
import { nameInDecision } from '../product-module.ts'
import { condense } from './condense.ts'
import type { DataPlaces } from './data-files.ts'
import type { Mismatch, Verdict } from './expectation.ts'
import { createInputValues } from './input-values.ts'
import { constantPath } from './reference.ts'
import { createRuleValues } from './rule-values.ts'
import type { Expectation, Origin } from './table.ts'

/** What an explanation is made from. */
export interface CaseFacts {
  readonly trace: Trace
  readonly policy: TracedPolicy & { readonly dictionary: Dictionary }
  readonly expect: Expectation
  readonly mismatches: readonly Mismatch[]
  readonly got: Verdict
  /** JSON text of the input the rules saw. */
  readonly inputText: string
  readonly origins: readonly Origin[]
  readonly data: DataPlaces
}

/** The rules that matter, what makes the difference in the first of them, and what no rule can explain. */
export interface CaseExplanation {
  readonly lines: readonly TreeLine[]
  readonly why: string | null
  readonly notes: readonly string[]
}

const MAX_RULES = 3
/** The more a mismatch says about which rule was meant, the earlier. */
const ORDER: readonly Mismatch['member'][] = [
  'failure',
  'denied_by',
  'allowed_by',
  'limits',
  'obligations',
  'mask',
  'allow',
]

/** Explains a case that failed. */
export function explainCase(facts: CaseFacts): CaseExplanation {
  const { trace, policy } = facts
  const ordered = [...facts.mismatches].sort((a, b) => ORDER.indexOf(a.member) - ORDER.indexOf(b.member))
  const rules = [...new Set(ordered.flatMap((mismatch) => rulesFor(mismatch, facts)))].slice(0, MAX_RULES)
  const shown = rules.map(condense)
  const lines = traceLines([], {
    deciding: shown,
    others: 'hidden',
    policy: trace.truncated ? null : policy,
    source: policy,
    inner: (rule, step) => !step.ok && rule.outcome !== 'defined',
    extra: valuesBeside(facts, shown),
  })
  const [first] = shown
  const notes = facts.mismatches.flatMap((mismatch) => unknownReasons(mismatch, policy.dictionary))
  if (facts.got.failure !== null) notes.push(facts.got.failure.message)
  return { lines, why: first === undefined ? null : whySentence(first, facts), notes }
}

/** At lines that fail: what the rules they name gave. In rules that hold and should not: what their lines read. */
function valuesBeside(facts: CaseFacts, shown: readonly TraceRule[]) {
  const ofRules = createRuleValues(facts.trace, facts.policy)
  const ofInput = createInputValues(facts.inputText, facts.policy.dictionary)
  const holding = new Set(shown.filter((rule) => rule.outcome === 'defined').flatMap((rule) => rule.steps))
  return (step: TraceStep) => [
    ...(step.ok && !step.hasReads && holding.has(step) ? ofInput(step) : []),
    ...(step.ok && !step.hasReads && !holding.has(step) ? [] : ofRules(step)),
  ]
}

function rulesFor(mismatch: Mismatch, facts: CaseFacts): readonly TraceRule[] {
  const { trace, got } = facts
  const named = (name: string) => trace.rules.filter((rule) => isDecisionRule(rule, name))
  const held = (name: string) => named(name).filter((rule) => rule.outcome === 'defined')
  const failed = (name: string) => furthestFirst(named(name).filter((rule) => rule.outcome !== 'defined'))
  switch (mismatch.member) {
    case 'failure':
      return trace.rules.filter((rule) => rule.outcome === 'aborted').slice(-1)
    case 'allow':
      // With no reason named, the rule that came nearest to denying is the best guess at what was meant.
      if (mismatch.expected !== true)
        return [...held('allow'), ...(facts.expect.deniedBy === null ? failed('deny').slice(0, 1) : [])]
      return got.deniedBy.length > 0 ? held('deny') : failed('allow').slice(0, 2)
    case 'allowed_by':
      return rulesOfReasons('allow', mismatch, facts)
    case 'denied_by':
      return rulesOfReasons('deny', mismatch, facts)
    default:
      return [...failed(mismatch.member), ...held(mismatch.member)]
  }
}

/** The rules that should have given a reason, and those that gave one too many. */
function rulesOfReasons(
  name: string,
  mismatch: Mismatch,
  { trace, policy }: CaseFacts,
): readonly TraceRule[] {
  const [expected, got] = [reasonsIn(mismatch.expected), reasonsIn(mismatch.got)]
  const missing = expected.filter((reason) => !got.includes(reason))
  const surplus = got.filter((reason) => !expected.includes(reason))
  const rules = trace.rules.filter((rule) => isDecisionRule(rule, name))
  const gave = (rule: TraceRule, reason: string) =>
    rule.outcome === 'defined' && (rule.value ?? '').includes(JSON.stringify(reason))
  const should = missing.flatMap((reason) => {
    const giving = probesOf(policy.dictionary, name).filter((probe) => givesReason(probe, reason))
    return furthestFirst(
      rules.filter((rule) => rule.outcome !== 'defined' && giving.some((probe) => isOf(rule, probe))),
    )
  })
  return [...should, ...rules.filter((rule) => surplus.some((reason) => gave(rule, reason)))]
}

function reasonsIn(value: unknown): readonly string[] {
  return Array.isArray(value) ? value.map(String) : []
}

function isDecisionRule(rule: TraceRule, name: string): boolean {
  return ruleName(rule) === name && rule.rule.startsWith('data.gateway.')
}

function probesOf(dictionary: Dictionary, name: string): readonly RuleProbe[] {
  return dictionary.rules.filter(({ path }) => nameInDecision(path) === name)
}

/** A definition with another constant reason cannot have given it. */
function givesReason({ outs, constant }: RuleProbe, reason: string): boolean {
  return outs > 0 || constant === JSON.stringify(reason)
}

function isOf(rule: TraceRule, { file, row, path }: RuleProbe): boolean {
  return rule.rule === path && rule.at === `${file}:${row}`
}

function unknownReasons(mismatch: Mismatch, dictionary: Dictionary): string[] {
  if (mismatch.member !== 'denied_by' && mismatch.member !== 'allowed_by') return []
  const name = mismatch.member === 'denied_by' ? 'deny' : 'allow'
  const probes = probesOf(dictionary, name)
  return reasonsIn(mismatch.expected)
    .filter((reason) => !probes.some((probe) => givesReason(probe, reason)))
    .map((reason) => {
      const reasons = probes.flatMap(({ constant }) =>
        constant === null ? [] : [String(JSON.parse(constant))],
      )
      const near = nearestName(reason, reasons)
      return `no rule ${name} gives the reason ${reason}${near === null ? '' : `; did you mean ${near}?`}`
    })
}

function whySentence(rule: TraceRule, facts: CaseFacts): string | null {
  const step = decisiveStep(rule)
  if (step === null) return null
  const [file, row] = lineOf(step.at)
  const place = file === lineOf(rule.at)[0] ? `line ${row ?? '?'}` : step.at
  const [missing] = step.missing
  const absent = missing !== undefined && !step.expr.startsWith('not ')
  const what = step.ok ? 'holds' : absent ? `is undefined: ${missing} has no value` : 'is false here'
  const read = step.hasReads ? [...step.reads.map(([name]) => name), ...step.missing] : readsOf(step, facts)
  const origins = read.flatMap((name) => originOf(name, facts) ?? [])
  return [`${place} ${what}`, ...[...new Set(origins)].slice(0, 2)].join('; ')
}

function readsOf(step: TraceStep, { inputText, policy }: CaseFacts): readonly string[] {
  return createInputValues(inputText, policy.dictionary)(step).map(({ name }) => name)
}

/** Where the value of a reference was written, or where it is missing. */
function originOf(reference: string, { origins, data }: CaseFacts): string | null {
  const path = constantPath(reference)
  if (reference.startsWith('data.')) {
    const place = data(path)
    return place === null ? null : `${shortName(reference)} comes from ${place.file}:${place.row}`
  }
  if (!reference.startsWith('input.')) return null
  const origin = origins.find(({ input }) => input.every((step, index) => path[index] === step))
  if (origin === undefined) return null
  const inner = path.slice(origin.input.length)
  const reach = origin.document.reach([...origin.path, ...inner]) - origin.path.length
  const { file, row } = origin.document.placeOf([...origin.path, ...inner], reach > 0)
  const found = reach === inner.length || (inner.length === 1 && inner[0] === origin.own)
  return `${shortName(reference)} ${found ? 'comes from' : 'is not in'} ${file}:${row} (${origin.label})`
}

/** The last two parts: `claims.mfa`. */
function shortName(reference: string): string {
  return /[^.]+\.[^.]+$/.exec(reference.replace(/^(input|data)\./, ''))?.[0] ?? reference
}
