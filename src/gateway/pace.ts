import { setImmediate, setTimeout } from 'node:timers/promises'
import type { Rooms } from './call.ts'

/** Whose turn comes in one round: of streams that were ended, each with a row to make. */
const AT_ONCE = 4
/** A machine that was busy with other things does not make anybody wait longer than this for the next round. */
const MAX_PAUSE_MS = 20

/** A line for work that nobody waits for. A round takes half of the time there is, so that the other half is left for calls. */
export interface Pace {
  /** Resolves when it is one's turn: at once when nobody stands in line. */
  turn(): Promise<void>
  /** From now on there are no calls to leave time for. */
  hurry(): void
}

/** Nobody stands in line yet. */
export function createPace(clock: Rooms['clock']): Pace {
  const line: (() => void)[] = []
  let isRunning = false
  let isHurried = false

  async function run(): Promise<void> {
    isRunning = true
    while (line.length > 0) {
      const from = clock.monotonicMs()
      for (const begin of line.splice(0, AT_ONCE)) begin()
      await setImmediate()
      if (!isHurried) await setTimeout(Math.min(MAX_PAUSE_MS, clock.monotonicMs() - from))
    }
    isRunning = false
  }

  return {
    turn: () =>
      new Promise((resolve) => {
        line.push(resolve)
        if (!isRunning) void run()
      }),
    hurry() {
      isHurried = true
    },
  }
}
