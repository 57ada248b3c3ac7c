/** A row in one sentence: what became of the attempt, who made it, what it was, why. Pure; the text is not escaped. */

import type { Outcome } from '../errors.ts'
import { MERGED } from '../gateway/federation/names.ts'
import type { StoredRow } from './query.ts'

/** Verdicts on the elements of a list, of which a row holds the first ones. */
export interface ListedFacts {
  readonly listed?: readonly {
    readonly name?: string
    readonly allow?: boolean
    readonly denied_by?: readonly string[]
  }[]
  readonly listed_total?: number
}

/** What became of a call to `/mcp` at one upstream. */
export interface PartFacts extends ListedFacts {
  readonly server?: { readonly name?: string }
  /** Kind of ending; absent = it has a share. */
  readonly refused?: string
  readonly detail?: string
  readonly authz?: {
    readonly allow?: boolean
    readonly allowed_by?: readonly string[]
    readonly denied_by?: readonly string[]
    readonly failure?: string
  }
  readonly upstream?: { readonly json_rpc_error?: number | null }
}

/** The members of `decision` that sentences speak of. Unchecked JSON of a row: everything may be absent. */
export interface DecisionFacts extends ListedFacts {
  readonly stage?: string
  readonly auth?: { readonly ok?: boolean; readonly why?: string }
  readonly authz?: {
    readonly allow?: boolean
    readonly allowed_by?: readonly string[]
    readonly denied_by?: readonly string[]
    readonly failure?: { readonly kind?: string; readonly message?: string }
    readonly policy?: { readonly revision?: string; readonly digest?: string }
    readonly eval_us?: number
    readonly fuel?: number
    readonly trace?: unknown
  }
  readonly rate?: {
    readonly limits?: readonly {
      readonly name?: string
      readonly consumed?: number
      readonly limit?: number
      readonly reset_ms?: number
      readonly window_s?: number
      readonly calendar?: string
      readonly refused?: boolean
    }[]
  }
  readonly upstream?: {
    readonly status?: number | null
    readonly json_rpc_error?: number | null
    readonly tool_is_error?: boolean
  }
  readonly parts?: readonly PartFacts[]
  readonly error?: { readonly detail?: string | null }
  readonly gap?: { readonly count?: number; readonly from?: string; readonly to?: string }
  readonly stored?: { readonly as?: string; readonly why?: string; readonly sqlstate?: string }
  readonly timings_us?: Readonly<Record<string, number>>
}

/** One sentence about a row. */
export function sentenceOf(row: StoredRow, facts: DecisionFacts): string {
  return SENTENCES[row.outcome](row, facts)
}

/** One sentence about a call that nobody has made: what a policy says about it. */
export function askedSentence(row: StoredRow, facts: DecisionFacts): string {
  if (facts.authz?.allow !== true || facts.authz.failure !== undefined) return deniedSentence(row, facts)
  return `Allowed: ${who(row)} may ${may(row)}${because(facts.authz.allowed_by)}.`
}

/** One sentence about an element of a list: whether the caller gets to see it. */
export function listedSentence(row: StoredRow, { authz }: DecisionFacts): string {
  if (authz?.failure !== undefined)
    return `Hidden: the policy gave no verdict on ${target(row)}${colon(authz.failure.message)}.`
  if (authz?.allow === true)
    return `Shown: ${who(row)} sees ${target(row)} in lists${because(authz.allowed_by)}.`
  const reasons = authz?.denied_by ?? []
  if (reasons.length === 0) return `Hidden: no rule lets ${who(row)} see ${target(row)} in lists.`
  return `Hidden: ${who(row)} does not see ${target(row)} in lists${because(reasons)}.`
}

type Sentence = (row: StoredRow, facts: DecisionFacts) => string

