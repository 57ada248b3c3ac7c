import type { Rooms } from './call.ts'
import type { Call, Principal, RequestHead } from './types.ts'

/**
 * The scope of a new attempt, of which nothing but the head is known.
 * @param requestId of the exchange it shares with others; null = it has one of its own
 */
export function openCall(
  rooms: Pick<Rooms, 'clock' | 'newId'>,
  head: RequestHead,
  requestId: string | null = null,
): Call {
  const startedMs = rooms.clock.nowMs()
  const id = rooms.newId(startedMs)
  return {
    id,
    requestId: requestId ?? id,
    startedMs,
    startedAt: rooms.clock.monotonicMs(),
    head,
    stage: 'admit',
    clientIp: null,
    principal: null,
    server: null,
    message: null,
    target: null,
    hint: null,
    ...undecided(),
  }
}

/** What is not known of a call before anybody has decided about it. */
export function undecided(): Pick<
  Call,
  'evaluation' | 'rate' | 'rateFields' | 'listed' | 'upstream' | 'merged' | 'parts' | 'timingsUs'
> {
  return {
    evaluation: null,
    rate: null,
    rateFields: {},
    listed: null,
    upstream: null,
    merged: null,
    parts: null,
    timingsUs: {},
  }
}

/** Whom an upstream shows what it shows: a session, or a principal without one. */
export function clientKey({ message, principal }: Call): string {
  return message?.session?.hash ?? (principal === null ? '' : principalKey(principal))
}

const principalKeys = new WeakMap<Principal, string>()

/** Names of principals are unique within their tenant only. A key's principal is one object for all of its calls. */
export function principalKey(principal: Principal): string {
  const known = principalKeys.get(principal)
  if (known !== undefined) return known
  const key = JSON.stringify([principal.tenant, principal.id])
  if (Object.isFrozen(principal)) principalKeys.set(principal, key)
  return key
}
