/** Attempts for which there was no room: counted, and declared by one row as soon as there is. */
import type { AuditLog } from './limits.ts'
import type { Gap } from './row.ts'

/** What {@link createMisses} needs. */
export interface MissesOptions {
  readonly log: AuditLog
  readonly logEveryMs: number
  /** Told of the sum so far, at most once a second. Must not throw. */
  readonly note: (gap: Gap) => void
}

const NOTE_EVERY_MS = 1000

/** Counts in memory; whoever takes the sum declares it. */
export function createMisses({ log, logEveryMs, note }: MissesOptions): {
  /** One more. */
  add(nowMs: number, why: Gap['why']): void
  /** All since the last time, once. */
  take(): Gap | null
  /** All since the start. */
  readonly count: number
} {
  let count = 0
  let gap: Gap | null = null
  let loggedMs = Number.NEGATIVE_INFINITY
  let notedMs = Number.NEGATIVE_INFINITY
  const isDue = (lastMs: number, nowMs: number, everyMs: number): boolean =>
    nowMs < lastMs || nowMs - lastMs >= everyMs

  return {
    add(nowMs, why) {
      count += 1
      gap = { why, count: (gap?.count ?? 0) + 1, fromMs: gap?.fromMs ?? nowMs, toMs: nowMs }
      if (isDue(notedMs, nowMs, NOTE_EVERY_MS)) {
        notedMs = nowMs
        note(gap)
      }
      if (!isDue(loggedMs, nowMs, logEveryMs)) return
      loggedMs = nowMs
      log.error({ missed: count, why }, 'attempts cannot be recorded; a gap will be declared')
    },
    take() {
      const taken = gap
      gap = null
      notedMs = Number.NEGATIVE_INFINITY
      return taken
    },
    get count() {
      return count
    },
  }
}
