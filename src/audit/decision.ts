/** The `decision` column: what each stage found, readable without a join. Described by schemas/decision.schema.json. Pure. */
import type {
  AuditEvent,
  Call,
  CallPart,
  Ending,
  Evaluation,
  Mask,
  TargetVerdict,
  UpstreamReport,
} from '../gateway/types.ts'
import type { StoredText } from '../json/stored-text.ts'
import { createObjectPrinter, storedArray, storedJson, toStoredText } from '../json/stored-text.ts'
import { compactTrace } from './compact-trace.ts'
import { masksAt, placeOf, placeOfTrace } from './mask.ts'
import type { Notes } from './notes.ts'
import type { PayloadLevel } from './payload.ts'
import { withoutKeys, withoutValues } from './payload.ts'
import type { Redactor } from './redact.ts'
import { DECISION_BOUNDS } from './redact.ts'
import { isoTime } from './row.ts'
import type { OwnWords } from './walk.ts'

const MAX_LISTED = 500
/** Characters of all of them. */
const MAX_LISTED_LENGTH = 131_072
const MAX_REASONS = 32
const MAX_NAME = 256
const MAX_DETAIL = 1024

const OWN: OwnWords = { own: true, members: new Map() }
/** Principal and server come from the gateway's own tables. */
const INPUT_WORDS: OwnWords = {
  own: false,
  members: new Map([
    ['principal', OWN],
    ['server', OWN],
  ]),
}
/** Names, places and source texts come from the policy; `vars`, `reads` and `value` hold what callers sent. */
const TRACE_WORDS: OwnWords = { own: false, members: traceMembers() }

function traceMembers(): ReadonlyMap<string, OwnWords> {
  const members = new Map<string, OwnWords>()
  const nested: OwnWords = { own: false, members }
  for (const name of ['rules', 'steps']) members.set(name, nested)
  for (const name of ['rule', 'at', 'title', 'expr', 'outcome']) members.set(name, OWN)
  return members
}

const VALUES: ReadonlySet<string> = new Set(['vars', 'reads', 'value', 'args'])

/** How much of an evaluation is kept, and in which form. */
export interface Keeping {
  readonly level: PayloadLevel
  readonly compact: boolean
  /** null: nobody knows what to mask. */
  readonly masks: readonly Mask[] | null
}

const printDecision = createObjectPrinter(
  ...(['stage', 'outcome', 'timings_us', 'mount', 'auth', 'authz', 'rate', 'validate', 'upstream'] as const),
  ...(['listed', 'listed_total', 'parts', 'hint', 'counted', 'error'] as const),
)
const printAuth = createObjectPrinter('ok', 'method', 'principal', 'why')
const printAuthz = createObjectPrinter(
  ...([
    'allow',
    'allowed_by',
    'denied_by',
    'limits',
    'obligations',
    'failure',
    'mask_failure',
    'policy',
  ] as const),
  ...(['now_ns', 'eval_us', 'fuel', 'input', 'input_mac', 'trace', 'refused'] as const),
)
const printPolicy = createObjectPrinter('revision', 'digest', 'entrypoint', 'opa')
const printRate = createObjectPrinter('limits', 'refused')
const printUpstream = createObjectPrinter(
  ...(['server', 'status', 'json_rpc_error', 'tool_is_error', 'ms', 'bytes', 'sha256'] as const),
)
const printPart = createObjectPrinter(
  ...(['server', 'refused', 'detail', 'authz', 'upstream', 'listed', 'listed_total'] as const),
)

const NO = storedJson(false)
const OK = printAuth({ ok: storedJson(true) })

