/**
 * A message that came to the merged mount -> whom it concerns: one upstream, whose own message it then becomes, all of them,
 * or nobody. Pure; only the name, URI, id or token itself is rewritten, on the text.
 */

import { findValue, replaceSpans } from '../../json/span.ts'
import { argumentsOf } from '../arguments.ts'
import type { Message, RequestHead } from '../types.ts'
import { parseEventId } from './event-id.ts'
import type { Owned } from './names.ts'
import { nameHeader, splitName, splitToken, splitUri } from './names.ts'

/** `one`: the message and head as they are for that upstream. */
export type Inward =
  | { readonly kind: 'one'; readonly upstream: string; readonly message: Message; readonly head: RequestHead }
  | { readonly kind: 'all' }
  | { readonly kind: 'nobody' }

interface Place {
  /** From the message on. */
  readonly path: readonly [string, ...string[]]
  readonly split: (value: unknown) => Owned | null
}

const NAME: Place = { path: ['params', 'name'], split: splitName }
const URI: Place = { path: ['params', 'uri'], split: splitUri }
const TASK: Place = { path: ['params', 'taskId'], split: splitName }

/** Method -> where it says whom it concerns. Methods that are not here concern all. */
const PLACES: ReadonlyMap<string, Place> = new Map([
  ['tools/call', NAME],
  ['prompts/get', NAME],
  ['resources/read', URI],
  ['resources/subscribe', URI],
  ['resources/unsubscribe', URI],
  ['tasks/get', TASK],
  ['tasks/result', TASK],
  ['tasks/update', TASK],
  ['tasks/cancel', TASK],
  ['notifications/progress', { path: ['params', 'progressToken'], split: splitToken }],
])

const NOBODY = { kind: 'nobody' } as const
const ALL = { kind: 'all' } as const

/** Whom a message concerns, and what it is there. */
export function inwardOf(message: Message, head: RequestHead): Inward {
  if (message.kind === 'stream') return resumed(message, head)
  const place = placeOf(message)
  if (place === undefined) return ALL
  const value = valueAt(message, place.path)
  const owner = place.split(value)
  if (owner === null) return NOBODY
  const isToken = place.split === splitToken
  const text = edited(message, place.path, isToken ? owner.bare : JSON.stringify(owner.bare))
  if (text === null) return NOBODY
  return { kind: 'one', upstream: owner.upstream, ...rewritten(message, head, { owner, text }) }
}

function placeOf({ kind, method, params }: Message): Place | undefined {
  if (kind === 'response') return { path: ['id'], split: splitToken }
  if (method !== 'completion/complete') return PLACES.get(method)
  const isPrompt = (params['ref'] as { type?: unknown } | undefined)?.type === 'ref/prompt'
  return isPrompt
    ? { path: ['params', 'ref', 'name'], split: splitName }
    : { path: ['params', 'ref', 'uri'], split: splitUri }
}

function valueAt({ kind, idText, params }: Message, path: Place['path']): unknown {
  if (kind === 'response') return JSON.parse(idText ?? 'null')
  let value: unknown = params
  for (const key of path.slice(1)) value = (value as Record<string, unknown> | null | undefined)?.[key]
  return value
}

function edited(message: Message, path: Place['path'], replacement: string): string | null {
  const text = message.body.toString('utf8')
  const span = findValue(text, path)
  return span === null ? null : replaceSpans(text, [{ span, text: replacement }])
}

function rewritten(
  message: Message,
  head: RequestHead,
  { owner, text }: { readonly owner: Owned; readonly text: string },
): { readonly message: Message; readonly head: RequestHead } {
  const body = Buffer.from(text)
  const own = { ...head, mount: owner.upstream }
  if (message.kind === 'response') return { message: { ...message, idText: owner.bare, body }, head: own }
  const { params } = JSON.parse(text) as { params: Message['params'] }
  const argumentsText =
    message.argumentsText === null
      ? null
      : (argumentsOf(message.method, text, findValue(text, ['params']) ?? undefined)?.text ?? null)
  const isNamed = message.era === 'modern' && head.headers['mcp-name'] !== undefined
  const headers = isNamed ? { ...head.headers, 'mcp-name': nameHeader(owner.bare) } : head.headers
  return {
    message: { ...message, params, argumentsText, body },
    head: { ...own, headers },
  }
}

/** A GET that goes on where the stream of one answer broke off concerns the upstream that was answering. */
function resumed(message: Message, head: RequestHead): Inward {
  const last = parseEventId(head.headers['last-event-id'])
  if (last?.kind !== 'answer') return ALL
  const headers = { ...head.headers, 'last-event-id': last.id }
  return { kind: 'one', upstream: last.upstream, message, head: { ...head, mount: last.upstream, headers } }
}
