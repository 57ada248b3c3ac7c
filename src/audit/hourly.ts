/** The tables of the days ahead: made at the start and every hour, besides on demand. */
import type { AuditLog } from './limits.ts'
import type { Store } from './store.ts'
import { reasonOf, sqlState } from './store.ts'

const HOUR_MS = 3_600_000

/** What {@link createHourly} needs. `alsoHourly` must not throw. */
export interface HourlyOptions {
  readonly store: Pick<Store, 'createDays'>
  readonly daysAhead: number
  readonly nowMs: () => number
  readonly log: AuditLog
  readonly alsoHourly: () => void
}

/** Start it once. It never rejects: a database that is down is asked again. */
export function createHourly(options: HourlyOptions): { start(): Promise<void>; stop(): void } {
  const { store, daysAhead, nowMs, log, alsoHourly } = options
  let timer: NodeJS.Timeout | null = null

  async function makeDays(): Promise<void> {
    try {
      await store.createDays(nowMs(), daysAhead + 1)
    } catch (thrown) {
      const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown) }
      log.warn(fields, 'the audit days ahead could not be made')
    }
  }

  return {
    async start() {
      timer = setInterval(() => {
        alsoHourly()
        void makeDays()
      }, HOUR_MS).unref()
      await makeDays()
    },
    stop() {
      if (timer !== null) clearInterval(timer)
    },
  }
}
