/** The `decision` column: what each stage found, readable without a join. Described by schemas/decision.schema.json. Pure. */
import type {
  AuditEvent,
  Call,
  Ending,
  Evaluation,
  Mask,
  TargetVerdict,
  UpstreamReport,
} from '../gateway/types.ts'
import { masksAt, placeOf, placeOfTrace } from './mask.ts'
import type { Notes } from './notes.ts'
import type { Redactor } from './redact.ts'
import { DECISION_BOUNDS } from './redact.ts'
import type { OwnWords } from './walk.ts'

const MAX_LISTED = 500
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

/** Sections by name -> JSON text; null = the call did not get that far. */
type Sections = Record<string, string | null>

/**
 * The decision, and the same without the parts that hold what policies and callers wrote (`input`, `trace`).
 * `masks` null: nobody knows what to mask.
 */
export function decisionSections(
  redactor: Redactor,
  notes: Notes,
  event: AuditEvent,
  masks: readonly Mask[] | null,
): { decision: string; core: string } {
  const { call, ending } = event
  const stages = {
    stage: JSON.stringify(call.stage),
    outcome: JSON.stringify(ending.outcome),
    timings_us: JSON.stringify(call.timingsUs),
    auth: authSection(redactor, notes, call, ending),
  }
  const later = {
    rate: rateSection(redactor, notes, call, ending),
    validate: validateSection(call, ending),
    upstream: upstreamSection(redactor, call.upstream),
    listed: listedSection(redactor, notes, call.listed),
    listed_total: call.listed === null ? null : JSON.stringify(call.listed.length),
    hint: hintSection(redactor, notes, call),
    error: errorSection(redactor, notes, event),
  }
  const authz = authzSections(redactor, notes, event, masks)
  return {
    decision: toObject({ ...stages, authz: authz === null ? null : toObject(authz), ...later }),
    core: toObject({
      ...stages,
      authz: authz === null ? null : toObject({ ...authz, input: null, trace: null }),
      ...later,
    }),
  }
}

function toObject(sections: Sections): string {
  let members = ''
  for (const name in sections) {
    const json = sections[name] ?? null
    if (json !== null) members += `${members === '' ? '' : ','}"${name}":${json}`
  }
  return `{${members}}`
}

function authSection(redactor: Redactor, notes: Notes, call: Readonly<Call>, ending: Ending): string | null {
  const { principal } = call
  if (principal !== null) {
    return JSON.stringify({
      ok: true,
      method: principal.authMethod,
      principal: notes.column(redactor, principal.id, MAX_NAME, true),
    })
  }
  if (call.stage !== 'auth') return null
  const why = notes.column(redactor, ending.error?.detail, MAX_DETAIL)
  return JSON.stringify({ ok: false, ...(why === null ? {} : { why }) })
}

function authzSections(
  redactor: Redactor,
  notes: Notes,
  { call, ending }: AuditEvent,
  masks: readonly Mask[] | null,
): Sections | null {
  const { evaluation } = call
  if (evaluation === null) {
    return call.stage === 'authz'
      ? { allow: 'false', ...(ending.kind === null ? {} : { refused: JSON.stringify(ending.kind) }) }
      : null
  }
  return {
    ...verdict(redactor, notes, evaluation),
    now_ns: JSON.stringify(evaluation.nowNs),
    eval_us: JSON.stringify(Math.round(evaluation.evalUs)),
    fuel: JSON.stringify(evaluation.fuel),
    input: notes.attempt('input', () => inputJson(redactor, notes, evaluation, masks)),
    input_mac: JSON.stringify(evaluation.inputMac),
    trace: notes.attempt('trace', () => {
      const text = evaluation.traceText()
      return notes.walked(
        'trace',
        redactor.json(text, {
          bounds: DECISION_BOUNDS,
          own: TRACE_WORDS,
          withhold: VALUES,
          trusted: true,
          parts: evaluation.traceParts(),
          masks: placeOfTrace(masks ?? []),
        }),
      )
    }),
  }
}

/** The policy input without the arguments, which stand in the request. */
function inputJson(
  redactor: Redactor,
  notes: Notes,
  { inputText }: Evaluation,
  masks: readonly Mask[] | null,
): string | null {
  if (masks === null) return notes.withheld('input', Buffer.byteLength(inputText))
  const place = placeOf(masksAt(masks, ['arguments', 'result'], false))
  const options = { bounds: DECISION_BOUNDS, own: INPUT_WORDS, learn: true, masks: place }
  return notes.walked('input', redactor.json(inputText, options))
}