/** The column's text. */
export function decisionText(
  redactor: Redactor,
  notes: Notes,
  event: AuditEvent,
  keeping: Keeping,
): StoredText {
  const { call, ending } = event
  return printDecision({
    stage: storedJson(call.stage),
    outcome: storedJson(ending.outcome),
    timings_us: storedJson(call.timingsUs),
    mount: call.merged === null ? null : storedJson('/mcp'),
    auth: authSection(redactor, notes, call, ending),
    authz: authzSection(redactor, notes, event, keeping),
    rate: rateSection(redactor, notes, call, ending),
    validate: validateSection(call, ending),
    upstream: upstreamSection(redactor, call.upstream),
    ...listedSections(redactor, notes, call.listed),
    parts: partsSection(redactor, notes, call.parts),
    hint: hintSection(redactor, notes, call),
    counted: countedSection(call),
    error: errorSection(redactor, notes, event),
  })
}

/** The decision of a call that is about to ask its upstream: who, and what the policy said. */
export function begunDecision(redactor: Redactor, notes: Notes, { call, ending }: AuditEvent): StoredText {
  const { evaluation } = call
  return printDecision({
    stage: storedJson('upstream'),
    outcome: storedJson(ending.outcome),
    timings_us: storedJson(call.timingsUs),
    auth: authSection(redactor, notes, call, ending),
    authz: evaluation === null ? null : printAuthz(verdict(redactor, notes, evaluation, 'metadata')),
  })
}

function authSection(
  redactor: Redactor,
  notes: Notes,
  call: Readonly<Call>,
  ending: Ending,
): StoredText | null {
  const { principal } = call
  if (principal !== null) {
    return printAuth({
      ok: storedJson(true),
      method: storedJson(principal.authMethod),
      principal: storedJson(notes.column(redactor, principal.id, MAX_NAME, true)),
    })
  }
  if (call.stage !== 'auth') return null
  const why = notes.column(redactor, ending.error?.detail, MAX_DETAIL)
  return printAuth({ ok: NO, why: why === null ? null : storedJson(why) })
}

function authzSection(
  redactor: Redactor,
  notes: Notes,
  { call, ending }: AuditEvent,
  keeping: Keeping,
): StoredText | null {
  const { evaluation } = call
  if (evaluation === null) {
    const refused = ending.kind === null ? null : storedJson(ending.kind)
    return call.stage === 'authz' ? printAuthz({ allow: NO, refused }) : null
  }
  return printAuthz({
    ...verdict(redactor, notes, evaluation, keeping.level),
    now_ns: storedJson(evaluation.nowNs),
    eval_us: storedJson(Math.round(evaluation.evalUs)),
    fuel: storedJson(evaluation.fuel),
    input: notes.attempt('input', () => inputJson(redactor, notes, evaluation, keeping.masks)),
    input_mac: storedJson(evaluation.inputMac),
    trace: notes.attempt('trace', () => traceJson(redactor, notes, evaluation, keeping)),
  })
}

function traceJson(
  redactor: Redactor,
  notes: Notes,
  evaluation: Evaluation,
  { level, compact, masks }: Keeping,
): StoredText {
  const text = evaluation.traceText()
  const walked = redactor.json(text, {
    bounds: DECISION_BOUNDS,
    own: TRACE_WORDS,
    withhold: VALUES,
    trusted: true,
    parts: evaluation.traceParts(),
    masks: placeOfTrace(masks ?? []),
  })
  // Nearly always nothing has to be hidden, and the text comes in the form in which it is stored.
  const redacted = walked.json === text ? text : notes.walked('trace', walked)
  if (level !== 'metadata' && !compact) return redacted
  const reasons = [...evaluation.allowedBy, ...evaluation.deniedBy]
  const kept = level === 'metadata' ? withoutValues(redacted, reasons) : redacted
  return toStoredText(compact ? compactTrace(kept, evaluation.traceDictionary) : kept)
}

/** The policy input without the arguments, which stand in the request. */
function inputJson(
  redactor: Redactor,
  notes: Notes,
  { inputText }: Evaluation,
  masks: readonly Mask[] | null,
): StoredText | null {
  if (masks === null) return notes.withheld('input', Buffer.byteLength(inputText))
  const masked = placeOf(masksAt(masks, ['arguments', 'result'], false))
  const options = { bounds: DECISION_BOUNDS, own: INPUT_WORDS, learn: true, isJson: true, masks: masked }
  return notes.walked('input', redactor.json(inputText, options))
}

