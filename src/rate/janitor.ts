/** Removes counters whose windows have ended. Any number of processes may do it at once: they step around each other. */
import type { Pool } from 'pg'

/** What {@link createJanitor} needs. */
export interface JanitorOptions {
  readonly pool: Pick<Pool, 'query'>
  /** Time between two sweeps. */
  readonly everyMs: number
  readonly log: { warn(fields: Readonly<Record<string, unknown>>, message: string): void }
}

/** Sweeps the table of counters. */
export interface Janitor {
  /** One sweep now; how many counters it removed. Never rejects. */
  sweep(): Promise<number>
  /** Resolves when no sweep is under way. */
  close(): Promise<void>
}

/** A counter in steady use is written again rather than removed and made anew. */
const KEPT_MS = 600_000
/** Short statements: a sweep never holds more rows than this. */
const ROWS_AT_ONCE = 1000
/** What is left after so many is for the next sweep. */
const STATEMENTS_AT_ONCE = 50

const SWEEP_STATEMENT = {
  name: 'rate-sweep-1',
  text: 'select rate_sweep($1::bigint, $2::int) as removed',
  values: [KEPT_MS, ROWS_AT_ONCE],
}

export function createJanitor({ pool, everyMs, log }: JanitorOptions): Janitor {
  let sweeping: Promise<number> | null = null
  let isClosed = false
  const timer = setInterval(() => void sweep(), everyMs).unref()

  function sweep(): Promise<number> {
    sweeping ??= run().finally(() => {
      sweeping = null
    })
    return sweeping
  }

  async function run(): Promise<number> {
    let total = 0
    try {
      for (let round = 0; round < STATEMENTS_AT_ONCE && !isClosed; round += 1) {
        const { rows } = await pool.query<{ removed: number }>(SWEEP_STATEMENT)
        const removed = rows[0]?.removed ?? 0
        total += removed
        if (removed < ROWS_AT_ONCE) break
      }
    } catch (error) {
      // Nothing depends on it now; the next sweep finds what this one left.
      const text = error instanceof Error ? error.message : typeof error
      log.warn({ error: text, removed: total }, 'ended limits could not be removed')
    }
    return total
  }

  return {
    sweep,
    async close() {
      isClosed = true
      clearInterval(timer)
      await sweeping
    },
  }
}
