/**
 * Whether an upstream works. Probes, readings of its tools and the circuit breaker speak for all of it; one call that went
 * wrong may be the fault of one tool, so it is only noted.
 */
import { GatewayError } from '../errors.ts'

/** What is known of an upstream now. */
export interface HealthState {
  /** `unknown` until something was asked of it. */
  readonly status: 'unknown' | 'up' | 'down'
  /** What was wrong when it last failed, for operators; null once it has answered as it should. */
  readonly lastError: string | null
  /** Wall clock of its last good answer, ms; null = none. */
  readonly lastOkAt: number | null
}

/** What it is made with. */
export interface HealthOptions {
  readonly clock: { nowMs(): number }
  /** Called when the status has changed. Must not throw. */
  readonly onChange: (state: HealthState) => void
}

/** What has failed ignores errors that are not the upstream's, such as a client that went away. */
export interface Health {
  ok(): void
  /** The upstream as a whole has failed. */
  failed(thrown: unknown): void
  /** One call has failed. Enough only while nothing better is known. */
  callFailed(thrown: unknown): void
  /** It is not asked any more, for what is noted as the last error. */
  givenUp(): void
  state(): HealthState
}

/** Makes the health of an upstream of which nothing is known yet. */
export function createHealth({ clock, onChange }: HealthOptions): Health {
  let state: HealthState = { status: 'unknown', lastError: null, lastOkAt: null }

  function become(next: HealthState): void {
    const isChange = next.status !== state.status
    state = next
    if (isChange) onChange(state)
  }

  function note(thrown: unknown, isWhole: boolean): void {
    if (!(thrown instanceof GatewayError)) return
    if (thrown.kind !== 'upstream_failed' && thrown.kind !== 'upstream_timeout') return
    const status = isWhole || state.status === 'unknown' ? 'down' : state.status
    become({ ...state, status, lastError: thrown.detail ?? thrown.message })
  }

  return {
    ok: () => become({ status: 'up', lastError: null, lastOkAt: clock.nowMs() }),
    failed: (thrown) => note(thrown, true),
    callFailed: (thrown) => note(thrown, false),
    givenUp: () => become({ ...state, status: 'down' }),
    state: () => state,
  }
}
