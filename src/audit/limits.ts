/** The audit room's bounds, what it needs, and the shapes in which it tells how it is. */
import type { Pool } from 'pg'
import type { RowRules } from './rules.ts'
import type { Checkpoint, Signer } from './signing.ts'
import type { SpoolFs } from './spool-files.ts'
import type { StoreCounters } from './store.ts'

/** When an answer may leave: its row is written to the spool, on the disk, or committed in the database. */
export type AuditMode = 'batch' | 'durable' | 'blocking'

/** Bounds of the room. */
export interface AuditLimits {
  /** Rows in memory that no disk takes, and calls under way that will need one. */
  readonly maxRows: number
  /** Characters of them; beyond it rows are kept without payload and trace. */
  readonly maxLength: number
  /** Rows in memory while the database keeps up; the spool alone holds what is more. */
  readonly liveRows: number
  /** Characters of them. */
  readonly liveLength: number
  /** How long rows gather for a statement when nobody waits for its commit. */
  readonly gatherMs: number
  /** Between two looks for spools whose process has died. */
  readonly adoptEveryMs: number
  /** Of a process's file of dead letters. */
  readonly maxDeadBytes: number
  /** Rows of one statement. More only makes callers wait longer. */
  readonly batchRows: number
  /** Characters of one statement: the database takes much longer over the rows of a large one. */
  readonly batchLength: number
  /** How long `begin` and `end` wait. */
  readonly endDeadlineMs: number
  /** `begin` asks the database when it has not been heard of for so long. */
  readonly confirmAfterMs: number
  readonly retryMinMs: number
  readonly retryMaxMs: number
  readonly closeDeadlineMs: number
  /** Between two log lines about the same trouble. */
  readonly logEveryMs: number
  /** Days whose partitions are made ahead. */
  readonly daysAhead: number
}

/** The measured defaults. */
export const AUDIT_LIMITS: AuditLimits = {
  maxRows: 10_000,
  maxLength: 64 * 1024 * 1024,
  liveRows: 2000,
  liveLength: 8 * 1024 * 1024,
  gatherMs: 20,
  adoptEveryMs: 30_000,
  maxDeadBytes: 64 * 1024 * 1024,
  batchRows: 200,
  batchLength: 256 * 1024,
  endDeadlineMs: 2000,
  confirmAfterMs: 2000,
  retryMinMs: 50,
  retryMaxMs: 1000,
  closeDeadlineMs: 5000,
  logEveryMs: 10_000,
  daysAhead: 7,
}

/** `down` = attempts cannot be recorded now: they are refused, or with `on_failure: gap` missed and counted. */
export type AuditState = 'up' | 'down' | 'closed'

/** What the room logs with; pino fits. Objects hold codes and numbers, never payloads. */
export interface AuditLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
  error(fields: object, message: string): void
}

/** Counts since the start. */
export interface AuditCounters extends StoreCounters {
  /** Rows taken in; each has a `seq`. */
  readonly accepted: number
  /** Times a batch had to be sent again, or the database had to be asked again. */
  readonly retries: number
  /** Callers who were told `audit_unavailable` although their row was taken in. */
  readonly late: number
  /** Rows for which there was no room; declared by rows of outcome `gap`. */
  readonly overflowed: number
  /** Rows of processes that have died, taken over from their spools. */
  readonly recovered: number
  /** Calls whose process died before their end was written. */
  readonly interrupted: number
  /** Calls that have begun and not ended. */
  readonly open: number
}

/** State for metrics. */
export interface AuditGauges {
  /** Rows taken in and not stored yet. */
  readonly pendingRows: number
  /** Characters of them. */
  readonly pendingBytes: number
  /** How long the oldest of them has waited, ms; 0 when there is none. */
  readonly lagMs: number
  readonly writtenRows: number
  /** Rows stored without payload or as a placeholder, because the database refused them. */
  readonly mendedRows: number
  readonly failedWrites: number
  /** Rows given up: no room for them, or unreadable in the spool. Declared by rows of outcome `gap`. */
  readonly lostRows: number
  /** Rows that were refused by the database and kept as dead letters. */
  readonly deadLetters: number
  /** Rows taken over from the spools of processes that have died. */
  readonly recoveredRows: number
  /** Bytes of this process's spool on disk. */
  readonly spoolDiskBytes: number
  /** Most it may have. */
  readonly spoolMaxBytes: number
  /** 1 while attempts can be recorded. */
  readonly accepting: 0 | 1
}

/** What the room needs. */
export interface AuditRoomOptions {
  /** The audit pool, working as the runtime role. The room does not end it. */
  readonly pool: Pick<Pool, 'query' | 'on' | 'off'>
  /** A fresh UUID per process life: `writer` of its rows. */
  readonly writerId: string
  readonly mode: AuditMode
  /** What becomes of a call that cannot be recorded: refused, or let through and counted. */
  readonly onFailure: 'deny' | 'gap'
  /** `dir`: where all spools of this machine or volume lie. `fs`: the real file system unless a test says otherwise. */
  readonly spool: { readonly dir: string; readonly maxBytes: number; readonly fs?: SpoolFs }
  readonly newId: (ms: number) => string
  readonly clock: { nowMs(): number }
  readonly log: AuditLog
  /** Further names of members whose values are never stored. */
  readonly redactKeys?: readonly string[]
  readonly redaction?: Omit<RowRules, 'keys'>
  /** Told the size of every row taken in, in bytes of JSON. Must not throw. */
  readonly onRow?: (bytes: number) => void
  /** Signs checkpoints of the chain; null: none are made. */
  readonly signer?: Signer | null
  /** Told of every checkpoint that is committed. Must neither throw nor wait. */
  readonly onCheckpoint?: (checkpoint: Checkpoint) => void
  readonly limits?: Partial<AuditLimits>
  /** Told of every change; for readiness. Must not throw. */
  readonly onState?: (state: AuditState) => void
}
