/**
 * Who is worked on, who waits, who is turned away. A process has one thread: beyond some calls at once, more of them only
 * make each one slower, and the turns of the event loop so long that nobody is answered in time, not even with a refusal.
 *
 * - {@link WORKING} calls are worked on at once. Waiting for a client's body or an upstream is no work; who comes back
 *   from there goes on at once, because what has been begun is worth more than what has not.
 * - The next ones wait in line for their turn, never longer than `maxDelayMs`. A burst is let in up to what should be served
 *   in well less than that time.
 * - A line that has not been short for half of `maxDelayMs` is no burst but too much work: it is cut to what is served in a
 *   fifth of that time, and kept there until it has drained. A longer one would serve nobody more, and everybody later.
 *   [the idea of CoDel, RFC 8289: what counts is the least wait in an interval]
 *
 * Nobody is refused while fewer than {@link WORKING} calls are being worked on, however slow the machine is.
 */
import { GatewayError } from '../errors.ts'

/** What {@link createTurns} needs. */
export interface TurnsOptions {
  /** Calls in flight, those that wait for clients and upstreams included. */
  readonly maxInFlight: number
  /** Longest wait for a turn, ms; null = only `maxInFlight` refuses. */
  readonly maxDelayMs: number | null
  readonly monotonicMs: () => number
}

/** The turn of one call. Both functions count once. */
export interface Turn {
  /** The call stays open but is in flight no more: a long-lived stream. */
  leave(): void
  /** The call has been recorded and is about to be answered. */
  done(): void
}

/** How it stands. */
export interface TurnsState {
  /** Delay of the event loop at its last measurement, ms. */
  readonly lagMs: number
  readonly inFlight: number
  readonly working: number
  readonly waiting: number
  /** How many may wait now. */
  readonly maxWaiting: number
}

/** Hands out turns as long as it is open. */
export interface Turns {
  /** Whether one more call would be let in now: at once, or to wait. */
  admits(): boolean
  /** The turn of one more call, waited for when none is free. Throws `overloaded`, also when the wait becomes too long. */
  take(): Turn | Promise<Turn>
  /** The same function, whose waiting is not the gateway's work. */
  away<A extends unknown[], T>(run: (...args: A) => T): (...args: A) => T
  /** Takes a measurement and refuses who has waited too long; called by its own timer. */
  measure(): void
  state(): TurnsState
  /** Stops measuring. Who waits still gets a turn. */
  close(): void
}

/** Calls worked on at once: enough to fill the batches of the database, few enough for short turns of the loop. */
const WORKING = 64
/** Turns given in one round of the event loop, so that what arrives meanwhile is seen to. */
const STARTS_PER_ROUND = 8
/** How many may wait: calls, whatever the speed (how fast an idle gateway is, is not known), and parts of `maxDelayMs`. */
const BURST = { calls: 256, part: 0.6 } as const
const STANDING = { calls: 16, part: 0.2 } as const
/** Parts of `maxDelayMs`: a line with such waits is short; has drained; and stands when it was not short for so long. */
const [SHORT, DRAINED, PATIENCE] = [0.2, 0.05, 0.5]
const MEASURE_MS = 50
/** Weight of the last measurement in the speed. */
const SPEED_WEIGHT = 0.2

/** One for all: refusing is what there is least time for, and the stack of each would tell nothing. */
export const OVERLOADED = new GatewayError('overloaded', {
  detail: 'more is being asked than can be answered in time',
})

/** The line of one process. */
export function createTurns(options: TurnsOptions): Turns {
  const line = new Line(options)
  const timer = setInterval(() => line.measure(), MEASURE_MS)
  timer.unref()
  return {
    admits: () => line.admits(),
    take: () => line.take(),
    away: (run) => line.away(run),
    measure: () => line.measure(),
    state: () => line.state(),
    close: () => clearInterval(timer),
  }
}

interface Waiting {
  readonly sinceMs: number
  start(): void
  refuse(): void
}

class Line {
  readonly #options: TurnsOptions
  readonly #maxDelayMs: number
  #inFlight = 0
  #working = 0
  /** Longest wait first. */
  #waiting: Waiting[] = []
  #roundIsDue = false
  /** When the line was short for the last time, and whether that is too long ago. */
  #shortAt: number
  #stands = false
  /** Calls finished per second while somebody always waited; 0 = never yet. */
  #speed = 0
  #finished = 0
  #waitedBefore = false
  #measuredAt: number
  #lagMs = 0

  constructor(options: TurnsOptions) {
    this.#options = options
    this.#maxDelayMs = options.maxDelayMs ?? Number.POSITIVE_INFINITY
    this.#measuredAt = options.monotonicMs()
    this.#shortAt = this.#measuredAt
  }

