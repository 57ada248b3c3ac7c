/**
 * The strict check of what a policy has decided: of the exact shape, bounded, and with reasons that cannot carry values out.
 * Anything else is no decision, and the call is denied.
 */
import type { Calendar, KeyPart, Limit } from '../gateway/limit-types.ts'
import type { Obligation } from '../gateway/types.ts'
import type { Masks } from './mask.ts'
import { parseMasks } from './mask.ts'

/** A decision that has passed the check. Lists are sorted, so equal decisions are equal. */
export interface Decision extends Masks {
  readonly allow: boolean
  readonly allowedBy: readonly string[]
  readonly deniedBy: readonly string[]
  readonly limits: readonly Limit[]
  readonly obligations: readonly Obligation[]
}

/** The verdict on one target of a list that has passed the check. */
export type Verdict = Pick<Decision, 'allow' | 'allowedBy' | 'deniedBy'>

/** The value is no decision. The message names the place and the rule, never a value of the policy. */
export class MalformedDecision extends Error {
  constructor(path: string, problem: string) {
    super(`the policy's decision is malformed: ${path} ${problem}`)
    this.name = 'MalformedDecision'
  }
}

const NONE: readonly string[] = []
const NAME = /^[a-z][a-z0-9-]{0,63}$/
const NAME_RULE = 'must match ^[a-z][a-z0-9-]{0,63}$'
const MAX_REASONS = 64
const MAX_LIMITS = 8
const MAX_OBLIGATIONS = 16
const MAX_KEY_PARTS = 16
const MAX_KEY_PART_CHARACTERS = 2048
const MAX_LIMIT = 1_000_000_000
/** 31 days. */
const MAX_WINDOW_S = 2_678_400
const LEVELS: ReadonlySet<unknown> = new Set(['metadata', 'request', 'full'])

const DECISION_MEMBERS = ['allow', 'allowed_by', 'denied_by', 'limits', 'obligations'] as const
const OPTIONAL_MEMBERS = ['mask'] as const

/**
 * Checks the value of `data.gateway.decision`.
 * @throws MalformedDecision
 */
export function parseDecision(value: unknown): Decision {
  const decision = parseObject(value, 'decision', DECISION_MEMBERS, OPTIONAL_MEMBERS)
  return {
    ...parseVerdictMembers(decision, 'decision'),
    limits: parseLimits(decision['limits']),
    obligations: parseList(decision['obligations'], 'obligations', MAX_OBLIGATIONS)
      .map(parseObligation)
      .sort(byText),
    // What is wrong with them is no reason to deny: the row goes without payloads.
    ...parseMasks(decision['mask'] ?? []),
  }
}

/**
 * Checks the value of `data.gateway.visible`: one verdict per target, in their order.
 * @throws MalformedDecision
 */
export function parseVerdicts(value: unknown, names: readonly string[]): readonly Verdict[] {
  const list = parseList(value, 'visible', names.length)
  if (list.length !== names.length) throw new MalformedDecision('visible', 'must have one verdict per target')
  return list.map((element, index) => {
    const path = `visible[${index}]`
    const verdict = parseObject(element, path, ['name', 'allow', 'allowed_by', 'denied_by'])
    if (verdict['name'] !== names[index])
      throw new MalformedDecision(`${path}.name`, 'must be that of the target')
    return parseVerdictMembers(verdict, path)
  })
}

/**
 * Checks the value of `LISTED`: what the definitions of either set say, each reasons that hold for all targets, or reasons and
 * the places of the targets in the list. One verdict per target, in their order.
 * @throws MalformedDecision
 */
export function parseListed(value: unknown, targets: number): readonly Verdict[] {
  const listed = parseObject(value, 'listed', ['allowed_by', 'denied_by'])
  const allowedBy = parseRows(listed['allowed_by'], 'listed.allowed_by', targets)
  const deniedBy = parseRows(listed['denied_by'], 'listed.denied_by', targets)
  return allowedBy.map((reasons, at) => reasons.unless(deniedBy[at] as Said))
}

