import { setImmediate, setTimeout } from 'node:timers/promises'
import type { Rooms } from './call.ts'

/** Whose turn comes in one round: of streams that were ended, each with a row to make. */
const AT_ONCE = 4
/** A machine that was busy with other things does not make anybody wait longer than this for the next round. */
const MAX_PAUSE_MS = 20

/**
 * A line for work that nobody waits for: the function returned resolves when it is one's turn, at once when nobody stands in
 * line. A round takes half of the time there is, so that the other half is left for calls.
 */
export function createPace(clock: Rooms['clock']): () => Promise<void> {
  const line: (() => void)[] = []
  let isRunning = false

  async function run(): Promise<void> {
    isRunning = true
    while (line.length > 0) {
      const from = clock.monotonicMs()
      for (const begin of line.splice(0, AT_ONCE)) begin()
      await setImmediate()
      await setTimeout(Math.min(MAX_PAUSE_MS, clock.monotonicMs() - from))
    }
    isRunning = false
  }

  return () =>
    new Promise((resolve) => {
      line.push(resolve)
      if (!isRunning) void run()
    })
}
