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

/** The decision, and the same without the parts that hold what policies and callers wrote (`input`, `trace`). */
export function decisionSections(
  redactor: Redactor,
  notes: Notes,
  event: AuditEvent,
  keeping: Keeping,
): { decision: string; core: string } {
  const { call, ending } = event
  const before =
    `{"stage":"${call.stage}","outcome":"${ending.outcome}","timings_us":${JSON.stringify(call.timingsUs)}` +
    member('mount', call.merged === null ? null : '"/mcp"') +
    member('auth', authSection(redactor, notes, call, ending))
  const after = `${
    member('rate', rateSection(redactor, notes, call, ending)) +
    member('validate', validateSection(call, ending)) +
    member('upstream', upstreamSection(redactor, call.upstream)) +
    listedSections(redactor, notes, call.listed) +
    member('parts', partsSection(redactor, notes, call.parts)) +
    member('hint', hintSection(redactor, notes, call)) +
    member('counted', countedSection(call)) +
    member('error', errorSection(redactor, notes, event))
  }}`
  const { decision, core } = authzSections(redactor, notes, event, keeping)
  return {
    decision: before + member('authz', decision) + after,
    core: before + member('authz', core) + after,
  }
}

/** The decision of a call that is about to ask its upstream: who, and what the policy said. */
export function begunDecision(redactor: Redactor, notes: Notes, { call, ending }: AuditEvent): string {
  const authz = call.evaluation === null ? null : `${verdict(redactor, notes, call.evaluation, 'metadata')}}`
  return (
    `{"stage":"upstream","outcome":"${ending.outcome}","timings_us":${JSON.stringify(call.timingsUs)}` +
    `${member('auth', authSection(redactor, notes, call, ending))}${member('authz', authz)}}`
  )
}

/** A member behind others; nothing for null. */
function member(name: string, json: string | null): string {
  return json === null ? '' : `,"${name}":${json}`
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
): { decision: string | null; core: string | null } {
  const { evaluation } = call
  if (evaluation === null) {
    const refused = `{"allow":false${member('refused', ending.kind === null ? null : `"${ending.kind}"`)}}`
    const json = call.stage === 'authz' ? refused : null
    return { decision: json, core: json }
  }
  const before =
    `${verdict(redactor, notes, evaluation, keeping.level)},"now_ns":"${evaluation.nowNs}"` +
    `,"eval_us":${Math.round(evaluation.evalUs)},"fuel":${evaluation.fuel}`
  const input = notes.attempt('input', () => inputJson(redactor, notes, evaluation, keeping.masks))
  const mac = member('input_mac', JSON.stringify(evaluation.inputMac))
  const trace = notes.attempt('trace', () => traceJson(redactor, notes, evaluation, keeping))
  return {
    decision: `${before}${member('input', input)}${mac}${member('trace', trace)}}`,
    core: `${before}${mac}}`,
  }
}

