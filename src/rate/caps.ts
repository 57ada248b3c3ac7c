/**
 * Caps that need no database: what one principal may have in flight and be denied per minute, and how many calls an
 * upstream gets at once. Counted in this process, so a fleet of n gateways lets n times as much through.
 */
import { LRUCache } from 'lru-cache'
import type { CallSignal } from '../call-signal.ts'
import { GatewayError } from '../errors.ts'

/** Bounds on one principal. */
export interface PrincipalLimits {
  readonly maxInFlight: number
  /** Denials (403, 429) in one minute after which further calls are refused until it is over. */
  readonly maxDenialsPerMinute: number
}

/** What {@link createPrincipalCaps} needs. */
export interface PrincipalCapsOptions {
  readonly limits: PrincipalLimits
  readonly monotonicMs: () => number
  /** Principals whose denials are remembered; beyond that the longest unseen one is forgotten. */
  readonly maxPrincipals?: number
}

/** Caps on what one principal does. */
export interface PrincipalCaps {
  /**
   * Counts a call in flight; the function returned takes it off the count, once.
   * @throws GatewayError `rate_limited` with `retryAfterSeconds`
   */
  enter(principalId: string): () => void
  /** A call of this principal was denied. Not for refusals of {@link PrincipalCaps.enter} itself. */
  recordDenial(principalId: string): void
}

interface Minute {
  readonly from: number
  denials: number
}

const MINUTE_MS = 60_000
const MAX_PRINCIPALS = 100_000

export function createPrincipalCaps(options: PrincipalCapsOptions): PrincipalCaps {
  const { limits, monotonicMs } = options
  /** Only of principals that have a call in flight. */
  const inFlight = new Map<string, number>()
  const minutes = new LRUCache<string, Minute>({ max: options.maxPrincipals ?? MAX_PRINCIPALS })

  function current(principalId: string): Minute | undefined {
    const minute = minutes.get(principalId)
    if (minute === undefined || monotonicMs() - minute.from < MINUTE_MS) return minute
    minutes.delete(principalId)
    return undefined
  }

  function refuseDenied(principalId: string): void {
    const minute = current(principalId)
    if (minute === undefined || minute.denials < limits.maxDenialsPerMinute) return
    const waitMs = minute.from + MINUTE_MS - monotonicMs()
    throw refusal('rate_limited', 'the principal was denied too often in this minute', waitMs)
  }

  return {
    enter(principalId) {
      refuseDenied(principalId)
      const count = inFlight.get(principalId) ?? 0
      if (count >= limits.maxInFlight) {
        throw refusal('rate_limited', 'the principal has too many calls in flight')
      }
      inFlight.set(principalId, count + 1)
      return once(() => {
        const left = (inFlight.get(principalId) ?? 0) - 1
        if (left > 0) inFlight.set(principalId, left)
        else inFlight.delete(principalId)
      })
    },

    recordDenial(principalId) {
      const minute = current(principalId)
      if (minute === undefined) minutes.set(principalId, { from: monotonicMs(), denials: 1 })
      else minute.denials += 1
    },
  }
}

/** Bounds on the calls to one upstream. */
export interface UpstreamGateLimits {
  /** Calls the upstream gets at once. */
  readonly maxConcurrent: number
  /** Calls that wait for a place; more are refused at once. */
  readonly maxWaiting: number
  /** How long a call waits for a place. */
  readonly maxWaitMs: number
}

/** Lets a bounded number of calls through to one upstream. */
export interface UpstreamGate {
  /**
   * Takes a place, in turn; the function returned gives it back, once. Take it last before the upstream is asked.
   * @param signal aborted when the client has gone
   * @throws GatewayError `overloaded` when there is no place in time; `client_closed`
   */
  enter(signal?: CallSignal): Promise<() => void>
  /** How it stands. */
  state(): { readonly running: number; readonly waiting: number }
}

interface Waiting {
  readonly until: number
  /** Ends the wait: with a place, or with an error. */
  settle(error: GatewayError | null): void
}

/** One gate per upstream. `monotonicMs` must be the time that timers run by. */
export function createUpstreamGate(limits: UpstreamGateLimits, monotonicMs: () => number): UpstreamGate {
  /** In order of arrival, so in order of `until` as well: one timer, for the first, does for all. */
  const queue = new Set<Waiting>()
  let running = 0
  let timer: NodeJS.Timeout | null = null

  function place(): () => void {
    return once(() => {
      const next = first()
      // The place goes from hand to hand: nobody who comes now gets it before those who wait.
      if (next !== undefined) leaveQueue(next, null)
      else running -= 1
    })
  }

  function first(): Waiting | undefined {
    return queue.values().next().value
  }

  function leaveQueue(waiting: Waiting, error: GatewayError | null): void {
    queue.delete(waiting)
    waiting.settle(error)
    if (queue.size > 0 || timer === null) return
    clearTimeout(timer)
    timer = null
  }

  function arm(): void {
    const next = first()
    if (timer !== null || next === undefined) return
    timer = setTimeout(expire, Math.max(0, next.until - monotonicMs()))
  }

  function expire(): void {
    timer = null
    const now = monotonicMs()
    for (const waiting of queue) {
      if (waiting.until > now) break
      leaveQueue(waiting, refusal('overloaded', 'no place at the upstream in time'))
    }
    arm()
  }

  function wait(signal: CallSignal | undefined): Promise<() => void> {
    return new Promise((resolve, reject) => {
      const onAbort = () => leaveQueue(waiting, new GatewayError('client_closed'))
      const waiting: Waiting = {
        until: monotonicMs() + limits.maxWaitMs,
        settle(error) {
          signal?.removeEventListener('abort', onAbort)
          if (error === null) resolve(place())
          else reject(error)
        },
      }
      queue.add(waiting)
      signal?.addEventListener('abort', onAbort)
      arm()
    })
  }

  return {
    async enter(signal) {
      if (signal?.aborted) throw new GatewayError('client_closed')
      if (running < limits.maxConcurrent) {
        running += 1
        return place()
      }
      if (queue.size >= limits.maxWaiting) throw refusal('overloaded', 'too many calls wait for the upstream')
      return await wait(signal)
    },
    state: () => ({ running, waiting: queue.size }),
  }
}

function refusal(kind: 'rate_limited' | 'overloaded', detail: string, waitMs = 0): GatewayError {
  return new GatewayError(kind, {
    detail,
    data: { retryAfterSeconds: Math.max(1, Math.ceil(waitMs / 1000)) },
  })
}

function once(run: () => void): () => void {
  let isDone = false
  return () => {
    if (isDone) return
    isDone = true
    run()
  }
}
