/** Looks for spools whose process has died, at the start and from time to time, and empties them one after the other. */

import type { RecoveryOptions } from './recovery.ts'
import { recover } from './recovery.ts'
import { reasonOf, sqlState } from './store.ts'

/** What {@link createAdopter} needs. */
export interface AdopterOptions extends RecoveryOptions {
  readonly everyMs: number
  /** Pause before another try when the database or the disk does not answer. */
  readonly retryMs: number
  /** Takes over what is orphaned; the folders that are ours to empty. */
  readonly folders: () => Promise<readonly string[]>
}

/** Looks as long as it is open. What cannot be emptied yet is tried again; it never rejects. */
export function createAdopter(options: AdopterOptions): {
  start(): void
  /** Resolves when everything found so far is stored. */
  idle(): Promise<void>
  /** Stops after what is under way. */
  close(): Promise<void>
  readonly counts: { readonly rows: number; readonly interrupted: number; readonly missing: number }
} {
  const counts = { rows: 0, interrupted: 0, missing: 0 }
  let timer: NodeJS.Timeout | null = null
  let isClosed = false
  let running: Promise<void> = Promise.resolve()
  const waiters: (() => void)[] = []
  let isIdle = true

  async function round(): Promise<void> {
    let failures = 0
    for (const folder of await options.folders().catch(failed)) {
      if (isClosed) return
      // One that cannot be emptied must not keep the others waiting.
      await recoverOne(folder).catch(failed)
    }
    if (failures > 0) return plan(options.retryMs)
    isIdle = true
    for (const done of waiters.splice(0)) done()
    plan(options.everyMs)

    function failed(thrown: unknown): readonly string[] {
      failures += 1
      const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown) }
      options.log.warn(fields, 'rows left behind by another process cannot be stored yet')
      return []
    }
  }

  async function recoverOne(folder: string): Promise<void> {
    const { writer, rows, interrupted, missing } = await recover(folder, options)
    counts.rows += rows
    counts.interrupted += interrupted
    counts.missing += missing
    const fields = { writer, rows, interrupted, missing }
    const text = 'rows left behind by another process are stored'
    if (missing > 0) options.log.error(fields, text)
    else if (rows > 0) options.log.info(fields, text)
  }

  function plan(ms: number): void {
    if (isClosed) return
    timer = setTimeout(run, ms)
    timer.unref()
  }

  function run(): void {
    isIdle = false
    running = round()
  }

  return {
    start: run,
    idle: () => (isIdle ? Promise.resolve() : new Promise((resolve) => waiters.push(resolve))),
    async close() {
      isClosed = true
      if (timer !== null) clearTimeout(timer)
      await running
    },
    counts,
  }
}
