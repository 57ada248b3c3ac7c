/** What an evaluation means for the call: go on, or end with one of the table's kinds. */
import { GatewayError } from '../errors.ts'
import type { Rooms } from './call.ts'
import type { Limit } from './limit-types.ts'
import type { Call, Evaluation } from './types.ts'

/** @throws GatewayError `policy_error`, `policy_budget`, `policy_malformed` or `policy_denied` */
export function refuseUnlessAllowed(evaluation: Evaluation): void {
  if (evaluation.failure !== null) {
    throw new GatewayError(evaluation.failure.kind, { detail: evaluation.failure.message })
  }
  if (!evaluation.allow) throw new GatewayError('policy_denied')
}

type ChargingRoom = Pick<Rooms['rate'], 'charge' | 'fields'>

/** Never limited: without them a client cannot begin, end or find out (2026-07-28 `server/discover`). */
const UNLIMITED: ReadonlySet<string> = new Set([
  'initialize',
  'server/discover',
  'ping',
  'notifications/cancelled',
])

/**
 * Charges the limits that the evaluation asked for; what was charged stays charged, whatever becomes of the call.
 * @throws GatewayError `rate_limited`, `limiter_unavailable`
 */
export function chargeLimits(rate: ChargingRoom, call: Call): void | Promise<void> {
  const limits = call.evaluation?.limits ?? []
  if (limits.length > 0 && !UNLIMITED.has(call.message?.method ?? '')) return charge(rate, call, limits)
}

async function charge(rate: ChargingRoom, call: Call, limits: readonly Limit[]): Promise<void> {
  const report = await rate.charge(limits)
  call.rate = report
  call.rateFields = rate.fields(report)
  if (report.allowed) return
  const names = report.limits.filter((limit) => limit.refused).map((limit) => limit.name)
  throw new GatewayError('rate_limited', {
    detail: `over the limit: ${names.join(', ')}`,
    data: { retryAfterSeconds: report.retryAfterSeconds ?? 1 },
  })
}
