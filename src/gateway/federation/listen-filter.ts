/** `subscriptions/listen` (2026-07-28) on the merged mount: each upstream hears of its own resources and tasks only. Pure. */

import { GatewayError } from '../../errors.ts'
import { asObject } from '../../json/object.ts'
import type { SpanEdit } from '../../json/span.ts'
import { findValue, replaceSpans } from '../../json/span.ts'
import type { Rooms } from '../call.ts'
import type { ListenFilter } from '../subscriptions.ts'
import { filterOf, NAMING_MEMBERS, namedIn } from '../subscriptions.ts'
import type { Call, Message, SseEvent } from '../types.ts'
import { namePrefix, splitName, splitUri, uriPrefix } from './names.ts'

type Named = Readonly<Record<(typeof NAMING_MEMBERS)[number], string[]>>

/**
 * Upstream -> the message with what it names of that upstream; it has an entry when it names something. null when the message
 * names nothing at all.
 * @throws GatewayError `invalid_params` when what it names is no list, `unknown_upstream` when some of it belongs to nobody
 */
export function listenMessages(message: Message): ReadonlyMap<string, Message> | null {
  if (message.method !== 'subscriptions/listen') return null
  const filter = filterOf(message)
  const owned = new Map<string, Named>()
  let names = false
  for (const member of NAMING_MEMBERS) {
    const values = namedIn(filter, member)
    names ||= values !== null
    for (const value of values ?? []) {
      const owner = member === 'taskIds' ? splitName(value) : splitUri(value)
      if (owner === null) throw new GatewayError('unknown_upstream')
      const own = owned.get(owner.upstream) ?? { resourceSubscriptions: [], taskIds: [] }
      own[member].push(owner.bare)
      owned.set(owner.upstream, own)
    }
  }
  return names ? new Map([...owned].map(([upstream, own]) => [upstream, withNamed(message, own)])) : null
}

/** The message for an upstream of which it names nothing; any other message as it is. */
export function withoutNamed(message: Message): Message {
  return message.method === 'subscriptions/listen'
    ? withNamed(message, { resourceSubscriptions: [], taskIds: [] })
    : message
}

/** What an upstream's acknowledgement of a subscription says it will tell of; null when the event is none. */
export function acknowledgedBy({ data }: SseEvent): ListenFilter | null {
  if (data === null || !data.includes(ACKNOWLEDGED)) return null
  const { method, params } = JSON.parse(data) as { method?: unknown; params?: { notifications?: unknown } }
  return method === ACKNOWLEDGED ? (asObject(params?.notifications) ?? {}) : null
}

const ACKNOWLEDGED = 'notifications/subscriptions/acknowledged'

/** What one upstream has acknowledged of a list, of what it was asked for, as the client names it. */
export function acknowledgedNames({ call, acknowledged, member, bindTask }: Acknowledged): readonly string[] {
  const asked = filterOf(call.message as Message)[member]
  const names = acknowledged?.[member]
  if (!Array.isArray(names) || !Array.isArray(asked)) return []
  const { mount } = call.head
  return names
    .filter((name): name is string => typeof name === 'string' && asked.includes(name))
    .map((name) =>
      member === 'taskIds' ? `${namePrefix(mount)}${bindTask(call, name)}` : `${uriPrefix(mount)}${name}`,
    )
}

interface Acknowledged {
  /** The upstream's part. */
  readonly call: Call
  /** null = nothing yet. */
  readonly acknowledged: ListenFilter | null
  readonly member: keyof Named
  readonly bindTask: Rooms['http']['bindTask']
}

function withNamed(message: Message, named: Named): Message {
  const text = message.body.toString('utf8')
  const filter: Record<string, unknown> = { ...filterOf(message) }
  const edits: SpanEdit[] = []
  for (const member of NAMING_MEMBERS) {
    const span = findValue(text, ['params', 'notifications', member])
    if (span === null) continue
    edits.push({ span, text: JSON.stringify(named[member]) })
    filter[member] = named[member]
  }
  if (edits.length === 0) return message
  const body = Buffer.from(replaceSpans(text, edits))
  return { ...message, params: { ...message.params, notifications: filter }, body }
}
