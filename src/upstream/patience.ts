/**
 * How long an answer that comes as a stream has been waited for. Messages (progress) start the time anew; comments that
 * keep the connection alive do not: a server sends them however long its tool has been hanging.
 */
export interface Patience {
  /** Monotonic ms since when the upstream is waited for; +Infinity while it is not its turn. */
  waitingSince(): number
  /** What has come is being handed on: a slow client is not the upstream's fault. */
  pause(): void
  /** `isNews` = there was a message in it. */
  resume(isNews: boolean): void
  /** The client was asked something. From now on people are waited for, and only the other limits of the stream hold. */
  stop(): void
}

/** Makes the patience for one answer. */
export function createPatience(clock: { monotonicMs(): number }): Patience {
  let since = clock.monotonicMs()
  let isPaused = false
  let isStopped = false
  return {
    waitingSince: () => (isPaused || isStopped ? Number.POSITIVE_INFINITY : since),
    pause: () => {
      isPaused = true
    },
    resume: (isNews) => {
      isPaused = false
      if (isNews) since = clock.monotonicMs()
    },
    stop: () => {
      isStopped = true
    },
  }
}