function verdict(redactor: Redactor, notes: Notes, evaluation: Evaluation): Sections {
  const { failure, limits, obligations, policy } = evaluation
  return {
    allow: JSON.stringify(evaluation.allow && failure === null),
    allowed_by: reasons(redactor, evaluation.allowedBy),
    denied_by: reasons(redactor, evaluation.deniedBy),
    limits: limits.length === 0 ? null : values(redactor, notes, 'limits', limits),
    obligations: obligations.length === 0 ? null : values(redactor, notes, 'obligations', obligations),
    failure:
      failure === null
        ? null
        : JSON.stringify({
            kind: failure.kind,
            message: notes.column(redactor, sayable(redactor, evaluation, failure.message), MAX_DETAIL) ?? '',
          }),
    mask_failure: evaluation.maskFailure === null ? null : JSON.stringify(evaluation.maskFailure),
    policy: JSON.stringify({
      revision: policy.revision,
      digest: policy.digest,
      entrypoint: policy.entrypoint,
      opa: policy.opa,
    }),
  }
}

/** Values that a policy computed, maybe from what the caller sent. */
function values(redactor: Redactor, notes: Notes, section: string, list: readonly unknown[]): string | null {
  if (redactor.overflowed) return null
  return notes.attempt(section, () =>
    notes.walked(section, redactor.json(JSON.stringify(list), { bounds: DECISION_BOUNDS })),
  )
}

/** Names of limits are kept even when they could not be counted: the row then tells what was asked for. */
function rateSection(redactor: Redactor, notes: Notes, call: Readonly<Call>, ending: Ending): string | null {
  if (call.timingsUs.rate === undefined) return null
  if (call.rate !== null) return JSON.stringify({ limits: call.rate.limits })
  if (ending.kind !== 'limiter_unavailable') return JSON.stringify({ limits: [] })
  const asked = (call.evaluation?.limits ?? []).map(({ key, ...facts }) => facts)
  const limits = values(redactor, notes, 'limits', asked) ?? '[]'
  return `{"limits":${limits},"refused":"limiter_unavailable"}`
}

function validateSection(call: Readonly<Call>, ending: Ending): string | null {
  if (call.timingsUs.validate === undefined) return null
  return JSON.stringify({ ok: !(call.stage === 'validate' && ending.kind !== null) })
}

function upstreamSection(redactor: Redactor, report: UpstreamReport | null): string | null {
  if (report === null) return null
  return JSON.stringify({
    server: redactor.text(report.server, MAX_NAME, true),
    status: report.status,
    json_rpc_error: report.jsonRpcError,
    tool_is_error: report.toolIsError,
    ms: Math.round(report.ms * 1000) / 1000,
    bytes: report.bytes,
    sha256: report.sha256,
  })
}

function listedSection(
  redactor: Redactor,
  notes: Notes,
  listed: readonly TargetVerdict[] | null,
): string | null {
  if (listed === null) return null
  const targets = listed.slice(0, MAX_LISTED).map((target) => ({
    name: notes.column(redactor, target.name, MAX_NAME) ?? '',
    allow: target.allow,
    allowed_by: target.allowedBy.slice(0, MAX_REASONS),
    denied_by: target.deniedBy.slice(0, MAX_REASONS),
  }))
  return JSON.stringify(targets)
}

function hintSection(redactor: Redactor, notes: Notes, call: Readonly<Call>): string | null {
  if (call.hint === null) return null
  return JSON.stringify({
    method: notes.column(redactor, call.hint.method, MAX_NAME),
    name: notes.column(redactor, call.hint.name, MAX_NAME),
  })
}

function errorSection(redactor: Redactor, notes: Notes, { call, ending }: AuditEvent): string | null {
  const { error } = ending
  if (error === null) return null
  const cause = error.cause instanceof Error ? causeText(redactor, error.cause) : null
  return JSON.stringify({
    kind: error.kind,
    detail: notes.column(redactor, sayable(redactor, call.evaluation, error.detail), MAX_DETAIL),
    cause: notes.column(redactor, cause, MAX_DETAIL),
  })
}

function reasons(redactor: Redactor, list: readonly string[]): string {
  return JSON.stringify(list.slice(0, MAX_REASONS).map((reason) => redactor.text(reason, MAX_NAME, true)))
}

/**
 * What an error says about a call. The message of a policy that failed may quote its input, so it is said only when all
 * that has to be hidden is known.
 */
export function sayable(
  redactor: Redactor,
  evaluation: Evaluation | null,
  text: string | null | undefined,
): string | null {
  if ((text ?? null) === null) return null
  return redactor.overflowed && evaluation?.failure?.kind === 'policy_error' ? WITHHELD : (text ?? null)
}

/** Others have written it, so it may quote anything. */
function causeText(redactor: Redactor, { name, message }: Error): string {
  return `${name}: ${redactor.overflowed ? WITHHELD : message}`
}

const WITHHELD = '[redacted:withheld]'
