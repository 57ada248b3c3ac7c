/** The parts' own counts -> the shapes in which the room tells how it is. Pure. */
import type { Backlog } from './backlog.ts'
import type { AuditCounters, AuditGauges } from './limits.ts'
import type { StoreCounters } from './store.ts'

/** What the parts of the room say. */
export interface GaugeParts {
  readonly store: StoreCounters
  readonly adopted: { readonly rows: number; readonly interrupted: number; readonly missing: number }
  readonly drained: { readonly committed: number; readonly retries: number }
  readonly backlog: Pick<Backlog, 'rows' | 'length' | 'first'>
  readonly accepted: number
  readonly late: number
  /** Rows there was no room for. */
  readonly missed: number
  /** Rows that were taken in and cannot be stored any more. */
  readonly lost: number
  readonly open: number
  readonly deadLetters: number
  readonly spoolBytes: number
  readonly spoolMaxBytes: number
  readonly isAccepting: boolean
  readonly nowMs: number
}

/** Counts since the start. */
export function toCounters(parts: GaugeParts): AuditCounters {
  return {
    ...parts.store,
    accepted: parts.accepted,
    retries: parts.drained.retries,
    late: parts.late,
    overflowed: parts.missed,
    open: parts.open,
    recovered: parts.adopted.rows,
    interrupted: parts.adopted.interrupted,
  }
}

/** How it is now. */
export function toGauges(parts: GaugeParts): AuditGauges {
  const { first, rows, length } = parts.backlog
  return {
    pendingRows: rows,
    pendingBytes: length,
    lagMs: first === null ? 0 : Math.max(0, parts.nowMs - first.sinceMs),
    writtenRows: parts.drained.committed,
    mendedRows: parts.store.degraded,
    failedWrites: parts.drained.retries,
    lostRows: parts.missed + parts.lost + parts.adopted.missing,
    deadLetters: parts.deadLetters,
    recoveredRows: parts.adopted.rows,
    spoolDiskBytes: parts.spoolBytes,
    spoolMaxBytes: parts.spoolMaxBytes,
    accepting: parts.isAccepting ? 1 : 0,
  }
}
