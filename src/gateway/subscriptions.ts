/**
 * What a `subscriptions/listen` (2026-07-28) asks to hear of: every resource in it, and every task (extension
 * `io.modelcontextprotocol/tasks`), must be allowed on its own.
 */
import { GatewayError } from '../errors.ts'
import type { SpanEdit } from '../json/span.ts'
import { arrayElements, findValue, replaceSpans, sliceOf } from '../json/span.ts'
import type { Rooms } from './call.ts'
import { normalisedUri, target } from './targets.ts'
import type { Call, Message, Target, UpstreamAnswer } from './types.ts'

/** Of either kind in one `subscriptions/listen`. */
const MAX_SUBSCRIPTIONS = 1000

/** What a subscription asks for: flags, and lists of what it names. */
export type ListenFilter = Readonly<Record<string, unknown>>

/** Members of a filter that name what is asked for; all others are flags. */
export const NAMING_MEMBERS = ['resourceSubscriptions', 'taskIds'] as const

/** One list of a filter. */
interface Wanted {
  readonly member: (typeof NAMING_MEMBERS)[number]
  readonly values: readonly unknown[]
  readonly targets: readonly Target[]
}

/**
 * Asks the policy about each resource and task, notes the verdicts in `call.listed` and takes those that are not allowed out of
 * the message; the upstream's acknowledgement tells the client what is left. Nothing to do for other methods.
 * @throws GatewayError `invalid_params` when they cannot be read, `policy_denied` when nothing would be left
 */
export async function authorizeSubscriptions(rooms: Pick<Rooms, 'policy'>, call: Call): Promise<void> {
  const wanted = wantedOf(call)
  if (wanted.length === 0) return
  call.listed = await rooms.policy.visible(
    call,
    wanted.flatMap(({ targets }) => targets),
  )
  if (call.listed.every(({ allow }) => allow)) return
  const verdicts = call.listed.values()
  const kept = new Map(
    wanted.map(({ member, targets }) => [member, targets.map(() => verdicts.next().value?.allow === true)]),
  )
  const message = trimmed(call.message as Message, wanted, kept)
  if (!asksForAnything(filterOf(message)))
    throw new GatewayError('policy_denied', { detail: 'nothing of what was subscribed to is allowed' })
  call.message = message
}

/**
 * Asks again for what an open stream was let hear of.
 * @throws GatewayError `policy_denied` when some of it is not allowed any more
 */
export async function recheckSubscriptions(rooms: Pick<Rooms, 'policy'>, call: Call): Promise<void> {
  const targets = wantedOf(call).flatMap((wanted) => wanted.targets)
  if (targets.length === 0) return
  call.listed = await rooms.policy.visible(call, targets)
  if (call.listed.some((verdict) => !verdict.allow))
    throw new GatewayError('policy_denied', {
      detail: 'a subscribed resource or task is not allowed any more',
    })
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

/** The filter that a `subscriptions/listen` asks for. */
export function filterOf({ params }: Message): ListenFilter {
  const filter = params['notifications']
  return typeof filter === 'object' && filter !== null ? (filter as ListenFilter) : {}
}

/** Whether there is anything to hear of. */
export function asksForAnything(filter: ListenFilter): boolean {
  return Object.values(filter).some((value) => value === true || (Array.isArray(value) && value.length > 0))
}

function trimmed(
  message: Message,
  wanted: readonly Wanted[],
  kept: ReadonlyMap<string, readonly boolean[]>,
): Message {
  const text = message.body.toString('utf8')
  const filter: Record<string, unknown> = { ...filterOf(message) }
  const edits: SpanEdit[] = []
  for (const { member, values } of wanted) {
    const isKept = kept.get(member) ?? []
    const span = findValue(text, ['params', 'notifications', member])
    if (span === null) throw new Error('a subscription without its place in the body')
    const left = arrayElements(text, span).filter((_, index) => isKept[index] === true)
    edits.push({ span, text: `[${left.map((element) => sliceOf(text, element)).join(',')}]` })
    filter[member] = values.filter((_, index) => isKept[index] === true)
  }
  return {
    ...message,
    params: { ...message.params, notifications: filter },
    body: Buffer.from(replaceSpans(text, edits)),
  }
}

function wantedOf({ message }: Call): readonly Wanted[] {
  if (message?.method !== 'subscriptions/listen') return []
  const filter = filterOf(message)
  return NAMING_MEMBERS.flatMap((member) => {
    const values = namedIn(filter, member)
    const targetFor = member === 'taskIds' ? taskTarget : resourceTarget
    return values === null ? [] : [{ member, values, targets: values.map(targetFor) }]
  })
}

/**
 * A list of a filter; null when there is none.
 * @throws GatewayError `invalid_params` when it is no list, or too long
 */
export function namedIn(filter: ListenFilter, member: Wanted['member']): readonly unknown[] | null {
  const values = filter[member]
  if (values === null || values === undefined) return null
  if (!Array.isArray(values) || values.length > MAX_SUBSCRIPTIONS)
    throw new GatewayError('invalid_params', {
      detail: `${member} is not a list of at most ${MAX_SUBSCRIPTIONS}`,
    })
  return values
}

function resourceTarget(uri: unknown): Target {
  const name = normalisedUri(uri)
  // Under another name, or none, a rule that denies this resource would not know it.
  if (name === undefined || name === '')
    throw new GatewayError('invalid_params', {
      detail: 'a subscribed URI is not to be read in one way only',
    })
  return target('resource', name)
}

function taskTarget(id: unknown): Target {
  if (typeof id !== 'string' || id === '')
    throw new GatewayError('invalid_params', { detail: 'the id of a subscribed task is not a text' })
  return target('task', id)
}
