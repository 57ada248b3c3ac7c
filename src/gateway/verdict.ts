/** What an evaluation means for the call: go on, or end with one of the table's kinds. */
import { GatewayError } from '../errors.ts'
import type { Evaluation } from './types.ts'

/** @throws GatewayError `policy_error`, `policy_budget`, `policy_malformed` or `policy_denied` */
export function refuseUnlessAllowed(evaluation: Evaluation): void {
  if (evaluation.failure !== null) {
    throw new GatewayError(evaluation.failure.kind, { detail: evaluation.failure.message })
  }
  if (!evaluation.allow) throw new GatewayError('policy_denied')
}

/**
 * Limits are counted before anything is forwarded. Until a limiter is wired in, a decision that asks for one cannot be
 * honoured, so the call fails closed.
 * @throws GatewayError `limiter_unavailable`
 */
export function refuseUncountedLimits(evaluation: Evaluation): void {
  if (evaluation.limits.length === 0) return
  const names = evaluation.limits.map((limit) => limit.name).join(', ')
  throw new GatewayError('limiter_unavailable', {
    detail: `the policy asked for limits that cannot be counted: ${names}`,
  })
}
