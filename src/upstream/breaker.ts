/**
 * The circuit breaker of one upstream: after failures in a row nothing is sent to it for a while, then exactly one trial
 * decides. Pure state; what counts as a failure is decided in `verdict.ts`.
 */
import { GatewayError } from '../errors.ts'
import type { Verdict } from './verdict.ts'

/** `closed` = asked as usual, `open` = not asked, `half_open` = one trial is due or under way. */
export type BreakerState = 'closed' | 'open' | 'half_open'

/** When a breaker opens and for how long. */
export interface BreakerSettings {
  /** Failures in a row that open it. */
  readonly failures: number
  /** ms until the trial, and the longest a trial keeps others waiting for its result. */
  readonly openMs: number
}

/** What a breaker is made with. */
export interface BreakerOptions extends BreakerSettings {
  readonly clock: { monotonicMs(): number }
  /** Called after each change. Must not throw. */
  readonly onChange: (state: BreakerState) => void
}

/** Leave to ask the upstream once. */
export interface Pass {
  /** A stream has begun to come: enough for a trial, which would otherwise last as long as the stream. */
  began(): void
  settle(verdict: Verdict): void
}

/** The upstream was not asked. */
export class NotAskedError extends GatewayError {}

/** Keeps calls from an upstream that keeps failing. */
export interface Breaker {
  /** @throws GatewayError `upstream_failed` with `retryAfterSeconds` while the upstream is not asked */
  enter(): Pass
  /** The error {@link Breaker.enter} would throw now; null when it would give leave. Takes no trial. */
  refusal(): NotAskedError | null
  state(): BreakerState
  /** Monotonic ms at which the trial is due; null while closed. */
  trialAt(): number | null
}

/** Makes a breaker that is closed. */
export function createBreaker(options: BreakerOptions): Breaker {
  const { clock, failures, openMs, onChange } = options
  let state: BreakerState = 'closed'
  let inARow = 0
  /** While open: when the trial may begin. While a trial is under way: when it has taken too long. */
  let waitUntil = Number.NEGATIVE_INFINITY
  let trial: Pass | null = null
  /** Verdicts on what was asked before the last change say nothing about the time after it. */
  let period = 0

  function change(next: BreakerState): void {
    state = next
    inARow = 0
    trial = null
    period += 1
    if (next === 'open') waitUntil = clock.monotonicMs() + openMs
    onChange(next)
  }

  function refusal(): NotAskedError | null {
    if (state === 'closed') return null
    const waitMs = waitUntil - clock.monotonicMs()
    if (waitMs <= 0 || (state === 'half_open' && trial === null)) return null
    const detail =
      state === 'open'
        ? 'not asked: it failed too often in a row (circuit breaker open)'
        : 'not asked: the trial of the circuit breaker is under way'
    const seconds = state === 'open' ? Math.ceil(waitMs / 1000) : 1
    return new NotAskedError('upstream_failed', { detail, data: { retryAfterSeconds: Math.max(1, seconds) } })
  }

  function ordinary(): Pass {
    const begun = period
    return {
      began: () => undefined,
      settle(verdict) {
        if (begun !== period) return
        if (verdict === 'works') inARow = 0
        if (verdict !== 'fails') return
        inARow += 1
        if (inARow >= failures) change('open')
      },
    }
  }

  function startTrial(): Pass {
    if (state === 'open') change('half_open')
    const pass: Pass = {
      began: () => pass.settle('works'),
      settle(verdict) {
        if (trial !== pass) return
        trial = null
        if (verdict === 'works') change('closed')
        else if (verdict === 'fails') change('open')
      },
    }
    trial = pass
    // A trial that hangs must not keep the upstream locked: after this time another one may begin.
    waitUntil = clock.monotonicMs() + openMs
    return pass
  }

  return {
    enter() {
      const refused = refusal()
      if (refused !== null) throw refused
      return state === 'closed' ? ordinary() : startTrial()
    },
    refusal,
    state: () => state,
    trialAt: () => (state === 'closed' ? null : waitUntil),
  }
}
