/**
 * How much of what arrives this process can take on, judged by the delay of its event loop: the time by which everything
 * here is late, also the answers to those who were let in.
 *
 * What counts is the least delay in a while: a single pause (garbage collection, a busy neighbour) is not too much work, a
 * delay that does not go away is. [CoDel, RFC 8289] While it is above its bound, the share of requests that are let in
 * shrinks; then it grows again. So under any load the process works at what it can do, and what it lets in does not queue for long. A share, not a
 * number of calls in flight: many calls wait for slow upstreams and cost nothing meanwhile.
 */

/** What {@link createPressure} needs. */
export interface PressureOptions {
  /** Delay of the event loop, ms, above which requests are refused; null = never. */
  readonly maxLagMs: number | null
  readonly clock: { monotonicMs(): number }
}

/** The delay as it was last measured, and what follows from it. */
export interface PressureState {
  readonly lagMs: number
  /** Share of requests that are let in, 0 to 1. */
  readonly share: number
}

/** Measures as long as it is open. */
export interface Pressure {
  /** Whether one more request is let in. Ask once for each. */
  admits(): boolean
  /** Takes a measurement; called by its own timer. */
  sample(): void
  state(): PressureState
  close(): void
}

/** Time between two measurements. */
const SAMPLE_MS = 50
/** Shortest time that is judged, and the fewest measurements in it. */
const [WINDOW_MS, WINDOW_SAMPLES] = [200, 3]
/** However late: someone must get in, or nobody would notice that it is over. */
const MIN_SHARE = 0.02
/** By how much the share grows with each window that is well within the bound. */
const GROWTH = 0.05
/** One window leaves at most and at least so much of the share. */
const [MAX_LEFT, MIN_LEFT] = [0.9, 0.5]

export function createPressure({ maxLagMs, clock }: PressureOptions): Pressure {
  let sampledAt = clock.monotonicMs()
  let window = { from: sampledAt, samples: 0, leastMs: Number.POSITIVE_INFINITY }
  let lagMs = 0
  let share = 1
  /** Fractions of a request that were let in so far: spreads the refusals evenly, without chance. */
  let credit = 0

  function sample(): void {
    const now = clock.monotonicMs()
    lagMs = Math.max(0, now - sampledAt - SAMPLE_MS)
    sampledAt = now
    const samples = window.samples + 1
    const leastMs = Math.min(window.leastMs, lagMs)
    window = { ...window, samples, leastMs }
    if (samples < WINDOW_SAMPLES || now - window.from < WINDOW_MS) return
    window = { from: now, samples: 0, leastMs: Number.POSITIVE_INFINITY }
    if (maxLagMs !== null) share = nextShare(share, leastMs / maxLagMs)
  }

  const timer = setInterval(sample, SAMPLE_MS)
  timer.unref()
  return {
    admits() {
      if (share === 1) return true
      credit += share
      if (credit < 1) return false
      credit -= 1
      return true
    },
    sample,
    state: () => ({ lagMs, share }),
    close: () => clearInterval(timer),
  }
}

/** @param excess the delay as a multiple of its bound */
function nextShare(share: number, excess: number): number {
  if (excess > 1) return Math.max(MIN_SHARE, share * Math.min(MAX_LEFT, Math.max(MIN_LEFT, 1 / excess)))
  return excess < 0.5 ? Math.min(1, share + GROWTH) : share
}
