/**
 * Another gateway process, as far as limits go: `worker.ts PLAN`. Starts when it reads a line and prints one JSON line
 * with what became of its calls when it is done: after `attempts` calls of each caller, or when its stdin ends.
 */
import { once } from 'node:events'
import pg from 'pg'
import type { ConnectionParts } from '../../src/db/connection.ts'
import type { Limit } from '../../src/gateway/limit-types.ts'
import { createLimiter } from '../../src/rate/room.ts'

export interface WorkerPlan {
  readonly runtime: ConnectionParts
  readonly callers: number
  /** Calls of each caller; null = until stdin ends. */
  readonly attempts: number | null
  /** Each call takes one of these at random. */
  readonly calls: readonly (readonly Limit[])[]
}

export interface WorkerTally {
  allowed: number
  refused: number
  /** Text of an error -> how often. */
  readonly errors: Record<string, number>
  /** Of allowed calls: points used in the first limit -> how often. */
  readonly consumed: Record<string, number>
  statements: number
}

const plan = JSON.parse(process.argv[2] ?? '') as WorkerPlan
const tally: WorkerTally = { allowed: 0, refused: 0, errors: {}, consumed: {}, statements: 0 }
// No timeouts: a busy machine is no outage. A deadlock ends itself, with an error.
const pool = new pg.Pool({ ...plan.runtime, max: 2 })
const limiter = createLimiter({
  pool,
  clock: { nowMs: Date.now, monotonicMs: () => performance.now() },
  log: { info: () => undefined, warn: () => undefined, error: () => undefined },
  limits: { deadlineMs: 50_000 },
})
let isOver = false
process.stdin.once('end', () => {
  isOver = true
})
process.on('unhandledRejection', (error) => count(tally.errors, `unhandled: ${String(error)}`))

await pool.query('select 1')
process.stdout.write('ready\n')
await once(process.stdin, 'data')
await Promise.all(Array.from({ length: plan.callers }, () => call()))
tally.statements = limiter.state().statements
await limiter.close()
await pool.end()
process.stdout.write(`${JSON.stringify(tally)}\n`)
process.exit(0)

async function call(): Promise<void> {
  for (let attempt = 0; attempt !== plan.attempts && !isOver; attempt += 1) {
    try {
      const limits = plan.calls[Math.floor(Math.random() * plan.calls.length)] ?? []
      const report = await limiter.charge(limits)
      if (report.allowed) {
        tally.allowed += 1
        count(tally.consumed, String(report.limits[0]?.consumed))
      } else {
        tally.refused += 1
      }
    } catch (error) {
      const cause = error instanceof Error ? error.cause : null
      count(tally.errors, `${String(error)} ${String(cause)} ${String((cause as Error | null)?.cause)}`)
    }
  }
}

function count(counts: Record<string, number>, what: string): void {
  counts[what] = (counts[what] ?? 0) + 1
}
