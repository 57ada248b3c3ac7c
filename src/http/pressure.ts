/**
 * How much of what arrives this process can take on, judged by what it makes of it. Two things decide:
 *
 * - how many attempts are being worked on in the gateway itself (waiting for a body or an upstream does not count): no more
 *   than it can finish within the time that calls may take here. This acts at once.
 * - how late everything is: the event loop, what calls spend in the gateway (waiting for the loop, the audit log or the
 *   limiter), and whether newcomers wait at the door. While nobody escapes a delay above the bound, the share of requests
 *   that are let in shrinks; then it grows again. What counts is the least delay in a while: a single pause (garbage
 *   collection, a busy neighbour) is not too much work, a delay that does not go away is. [the idea of CoDel, RFC 8289]
 *
 * So under any load the process works at what it can do, and what it lets in does not queue for long.
 */
import type { AuditEvent, Call, RequestHead } from '../gateway/types.ts'

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
  /** Attempts that are being worked on in the gateway itself, and how many may be. */
  readonly inside: number
  readonly maxInside: number
}

/** Measures as long as it is open. */
export interface Pressure {
  /** Whether the request with this head is let in. Ask once for each. */
  admits(head: RequestHead): boolean
  /** The same function, whose waiting is not the gateway's. */
  away<A extends unknown[], T>(run: (...args: A) => Promise<T>): (...args: A) => Promise<T>
  /** An attempt has been recorded and is about to be answered. */
  recorded(event: AuditEvent): void
  /** A connection has been accepted. */
  connected(): void
  /** Takes a measurement; called by its own timer. */
  sample(): void
  state(): PressureState
  close(): void
}

/** Time between two measurements. */
const SAMPLE_MS = 50
/** Measurements that are judged together, and the fewest attempts whose own time counts: a single one proves little. */
const [WINDOW_SAMPLES, WINDOW_ATTEMPTS] = [3, 10]
/** As many attempts may always be inside: how fast an idle gateway is, is not known. */
const MIN_INSIDE = 256
/** Weight of the last window in the measured speed. */
const SPEED_WEIGHT = 0.3
/**
 * Node takes in one connection with each turn of its loop. When it does so with nearly every turn of several windows and
 * never rests, more wait than it takes in; how long they wait is not to be seen from here, so it counts as a small excess.
 */
const QUEUE = { turnShare: 0.8, busyShare: 0.97, windows: 4, excess: 1.1 } as const
/** However late: someone must get in, or nobody would notice that it is over. */
const MIN_SHARE = 0.02
/** One window that is well within the bound lets the share grow by so much of itself, and by so much at least. */
const [GROWTH, LEAST_GROWTH] = [0.15, 0.02]
/** One window over the bound leaves at most and at least so much of the share. */
const [MAX_LEFT, MIN_LEFT] = [0.9, 0.4]

/** What was seen since the share was last judged. */
const EMPTY_WINDOW = {
  samples: 0,
  leastLagMs: Number.POSITIVE_INFINITY,
  attempts: 0,
  finished: 0,
  leastOwnMs: Number.POSITIVE_INFINITY,
  accepted: 0,
}

export function createPressure(options: PressureOptions): Pressure {
  const gauge = new PressureGauge(options)
  const timer = setInterval(() => gauge.sample(), SAMPLE_MS)
  timer.unref()
  return {
    admits: (head) => gauge.admits(head),
    away: (run) => gauge.away(run),
    recorded: (event) => gauge.recorded(event),
    connected: () => gauge.connected(),
    sample: () => gauge.sample(),
    state: () => gauge.state(),
    close: () => clearInterval(timer),
  }
}

class PressureGauge {
  readonly #options: PressureOptions
  #sampledAt: number
  #windowFrom: number
  #turnsBefore: number
  #window = { ...EMPTY_WINDOW }
  #lagMs = 0
  #share = 1
  /** Fractions of a request that were let in so far: spreads the refusals evenly, without chance. */
  #credit = 0
  /** Heads of the attempts that are not recorded yet; one of them may be away. */
  readonly #open = new Set<RequestHead>()
  #away = 0
  /** Attempts finished per second, refusals not counted. */
  #speed = 0
  #queueWindows = 0

