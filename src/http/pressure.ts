/**
 * How much of what arrives this process can take on, judged by what it makes of it: how late its event loop is, how long
 * calls spend in the gateway itself (waiting for the loop, the audit log or the limiter; upstreams do not count), and
 * whether newcomers wait at the door.
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
  readonly loop: LoopMeter
}

/** What Node tells of its event loop. */
export interface LoopMeter {
  /** Turns since the start of the process. */
  turns(): number
  /** Share of the time since the last call in which it was not idle, 0 to 1. */
  busy(): number
}

/** The event loop of this process. */
export function createLoopMeter(): LoopMeter {
  let last = performance.eventLoopUtilization()
  return {
    turns: () => performance.nodeTiming.uvMetricsInfo.loopCount,
    busy() {
      const now = performance.eventLoopUtilization()
      const { utilization } = performance.eventLoopUtilization(now, last)
      last = now
      return utilization
    },
  }
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
  /** A connection has been accepted. */
  connected(): void
  /** An attempt has been recorded and is about to be answered. */
  recorded(call: Readonly<Call>): void
  /** Takes a measurement; called by its own timer. */
  sample(): void
  state(): PressureState
  close(): void
}

/** Time between two measurements. */
const SAMPLE_MS = 50
/** Measurements that are judged together, and the fewest attempts whose own time counts: a single one proves little. */
const [WINDOW_SAMPLES, WINDOW_ATTEMPTS] = [3, 10]
/** A call passes the event loop about so often: as it arrives, for the upstream's answer, for those of the database. */
const TURNS = 4
/**
 * Node takes in one connection with each turn of its loop. When it does so with nearly every turn and never rests, more wait
 * than it takes in; how long they wait is not to be seen from here, so it counts as a small excess.
 */
const QUEUE = { turnShare: 0.8, busyShare: 0.97, least: 10, excess: 1.1 } as const
/** However late: someone must get in, or nobody would notice that it is over. */
const MIN_SHARE = 0.02
/** One window that is well within the bound lets the share grow by so much of itself, and by so much at least. */
const [GROWTH, LEAST_GROWTH] = [0.15, 0.02]
/** One window over the bound leaves at most and at least so much of the share. */
const [MAX_LEFT, MIN_LEFT] = [0.9, 0.5]

/** What was seen since the share was last judged. */
const EMPTY_WINDOW = {
  samples: 0,
  leastLagMs: Number.POSITIVE_INFINITY,
  attempts: 0,
  leastOwnMs: Number.POSITIVE_INFINITY,
  accepted: 0,
}

export function createPressure({ maxDelayMs, clock, loop }: PressureOptions): Pressure {
  let sampledAt = clock.monotonicMs()
  let lagMs = 0
  let share = 1
  /** Fractions of a request that were let in so far: spreads the refusals evenly, without chance. */
  let credit = 0
  let window = { ...EMPTY_WINDOW }
  let turnsBefore = loop.turns()

  function sample(): void {
    const now = clock.monotonicMs()
    lagMs = Math.max(0, now - sampledAt - SAMPLE_MS)
    sampledAt = now
    window.samples += 1
    window.leastLagMs = Math.min(window.leastLagMs, lagMs)
    if (window.samples < WINDOW_SAMPLES) return
    if (maxDelayMs !== null) share = nextShare(share, Math.max(delayMs() / maxDelayMs, queueExcess()))
    window = { ...EMPTY_WINDOW }
  }

  function delayMs(): number {
    const { leastLagMs, leastOwnMs, attempts } = window
    return Math.max(leastLagMs * TURNS, attempts < WINDOW_ATTEMPTS ? 0 : leastOwnMs)
  }

  function queueExcess(): number {
    const turns = loop.turns() - turnsBefore
    turnsBefore += turns
    const isQueue = window.accepted >= QUEUE.least && window.accepted >= turns * QUEUE.turnShare
    return loop.busy() > QUEUE.busyShare && isQueue ? QUEUE.excess : 0
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
    connected() {
      window.accepted += 1
    },
    recorded(call) {
      window.attempts += 1
      window.leastOwnMs = Math.min(window.leastOwnMs, ownMs(call, clock.monotonicMs()))
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
  return excess < 0.5 ? Math.min(1, share + Math.max(LEAST_GROWTH, share * GROWTH)) : share
}
