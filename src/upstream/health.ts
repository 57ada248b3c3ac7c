/** Whether an upstream works, judged by the last thing it was asked. Nothing is asked for that purpose alone. */
import { GatewayError } from '../errors.ts'

export interface HealthState {
  /** `unknown` until something was asked of it. */
  readonly status: 'unknown' | 'up' | 'down'
  /** What was wrong when it last failed, for operators; null while it is up. */
  readonly lastError: string | null
  /** Wall clock of its last good answer, ms; null = none. */
  readonly lastOkAt: number | null
}

export interface Health {
  ok(): void
  /** Ignores whatever is not the upstream's fault, such as a client that went away. */
  failed(thrown: unknown): void
  state(): HealthState
}

export function createHealth(clock: { nowMs(): number }): Health {
  let state: HealthState = { status: 'unknown', lastError: null, lastOkAt: null }
  return {
    ok: () => {
      state = { status: 'up', lastError: null, lastOkAt: clock.nowMs() }
    },
    failed: (thrown) => {
      if (!(thrown instanceof GatewayError)) return
      if (thrown.kind !== 'upstream_failed' && thrown.kind !== 'upstream_timeout') return
      state = { ...state, status: 'down', lastError: thrown.detail ?? thrown.message }
    },
    state: () => state,
  }
}
