/** `subscriptions/listen` (2026-07-28) on the merged mount: each upstream hears of its own resources only. Pure. */

import { GatewayError } from '../../errors.ts'
import { findValue, replaceSpans } from '../../json/span.ts'
import { MAX_SUBSCRIPTIONS } from '../subscriptions.ts'
import type { Message } from '../types.ts'
import { splitUri } from './names.ts'

const PATH = ['params', 'notifications', 'resourceSubscriptions']

/**
 * Upstream -> the message with its own resources; it has an entry when resources of it are asked for. null when the message
 * asks for no resources.
 * @throws GatewayError `invalid_params` when they are no list, `unknown_upstream` when one belongs to nobody
 */
export function listenMessages(message: Message): ReadonlyMap<string, Message> | null {
  if (message.method !== 'subscriptions/listen') return null
  const uris = filterOf(message)['resourceSubscriptions']
  if (uris === undefined || uris === null) return null
  if (!Array.isArray(uris) || uris.length > MAX_SUBSCRIPTIONS)
    throw new GatewayError('invalid_params', {
      detail: `resourceSubscriptions is not a list of at most ${MAX_SUBSCRIPTIONS} URIs`,
    })
  const owned = new Map<string, string[]>()
  for (const uri of uris) {
    const owner = splitUri(uri)
    if (owner === null) throw new GatewayError('unknown_upstream')
    const own = owned.get(owner.upstream) ?? []
    own.push(owner.bare)
    owned.set(owner.upstream, own)
  }
  return new Map([...owned].map(([upstream, own]) => [upstream, withResources(message, own)]))
}

/** The message for an upstream none of whose resources is asked for; any other message as it is. */
export function withoutResources(message: Message): Message {
  if (message.method !== 'subscriptions/listen') return message
  return filterOf(message)['resourceSubscriptions'] === undefined ? message : withResources(message, [])
}

/** The filter that a `subscriptions/listen` asks for. */
export function filterOf({ params }: Message): Readonly<Record<string, unknown>> {
  const filter = params['notifications']
  return typeof filter === 'object' && filter !== null ? (filter as Record<string, unknown>) : {}
}

function withResources(message: Message, uris: readonly string[]): Message {
  const text = message.body.toString('utf8')
  const span = findValue(text, PATH)
  if (span === null) return message
  const body = Buffer.from(replaceSpans(text, [{ span, text: JSON.stringify(uris) }]))
  const notifications = { ...filterOf(message), resourceSubscriptions: uris }
  return { ...message, params: { ...message.params, notifications }, body }
}
