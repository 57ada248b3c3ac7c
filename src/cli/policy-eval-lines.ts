/** Lays an evaluation out in lines of at most 100 columns. */
import { parseExact } from '../json/exact.ts'
import type { CompiledPolicy } from '../policy/build.ts'
import type { AnsweredCall, AnsweredList } from '../policy/evaluate.ts'
import type { InputQuestion } from '../policy/input-document.ts'
import { toMaskDocument } from '../policy/mask.ts'
import { createRuleValues } from '../policy/testing/rule-values.ts'
import { parseTrace } from '../trace/shape.ts'
import type { Verdict } from '../trace/tree.ts'
import { decidingRules, traceLines } from '../trace/tree.ts'
import type { Output } from './output.ts'
import { escapeText, textWidth } from './text.ts'
import { layoutTreeLine, WIDTH, wrap } from './tree-lines.ts'

/** A question and what the policy says about it. */
export interface Evaluated {
  readonly question: InputQuestion
  readonly policy: CompiledPolicy
  readonly answered: AnsweredCall | AnsweredList
  /** The row that it comes from; null = none. */
  readonly recorded: Recorded | null
}

/** What a row says about the same question. */
export interface Recorded {
  readonly id: string
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
  readonly failure: string | null
  readonly revision: string | null
  readonly digest: string | null
  /**
   * `exact`: the digest says that these are the values that were decided on. `incomplete`: the row does not hold all of
   * them. `unconfirmed`: the digest does not agree. `unchecked`: without the gateway's secret there is nothing to compare.
   */
  readonly replay: 'exact' | 'incomplete' | 'unconfirmed' | 'unchecked'
  readonly losses: readonly string[]
}

/** How much is shown. */
export interface EvaluationLayout {
  readonly out: Pick<Output, 'style'>
  readonly full: boolean
}

const LEAD = 14
const MAX_TREE = 150

/** The lines to print. Foreign text in them is escaped. */
export function layoutEvaluation(evaluated: Evaluated, layout: EvaluationLayout): readonly string[] {
  const { answered, policy } = evaluated
  const lines = answered.phase === 'call' ? callLines(answered, layout) : []
  if (answered.phase === 'list' && answered.failure !== null) lines.push(...fact('failure', answered.failure))
  lines.push(...fact('asked', subjectText(evaluated.question)))
  lines.push(
    ...fact(
      'policy',
      `${policy.revision}  ${policy.digest.slice(0, 15)}…${policy.digest.slice(-4)}  opa ${policy.opa}`,
    ),
  )
  for (const [name, text] of recordedFacts(evaluated)) lines.push(...fact(name, text))
  if (answered.phase === 'call') {
    const { allow, failure } = answered.evaluation
    lines.push(...treeLines(answered.traceText, policy, { allow, failed: failure !== null }, layout))
    return lines
  }
  for (const { verdict, traceText } of answered.elements) {
    lines.push('', `${verdictText(verdict.allow, layout)}  ${escapeText(verdict.name)}`)
    lines.push(...reasonLines(verdict))
    lines.push(
      ...treeLines(traceText, policy, { allow: verdict.allow, failed: answered.failure !== null }, layout),
    )
  }
  return lines
}

function callLines({ evaluation }: AnsweredCall, layout: EvaluationLayout): string[] {
  const { allow, failure, limits, obligations, masks, maskFailure, fuel, evalUs } = evaluation
  const lines = [verdictText(allow, layout), ...reasonLines(evaluation)]
  if (failure !== null) lines.push(...fact('failure', `${failure.kind}: ${failure.message}`))
  for (const limit of limits) lines.push(...fact('limit', JSON.stringify(limit)))
  for (const obligation of obligations) lines.push(...fact('obligation', JSON.stringify(obligation)))
  for (const mask of masks) lines.push(...fact('mask', JSON.stringify(toMaskDocument(mask))))
  if (maskFailure !== null && failure === null)
    lines.push(...fact('mask', `malformed, so the row holds no payloads: ${maskFailure}`))
  lines.push(...fact('cost', `${Math.round(evalUs)} us, ${fuel} fuel`))
  return lines
}

function verdictText(allow: boolean, { out }: EvaluationLayout): string {
  return allow ? out.style('good', 'allowed') : out.style('bad', 'denied')
}

function reasonLines({
  allowedBy,
  deniedBy,
}: {
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
}): readonly string[] {
  return [
    ...fact('denied by', deniedBy.join(', ') || '-'),
    ...fact('allowed by', allowedBy.join(', ') || '-'),
  ]
}

