/** The `decision` column: what each stage found, readable without a join. Described by schemas/decision.schema.json. Pure. */
import type { AuditEvent, Call, Ending, Evaluation, TargetVerdict, UpstreamReport } from '../gateway/types.ts'
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

/** The decision, and the same without the parts that hold what policies and callers wrote (`input`, `trace`). */
export function decisionSections(
  redactor: Redactor,
  notes: Notes,
  event: AuditEvent,
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
    error: errorSection(redactor, notes, ending),
  }
  const authz = authzSections(redactor, notes, call, ending)
  return {
    decision: toObject({ ...stages, authz: authz === null ? null : toObject(authz), ...later }),
    core: toObject({
      ...stages,
      authz: authz === null ? null : toObject({ ...authz, input: null, trace: null }),
      ...later,
    }),
  }
}

/** The decision of a call that is about to ask its upstream: who, and what the policy said. */
export function begunDecision(redactor: Redactor, notes: Notes, call: Readonly<Call>): string {
  const open = {
    outcome: 'interrupted',
    status: 503,
    kind: null,
    error: null,
    response: null,
    latencyMs: 0,
  } as const
  return toObject({
    stage: '"upstream"',
    outcome: '"interrupted"',
    timings_us: JSON.stringify(call.timingsUs),
    auth: authSection(redactor, notes, call, open),
    authz: call.evaluation === null ? null : toObject(verdict(redactor, notes, call.evaluation)),
  })
}

function toObject(sections: Sections): string {
  const members = Object.entries(sections).filter(([, json]) => json !== null)
  return `{${members.map(([name, json]) => `${JSON.stringify(name)}:${json}`).join(',')}}`
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
  call: Readonly<Call>,
  ending: Ending,
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
    input: notes.attempt('input', () =>
      notes.walked(
        'input',
        redactor.json(evaluation.inputText, { bounds: DECISION_BOUNDS, own: INPUT_WORDS, learn: true }),
      ),
    ),
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
        }),
      )
    }),
  }
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
            message: notes.column(redactor, failure.message, MAX_DETAIL) ?? '',
          }),
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

function errorSection(redactor: Redactor, notes: Notes, ending: Ending): string | null {
  const { error } = ending
  if (error === null) return null
  const cause = error.cause instanceof Error ? `${error.cause.name}: ${error.cause.message}` : null
  return JSON.stringify({
    kind: error.kind,
    detail: notes.column(redactor, error.detail, MAX_DETAIL),
    cause: notes.column(redactor, cause, MAX_DETAIL),
  })
}

function reasons(redactor: Redactor, list: readonly string[]): string {
  return JSON.stringify(list.slice(0, MAX_REASONS).map((reason) => redactor.text(reason, MAX_NAME, true)))
}
