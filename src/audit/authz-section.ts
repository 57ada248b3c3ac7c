/** What the policy said, and the evaluation behind it: the section `authz` of the decision. Pure. */
import type { AuditEvent, Evaluation, Mask } from '../gateway/types.ts'
import type { StoredText } from '../json/stored-text.ts'
import {
  createObjectPrinter,
  createRecordPrinter,
  storedArray,
  storedJson,
  toStoredText,
} from '../json/stored-text.ts'
import { compactTrace } from './compact-trace.ts'
import { masksAt, placeOf, placeOfTrace } from './mask.ts'
import type { Notes } from './notes.ts'
import type { PayloadLevel } from './payload.ts'
import { withoutKeys, withoutValues } from './payload.ts'
import type { Redactor } from './redact.ts'
import { DECISION_BOUNDS } from './redact.ts'
import type { OwnWords } from './walk.ts'

/** Most reasons of one list, and characters of one of them. */
export const MAX_REASONS = 32
const MAX_REASON = 256
/** Characters of a message. */
export const MAX_DETAIL = 1024
const NO = storedJson(false)

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
const printPolicy = createRecordPrinter<keyof Evaluation['policy']>([
  'revision',
  'digest',
  'entrypoint',
  'opa',
])
/** The section of a call that is over; null when it did not come to a policy. */
export function authzSection(
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

/** Which policy said what, and why. */
export function begunVerdict(redactor: Redactor, notes: Notes, evaluation: Evaluation): StoredText {
  return printAuthz({
    allow: storedJson(evaluation.allow && evaluation.failure === null),
    allowed_by: reasons(redactor, evaluation.allowedBy),
    denied_by: reasons(redactor, evaluation.deniedBy),
    failure: failureSection(redactor, notes, evaluation),
    policy: policySection(evaluation),
  })
}

function failureSection(redactor: Redactor, notes: Notes, evaluation: Evaluation): StoredText | null {
  const { failure } = evaluation
  if (failure === null) return null
  const message = notes.column(redactor, sayable(redactor, evaluation, failure.message), MAX_DETAIL) ?? ''
  return storedJson({ kind: failure.kind, message })
}

/** Said in every row; a policy's facts are one object for all its evaluations. */
const policySections = new WeakMap<Evaluation['policy'], StoredText>()

function policySection({ policy }: Evaluation): StoredText {
  const known = policySections.get(policy)
  if (known !== undefined) return known
  const section = printPolicy(policy)
  if (Object.isFrozen(policy)) policySections.set(policy, section)
  return section
}

/** Values that a policy computed, maybe from what the caller sent. */
export function values(
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

/** The verdict on one upstream's part of a call to the merged mount. */
export function partVerdict(redactor: Redactor, evaluation: Evaluation): StoredText {
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

function reasons(redactor: Redactor, list: readonly string[]): StoredText {
  return storedArray(
    list.slice(0, MAX_REASONS).map((reason) => storedJson(redactor.text(reason, MAX_REASON, true))),
  )
}

/** The message of a policy that failed may quote its input, so it is said only when all that has to be hidden is known. */
export function sayable(redactor: Redactor, evaluation: Evaluation | null, text: string): string {
  return redactor.overflowed && evaluation?.failure?.kind === 'policy_error' ? WITHHELD : text
}

/** In the place of a text that may hold what is masked. */
export const WITHHELD = '[redacted:withheld]'