function subjectText({ phase, facts, targets }: InputQuestion): string {
  const { principal, server, request, target } = facts
  const roles = principal.roles.length === 0 ? 'without roles' : principal.roles.join(', ')
  const what =
    target === null
      ? `${targets.length} target${targets.length === 1 ? '' : 's'}`
      : `${target.kind} ${target.name}`
  return `${principal.id} (${roles})  ${request.method}  ${what} on ${server.name}${phase === 'list' ? '  in a list' : ''}`
}

const REPLAYS = {
  exact: 'with the very values of that time: their digest agrees',
  incomplete: 'not exactly: ',
  unconfirmed:
    'not confirmed: the digest of that time does not agree; some value, or the order of members, was another one',
  unchecked: 'not confirmed: the gateway’s secret is not here, so the digest of that time cannot be compared',
} as const

/** What the row says about the same question, and how exactly it could be asked again; empty without a row. */
export function recordedFacts({
  policy,
  answered,
  recorded,
}: Evaluated): readonly (readonly [name: string, text: string])[] {
  if (recorded === null) return []
  const { allow, deniedBy, allowedBy, failure, revision, replay, losses } = recorded
  const reasons = failure ?? (deniedBy.length > 0 ? deniedBy : allowedBy).join(', ')
  const then = `${allow ? 'allowed' : 'denied'}${reasons === '' ? '' : ` (${reasons})`} by ${revision ?? 'an unknown policy'}`
  const same = recorded.digest === policy.digest ? ', the same module' : ''
  const now = answered.phase === 'call' ? answered.evaluation.allow : null
  const changed = now === null || now === allow ? '' : '; today it is the other way'
  return [
    ['recorded', `${recorded.id}: ${then}${same}${changed}`],
    ['replayed', `${REPLAYS[replay]}${replay === 'incomplete' ? losses.join('; ') : ''}`],
  ]
}

function treeLines(
  traceText: string,
  policy: CompiledPolicy,
  verdict: Verdict,
  { out, full }: EvaluationLayout,
): readonly string[] {
  const trace = parseTrace(parseExact(traceText))
  if (trace === null) return []
  const ofRules = createRuleValues(trace, policy)
  const lines = traceLines(trace.rules, {
    deciding: decidingRules(trace.rules, verdict),
    others: full ? 'whole' : 'folded',
    policy: trace.truncated ? null : policy,
    source: policy,
    extra: (step) => (step.ok && !step.hasReads ? [] : ofRules(step)),
  })
  const shown = full ? lines : lines.slice(0, MAX_TREE)
  const laid = shown.flatMap((line) => [
    ...(line.kind === 'rule' && line.depth === 0 ? [''] : []),
    ...layoutTreeLine(line, { out, full }),
  ])
  const notes = [
    ...(trace.truncated ? [`The trace was cut: ${trace.dropped} of its rules and lines are not here.`] : []),
    ...(shown.length < lines.length ? [`${lines.length - shown.length} more lines: --full`] : []),
  ]
  return [...laid, ...(notes.length === 0 ? [] : ['']), ...notes.flatMap((note) => fact('note', note))]
}

/** `name  text`, wrapped under itself. */
function fact(name: string, text: string): readonly string[] {
  const lead = `  ${name.padEnd(LEAD - 2)}`
  return wrap(escapeText(text), WIDTH - textWidth(lead)).map((line, at) =>
    at === 0 ? `${lead}${line}` : `${' '.repeat(LEAD)}${line}`,
  )
}

/** The evaluation as programs read it; numbers keep their digits with `stringifyExact`. */
export function toEvaluationDocument({ policy, answered, recorded, question }: Evaluated): object {
  const { revision, digest, opa } = policy
  const common = {
    phase: question.phase,
    policy: { revision, digest, opa },
    now_ns: String(question.nowNs),
    input: parseExact(answered.inputText),
    recorded: recorded === null ? null : recordedDocument(recorded),
  }
  if (answered.phase === 'list') {
    const targets = answered.elements.map(({ verdict, traceText }) => ({
      ...{
        name: verdict.name,
        allow: verdict.allow,
        allowed_by: verdict.allowedBy,
        denied_by: verdict.deniedBy,
      },
      trace: parseExact(traceText),
    }))
    return { ...common, failure: answered.failure, targets }
  }
  const { allow, allowedBy, deniedBy, limits, obligations, masks, maskFailure, failure, fuel, evalUs } =
    answered.evaluation
  const mask = masks.map(toMaskDocument)
  return {
    ...common,
    decision: { allow, allowed_by: allowedBy, denied_by: deniedBy, limits, obligations, mask },
    failure,
    mask_failure: maskFailure,
    eval_us: Math.round(evalUs),
    fuel,
    trace: parseExact(answered.traceText),
  }
}

function recordedDocument({ allowedBy, deniedBy, ...rest }: Recorded): object {
  return { ...rest, allowed_by: allowedBy, denied_by: deniedBy }
}
