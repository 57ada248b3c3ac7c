/** What the spine asks of the rate room, in one piece: caps of a principal in memory, limits of the policy in Postgres. */
import type { Rooms } from '../gateway/call.ts'
import type { PrincipalCaps } from './caps.ts'
import { toRateLimitFields } from './headers.ts'
import type { Limiter } from './room.ts'

/** Joins the two for `Rooms.rate`. Owns neither. */
export function createRateGate(limiter: Limiter, caps: PrincipalCaps): Rooms['rate'] {
  return {
    enter: caps.enter,
    recordDenial: caps.recordDenial,
    charge: limiter.charge,
    fields: toRateLimitFields,
  }
}