type AuthzMembers = Parameters<typeof printAuthz>[0]

/** The members that say what the policy said. */
function verdict(
  redactor: Redactor,
  notes: Notes,
  evaluation: Evaluation,
  level: PayloadLevel,
): AuthzMembers {
  const { failure, obligations, maskFailure } = evaluation
  const limits = level === 'metadata' ? withoutKeys(evaluation.limits) : evaluation.limits
  return {
    allow: storedJson(evaluation.allow && failure === null),
    allowed_by: reasons(redactor, evaluation.allowedBy),
    denied_by: reasons(redactor, evaluation.deniedBy),
    limits: limits.length === 0 ? null : values(redactor, notes, 'limits', limits),
    obligations: obligations.length === 0 ? null : values(redactor, notes, 'obligations', obligations),
    failure: failureSection(redactor, notes, evaluation),
    mask_failure: maskFailure === null ? null : storedJson(maskFailure),
    policy: policySection(evaluation),
  }
}

function failureSection(redactor: Redactor, notes: Notes, evaluation: Evaluation): StoredText | null {
  const { failure } = evaluation
  if (failure === null) return null
  const message = notes.column(redactor, sayable(redactor, evaluation, failure.message), MAX_DETAIL) ?? ''
  return storedJson({ kind: failure.kind, message })
}

function policySection({ policy }: Evaluation): StoredText {
  return printPolicy({
    revision: storedJson(policy.revision),
    digest: storedJson(policy.digest),
    entrypoint: storedJson(policy.entrypoint),
    opa: storedJson(policy.opa),
  })
}

/** Values that a policy computed, maybe from what the caller sent. */
function values(
  redactor: Redactor,
  notes: Notes,
  section: string,
  list: readonly unknown[],
): StoredText | null {
  if (redactor.overflowed) return null
  return notes.attempt(section, () =>
    notes.walked(section, redactor.json(JSON.stringify(list), { bounds: DECISION_BOUNDS, isJson: true })),
  )
}

/** Names of limits are kept even when they could not be counted: the row then tells what was asked for. */
function rateSection(
  redactor: Redactor,
  notes: Notes,
  call: Readonly<Call>,
  ending: Ending,
): StoredText | null {
  if (call.timingsUs.rate === undefined) return null
  if (call.rate !== null) return printRate({ limits: storedJson(call.rate.limits) })
  if (ending.kind !== 'limiter_unavailable') return printRate({ limits: storedArray([]) })
  const asked = withoutKeys(call.evaluation?.limits ?? [])
  const limits = values(redactor, notes, 'limits', asked) ?? storedArray([])
  return printRate({ limits, refused: storedJson('limiter_unavailable') })
}

function validateSection(call: Readonly<Call>, ending: Ending): StoredText | null {
  if (call.timingsUs.validate === undefined) return null
  return call.stage === 'validate' && ending.kind !== null ? printAuth({ ok: NO }) : OK
}

function upstreamSection(redactor: Redactor, report: UpstreamReport | null): StoredText | null {
  if (report === null) return null
  return printUpstream({
    server: storedJson(redactor.text(report.server, MAX_NAME, true)),
    status: storedJson(report.status),
    json_rpc_error: storedJson(report.jsonRpcError),
    tool_is_error: storedJson(report.toolIsError),
    ms: storedJson(Math.round(report.ms * 1000) / 1000),
    bytes: storedJson(report.bytes),
    sha256: storedJson(report.sha256),
  })
}

/** The first of the verdicts that fit, and how many there are. */
function listedSections(
  redactor: Redactor,
  notes: Notes,
  listed: readonly TargetVerdict[] | null,
  max = MAX_LISTED,
): { readonly listed?: StoredText; readonly listed_total?: StoredText } {
  if (listed === null) return {}
  const targets: StoredText[] = []
  let length = 0
  for (const target of listed.slice(0, max)) {
    const text = storedJson({
      name: notes.column(redactor, target.name, MAX_NAME) ?? '',
      allow: target.allow,
      allowed_by: target.allowedBy.slice(0, MAX_REASONS),
      denied_by: target.deniedBy.slice(0, MAX_REASONS),
    })
    length += text.length
    if (length > MAX_LISTED_LENGTH) break
    targets.push(text)
  }
  return { listed: storedArray(targets), listed_total: storedJson(listed.length) }
}

