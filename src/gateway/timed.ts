import type { Stage } from '../errors.ts'
import type { Rooms } from './call.ts'
import type { Call } from './types.ts'

/**
 * Runs one stage of a call and notes how long it took, also when it throws. What comes back at once is returned as it is:
 * half of the stages of most calls wait for nothing.
 */
export type Timed = <T>(call: Call, stage: Stage, run: () => T | Promise<T>) => T | Promise<T>

/** Measures stages with this clock. */
export function createTimed(clock: Rooms['clock']): Timed {
  function note(call: Call, stage: Stage, from: number): void {
    call.timingsUs[stage] = Math.round((clock.monotonicMs() - from) * 1000)
  }

  async function noteLater<T>(call: Call, stage: Stage, from: number, running: Promise<T>): Promise<T> {
    try {
      return await running
    } finally {
      note(call, stage, from)
    }
  }

  return (call, stage, run) => {
    const from = clock.monotonicMs()
    call.stage = stage
    let isWaiting = false
    try {
      const result = run()
      isWaiting = result instanceof Promise
      return result instanceof Promise ? noteLater(call, stage, from, result) : result
    } finally {
      if (!isWaiting) note(call, stage, from)
    }
  }
}
