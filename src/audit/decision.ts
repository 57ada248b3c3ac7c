/** The `decision` column: what each stage found, readable without a join. Described by schemas/decision.schema.json. Pure. */
import type { LimitReport } from '../gateway/limit-types.ts'
import type { AuditEvent, Call, CallPart, Ending, TargetVerdict, UpstreamReport } from '../gateway/types.ts'
import type { StoredText } from '../json/stored-text.ts'
import { createObjectPrinter, createRecordPrinter, storedArray, storedJson } from '../json/stored-text.ts'
import type { Keeping } from './authz-section.ts'
import {
  authzSection,
  begunVerdict,
  MAX_DETAIL,
  MAX_REASONS,
  partVerdict,
  sayable,
  values,
  WITHHELD,
} from './authz-section.ts'
import type { Notes } from './notes.ts'
import { withoutKeys } from './payload.ts'
import type { Redactor } from './redact.ts'
import { isoTime } from './row.ts'

const MAX_LISTED = 500
/** Characters of all of them. */
const MAX_LISTED_LENGTH = 131_072
const MAX_NAME = 256

const printDecision = createObjectPrinter(
  ...(['stage', 'outcome', 'timings_us', 'mount', 'auth', 'authz', 'rate', 'validate', 'upstream'] as const),
  ...(['listed', 'listed_total', 'parts', 'hint', 'counted', 'error'] as const),
)
const printAuth = createObjectPrinter('ok', 'method', 'principal', 'why')
const printRate = createObjectPrinter('limits', 'refused')
const printUpstream = createObjectPrinter(
  ...(['server', 'status', 'json_rpc_error', 'tool_is_error', 'ms', 'bytes', 'sha256'] as const),
)
const printPart = createObjectPrinter(
  ...(['server', 'refused', 'detail', 'authz', 'upstream', 'listed', 'listed_total'] as const),
)

const printTimings = createRecordPrinter<keyof Call['timingsUs']>([
  ...(['queue', 'admit', 'auth', 'read', 'authz', 'rate', 'validate', 'upstream', 'audit'] as const),
])
const printLimit = createRecordPrinter<keyof LimitReport>([
  ...(['name', 'consumed', 'limit', 'remaining', 'reset_ms', 'window_s', 'calendar', 'cost'] as const),
  ...(['source', 'mode', 'refused'] as const),
])

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
    timings_us: printTimings(call.timingsUs),
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
    timings_us: printTimings(call.timingsUs),
    auth: authSection(redactor, notes, call, ending),
    authz: evaluation === null ? null : begunVerdict(redactor, notes, evaluation),
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

/** Names of limits are kept even when they could not be counted: the row then tells what was asked for. */
function rateSection(
  redactor: Redactor,
  notes: Notes,
  call: Readonly<Call>,
  ending: Ending,
): StoredText | null {
  if (call.timingsUs.rate === undefined) return null
  if (call.rate !== null) return printRate({ limits: storedArray(call.rate.limits.map(printLimit)) })
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

/** What the error of a call says; null = nothing. */
export function saidOf(redactor: Redactor, { call, ending }: AuditEvent): string | null {
  const detail = ending.error?.detail ?? null
  return detail === null ? null : sayable(redactor, call.evaluation, detail)
}

/** Others have written it, so it may quote anything. */
function causeText(redactor: Redactor, { name, message }: Error): string {
  return `${name}: ${redactor.overflowed ? WITHHELD : message}`
}