/** Reasons that hold for a target. Targets of which the same is said share it, so that reasons are checked once. */
class Said {
  private readonly reasons: readonly unknown[]
  private readonly path: string
  private readonly more = new Map<unknown, Said>()
  private readonly verdicts = new Map<Said, Verdict>()
  private strings: readonly string[] | null = null

  constructor(reasons: readonly unknown[], path: string) {
    this.reasons = reasons
    this.path = path
  }

  and(reason: unknown): Said {
    const known = this.more.get(reason)
    if (known !== undefined) return known
    const all = this.reasons.includes(reason) ? this.reasons : [...this.reasons, reason]
    const made = all === this.reasons ? this : new Said(parseList(all, this.path, MAX_REASONS), this.path)
    this.more.set(reason, made)
    return made
  }

  /** The verdict of these reasons to allow and those to deny. */
  unless(denied: Said): Verdict {
    const known = this.verdicts.get(denied)
    if (known !== undefined) return known
    const [allowedBy, deniedBy] = [this.parsed(), denied.parsed()]
    const verdict = { allow: allowedBy.length > 0 && deniedBy.length === 0, allowedBy, deniedBy }
    this.verdicts.set(denied, verdict)
    return verdict
  }

  private parsed(): readonly string[] {
    this.strings ??= parseReasons(this.reasons, this.path)
    return this.strings
  }
}

function parseRows(value: unknown, path: string, targets: number): readonly Said[] {
  const definitions = parseList(value, path, MANY).map((said) => parseObject(said, path, [], SAID))
  let everywhere = new Said([], path)
  for (const { everywhere: all } of definitions)
    for (const reason of parseList(all ?? NONE, path, MANY)) everywhere = everywhere.and(reason)
  const own = new Array<Said>(targets).fill(everywhere)
  const add = (at: unknown, reason: unknown): void => {
    const said = typeof at === 'number' ? own[at] : undefined
    if (said === undefined) throw new MalformedDecision(path, 'must have the place of a target')
    own[at as number] = said.and(reason)
  }
  for (const definition of definitions) eachRow(definition, path, add)
  return own
}

/** Calls `add` with the place of a target and a reason, for all that a definition says of some targets. */
function eachRow(
  { everywhere, reason, at, rows }: Readonly<Record<string, unknown>>,
  path: string,
  add: (at: unknown, reason: unknown) => void,
): void {
  if (everywhere !== undefined) return
  if (at !== undefined) {
    for (const one of parseList(at, path, MANY)) add(one, reason)
    return
  }
  for (const row of parseList(rows, path, MANY)) {
    const [one, its] = parseList(row, path, 2)
    add(one, its)
  }
}

const MANY = Number.POSITIVE_INFINITY
const SAID = ['everywhere', 'reason', 'at', 'rows']

/** `allow` says nothing that the reasons do not: a disagreement means that the combination has been tampered with. */
function parseVerdictMembers(value: Readonly<Record<string, unknown>>, path: string): Verdict {
  const allowedBy = parseReasons(value['allowed_by'], `${path}.allowed_by`)
  const deniedBy = parseReasons(value['denied_by'], `${path}.denied_by`)
  const allow = allowedBy.length > 0 && deniedBy.length === 0
  if (value['allow'] !== allow) throw new MalformedDecision(`${path}.allow`, 'must follow from the reasons')
  return { allow, allowedBy, deniedBy }
}

function parseReasons(value: unknown, path: string): readonly string[] {
  return parseList(value, path, MAX_REASONS)
    .map((reason, index) => {
      if (!isReason(reason)) throw new MalformedDecision(`${path}[${index}]`, NAME_RULE)
      return reason
    })
    .sort()
}

/** Two limits of one name, window and key would share a counter: which one was meant is not for us to guess. */
function parseLimits(value: unknown): readonly Limit[] {
  const list = parseList(value, 'limits', MAX_LIMITS)
  if (list.length === 0) return []
  const limits = list.map(parseLimit).sort(byText)
  const counters = limits.map(({ name, window_s, calendar, key }) =>
    JSON.stringify([name, window_s ?? calendar, key]),
  )
  if (new Set(counters).size < limits.length) {
    throw new MalformedDecision('limits', 'must not repeat a limit of the same name, window and key')
  }
  return limits
}