  constructor(options: PressureOptions) {
    this.#options = options
    this.#sampledAt = options.clock.monotonicMs()
    this.#windowFrom = this.#sampledAt
    this.#turnsBefore = options.loop.turns()
  }

  admits(head: RequestHead): boolean {
    if (this.#open.size - this.#away >= this.#maxInside() || !this.#isInShare()) return false
    this.#open.add(head)
    return true
  }

  away<A extends unknown[], T>(run: (...args: A) => Promise<T>): (...args: A) => Promise<T> {
    return async (...args) => {
      this.#away += 1
      try {
        return await run(...args)
      } finally {
        this.#away -= 1
      }
    }
  }

  recorded({ call }: AuditEvent): void {
    // Rows of other things: what a server asked the client, a whole window of throttled attempts.
    if (call.id !== call.requestId || call.timingsUs.admit === undefined) return
    this.#window.attempts += 1
    this.#window.leastOwnMs = Math.min(this.#window.leastOwnMs, ownMs(call, this.#now()))
    if (this.#open.delete(call.head)) this.#window.finished += 1
  }

  connected(): void {
    this.#window.accepted += 1
  }

  sample(): void {
    const now = this.#now()
    this.#lagMs = Math.max(0, now - this.#sampledAt - SAMPLE_MS)
    this.#sampledAt = now
    this.#window.samples += 1
    this.#window.leastLagMs = Math.min(this.#window.leastLagMs, this.#lagMs)
    if (this.#window.samples === WINDOW_SAMPLES) this.#judge(now)
  }

  state(): PressureState {
    return {
      lagMs: this.#lagMs,
      share: this.#share,
      inside: this.#open.size - this.#away,
      maxInside: this.#maxInside(),
    }
  }

  #judge(now: number): void {
    const seconds = Math.max(1, now - this.#windowFrom) / 1000
    this.#speed += SPEED_WEIGHT * (this.#window.finished / seconds - this.#speed)
    const { maxDelayMs } = this.#options
    const queue = this.#queueExcess()
    if (maxDelayMs !== null)
      this.#share = nextShare(this.#share, Math.max(this.#delayMs() / maxDelayMs, queue))
    this.#window = { ...EMPTY_WINDOW }
    this.#windowFrom = now
  }

  /** A request waits for the loop to come round to it; then its own time begins. */
  #delayMs(): number {
    const { leastLagMs, leastOwnMs, attempts } = this.#window
    return leastLagMs + (attempts < WINDOW_ATTEMPTS ? 0 : leastOwnMs)
  }

  #queueExcess(): number {
    const { loop } = this.#options
    const turns = loop.turns() - this.#turnsBefore
    this.#turnsBefore += turns
    const isQueue = loop.busy() > QUEUE.busyShare && this.#window.accepted > turns * QUEUE.turnShare
    this.#queueWindows = isQueue ? this.#queueWindows + 1 : 0
    return this.#queueWindows >= QUEUE.windows ? QUEUE.excess : 0
  }

  #maxInside(): number {
    const { maxDelayMs } = this.#options
    if (maxDelayMs === null) return Number.POSITIVE_INFINITY
    return Math.max(MIN_INSIDE, (this.#speed * maxDelayMs) / 1000)
  }

  #isInShare(): boolean {
    if (this.#share === 1) return true
    this.#credit += this.#share
    if (this.#credit < 1) return false
    this.#credit -= 1
    return true
  }

  #now(): number {
    return this.#options.clock.monotonicMs()
  }
}

/** Stages in which clients and upstreams are waited for. */
const FOREIGN = ['read', 'authz', 'validate', 'upstream'] as const

/** What the call spent on the gateway's own waiting, ms. */
function ownMs({ startedAt, timingsUs }: Readonly<Call>, nowMs: number): number {
  const foreignUs = FOREIGN.reduce((sum, stage) => sum + (timingsUs[stage] ?? 0), 0)
  return nowMs - startedAt - foreignUs / 1000
}

/** @param excess the delay as a multiple of its bound */
function nextShare(share: number, excess: number): number {
  if (excess > 1) return Math.max(MIN_SHARE, share * Math.min(MAX_LEFT, Math.max(MIN_LEFT, 1 / excess)))
  return excess < 0.5 ? Math.min(1, share + Math.max(LEAST_GROWTH, share * GROWTH)) : share
}
