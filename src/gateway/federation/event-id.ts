/**
 * Ids of events on the streams of the merged mount, from which a client may go on (2025-x `Last-Event-ID`): they say whose
 * event it was. What an upstream makes of an id is its own to check, as at its own mount.
 *
 * - `a.<id>`    on the stream of one answer
 * - `s.<ids>`   on the stream of a session: the last id of every upstream that gave one
 */
import { splitName } from './names.ts'

/** Longer ones are left out: the client then cannot go on from there. */
const MAX_EVENT_ID = 2048

/** Header values that HTTP can carry. */
const ID_TEXT = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/

/** Where a stream broke off. */
export type EventPlace =
  | { readonly kind: 'answer'; readonly upstream: string; readonly id: string }
  | { readonly kind: 'session'; readonly ids: ReadonlyMap<string, string> }

/** null when there is nothing to go on from. An empty id is one: it takes the last one back. */
export function answerEventId(upstream: string, id: string | null): string | null {
  return id === null || id === '' ? id : bounded(`a.${encode([[upstream, id]])}`)
}

/** null when it would be too long to be handed back in a header. */
export function sessionEventId(ids: ReadonlyMap<string, string>): string | null {
  return bounded(`s.${encode([...ids])}`)
}

/** null when it is none of ours. */
export function parseEventId(value: unknown): EventPlace | null {
  const [, kind, encoded = ''] = (typeof value === 'string' && /^([as])\.([A-Za-z0-9_-]+)$/.exec(value)) || []
  const ids = kind === undefined ? null : decode(encoded)
  if (ids === null) return null
  if (kind === 's') return { kind: 'session', ids }
  const [only] = ids
  return only === undefined || ids.size > 1 ? null : { kind: 'answer', upstream: only[0], id: only[1] }
}

function encode(ids: readonly (readonly [string, string])[]): string {
  return Buffer.from(JSON.stringify(ids)).toString('base64url')
}

function decode(encoded: string): ReadonlyMap<string, string> | null {
  try {
    const entries: unknown = JSON.parse(Buffer.from(encoded, 'base64url').toString('utf8'))
    return Array.isArray(entries) && entries.every(isEntry) ? new Map(entries) : null
  } catch {
    return null
  }
}

function isEntry(entry: unknown): entry is [string, string] {
  if (!Array.isArray(entry) || entry.length !== 2) return false
  const [upstream, id]: unknown[] = entry
  return splitName(`${upstream}__x`) !== null && typeof id === 'string' && ID_TEXT.test(id)
}

function bounded(id: string): string | null {
  return id.length > MAX_EVENT_ID ? null : id
}
