/** The `decision` column: what each stage found, readable without a join. Described by schemas/decision.schema.json. Pure. */
import type { AuditEvent, Call, Ending, Evaluation, TargetVerdict, UpstreamReport } from '../gateway/types.ts'
import { compactTrace } from './compact-trace.ts'
import type { Notes } from './notes.ts'
import type { PayloadLevel } from './payload.ts'
import { withoutKeys, withoutValues } from './payload.ts'
import type { Redactor } from './redact.ts'
import { DECISION_BOUNDS } from './redact.ts'
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

/** Sections by name -> JSON text; null = the call did not get that far. */
type Sections = Record<string, string | null>

/** How much of an evaluation is kept, and in which form. */
interface Keeping {
  readonly level: PayloadLevel
  readonly compact: boolean
}

/** The decision, and the same without the parts that hold what policies and callers wrote (`input`, `trace`). */
export function decisionSections(
  redactor: Redactor,
  notes: Notes,
  event: AuditEvent,
  keeping: Keeping,
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
  const authz = authzSections(redactor, notes, event, keeping)
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
  { call, ending }: AuditEvent,
  keeping: Keeping,
): Sections | null {
  const { evaluation } = call
  if (evaluation === null) {
    return call.stage === 'authz'
      ? { allow: 'false', ...(ending.kind === null ? {} : { refused: JSON.stringify(ending.kind) }) }
      : null
  }
  return {
    ...verdict(redactor, notes, evaluation, keeping),
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
    trace: notes.attempt('trace', () => traceSection(redactor, notes, evaluation, keeping)),
  }
}

function traceSection(
  redactor: Redactor,
  notes: Notes,
  evaluation: Evaluation,
  { level, compact }: Keeping,
): string {
  const text = evaluation.traceText()
  const walked = redactor.json(text, {
    bounds: DECISION_BOUNDS,
    own: TRACE_WORDS,
    withhold: VALUES,
    trusted: true,
    parts: evaluation.traceParts(),
  })
  const redacted = notes.walked('trace', walked)
  const reasons = [...evaluation.allowedBy, ...evaluation.deniedBy]
  const kept = level === 'metadata' ? withoutValues(redacted, reasons) : redacted
  return compact ? compactTrace(kept, evaluation.traceDictionary) : kept
}

function verdict(redactor: Redactor, notes: Notes, evaluation: Evaluation, { level }: Keeping): Sections {
  const { failure, obligations, policy } = evaluation
  const limits = level === 'metadata' ? withoutKeys(evaluation.limits) : evaluation.limits
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
  const asked = withoutKeys(call.evaluation?.limits ?? [])
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
  const targets: string[] = []
  let length = 0
  for (const target of listed.slice(0, MAX_LISTED)) {
    const text = JSON.stringify({
      name: notes.column(redactor, target.name, MAX_NAME) ?? '',
      allow: target.allow,
      allowed_by: target.allowedBy.slice(0, MAX_REASONS),
      denied_by: target.deniedBy.slice(0, MAX_REASONS),
    })
    length += text.length
    if (length > MAX_LISTED_LENGTH) break
    targets.push(text)
  }
  return `[${targets.join(',')}]`
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
