/** What can be said about a key when it is made, and the rules for it. */
import { UsageError } from '../errors.ts'

/** Who holds a key. */
export type KeyKind = 'user' | 'service' | 'agent'

/** What a new key stands for. All names are chosen by the operator and seen by policies. */
export interface KeySettings {
  /** What policies and audit rows call the principal; several keys may share one. null = the key's id. */
  readonly name: string | null
  readonly kind: KeyKind
  readonly roles: readonly string[]
  readonly tenant: string | null
  readonly teams: readonly string[]
  readonly scopes: readonly string[]
  readonly claims: Readonly<Record<string, unknown>>
  /** null = does not expire. */
  readonly expiresAt: Date | null
}

export const KEY_KINDS: readonly KeyKind[] = ['user', 'service', 'agent']

const NAME = /^[A-Za-z0-9][A-Za-z0-9._@:+/-]{0,127}$/
const NAME_RULE =
  'must begin with a letter or digit and hold at most 128 letters, digits and the signs . _ @ : + / -'
const ROLE = /^[a-z][a-z0-9_-]{0,63}$/
const ROLE_RULE = 'must begin with a small letter and hold at most 64 small letters, digits, _ and -'
const SCOPE = /^[A-Za-z0-9][A-Za-z0-9._:*/-]{0,127}$/
const SCOPE_RULE =
  'must begin with a letter or digit and hold at most 128 letters, digits and the signs . _ : * / -'
const MAX_ENTRIES = 64
const MAX_CLAIM_BYTES = 8192
const MAX_CLAIM_DEPTH = 8

/** Throws UsageError `usage` naming the setting, the rule and the value. */
export function checkKeySettings(settings: KeySettings, nowMs: number): void {
  if (settings.name !== null) checkText('name', settings.name, NAME, NAME_RULE)
  if (!KEY_KINDS.includes(settings.kind)) {
    throw wrong('kind', settings.kind, `must be one of ${KEY_KINDS.join(', ')}`)
  }
  if (settings.tenant !== null) checkText('tenant', settings.tenant, NAME, NAME_RULE)
  checkList('role', settings.roles, ROLE, ROLE_RULE)
  checkList('team', settings.teams, NAME, NAME_RULE)
  checkList('scope', settings.scopes, SCOPE, SCOPE_RULE)
  checkClaims(settings.claims)
  checkExpiry(settings.expiresAt, nowMs)
}

/** Throws UsageError `usage` when the moment is not a valid one in the future. */
export function checkExpiry(expiresAt: Date | null, nowMs: number): void {
  if (expiresAt === null || expiresAt.getTime() > nowMs) return
  const text = Number.isNaN(expiresAt.getTime()) ? 'no date' : expiresAt.toISOString()
  throw wrong('expires', text, 'must be a moment in the future')
}

function checkList(what: string, values: readonly string[], pattern: RegExp, rule: string): void {
  if (values.length > MAX_ENTRIES)
    throw wrong(what, `${values.length} entries`, `at most ${MAX_ENTRIES} are allowed`)
  if (new Set(values).size !== values.length)
    throw wrong(what, values.join(', '), 'the same one is given twice')
  for (const value of values) checkText(what, value, pattern, rule)
}

function checkText(what: string, value: string, pattern: RegExp, rule: string): void {
  if (!pattern.test(value)) throw wrong(what, JSON.stringify(value.slice(0, 200)), rule)
}

function checkClaims(claims: Readonly<Record<string, unknown>>): void {
  const bytes = Buffer.byteLength(JSON.stringify(claims))
  if (bytes > MAX_CLAIM_BYTES)
    throw wrong('claims', `${bytes} bytes`, `at most ${MAX_CLAIM_BYTES} are allowed`)
  checkClaim(claims, 0)
}

/** What PostgreSQL's jsonb would refuse or change is refused here, with a better text. */
function checkClaim(value: unknown, depth: number): void {
  if (depth > MAX_CLAIM_DEPTH) throw wrong('claims', 'value', `is nested deeper than ${MAX_CLAIM_DEPTH}`)
  if (typeof value === 'string' && (value.includes('\0') || !isWellFormed(value))) {
    throw wrong('claims', 'text', 'may not contain NUL or half a surrogate pair')
  }
  if (typeof value === 'number' && !Number.isFinite(value)) throw wrong('claims', 'number', 'must be finite')
  if (typeof value !== 'object' || value === null) return
  for (const [name, member] of Object.entries(value)) {
    checkClaim(name, depth)
    checkClaim(member, depth + 1)
  }
}

function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text)
}

function wrong(what: string, value: string, rule: string): UsageError {
  return new UsageError('usage', `${what} ${value}: ${rule}.`)
}