function parseLimit(value: unknown, index: number): Limit {
  const path = `limits[${index}]`
  const optional = ['window_s', 'calendar', 'cost', 'on_store_error', 'mode']
  const members = parseObject(value, path, ['name', 'key', 'limit'], optional)
  const { name, cost = 1, on_store_error: onStoreError = 'deny', mode = 'enforce' } = members
  if (!isReason(name)) throw new MalformedDecision(`${path}.name`, NAME_RULE)
  if (onStoreError !== 'deny' && onStoreError !== 'local')
    throw new MalformedDecision(`${path}.on_store_error`, 'must be "deny" or "local"')
  if (mode !== 'enforce' && mode !== 'shadow')
    throw new MalformedDecision(`${path}.mode`, 'must be "enforce" or "shadow"')
  const limit = parseInteger(members['limit'], `${path}.limit`, MAX_LIMIT)
  const key = parseList(members['key'], `${path}.key`, MAX_KEY_PARTS)
  return {
    name,
    key: key.map((part) => parseKeyPart(part, `${path}.key`)),
    limit,
    cost: parseInteger(cost, `${path}.cost`, limit),
    ...(onStoreError === 'deny' ? {} : { on_store_error: onStoreError }),
    ...(mode === 'enforce' ? {} : { mode }),
    ...parseWindow(members, path),
  }
}

function parseWindow(
  { window_s: windowS, calendar }: Readonly<Record<string, unknown>>,
  path: string,
): { readonly window_s: number } | { readonly calendar: Calendar } {
  if ((windowS === undefined) === (calendar === undefined))
    throw new MalformedDecision(path, 'must have either window_s or calendar')
  if (windowS !== undefined) return { window_s: parseInteger(windowS, `${path}.window_s`, MAX_WINDOW_S) }
  if (calendar === 'day' || calendar === 'month') return { calendar }
  throw new MalformedDecision(`${path}.calendar`, 'must be "day" or "month"')
}

function parseKeyPart(part: unknown, path: string): KeyPart {
  if (typeof part === 'boolean') return part
  // Numbers that JavaScript rounds would make strangers share a counter.
  if (typeof part === 'number' && (!Number.isInteger(part) || Number.isSafeInteger(part))) return part
  if (typeof part === 'string' && part.length <= MAX_KEY_PART_CHARACTERS) return part
  const rule = `must hold strings of at most ${MAX_KEY_PART_CHARACTERS} characters, numbers and booleans`
  throw new MalformedDecision(path, rule)
}

/** An obligation nobody knows cannot be honoured, so it denies. */
function parseObligation(value: unknown, index: number): Obligation {
  const path = `obligations[${index}]`
  const { kind, level } = parseObject(value, path, ['kind'], ['level'])
  if (kind !== 'audit_payload') throw new MalformedDecision(`${path}.kind`, 'must be "audit_payload"')
  if (!LEVELS.has(level))
    throw new MalformedDecision(`${path}.level`, 'must be "metadata", "request" or "full"')
  return { kind, level }
}

function parseObject(
  value: unknown,
  path: string,
  required: readonly string[],
  optional: readonly string[] = NONE,
): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new MalformedDecision(path, 'must be an object')
  }
  for (const name of required) {
    if (!Object.hasOwn(value, name)) throw new MalformedDecision(path, `must have the member ${name}`)
  }
  for (const name of Object.keys(value)) {
    if (!required.includes(name) && !optional.includes(name))
      throw new MalformedDecision(path, 'has a member that nothing is known of')
  }
  return value as Readonly<Record<string, unknown>>
}

function parseList(value: unknown, path: string, max: number): readonly unknown[] {
  if (!Array.isArray(value)) throw new MalformedDecision(path, 'must be a list')
  if (value.length > max) throw new MalformedDecision(path, `must have at most ${max} elements`)
  return value
}

function parseInteger(value: unknown, path: string, max: number): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return value
  throw new MalformedDecision(path, `must be an integer from 1 to ${max}`)
}

/** Whether it is a word as reasons and names of limits are. */
export function isReason(value: unknown): value is string {
  return typeof value === 'string' && NAME.test(value)
}

function byText(a: unknown, b: unknown): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1
}
