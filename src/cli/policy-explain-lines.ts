/** An answer of the policies -> the explanation that a person reads: for a call one, for a list one of each element. */
import { toAskedRow } from '../audit/asked-row.ts'
import type { Explanation } from '../audit/explain.ts'
import { explainTrace } from '../audit/explain.ts'
import type { StoredRow } from '../audit/query.ts'
import type { DecisionFacts } from '../audit/sentence.ts'
import { askedSentence, listedSentence } from '../audit/sentence.ts'
import { parseExact } from '../json/exact.ts'
import type { ShownFact } from './audit-explain-lines.ts'
import { layoutWhy } from './audit-explain-lines.ts'
import type { Output } from './output.ts'
import type { Evaluated } from './policy-eval-lines.ts'
import { recordedFacts, toEvaluationDocument } from './policy-eval-lines.ts'

/** What is told about a call, or about one element of a list. */
export type Told = Pick<Explanation, 'sentence' | 'rule' | 'line' | 'notes' | 'tree'>

/** How much is wanted. */
export interface AnswerOptions {
  /** With source lines. */
  readonly source: boolean
  /** All rules whole. */
  readonly full: boolean
}

/** Explains the call, or each element of the list. */
export function explainAnswer(evaluated: Evaluated, options: AnswerOptions): readonly Told[] {
  const { answered } = evaluated
  if (answered.phase === 'call') {
    const { allow, allowedBy, deniedBy, failure } = answered.evaluation
    const failed = failure === null ? {} : { failure }
    const authz = { allow, allowed_by: allowedBy, denied_by: deniedBy, ...failed }
    return [tell(evaluated, { ...authz, trace: parseExact(answered.traceText) }, options)]
  }
  const { failure } = answered
  return answered.elements.map(({ verdict, traceText }, index) => {
    const { allow, allowedBy, deniedBy } = verdict
    const failed = failure === null ? {} : { failure: { message: failure } }
    const authz = { allow, allowed_by: allowedBy, denied_by: deniedBy, ...failed }
    return tell(evaluated, { ...authz, trace: parseExact(traceText) }, options, index)
  })
}

function tell(
  evaluated: Evaluated,
  authz: NonNullable<DecisionFacts['authz']>,
  { source, full }: AnswerOptions,
  element: number | null = null,
): Told {
  const row = rowOf(evaluated, element)
  const { dropped, ...why } = explainTrace({ authz }, { policy: evaluated.policy, source, full })
  return {
    sentence: element === null ? askedSentence(row, { authz }) : listedSentence(row, { authz }),
    ...why,
    notes: dropped === null ? [] : [`The trace was cut: ${dropped} of its rules and lines are not here.`],
  }
}

function rowOf({ question, policy }: Evaluated, element: number | null): StoredRow {
  const { facts, targets, nowNs } = question
  const { principal, request, server } = facts
  const target = element === null ? facts.target : (targets[element] ?? null)
  return toAskedRow({
    ts: new Date(Number(nowNs / 1_000_000n)),
    tenant: principal.tenant,
    principal_id: principal.id,
    principal_kind: principal.kind,
    roles: principal.roles,
    client_ip: request.ip,
    method: request.method,
    server: server.name,
    target_kind: target?.kind ?? null,
    tool_name: target?.name ?? null,
    reason: null,
    policy_revision: policy.revision,
  })
}

/** The lines to print. Foreign text in them is escaped. */
export function layoutAnswer(
  evaluated: Evaluated,
  told: readonly Told[],
  { out, ...options }: AnswerOptions & { readonly out: Pick<Output, 'style'> },
): readonly string[] {
  const facts = factsOf(evaluated)
  return told.flatMap((one, index) => [
    ...(index === 0 ? [] : ['', '']),
    ...layoutWhy(one, index === 0 ? facts : [], out, options),
  ])
}

function factsOf(evaluated: Evaluated): readonly ShownFact[] {
  const { question, policy, answered } = evaluated
  const { principal, request } = question.facts
  const roles = principal.roles.length === 0 ? '' : `   roles ${principal.roles.join(', ')}`
  const from = request.ip === null ? '' : `   from ${request.ip}`
  const limits = answered.phase === 'call' ? answered.evaluation.limits : []
  return [
    ['when', new Date(Number(question.nowNs / 1_000_000n)).toISOString()],
    ['who', `${principal.id} (${principal.kind})${roles}${from}`],
    ['policy', `${policy.revision}, as it stands`],
    ...limits.map((limit): ShownFact => ['limit', JSON.stringify(limit)]),
    ...recordedFacts(evaluated),
  ]
}

/** The explanation as programs read it, with what was asked and decided. */
export function toAnswerDocument(evaluated: Evaluated, told: readonly Told[]): object {
  const { phase } = evaluated.answered
  const asked = toEvaluationDocument(evaluated)
  return phase === 'call' ? { ...asked, explanation: told[0] ?? null } : { ...asked, explanations: told }
}