function traceJson(
  redactor: Redactor,
  notes: Notes,
  evaluation: Evaluation,
  { level, compact, masks }: Keeping,
): string {
  const text = evaluation.traceText()
  const walked = redactor.json(text, {
    bounds: DECISION_BOUNDS,
    own: TRACE_WORDS,
    withhold: VALUES,
    trusted: true,
    parts: evaluation.traceParts(),
    masks: placeOfTrace(masks ?? []),
  })
  const redacted = notes.walked('trace', walked)
  const reasons = [...evaluation.allowedBy, ...evaluation.deniedBy]
  const kept = level === 'metadata' ? withoutValues(redacted, reasons) : redacted
  return compact ? compactTrace(kept, evaluation.traceDictionary) : kept
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

/** The beginning of the section. */
function verdict(redactor: Redactor, notes: Notes, evaluation: Evaluation, level: PayloadLevel): string {
  const { failure, obligations, policy } = evaluation
  const limits = level === 'metadata' ? withoutKeys(evaluation.limits) : evaluation.limits
  const { revision, digest, entrypoint, opa } = policy
  const message = failure === null ? null : sayable(redactor, evaluation, failure.message)
  const failed =
    failure === null
      ? null
      : JSON.stringify({ kind: failure.kind, message: notes.column(redactor, message, MAX_DETAIL) ?? '' })
  return (
    `{"allow":${evaluation.allow && failure === null}` +
    `,"allowed_by":${reasons(redactor, evaluation.allowedBy)}` +
    `,"denied_by":${reasons(redactor, evaluation.deniedBy)}` +
    member('limits', limits.length === 0 ? null : values(redactor, notes, 'limits', limits)) +
    member(
      'obligations',
      obligations.length === 0 ? null : values(redactor, notes, 'obligations', obligations),
    ) +
    member('failure', failed) +
    member('mask_failure', evaluation.maskFailure === null ? null : JSON.stringify(evaluation.maskFailure)) +
    member('policy', JSON.stringify({ revision, digest, entrypoint, opa }))
  )
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

/** The first of the verdicts that fit, and how many there are. */
function listedSections(
  redactor: Redactor,
  notes: Notes,
  listed: readonly TargetVerdict[] | null,
  max = MAX_LISTED,
): string {
  if (listed === null) return ''
  const targets: string[] = []
  let length = 0
  for (const target of listed.slice(0, max)) {
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
  return member('listed', `[${targets.join(',')}]`) + member('listed_total', String(listed.length))
}

/**
 * What became of a call to the merged mount at each upstream. The input of a part is that of the row with this server; the
 * clock and the digest of its exact bytes stand beside its verdict.
 */
function partsSection(redactor: Redactor, notes: Notes, parts: readonly CallPart[] | null): string | null {
  if (parts === null) return null
  const sections = parts.map(({ call, refusal }) => {
    const { server, evaluation, listed } = call
    const detail = notes.column(redactor, refusal?.detail, MAX_DETAIL)
    return (
      `{"server":${JSON.stringify({ name: server?.name, labels: server?.labels })}` +
      member('refused', refusal === null ? null : JSON.stringify(refusal.kind)) +
      member('detail', detail === null ? null : JSON.stringify(detail)) +
      member('authz', evaluation === null ? null : partVerdict(redactor, evaluation)) +
      member('upstream', upstreamSection(redactor, call.upstream)) +
      listedSections(redactor, notes, listed, Math.ceil(MAX_LISTED / parts.length)) +
      '}'
    )
  })
  return `[${sections.join(',')}]`
}

function partVerdict(redactor: Redactor, evaluation: Evaluation): string {
  const { allow, allowedBy, deniedBy, failure, nowNs, inputMac } = evaluation
  return (
    `{"allow":${allow && failure === null},"allowed_by":${reasons(redactor, allowedBy)}` +
    `,"denied_by":${reasons(redactor, deniedBy)}` +
    member('failure', failure === null ? null : JSON.stringify(failure.kind)) +
    `,"now_ns":"${nowNs}","input_mac":${JSON.stringify(inputMac)}}`
  )
}

function hintSection(redactor: Redactor, notes: Notes, call: Readonly<Call>): string | null {
  if (call.hint === null) return null
  return JSON.stringify({
    method: notes.column(redactor, call.hint.method, MAX_NAME),
    name: notes.column(redactor, call.hint.name, MAX_NAME),
  })
}

/** Counts and addresses are the gateway's own. */
function countedSection({ counted }: Readonly<Call>): string | null {
  if (counted === undefined) return null
  const { count, fromMs, toMs, addresses, others } = counted
  return JSON.stringify({ count, from: isoTime(fromMs), to: isoTime(toMs), addresses, others })
}

function errorSection(redactor: Redactor, notes: Notes, event: AuditEvent): string | null {
  const { error } = event.ending
  if (error === null) return null
  const cause = error.cause instanceof Error ? causeText(redactor, error.cause) : null
  return JSON.stringify({
    kind: error.kind,
    detail: notes.column(redactor, saidOf(redactor, event), MAX_DETAIL),
    cause: notes.column(redactor, cause, MAX_DETAIL),
  })
}

function reasons(redactor: Redactor, list: readonly string[]): string {
  return JSON.stringify(list.slice(0, MAX_REASONS).map((reason) => redactor.text(reason, MAX_NAME, true)))
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
