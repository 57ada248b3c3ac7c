/**
 * The shared counters: `rate-limiter-flexible`'s PostgreSQL limiter with its statement replaced.
 *
 * The stock limiter sends one statement per key, counts what it refuses and takes the time from this process. Here all
 * calls that wait share one statement (`rate_charge`, see the migration `limits`), which charges the limits of a call
 * together or not at all, by the database's clock. At most one is in flight per process: while it runs the next ones
 * gather, so the statements grow with the load and an idle gateway adds no wait.
 */

import type { Pool } from 'pg'
import { RateLimiterPostgres, RateLimiterRes } from 'rate-limiter-flexible'
import type { BatchRow, Call, Counted } from './batch.ts'
import { CHARGE_STATEMENT, toBatch } from './batch.ts'
import type { Charge } from './limit.ts'

/** Bounds of {@link PostgresCounters}. */
export interface CounterLimits {
  /** Calls that wait at most; more are turned away at once. */
  readonly maxQueued: number
  /** Calls that share one statement at most. */
  readonly maxBatch: number
  /** A statement that takes longer has failed. Callers wait up to twice this. */
  readonly deadlineMs: number
  /** After a failure that took its time, calls are turned away for so long before the database is tried again. */
  readonly retryMs: number
}

/** What {@link PostgresCounters} needs. */
export interface CountersOptions {
  readonly pool: Pick<Pool, 'query'>
  readonly monotonicMs: () => number
  readonly limits: CounterLimits
  /** Told when the database begins to fail (with the error) and when it answers again (null). Must not throw. */
  readonly onHealth: (error: unknown) => void
}

/** The database could not count: down, too slow, or too many wait for it. Never a refusal by a limit. */
export class CountersUnavailable extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CountersUnavailable'
  }
}

interface Waiting {
  readonly call: Call
  readonly since: number
  readonly resolve: (counted: Counted) => void
  readonly reject: (error: CountersUnavailable) => void
}

/** The most that a column of the table holds: the library's own comparison never refuses. */
const MAX_POINTS = 2_147_483_647
/** How often a database that has failed is tried while nobody calls: who only looks at the state must see it come back. */
const PROBE_MS = 1000
/** Of nobody's counter: takes the same way as a call's charge. */
const PROBE: Charge = {
  name: 'probe',
  counter: 'probe',
  limit: MAX_POINTS,
  cost: 1,
  windowS: 1,
  calendar: null,
  onStoreError: 'deny',
  mode: 'shadow',
}
/** A failure that came faster says nothing about how long the next one would take. */
const QUICK_MS = 100

/** Counters of limits in PostgreSQL. */
export class PostgresCounters extends RateLimiterPostgres {
  /** Statements sent, and calls that were in them. */
  readonly sent = { statements: 0, calls: 0 }
  readonly #options: CountersOptions
  readonly #queue: Waiting[] = []
  #busy = false
  #closed = false
  #failing = false
  /** Monotonic ms; calls before it are turned away. */
  #restUntil = Number.NEGATIVE_INFINITY
  #idle: (() => void) | null = null
  #probe: NodeJS.Timeout | null = null

  constructor(options: CountersOptions) {
    super({
      storeClient: options.pool,
      storeType: 'pool',
      tableName: 'rate_limits',
      // The migration made the table and the janitor clears it: the library must do neither.
      tableCreated: true,
      clearExpiredByTimeout: false,
      keyPrefix: '',
      points: MAX_POINTS,
      duration: 1,
    })
    this.#options = options
  }

  /** Calls that wait for a statement. */
  get queued(): number {
    return this.#queue.length
  }

  /** The last statement failed. */
  get failing(): boolean {
    return this.#failing
  }

  /**
   * Charges all limits of a call, or none. Calls are judged in the order they come.
   * @param call charges of different counters, checked by `toCharges`; at least one
   * @throws CountersUnavailable after a bounded wait; then the call may or may not have been charged
   */
  chargeAll(call: Call): Promise<Counted> {
    const now = this.#options.monotonicMs()
    const refusal = this.#refusal(now)
    if (refusal !== null) return Promise.reject(new CountersUnavailable(refusal))
    return new Promise((resolve, reject) => {
      this.#queue.push({ call, since: now, resolve, reject })
      this.#pump()
    })
  }