const SENTENCES: Readonly<Record<Outcome, Sentence>> = {
  allowed: (row, facts) =>
    `Allowed: ${who(row)} ${did(row)}${because(facts.authz?.allowed_by)}${answered(facts)}.`,
  denied_admit: (row) =>
    `Refused at the door: ${ADMIT[row.reason ?? ''] ?? 'a request was not let in'}, asked from ${from(row)}${detail(row)}.`,
  denied_auth: (row, facts) =>
    `Refused: the caller at ${from(row)} was not authenticated${colon(facts.auth?.why ?? row.error_message)}${tried(row)}.`,
  denied_authz: deniedSentence,
  killed: (row) => `Stopped: ${who(row)} may not ${may(row)}, because a kill switch is on${detail(row)}.`,
  rate_limited: limitedSentence,
  invalid: (row) => `Invalid: ${who(row)} could not ${may(row)}: ${mistake(row)}.`,
  overloaded: (row) =>
    `Turned away: ${who(row)} could not ${may(row)}: ${row.error_message === null ? 'too many calls were in flight' : plain(row.error_message)}.`,
  unavailable: (row) =>
    `Not possible: ${who(row)} could not ${may(row)}: ${UNAVAILABLE[row.reason ?? ''] ?? label(row.reason)}${detail(row)}.`,
  upstream_error: (row) =>
    `Failed: ${who(row)} was allowed to ${may(row)}, but the upstream failed${detail(row)}.`,
  upstream_timeout: (row) =>
    `Failed: ${who(row)} was allowed to ${may(row)}, but the upstream did not answer in time${detail(row)}.`,
  client_closed: (row, facts) =>
    `Given up: ${who(row)} hung up while trying to ${may(row)} (at stage ${stage(facts)})${detail(row)}.`,
  interrupted: (row, facts) =>
    `Interrupted: the gateway stopped while ${who(row)} tried to ${may(row)} (at stage ${stage(facts)}); whether the upstream has done it is not known.`,
  internal_error: (row, facts) =>
    `Fault: the gateway failed while ${who(row)} tried to ${may(row)} (at stage ${stage(facts)})${detail(row)}.`,
  gap: (row, { gap }) =>
    `Gap: ${gap?.count ?? 'some'} attempts between ${gap?.from ?? '?'} and ${gap?.to ?? '?'} could not be recorded one by one${row.reason === null ? '' : ` (${label(row.reason)})`}.`,
}

const ADMIT: Readonly<Record<string, string>> = {
  host_refused: 'the Host header names no host of this gateway',
  origin_refused: 'the Origin header names a site that may not use this gateway',
}

const UNAVAILABLE: Readonly<Record<string, string>> = {
  auth_unavailable: 'it could not be made sure that the key and the kill switches are as known',
  limiter_unavailable: 'its limits could not be counted',
  audit_unavailable: 'its audit row could not be stored, so it was not let through',
}

const MISTAKES: Readonly<Record<string, string>> = {
  ambiguous_credentials: 'its headers can be read in two ways',
  body_too_large: 'its body is too large',
  unsupported_media_type: 'its body is not JSON in UTF-8, sent plainly',
  not_acceptable: 'it does not accept the answers that MCP has',
  parse_error: 'its body is not JSON that can be read in one way only',
  invalid_request: 'its body is no JSON-RPC message',
  invalid_params: 'its params are not those of the method',
  header_mismatch: 'a header says something else than the body',
  unsupported_version: 'it speaks a version of MCP that the gateway does not',
  missing_capability: 'it lacks a capability that the method needs',
  session_unknown: 'its session is unknown, has ended, or is of somebody else',
  mount_unknown: 'there is no upstream of that name',
  method_not_allowed: 'its HTTP method is not used here',
}

/** What was wrong with a call that nobody had to decide about. */
function mistake(row: StoredRow): string {
  if (row.reason !== 'invalid_arguments')
    return `${MISTAKES[row.reason ?? ''] ?? label(row.reason)}${detail(row)}`
  const found = plain(row.error_message ?? '').replace(/^Invalid arguments(: )?/, '')
  const broken = found.split('; ').map((one) => {
    const [, path, rule] = /^(\/.*): ([A-Za-z$]+)$/.exec(one) ?? []
    if (path === undefined || rule === undefined) return one
    return `${path === '/' ? 'the arguments as a whole break' : `${path} breaks`} the rule "${rule}"`
  })
  return `its arguments do not fit the tool's own schema${colon(broken.join(', '))}`
}

function deniedSentence(row: StoredRow, facts: DecisionFacts): string {
  const { authz } = facts
  if (row.reason === 'unknown_method')
    return `Denied: ${who(row)} used ${quoted(row.method)}, which is no method the gateway knows.`
  if (row.reason === 'unknown_tool')
    return `Denied: ${who(row)} asked for ${target(row)}, which the upstream does not offer.`
  if (row.reason === 'unknown_upstream')
    return `Denied: ${who(row)} asked for ${target(row)}; the name leads to no upstream.`
  if (authz?.failure !== undefined) {
    return `Denied: the policy gave no decision when ${who(row)} tried to ${may(row)}: ${FAILURES[authz.failure.kind ?? ''] ?? 'it failed'}${colon(authz.failure.message)}.`
  }
  const reasons = authz?.denied_by ?? []
  if (reasons.length === 0 && authz?.allow !== true)
    return `Denied: no rule allows ${who(row)} to ${may(row)}${detail(row)}.`
  return `Denied: ${who(row)} may not ${may(row)}${because(reasons)}${detail(row)}.`
}

