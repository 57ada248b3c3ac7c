/** What a `subscriptions/listen` (2026-07-28) asks to hear of: every resource in it must be allowed on its own. */
import { GatewayError } from '../errors.ts'
import type { Rooms } from './call.ts'
import { normalisedUri, target } from './targets.ts'
import type { Call, Target } from './types.ts'

/** Of one `subscriptions/listen`. */
export const MAX_SUBSCRIPTIONS = 1000

/**
 * Asks the policy about each resource and notes the verdicts in `call.listed`; nothing to do for other methods.
 * @throws GatewayError `invalid_params` when they cannot be read, `policy_denied` when one is not allowed
 */
export async function authorizeSubscriptions(rooms: Pick<Rooms, 'policy'>, call: Call): Promise<void> {
  const targets = subscribedTargets(call)
  if (targets === null) return
  call.listed = await rooms.policy.visible(call, targets)
  if (call.listed.some((verdict) => !verdict.allow)) {
    throw new GatewayError('policy_denied', { detail: 'a subscribed resource is not allowed' })
  }
}

function subscribedTargets({ message }: Call): readonly Target[] | null {
  if (message?.method !== 'subscriptions/listen') return null
  const filter = message.params['notifications']
  const uris =
    typeof filter === 'object' && filter !== null
      ? (filter as Record<string, unknown>)['resourceSubscriptions']
      : null
  if (uris === null || uris === undefined) return null
  if (!Array.isArray(uris) || uris.length > MAX_SUBSCRIPTIONS) {
    throw new GatewayError('invalid_params', {
      detail: 'resourceSubscriptions is not a list of at most 1000 URIs',
    })
  }
  return uris.map((uri) => {
    const name = normalisedUri(uri)
    // Under another name, or none, a rule that denies this resource would not know it.
    if (name === undefined || name === '')
      throw new GatewayError('invalid_params', {
        detail: 'a subscribed URI is not to be read in one way only',
      })
    return target('resource', name)
  })
}
