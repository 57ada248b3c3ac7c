/** How an attempt ended, for the audit row. Pure. */

import type { GatewayError } from '../errors.ts'
import { ENDINGS } from '../errors.ts'
import type { Call, Ending, Reply, UpstreamAnswer } from './types.ts'

/** The upstream's own answer was relayed. `nowMs` is the monotonic clock. */
export function answered(call: Call, answer: UpstreamAnswer, nowMs: number): Ending {
  return {
    outcome: 'allowed',
    status: answer.head.status,
    kind: null,
    error: null,
    response: answer.message,
    latencyMs: nowMs - call.startedAt,
  }
}

/** The attempt ended early with `error`; `reply` is what the caller was (or would have been) told. */
export function refused(call: Call, error: GatewayError, reply: Reply, nowMs: number): Ending {
  return {
    outcome: ENDINGS[error.kind].outcome,
    status: error.kind === 'client_closed' ? ENDINGS.client_closed.status : reply.status,
    kind: error.kind,
    error,
    response: reply.message,
    latencyMs: nowMs - call.startedAt,
  }
}
