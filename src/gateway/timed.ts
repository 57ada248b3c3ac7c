import type { Stage } from '../errors.ts'
import type { Rooms } from './call.ts'
import type { Call } from './types.ts'

/** Runs one stage of a call and notes how long it took, also when it throws. */
export type Timed = <T>(call: Call, stage: Stage, run: () => T | Promise<T>) => Promise<T>

/** Measures stages with this clock. */
export function createTimed(clock: Rooms['clock']): Timed {
  return async (call, stage, run) => {
    const from = clock.monotonicMs()
    call.stage = stage
    try {
      return await run()
    } finally {
      call.timingsUs[stage] = Math.round((clock.monotonicMs() - from) * 1000)
    }
  }
}