/**
 * What became of a call to the merged mount at each upstream. The input of a part is that of the row with this server; the
 * clock and the digest of its exact bytes stand beside its verdict.
 */
function partsSection(
  redactor: Redactor,
  notes: Notes,
  parts: readonly CallPart[] | null,
): StoredText | null {
  if (parts === null) return null
  const sections = parts.map(({ call, refusal }) => {
    const { server, evaluation, listed } = call
    const detail = notes.column(redactor, refusal?.detail, MAX_DETAIL)
    return printPart({
      server: storedJson({ name: server?.name, labels: server?.labels }),
      refused: refusal === null ? null : storedJson(refusal.kind),
      detail: detail === null ? null : storedJson(detail),
      authz: evaluation === null ? null : partVerdict(redactor, evaluation),
      upstream: upstreamSection(redactor, call.upstream),
      ...listedSections(redactor, notes, listed, Math.ceil(MAX_LISTED / parts.length)),
    })
  })
  return storedArray(sections)
}

function partVerdict(redactor: Redactor, evaluation: Evaluation): StoredText {
  const { allow, allowedBy, deniedBy, failure, nowNs, inputMac } = evaluation
  return printAuthz({
    allow: storedJson(allow && failure === null),
    allowed_by: reasons(redactor, allowedBy),
    denied_by: reasons(redactor, deniedBy),
    failure: failure === null ? null : storedJson(failure.kind),
    now_ns: storedJson(nowNs),
    input_mac: storedJson(inputMac),
  })
}

function hintSection(redactor: Redactor, notes: Notes, { hint }: Readonly<Call>): StoredText | null {
  if (hint === null) return null
  return storedJson({
    method: notes.column(redactor, hint.method, MAX_NAME),
    name: notes.column(redactor, hint.name, MAX_NAME),
  })
}

/** Counts and addresses are the gateway's own. */
function countedSection({ counted }: Readonly<Call>): StoredText | null {
  if (counted === undefined) return null
  const { count, fromMs, toMs, addresses, others } = counted
  return storedJson({ count, from: isoTime(fromMs), to: isoTime(toMs), addresses, others })
}

function errorSection(redactor: Redactor, notes: Notes, event: AuditEvent): StoredText | null {
  const { error } = event.ending
  if (error === null) return null
  const cause = error.cause instanceof Error ? causeText(redactor, error.cause) : null
  return storedJson({
    kind: error.kind,
    detail: notes.column(redactor, saidOf(redactor, event), MAX_DETAIL),
    cause: notes.column(redactor, cause, MAX_DETAIL),
  })
}

function reasons(redactor: Redactor, list: readonly string[]): StoredText {
  return storedArray(
    list.slice(0, MAX_REASONS).map((reason) => storedJson(redactor.text(reason, MAX_NAME, true))),
  )
}

/** What the error of a call says; null = nothing. */
export function saidOf(redactor: Redactor, { call, ending }: AuditEvent): string | null {
  const detail = ending.error?.detail ?? null
  return detail === null ? null : sayable(redactor, call.evaluation, detail)
}

/** The message of a policy that failed may quote its input, so it is said only when all that has to be hidden is known. */
function sayable(redactor: Redactor, evaluation: Evaluation | null, text: string): string {
  return redactor.overflowed && evaluation?.failure?.kind === 'policy_error' ? WITHHELD : text
}

/** Others have written it, so it may quote anything. */
function causeText(redactor: Redactor, { name, message }: Error): string {
  return `${name}: ${redactor.overflowed ? WITHHELD : message}`
}

/** In the place of a text that may hold what is masked. */
export const WITHHELD = '[redacted:withheld]'
