import type { Stage } from '../errors.ts'
import type { Rooms } from './call.ts'
import type { Call } from './types.ts'

/** Knows in which stage a call is, and notes how long each took. */
export interface StageClock {
  /** The call leaves the stage it is in and enters this one. */
  enter(stage: Stage): void
  /** The call leaves the stage it is in, whatever happened in it. */
  leave(): void
}

/** The clock of one call. */
export function createStageClock(call: Call, clock: Rooms['clock']): StageClock {
  let since: number | null = null
  const leave = (): void => {
    if (since !== null) call.timingsUs[call.stage] = Math.round((clock.monotonicMs() - since) * 1000)
    since = null
  }
  return {
    enter(stage) {
      leave()
      call.stage = stage
      since = clock.monotonicMs()
    },
    leave,
  }
}
