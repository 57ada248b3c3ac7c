import type { Pool } from 'pg'
import pg from 'pg'
import type { Connection, StatementLimits } from './connection.ts'
import { toClientConfig } from './connection.ts'

/** One pool per use, so that a flood of one kind of statement cannot starve another. All run as the runtime role. */
export interface Pools {
  /** API key look-ups and the change feed: tiny statements, tight limits, because a caller waits. */
  readonly keys: Pool
  /**
   * Counters of limits, in the way of every call: who cannot be counted within a second is refused. One statement at a
   * time, one more for what a dying one still holds. Its functions commit without waiting for the disk by themselves.
   */
  readonly limits: Pool
  /** The audit writer. Batches may take longer than a look-up. */
  readonly audit: Pool
  /** Everything else: queries of commands, stored policy revisions. */
  readonly general: Pool
  /** Ends all pools; resolves when every connection is closed. */
  close(): Promise<void>
}

/** What {@link createPools} needs. */
export interface PoolsOptions {
  readonly runtime: Connection
  /**
   * Told when an idle connection breaks (the server restarted, the network went). The pool opens a new one by itself; this
   * is for the log only. The error names no secret.
   */
  readonly onIdleError: (use: string, error: Error) => void
}

interface PoolPlan extends StatementLimits {
  readonly max: number
}

const PLANS = {
  keys: { max: 4, connectTimeoutMs: 2000, statementTimeoutMs: 2000, lockTimeoutMs: 1000 },
  limits: { max: 3, connectTimeoutMs: 1000, statementTimeoutMs: 1000, lockTimeoutMs: 500 },
  audit: { max: 4, connectTimeoutMs: 3000, statementTimeoutMs: 15_000, lockTimeoutMs: 5000 },
  general: { max: 4, connectTimeoutMs: 5000, statementTimeoutMs: 30_000, lockTimeoutMs: 5000 },
} as const satisfies Record<string, PoolPlan>

/** Opens nothing yet: connections are made when first needed. */
export function createPools(options: PoolsOptions): Pools {
  const keys = createPool(options, 'keys')
  const limits = createPool(options, 'limits')
  const audit = createPool(options, 'audit')
  const general = createPool(options, 'general')
  return {
    keys,
    limits,
    audit,
    general,
    async close() {
      await Promise.all([keys.end(), limits.end(), audit.end(), general.end()])
    },
  }
}

function createPool(options: PoolsOptions, use: keyof typeof PLANS): Pool {
  const plan = PLANS[use]
  const pool = new pg.Pool({
    ...toClientConfig(options.runtime, use, plan),
    max: plan.max,
    idleTimeoutMillis: 30_000,
  })
  guardPool(pool, (error) => options.onIdleError(use, error))
  return pool
}

/**
 * Keeps a broken connection from ending the process: `pg` emits `error` on the pool for idle clients, and on the client
 * itself while one is checked out and no query is running on it.
 */
export function guardPool(pool: Pool, onError: (error: Error) => void): void {
  pool.on('error', onError)
  pool.on('connect', (client) => {
    client.on('error', () => {
      // The pool reports idle clients and the next query reports checked-out ones: nothing is lost here.
    })
  })
}
