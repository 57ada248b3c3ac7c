/**
 * Limits: what a policy may ask for, what it is charged as, and what a charge reports.
 *
 * - limit    "at most `limit` points of this `key` in this window", as the policy returned it
 * - charge   the same, checked and complete, with the identity of its counter
 * - counter  points used in the current window; shared by all limits of one identity (name, window, key)
 * - cost     points a call takes from a counter
 * - window   `window_s` seconds from the first charge on, or the UTC day or month; always by the database's clock
 */
import { hash } from 'node:crypto'
import type { RateLimiterRes } from 'rate-limiter-flexible'
import { GatewayError } from '../errors.ts'
import type { Calendar, ChargeReport, KeyPart, Limit, LimitReport } from '../gateway/limit-types.ts'

/** A checked limit with everything that counting needs. */
export interface Charge {
  readonly name: string
  /** SHA-256 (base64url, 43 characters) of name, window and key parts. */
  readonly counter: string
  readonly limit: number
  readonly cost: number
  /** Seconds; of a calendar window the longest it can be. */
  readonly windowS: number
  readonly calendar: Calendar | null
  readonly onStoreError: 'deny' | 'local'
  readonly mode: 'enforce' | 'shadow'
}

/** Most limits one call may have. */
export const MAX_LIMITS = 8

const NAME = /^[a-z][a-z0-9-]{0,63}$/
const MAX_LIMIT = 1_000_000_000
/** 31 days. */
const MAX_WINDOW_S = 2_678_400
const CALENDAR_S = { day: 86_400, month: MAX_WINDOW_S } as const satisfies Record<Calendar, number>
/** Hashing is cheap and bounded: this many characters of text in all parts of a key. */
const MAX_KEY_CHARACTERS = 1_048_576
const MAX_KEY_PARTS = 64

/**
 * Checks the limits of one call once more, whoever has checked them before: a cost of 0 or less would refill a counter,
 * one bad value would fail the statement for every call in it.
 *
 * Two limits of one identity are refused, not merged: which limit and which cost was meant is not for us to guess.
 *
 * @throws GatewayError `policy_malformed` naming place and rule, never a value
 */
export function toCharges(limits: readonly Limit[]): readonly Charge[] {
  if (limits.length > MAX_LIMITS) throw malformed('limits', `must be at most ${MAX_LIMITS}`)
  const charges = limits.map(toCharge)
  const seen = new Set<string>()
  for (const [index, { counter, name }] of charges.entries()) {
    if (seen.has(counter)) {
      const rule = `repeats the limit "${name}" with the same window and key: give one of them another name`
      throw malformed(`limits[${index}]`, rule)
    }
    seen.add(counter)
  }
  return charges
}

function toCharge(limit: Limit, index: number): Charge {
  const path = `limits[${index}]`
  const { name, key, cost = 1, on_store_error: onStoreError = 'deny', mode = 'enforce' } = limit
  if (typeof name !== 'string' || !NAME.test(name))
    throw malformed(`${path}.name`, `must match ${NAME.source}`)
  assertInteger(limit.limit, `${path}.limit`, MAX_LIMIT)
  assertInteger(cost, `${path}.cost`, limit.limit)
  if (onStoreError !== 'deny' && onStoreError !== 'local')
    throw malformed(`${path}.on_store_error`, 'must be "deny" or "local"')
  if (mode !== 'enforce' && mode !== 'shadow')
    throw malformed(`${path}.mode`, 'must be "enforce" or "shadow"')
  const { windowS, calendar } = toWindow(limit, path)
  assertKey(key, `${path}.key`)
  // JSON tells 1 from "1", escapes NUL and lone surrogates, and ends each part: no two keys share a text.
  const identity = JSON.stringify([name, calendar ?? windowS, key])
  const counter = hash('sha256', identity, 'base64url')
  return { name, counter, limit: limit.limit, cost, windowS, calendar, onStoreError, mode }
}

function toWindow(limit: Limit, path: string): Pick<Charge, 'windowS' | 'calendar'> {
  const { window_s: windowS, calendar } = limit
  if ((windowS === undefined) === (calendar === undefined))
    throw malformed(path, 'must have either window_s or calendar')
  if (windowS !== undefined) {
    assertInteger(windowS, `${path}.window_s`, MAX_WINDOW_S)
    return { windowS, calendar: null }
  }
  if (calendar !== 'day' && calendar !== 'month')
    throw malformed(`${path}.calendar`, 'must be "day" or "month"')
  return { windowS: CALENDAR_S[calendar], calendar }
}

function assertKey(key: unknown, path: string): void {
  if (!Array.isArray(key)) throw malformed(path, 'must be a list')
  if (key.length > MAX_KEY_PARTS) throw malformed(path, `must have at most ${MAX_KEY_PARTS} parts`)
  let characters = 0
  for (const part of key as readonly unknown[]) {
    if (!isKeyPart(part)) throw malformed(path, 'must hold strings, booleans and numbers below 2^53')
    if (typeof part === 'string') characters += part.length
  }
  if (characters > MAX_KEY_CHARACTERS)
    throw malformed(path, `must have at most ${MAX_KEY_CHARACTERS} characters`)
}

/** Beyond 2^53 different numbers have become one on their way here, and strangers would share a counter. */
function isKeyPart(part: unknown): part is KeyPart {
  if (typeof part === 'number') return Number.isFinite(part) && Math.abs(part) <= Number.MAX_SAFE_INTEGER
  return typeof part === 'string' || typeof part === 'boolean'
}

function assertInteger(value: unknown, path: string, max: number): void {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= max) return
  throw malformed(path, `must be an integer from 1 to ${max}`)
}

function malformed(path: string, rule: string): GatewayError {
  return new GatewayError('policy_malformed', { detail: `${path} ${rule}` })
}

/** What counting found out about one charge: points in the window (with this call's if it was charged), ms until its end. */
export type Count = Pick<RateLimiterRes, 'consumedPoints' | 'msBeforeNext'>

/** The report of one call from its counters. Pure. */
export function toChargeReport(
  charges: readonly Charge[],
  counts: readonly Count[],
  allowed: boolean,
  source: LimitReport['source'],
): ChargeReport {
  const limits = charges.map((charge, at) => toLimitReport(charge, counts[at] as Count, allowed, source))
  return { allowed, retryAfterSeconds: allowed ? null : retryAfterSeconds(limits), limits }
}

function toLimitReport(
  charge: Charge,
  { consumedPoints: consumed, msBeforeNext }: Count,
  allowed: boolean,
  source: LimitReport['source'],
): LimitReport {
  const { name, limit, cost, windowS, calendar, mode } = charge
  return {
    name,
    consumed,
    limit,
    remaining: Math.max(limit - consumed, 0),
    reset_ms: msBeforeNext,
    window_s: windowS,
    ...(calendar !== null && { calendar }),
    cost,
    source,
    mode,
    refused: consumed + (allowed ? 0 : cost) > limit,
  }
}

function retryAfterSeconds(limits: readonly LimitReport[]): number {
  const waits = limits
    .filter((limit) => limit.refused && limit.mode === 'enforce')
    .map((limit) => Math.ceil(limit.reset_ms / 1000))
  return Math.max(1, ...waits)
}
