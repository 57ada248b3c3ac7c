import type { Pool } from 'pg'

/** What {@link createProcessReport} needs. */
export interface ProcessReportOptions {
  readonly db: Pick<Pool, 'query'>
  /** Unique id of this process, and a name for people. */
  readonly process: { readonly id: string; readonly name: string }
  readonly monotonicMs: () => number
  /** Sequence of the policies that serve; absent or null = none. */
  readonly policySequence?: () => number | null
}

/** Tells the others how far this process has come; see `waitUntilApplied`. */
export interface ProcessReport {
  /** At most about once a second, unless there is something new to tell. */
  send(appliedSeq: bigint): Promise<void>
  /** Takes this process off the list. */
  close(): Promise<void>
}

const EVERY_MS = 900
const PRUNE_EVERY_MS = 3_600_000
/** Changes older than this are removed; a process that has slept longer reads everything again. */
const KEEP = `interval '1 day'`

export function createProcessReport(options: ProcessReportOptions): ProcessReport {
  const { db, process, monotonicMs } = options
  let last = { seq: -1n, at: Number.NEGATIVE_INFINITY }
  let prunedAt = Number.NEGATIVE_INFINITY
  return {
    async send(appliedSeq) {
      const now = monotonicMs()
      if (last.seq === appliedSeq && now - last.at < EVERY_MS) return
      await upsert(options, appliedSeq)
      last = { seq: appliedSeq, at: now }
      if (now - prunedAt < PRUNE_EVERY_MS) return
      await prune(db)
      prunedAt = now
    },
    async close() {
      // Best effort: a process that does not report for some seconds counts as ended anyway.
      await db.query('delete from gateway_processes where id = $1', [process.id]).catch(() => undefined)
    },
  }
}

async function upsert(
  { db, process, policySequence }: ProcessReportOptions,
  appliedSeq: bigint,
): Promise<void> {
  await db.query(
    `insert into gateway_processes (id, name, applied_seq, policy_sequence) values ($1, $2, $3, $4)
     on conflict (id) do update set seen_at = now(), applied_seq = excluded.applied_seq,
       policy_sequence = excluded.policy_sequence`,
    [process.id, process.name, String(appliedSeq), policySequence?.() ?? null],
  )
}

async function prune(db: Pick<Pool, 'query'>): Promise<void> {
  // The newest row stays: it is where every reader stands.
  await db.query(`delete from changes where at < now() - ${KEEP} and seq < (select max(seq) from changes)`)
  await db.query(`delete from gateway_processes where seen_at < now() - ${KEEP}`)
}