const FAILURES: Readonly<Record<string, string>> = {
  policy_error: 'its evaluation failed',
  policy_budget: 'it would have cost more than one evaluation may',
  policy_malformed: 'what it returned breaks the contract',
}

function limitedSentence(row: StoredRow, facts: DecisionFacts): string {
  if (row.reason === 'address_throttled')
    return `Throttled: ${from(row)} keeps failing to authenticate${detail(row)}.`
  const limits = facts.rate?.limits ?? []
  const shown =
    limits.find((one) => one.refused === true) ??
    limits.find((one) => (one.consumed ?? 0) > (one.limit ?? Number.POSITIVE_INFINITY)) ??
    limits[0]
  if (shown === undefined) return `Limited: ${who(row)} may not ${may(row)} so often${detail(row)}.`
  const window = shown.calendar ?? (shown.window_s === undefined ? null : `${shown.window_s} s`)
  const per = window === null ? '' : ` per ${window}`
  return `Limited: ${who(row)} may not ${may(row)} now: limit ${shown.name ?? '?'} is ${shown.limit ?? '?'}${per}, used ${shown.consumed ?? '?'}${resets(row, shown.reset_ms)}.`
}

/** When the window ends, by the clock and counted from the call. */
function resets(row: StoredRow, resetMs: number | undefined): string {
  if (resetMs === undefined) return ''
  const at = new Date(row.ts.getTime() + resetMs)
  const moment = Number.isNaN(at.getTime()) ? '' : ` at ${at.toISOString().replace(/\.\d+Z$/, 'Z')}`
  return `; it resets${moment}, ${Math.ceil(resetMs / 1000)} s after the call`
}

function who(row: StoredRow): string {
  if (row.principal_id === null) return `the caller at ${from(row)}`
  const tenant = row.tenant === null ? '' : ` of ${row.tenant}`
  return `${row.principal_id}${tenant}`
}

function from(row: StoredRow): string {
  return row.client_ip ?? 'an unknown address'
}

const VERBS: Readonly<Record<string, readonly [infinitive: string, past: string]>> = {
  'tools/call': ['call', 'called'],
  'resources/read': ['read', 'read'],
  'prompts/get': ['get', 'got'],
}

function may(row: StoredRow): string {
  return `${VERBS[row.method ?? '']?.[0] ?? 'use'} ${target(row)}`
}

function did(row: StoredRow): string {
  return `${VERBS[row.method ?? '']?.[1] ?? 'used'} ${target(row)}`
}

function target(row: StoredRow): string {
  const on = row.server === null ? '' : ` on ${row.server === MERGED ? 'all upstreams (/mcp)' : row.server}`
  if (row.target_kind === null || row.target_kind === 'server') {
    return row.method === null ? `the gateway${on}` : `${row.method}${on}`
  }
  return `${row.target_kind.replaceAll('_', ' ')} ${row.tool_name ?? '?'}${on}`
}

/** What a refused caller tried to use, as far as it was known. */
function tried(row: StoredRow): string {
  if (row.method === null) return ''
  return ` (it tried ${row.method}${row.tool_name === null ? '' : ` ${row.tool_name}`})`
}

function because(reasons: readonly string[] | undefined): string {
  return reasons === undefined || reasons.length === 0 ? '' : `, because of ${reasons.join(', ')}`
}

function answered({ upstream }: DecisionFacts): string {
  if (upstream?.tool_is_error === true) return '; the tool reported an error'
  if (typeof upstream?.json_rpc_error === 'number')
    return `; the upstream answered with error ${upstream.json_rpc_error}`
  return ''
}

function detail(row: StoredRow): string {
  return colon(row.error_message)
}

function colon(text: string | null | undefined): string {
  return text === null || text === undefined || text === '' ? '' : `: ${plain(text)}`
}

/** Without the full stop: the sentence has its own. */
function plain(text: string): string {
  return text.replace(/\.$/, '')
}

function stage(facts: DecisionFacts): string {
  return facts.stage ?? 'unknown'
}

function label(reason: string | null): string {
  return (reason ?? 'unknown').replaceAll('_', ' ')
}

function quoted(text: string | null): string {
  return text === null ? 'no method' : `"${text}"`
}
