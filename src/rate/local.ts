/**
 * Counters of this process alone, for limits that declare `on_store_error: local`, while the database cannot count: each
 * process then lets its own `limit` through. The library's limiter in memory does the counting; what it lacks is added
 * here: all limits of a call or none, and a bound on how many counters there are.
 */
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible'
import type { Counted } from './batch.ts'
import { CountersUnavailable } from './counters.ts'
import type { Charge } from './limit.ts'

/** What {@link createLocalCounters} needs. */
export interface LocalOptions {
  /** Wall clock, ms since the epoch: when the day or month ends. */
  readonly nowMs: () => number
  /** Counters in memory; when they are all in use, calls that need another one are refused. */
  readonly maxCounters: number
}

/** Counters in memory. */
export interface LocalCounters {
  /**
   * Charges all limits of a call, or none.
   * @throws CountersUnavailable when there is no room for another counter
   */
  chargeAll(call: readonly Charge[]): Promise<Counted>
  readonly size: number
}

/** The library ends a window by a timer, which cannot run longer (about 24.8 days): a longer one would never count. */
const MAX_WINDOW_MS = 2_147_483_000
/** What a whole sweep over the counters may cost at most: one in so many ms. */
const SWEEP_MS = 1000

export function createLocalCounters({ nowMs, maxCounters }: LocalOptions): LocalCounters {
  const memory = new RateLimiterMemory({ points: Number.MAX_SAFE_INTEGER, duration: 1, keyPrefix: '' })
  /** Counter -> when its window ends, by the clock the library uses. */
  const ends = new Map<string, number>()
  let sweptAt = Number.NEGATIVE_INFINITY
  /** Charges one after the other: between looking and counting the library answers by promises. */
  let last: Promise<unknown> = Promise.resolve()

  function chargeAll(call: readonly Charge[]): Promise<Counted> {
    const charged = last.then(() => charge(call))
    last = charged.catch(() => undefined)
    return charged
  }

  async function charge(call: readonly Charge[]): Promise<Counted> {
    const hasRoom = makeRoom(call)
    if (!hasRoom && call.some(({ mode, counter }) => mode === 'enforce' && !ends.has(counter))) {
      throw new CountersUnavailable('too many limits to count them in memory')
    }
    const found = await Promise.all(call.map(look))
    const fits = call.every(
      ({ mode, limit, cost }, at) => mode === 'shadow' || (found[at]?.consumedPoints ?? 0) + cost <= limit,
    )
    if (!fits) return { allowed: false, results: call.map((one, at) => found[at] ?? unused(one)) }
    // A limit that is only watched goes uncounted rather than refuse anybody.
    const results = call.map((one) => (hasRoom || ends.has(one.counter) ? count(one) : unused(one)))
    return { allowed: true, results: await Promise.all(results) }
  }

  /** The open window of a counter. The library's timer that removes an ended one may be late. */
  async function look({ counter }: Charge): Promise<RateLimiterRes | null> {
    const found = await memory.get(counter)
    return found !== null && found.msBeforeNext > 0 ? found : null
  }

  async function count(charge: Charge): Promise<RateLimiterRes> {
    const options = { customDuration: windowMs(charge) / 1000 }
    const result = await memory.consume(charge.counter, charge.cost, options)
    ends.set(charge.counter, Date.now() + result.msBeforeNext)
    return result
  }

  function unused(charge: Charge): RateLimiterRes {
    return new RateLimiterRes(charge.limit, windowMs(charge), 0, false)
  }

  function windowMs({ calendar, windowS }: Charge): number {
    const length = calendar === null ? windowS * 1000 : calendarEnd(calendar, nowMs()) - nowMs()
    return Math.min(length, MAX_WINDOW_MS)
  }

  /** Whether all counters of the call have a place, after those whose windows have ended have made theirs free. */
  function makeRoom(call: readonly Charge[]): boolean {
    if (ends.size + call.length <= maxCounters) return true
    const now = Date.now()
    if (now - sweptAt >= SWEEP_MS || now < sweptAt) {
      sweptAt = now
      for (const [counter, end] of ends) if (end <= now) ends.delete(counter)
    }
    const added = call.filter(({ counter }) => !ends.has(counter)).length
    return ends.size + added <= maxCounters
  }

  return {
    chargeAll,
    get size() {
      return ends.size
    },
  }
}

function calendarEnd(calendar: 'day' | 'month', nowMs: number): number {
  const now = new Date(nowMs)
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()]
  return calendar === 'day' ? Date.UTC(year, month, day + 1) : Date.UTC(year, month + 1, 1)
}
