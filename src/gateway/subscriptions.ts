/** What a `subscriptions/listen` (2026-07-28) asks to hear of: every resource in it must be allowed on its own. */
import { GatewayError } from '../errors.ts'
import { arrayElements, findValue, replaceSpans, sliceOf } from '../json/span.ts'
import type { Rooms } from './call.ts'
import { normalisedUri, target } from './targets.ts'
import type { Call, Message, Target, UpstreamAnswer } from './types.ts'

/** Of one `subscriptions/listen`. */
export const MAX_SUBSCRIPTIONS = 1000

/** Of which resources a call wants to hear, and how they stand in its message. */
interface Wanted {
  readonly filter: Readonly<Record<string, unknown>>
  readonly uris: readonly unknown[]
  readonly targets: readonly Target[]
}

/**
 * Asks the policy about each resource, notes the verdicts in `call.listed` and takes those that are not allowed out of the
 * message; the upstream's acknowledgement tells the client what is left. Nothing to do for other methods.
 * @throws GatewayError `invalid_params` when they cannot be read, `policy_denied` when nothing would be left
 */
export async function authorizeSubscriptions(rooms: Pick<Rooms, 'policy'>, call: Call): Promise<void> {
  const wanted = wantedResources(call)
  if (wanted === null) return
  const verdicts = await rooms.policy.visible(call, wanted.targets)
  call.listed = verdicts
  const isKept = wanted.targets.map((_, index) => verdicts[index]?.allow === true)
  if (!isKept.includes(false)) return
  if (!isKept.includes(true) && !wantsMore(wanted.filter))
    throw new GatewayError('policy_denied', { detail: 'none of the subscribed resources is allowed' })
  call.message = trimmed(call.message as Message, wanted, isKept)
}

/**
 * Asks again for what an open stream was let hear of.
 * @throws GatewayError `policy_denied` when a resource is not allowed any more
 */
export async function recheckSubscriptions(rooms: Pick<Rooms, 'policy'>, call: Call): Promise<void> {
  const wanted = wantedResources(call)
  if (wanted === null) return
  call.listed = await rooms.policy.visible(call, wanted.targets)
  if (call.listed.some((verdict) => !verdict.allow))
    throw new GatewayError('policy_denied', { detail: 'a subscribed resource is not allowed any more' })
}

/**
 * The end of a subscription that the gateway ends: an empty result, by which a client knows that nothing has broken
 * (2026-07-28 `basic/patterns/subscriptions`). Other answers, and those of the upstream, stay as they are.
 */
export function endedSubscription(call: Call, answer: UpstreamAnswer): UpstreamAnswer {
  const { method, idText } = call.message as Message
  if (method !== 'subscriptions/listen' || answer.message !== null) return answer
  const meta = `{"io.modelcontextprotocol/subscriptionId":${idText}}`
  const text = `{"jsonrpc":"2.0","id":${idText},"result":{"resultType":"complete","_meta":${meta}}}`
  return { ...answer, message: Buffer.from(text) }
}

function trimmed(message: Message, { filter, uris }: Wanted, isKept: readonly boolean[]): Message {
  const text = message.body.toString('utf8')
  const span = findValue(text, ['params', 'notifications', 'resourceSubscriptions'])
  if (span === null) throw new Error('a subscription without its place in the body')
  const kept = arrayElements(text, span).filter((_, index) => isKept[index] === true)
  const list = `[${kept.map((element) => sliceOf(text, element)).join(',')}]`
  const resourceSubscriptions = uris.filter((_, index) => isKept[index] === true)
  return {
    ...message,
    params: { ...message.params, notifications: { ...filter, resourceSubscriptions } },
    body: Buffer.from(replaceSpans(text, [{ span, text: list }])),
  }
}

/** Whether a filter asks for more than resources. */
function wantsMore(filter: Wanted['filter']): boolean {
  return Object.entries(filter).some(
    ([member, value]) =>
      member !== 'resourceSubscriptions' && (value === true || (Array.isArray(value) && value.length > 0)),
  )
}

function wantedResources({ message }: Call): Wanted | null {
  if (message?.method !== 'subscriptions/listen') return null
  const filter = message.params['notifications']
  if (typeof filter !== 'object' || filter === null) return null
  const uris: unknown = (filter as Wanted['filter'])['resourceSubscriptions']
  if (uris === null || uris === undefined) return null
  if (!Array.isArray(uris) || uris.length > MAX_SUBSCRIPTIONS) {
    throw new GatewayError('invalid_params', {
      detail: 'resourceSubscriptions is not a list of at most 1000 URIs',
    })
  }
  const targets = uris.map((uri) => {
    const name = normalisedUri(uri)
    // Under another name, or none, a rule that denies this resource would not know it.
    if (name === undefined || name === '')
      throw new GatewayError('invalid_params', {
        detail: 'a subscribed URI is not to be read in one way only',
      })
    return target('resource', name)
  })
  return { filter: filter as Wanted['filter'], uris, targets }
}
