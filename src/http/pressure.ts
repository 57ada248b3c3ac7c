/**
 * How much of what arrives this process can take on, judged by what it makes of it: by how late its event loop is, and how
 * long calls spend in the gateway itself (waiting for the loop, the audit log or the limiter; upstreams do not count).
 *
 * What counts is the least of these delays in a while: a single pause (garbage collection, a busy neighbour) is not too much
 * work, a delay that nobody escapes is. [the idea of CoDel, RFC 8289] While it is above its bound, the share of requests that
 * are let in shrinks; then it grows again. So under any load the process works at what it can do, and what it lets in does
 * not queue for long. A share, not a number of calls in flight: many calls wait for slow upstreams and cost nothing meanwhile.
 */
import type { Call } from '../gateway/types.ts'

/** What {@link createPressure} needs. */
export interface PressureOptions {
  /** Time calls may spend in the gateway itself, ms; null = nothing is refused. */
  readonly maxDelayMs: number | null
  readonly clock: { monotonicMs(): number }
}

/** How it stands. */
export interface PressureState {
  /** Delay of the event loop at its last measurement, ms. */
  readonly lagMs: number
  /** Share of requests that are let in, 0 to 1. */
  readonly share: number
}

/** Measures as long as it is open. */
export interface Pressure {
  /** Whether one more request is let in. Ask once for each. */
  admits(): boolean
  /** An attempt has been recorded and is about to be answered. */
  recorded(call: Readonly<Call>): void
  /** Takes a measurement; called by its own timer. */
  sample(): void
  state(): PressureState
  close(): void
}

/** Time between two measurements. */
const SAMPLE_MS = 50
/** Shortest time that is judged, and the fewest measurements in it. */
const [WINDOW_MS, WINDOW_SAMPLES] = [250, 3]
/** A call passes the event loop about so often: as it arrives, for the upstream's answer, for those of the database. */
const TURNS = 4
/** However late: someone must get in, or nobody would notice that it is over. */
const MIN_SHARE = 0.02
/** By how much the share grows with each window that is well within the bound. */
const GROWTH = 0.05
/** One window leaves at most and at least so much of the share. */
const [MAX_LEFT, MIN_LEFT] = [0.9, 0.5]

export function createPressure({ maxDelayMs, clock }: PressureOptions): Pressure {
  let sampledAt = clock.monotonicMs()
  let lagMs = 0
  let share = 1
  /** Fractions of a request that were let in so far: spreads the refusals evenly, without chance. */
  let credit = 0
  let windowFrom = sampledAt
  let samples = 0
  /** Least delays in this window; Infinity = nothing was measured. */
  let leastLagMs = Number.POSITIVE_INFINITY
  let leastOwnMs = Number.POSITIVE_INFINITY

  function sample(): void {
    const now = clock.monotonicMs()
    lagMs = Math.max(0, now - sampledAt - SAMPLE_MS)
    sampledAt = now
    samples += 1
    leastLagMs = Math.min(leastLagMs, lagMs)
    if (samples < WINDOW_SAMPLES || now - windowFrom < WINDOW_MS) return
    if (maxDelayMs !== null) share = nextShare(share, delayMs() / maxDelayMs)
    windowFrom = now
    samples = 0
    leastLagMs = Number.POSITIVE_INFINITY
    leastOwnMs = Number.POSITIVE_INFINITY
  }

  function delayMs(): number {
    return Math.max(leastLagMs * TURNS, leastOwnMs === Number.POSITIVE_INFINITY ? 0 : leastOwnMs)
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
    recorded(call) {
      leastOwnMs = Math.min(leastOwnMs, ownMs(call, clock.monotonicMs()))
    },
    sample,
    state: () => ({ lagMs, share }),
    close: () => clearInterval(timer),
  }
}

/** Without what the client took to send its body and the upstream to answer. */
function ownMs({ startedAt, timingsUs }: Readonly<Call>, nowMs: number): number {
  return nowMs - startedAt - ((timingsUs.read ?? 0) + (timingsUs.upstream ?? 0)) / 1000
}

/** @param excess the delay as a multiple of its bound */
function nextShare(share: number, excess: number): number {
  if (excess > 1) return Math.max(MIN_SHARE, share * Math.min(MAX_LEFT, Math.max(MIN_LEFT, 1 / excess)))
  return excess < 0.5 ? Math.min(1, share + GROWTH) : share
}