  admits(): boolean {
    return (
      this.#inFlight < this.#options.maxInFlight &&
      (this.#isFree() || this.#waiting.length < this.#maxWaiting())
    )
  }

  take(): Turn | Promise<Turn> {
    if (!this.admits()) throw OVERLOADED
    this.#inFlight += 1
    if (!this.#isFree()) return this.#wait()
    this.#working += 1
    return this.#turn()
  }

  away<A extends unknown[], T>(run: (...args: A) => T): (...args: A) => T {
    const onValue = (value: unknown): unknown => {
      this.#working += 1
      return value
    }
    const onError = (error: unknown): never => {
      this.#working += 1
      throw error
    }
    return (...args) => {
      const result = run(...args)
      if (!(result instanceof Promise)) return result
      this.#rest()
      return result.then(onValue, onError) as T
    }
  }

  measure(): void {
    const now = this.#options.monotonicMs()
    const elapsedMs = Math.max(1, now - this.#measuredAt)
    this.#lagMs = Math.max(0, elapsedMs - MEASURE_MS)
    this.#measuredAt = now
    this.#refuseLate(now)
    const waits = this.#waiting.length > 0
    if (waits && this.#waitedBefore) this.#noteSpeed((this.#finished * 1000) / elapsedMs)
    this.#waitedBefore = waits
    this.#finished = 0
    if (!waits) this.#noteWait(0, now)
    else if (!this.#stands && now - this.#shortAt > this.#maxDelayMs * PATIENCE) this.#cut()
  }

  state(): TurnsState {
    return {
      lagMs: this.#lagMs,
      inFlight: this.#inFlight,
      working: this.#working,
      waiting: this.#waiting.length,
      maxWaiting: this.#maxWaiting(),
    }
  }

  #isFree(): boolean {
    return this.#working < WORKING && this.#waiting.length === 0
  }

  #maxWaiting(): number {
    if (this.#options.maxDelayMs === null) return Number.POSITIVE_INFINITY
    const { calls, part } = this.#stands ? STANDING : BURST
    return Math.max(calls, Math.floor((this.#speed * part * this.#maxDelayMs) / 1000))
  }

  async #wait(): Promise<Turn> {
    await new Promise<void>((resolve, reject) => {
      const refuse = (): void => {
        this.#inFlight -= 1
        reject(OVERLOADED)
      }
      this.#waiting.push({ sinceMs: this.#options.monotonicMs(), start: resolve, refuse })
      this.#planRound()
    })
    return this.#turn()
  }

  #turn(): Turn {
    let isInFlight = true
    let isWorking = true
    const leave = (): void => {
      if (isInFlight) this.#inFlight -= 1
      isInFlight = false
    }
    const done = (): void => {
      leave()
      if (!isWorking) return
      isWorking = false
      this.#finished += 1
      this.#rest()
    }
    return { leave, done }
  }

  #rest(): void {
    this.#working -= 1
    this.#planRound()
  }

  /** A body is nearly always there when it is asked for: who comes back within the same round has not been away. */
  #planRound(): void {
    if (this.#roundIsDue || this.#waiting.length === 0 || this.#working >= WORKING) return
    this.#roundIsDue = true
    setImmediate(() => {
      this.#roundIsDue = false
      this.#round()
      this.#planRound()
    })
  }

  #round(): void {
    const now = this.#options.monotonicMs()
    this.#refuseLate(now)
    const free = Math.min(STARTS_PER_ROUND, WORKING - this.#working)
    for (const { sinceMs, start } of this.#waiting.splice(0, Math.max(0, free))) {
      this.#noteWait(now - sinceMs, now)
      this.#working += 1
      start()
    }
  }

  #refuseLate(now: number): void {
    const onTime = this.#waiting.findIndex(({ sinceMs }) => now - sinceMs <= this.#maxDelayMs)
    const late = onTime < 0 ? this.#waiting.length : onTime
    if (late > 0) for (const { refuse } of this.#waiting.splice(0, late)) refuse()
  }

  /** Who came last has waited least and would wait longest. */
  #cut(): void {
    this.#stands = true
    for (const { refuse } of this.#waiting.splice(this.#maxWaiting())) refuse()
  }

  #noteWait(ms: number, now: number): void {
    if (ms > this.#maxDelayMs * (this.#stands ? DRAINED : SHORT)) return
    this.#stands = false
    this.#shortAt = now
  }

  #noteSpeed(speed: number): void {
    this.#speed += (this.#speed === 0 ? 1 : SPEED_WEIGHT) * (speed - this.#speed)
  }
}
