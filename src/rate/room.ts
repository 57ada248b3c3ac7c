/** The door of the rate room: charges the limits that a policy has asked for. */

import type { Pool } from 'pg'
import { GatewayError } from '../errors.ts'
import type { ChargeReport, Limit } from '../gateway/limit-types.ts'
import type { CounterLimits } from './counters.ts'
import { PostgresCounters } from './counters.ts'
import { createJanitor } from './janitor.ts'
import type { Charge } from './limit.ts'
import { toChargeReport, toCharges } from './limit.ts'
import { createLocalCounters } from './local.ts'

/** Bounds of the limiter. */
export interface LimiterLimits extends CounterLimits {
  /** Counters in memory while the database is away. */
  readonly maxLocalCounters: number
  /** How often counters whose windows have ended are removed from the table; ms. */
  readonly sweepMs: number
}

/** Used unless the options say otherwise. */
export const LIMITER_LIMITS: LimiterLimits = {
  maxQueued: 10_000,
  maxBatch: 256,
  deadlineMs: 1000,
  retryMs: 250,
  maxLocalCounters: 50_000,
  sweepMs: 60_000,
}

/** The logger as far as this room uses it. */
export interface LimiterLog {
  info(fields: Readonly<Record<string, unknown>>, message: string): void
  warn(fields: Readonly<Record<string, unknown>>, message: string): void
  error(fields: Readonly<Record<string, unknown>>, message: string): void
}

/** What {@link createLimiter} needs. */
export interface LimiterOptions {
  /** The `limits` pool: runtime role, tight timeouts, at least 2 connections. */
  readonly pool: Pick<Pool, 'query'>
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly log: LimiterLog
  readonly limits?: Partial<LimiterLimits>
}

/** What the limiter is doing. */
export interface LimiterState {
  /** `down`: the last statement failed; limits that allow it are counted in this process. */
  readonly store: 'up' | 'down'
  /** Calls that wait for a statement. */
  readonly queued: number
  /** Since the start: statements sent, and calls charged by them. */
  readonly statements: number
  readonly calls: number
  /** Counters in memory. */
  readonly localCounters: number
}

/** Charges limits. */
export interface Limiter {
  /**
   * Charges all limits of a call or, when one of them refuses, none. What was charged stays charged.
   *
   * @throws GatewayError `limiter_unavailable` when the database cannot count and one of the limits does not allow
   * counting here; `policy_malformed` for limits that are none
   */
  charge(limits: readonly Limit[]): Promise<ChargeReport>
  /** Removes counters whose windows have ended; how many. Runs by itself; never rejects. */
  sweep(): Promise<number>
  state(): LimiterState
  /** Refuses what waits; resolves when no statement is in flight. Leaves the pool open. */
  close(): Promise<void>
}

const NO_LIMITS: ChargeReport = { allowed: true, retryAfterSeconds: null, limits: [] }

export function createLimiter(options: LimiterOptions): Limiter {
  const { pool, clock, log } = options
  const limits = { ...LIMITER_LIMITS, ...options.limits }
  const counters = new PostgresCounters({
    pool,
    monotonicMs: clock.monotonicMs,
    limits,
    onHealth: (error) => tellHealth(log, error),
  })
  const local = createLocalCounters({ nowMs: clock.nowMs, maxCounters: limits.maxLocalCounters })
  let isClosed = false
  const janitor = createJanitor({ pool, everyMs: limits.sweepMs, log })

  async function charge(asked: readonly Limit[]): Promise<ChargeReport> {
    if (asked.length === 0) return NO_LIMITS
    const charges = toCharges(asked)
    try {
      const { results, allowed } = await counters.chargeAll(charges)
      return toChargeReport(charges, results, allowed, 'db')
    } catch (cause) {
      if (isClosed || charges.some(needsDatabase)) throw unavailable(cause)
      return await chargeHere(charges)
    }
  }

  async function chargeHere(charges: readonly Charge[]): Promise<ChargeReport> {
    try {
      const { results, allowed } = await local.chargeAll(charges)
      return toChargeReport(charges, results, allowed, 'local')
    } catch (cause) {
      throw unavailable(cause)
    }
  }

  return {
    charge,
    sweep: janitor.sweep,
    state: () => ({
      store: counters.failing ? 'down' : 'up',
      queued: counters.queued,
      ...counters.sent,
      localCounters: local.size,
    }),
    async close() {
      isClosed = true
      await Promise.all([janitor.close(), counters.close()])
    },
  }
}

/** A limit that is only watched refuses nobody, so neither does its absence. */
function needsDatabase({ mode, onStoreError }: Charge): boolean {
  return mode === 'enforce' && onStoreError === 'deny'
}

function unavailable(cause: unknown): GatewayError {
  const detail = cause instanceof Error ? cause.message : 'limits cannot be counted'
  return new GatewayError('limiter_unavailable', { cause, detail, data: { retryAfterSeconds: 1 } })
}

function tellHealth(log: LimiterLog, error: unknown): void {
  if (error === null) log.info({}, 'limits are counted in the database again')
  else log.error(describe(error), 'limits cannot be counted in the database')
}

/** Code or class of an error: enough to act on. */
function describe(error: unknown): Readonly<Record<string, unknown>> {
  if (!(error instanceof Error)) return { error: typeof error }
  const { code } = error as Error & { readonly code?: unknown }
  return { error: error.message, ...(typeof code === 'string' && { code }) }
}