  /** Turns away what waits and whoever comes; resolves when no statement is in flight any more. */
  async close(): Promise<void> {
    this.#closed = true
    if (this.#probe !== null) clearTimeout(this.#probe)
    this.#turnAway(this.#queue.splice(0), new CountersUnavailable('the limiter is closed'))
    if (this.#busy) await new Promise<void>((resolve) => (this.#idle = resolve))
  }

  /**
   * The library's own `consume`, `penalty` and so on come here: the same counters and the same clock, in its manner, that
   * is counted whatever the result.
   */
  async _upsert(key: string, points: number, msDuration: number, force = false): Promise<RateLimiterRes> {
    const windowS = msDuration / 1000
    const isCountable = Number.isInteger(points) && points >= 1 && points <= MAX_POINTS
    if (force || !isCountable || !Number.isInteger(windowS) || windowS < 1) {
      throw new Error('counters only count up, by whole points, in windows of whole seconds')
    }
    const { results } = await this.chargeAll([{ ...PROBE, counter: key, cost: points, windowS }])
    return results[0] as RateLimiterRes
  }

  /** For the library's `get`: the open window of a counter, null when there is none. */
  async _get(key: string): Promise<RateLimiterRes | null> {
    const { rows } = await this.#options.pool.query<{ points: number; reset_ms: number }>(
      `select points, (expire - now_ms)::float8 as reset_ms
        from rate_limits, floor(extract(epoch from clock_timestamp()) * 1000) as now_ms
        where key = $1 and expire > now_ms`,
      [key],
    )
    const row = rows[0]
    return row === undefined
      ? null
      : new RateLimiterRes(MAX_POINTS - row.points, row.reset_ms, row.points, false)
  }

  /** The library asks for its result object once more: it has been made already, by the database's clock. */
  _getRateLimiterRes(_key: string, _points: number, result: RateLimiterRes): RateLimiterRes {
    return result
  }

  #refusal(now: number): string | null {
    if (this.#closed) return 'the limiter is closed'
    if (now < this.#restUntil) return 'the database does not answer in time'
    if (this.#queue.length >= this.#options.limits.maxQueued) return 'too many calls wait to be counted'
    return null
  }

  #pump(): void {
    if (this.#busy) return
    this.#busy = true
    // One turn of the event loop later, so that calls which arrive together share the statement.
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    try {
      while (this.#queue.length > 0) {
        const batch = this.#nextBatch()
        if (batch.length > 0) await this.#send(batch)
      }
    } finally {
      this.#busy = false
      this.#idle?.()
    }
  }

  #nextBatch(): readonly Waiting[] {
    const { maxBatch, deadlineMs } = this.#options.limits
    const batch = this.#queue.splice(0, maxBatch)
    const oldest = this.#options.monotonicMs() - deadlineMs
    const late = batch.filter((waiting) => waiting.since < oldest)
    if (late.length === 0) return batch
    this.#turnAway(late, new CountersUnavailable('the database is too slow to count every call'))
    return batch.filter((waiting) => waiting.since >= oldest)
  }

  async #send(batch: readonly Waiting[]): Promise<void> {
    const from = this.#options.monotonicMs()
    this.sent.statements += 1
    this.sent.calls += batch.length
    try {
      const counted = await this.#judge(batch.map((waiting) => waiting.call))
      for (const [at, waiting] of batch.entries()) waiting.resolve(counted[at] as Counted)
      this.#report(null)
    } catch (cause) {
      const error = new CountersUnavailable('the database could not count', { cause })
      this.#turnAway(batch, error)
      const now = this.#options.monotonicMs()
      if (now - from >= QUICK_MS) {
        // What was slow to fail will be again: those who wait have waited long enough.
        this.#restUntil = now + this.#options.limits.retryMs
        this.#turnAway(this.#queue.splice(0), error)
      }
      this.#report(cause)
    }
  }

  async #judge(calls: readonly Call[]): Promise<readonly Counted[]> {
    const batch = toBatch(calls)
    const query = this.#options.pool.query<BatchRow>({ ...CHARGE_STATEMENT, values: [...batch.parameters] })
    const { rows } = await withDeadline(query, this.#options.limits.deadlineMs)
    return batch.parse(rows[0])
  }

  #turnAway(waiting: readonly Waiting[], error: CountersUnavailable): void {
    for (const { reject } of waiting) reject(error)
  }

  #probeLater(): void {
    if (this.#closed || this.#probe !== null) return
    this.#probe = setTimeout(() => {
      this.#probe = null
      if (this.#failing) this.chargeAll([PROBE]).catch(() => this.#probeLater())
    }, PROBE_MS).unref()
  }

  /** @param error null: the database has answered */
  #report(error: unknown): void {
    const isFailing = error !== null
    if (isFailing) this.#probeLater()
    if (isFailing === this.#failing) return
    this.#failing = isFailing
    this.#options.onHealth(error)
  }
}

/** The pool's own timeouts end the statement itself; this one holds also while a connection is being made. */
async function withDeadline<T>(promise: Promise<T>, ms: number): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
