/** JSON-RPC messages as lines of text: read once, and edited without losing a digit of what is not edited. */

import { asObject } from '../../json/object.ts'
import { JsonRefusal, scanText } from '../../json/scan.ts'
import type { SpanEdit } from '../../json/span.ts'
import { findValue, objectKeys, replaceSpans, rootSpan, sliceOf } from '../../json/span.ts'
import { asResponse, parseJson } from '../response.ts'

/** `_meta` key of what belongs to a subscription: the id of its `subscriptions/listen` (2026-07-28 stdio). */
const SUBSCRIPTION = 'io.modelcontextprotocol/subscriptionId'
const ID = ['id']
const TOKEN = ['params', '_meta', 'progressToken']
const PROGRESS = ['params', 'progressToken']
const SUBSCRIPTION_ID = ['params', '_meta', SUBSCRIPTION]
const CANCELLED_ID = ['params', 'requestId']
const MAX_DEPTH = 128

type Json = Readonly<Record<string, unknown>>

/** What a server has written. */
export type ChildMessage =
  | { readonly kind: 'response'; readonly text: string; readonly parsed: Json; readonly id: unknown }
  | {
      readonly kind: 'request'
      readonly text: string
      readonly method: string
      /** Exact JSON text. */
      readonly idText: string
    }
  | {
      readonly kind: 'notification'
      readonly text: string
      readonly method: string
      readonly params: Json
      /** Our number of the request it belongs to, where it names one. */
      readonly about: unknown
    }

/**
 * Reads one line; null when it is no JSON-RPC message that can only be read in one way. Of a response only the outermost
 * object is looked at: what is inside belongs to the client.
 */
export function readMessage(line: Buffer): ChildMessage | null {
  const parsed = asObject(parseJson(line))
  if (parsed === null || parsed['jsonrpc'] !== '2.0') return null
  const text = line.toString('utf8').trim()
  const { method } = parsed
  if (typeof method !== 'string') return readResponse(text, parsed)
  if (!isUnambiguous(text) || 'result' in parsed || 'error' in parsed) return null
  const idSpan = findValue(text, ID)
  if (idSpan !== null) return { kind: 'request', text, method, idText: sliceOf(text, idSpan) }
  const params = asObject(parsed['params']) ?? {}
  return { kind: 'notification', text, method, params, about: subjectOf(method, params) }
}

function readResponse(text: string, parsed: Json): ChildMessage | null {
  if (asResponse(parsed) === null) return null
  const keys = objectKeys(text, rootSpan(text))
  return new Set(keys).size === keys.length ? { kind: 'response', text, parsed, id: parsed['id'] } : null
}

function isUnambiguous(text: string): boolean {
  try {
    scanText(text, { maxDepth: MAX_DEPTH })
    return true
  } catch (thrown) {
    if (thrown instanceof JsonRefusal) return false
    throw thrown
  }
}

/** Our ids are the progress tokens and subscription ids as well. */
function subjectOf(method: string, params: Json): unknown {
  if (method === 'notifications/progress') return params['progressToken']
  if (method === 'notifications/cancelled') return params['requestId']
  return asObject(params['_meta'])?.[SUBSCRIPTION]
}

/** A request with our number in the place of its id and of its progress token, on one line. */
export function toChildRequest(text: string, id: number): { text: string; tokenText: string | null } {
  const token = findValue(text, TOKEN)
  const edits = editsAt(text, [ID, TOKEN], String(id))
  return { text: toLine(replaceSpans(text, edits)), tokenText: token === null ? null : sliceOf(text, token) }
}

/** `notifications/cancelled` of a client, for the request that has our number. */
export function toChildCancel(text: string, id: number): string {
  return toLine(replaceSpans(text, editsAt(text, [CANCELLED_ID], String(id))))
}

/** The id a `notifications/cancelled` names, exact text; null when it names none. */
export function cancelledId(text: string): string | null {
  const span = findValue(text, CANCELLED_ID)
  return span === null ? null : sliceOf(text, span)
}

/** A response with the client's own id. */
export function toClientResponse(text: string, idText: string): string {
  return replaceSpans(text, editsAt(text, [ID], idText))
}

/** A notification that belongs to a request, with the client's own id and token. */
export function toClientNotification(
  text: string,
  own: { idText: string; tokenText: string | null },
): string {
  return replaceSpans(text, [
    ...editsAt(text, [SUBSCRIPTION_ID, CANCELLED_ID], own.idText),
    ...(own.tokenText === null ? [] : editsAt(text, [PROGRESS], own.tokenText)),
  ])
}

/** Line feeds between the tokens of a JSON text mean nothing there; on this transport they would end the message. */
export function toLine(text: string): string {
  return /[\r\n]/.test(text) ? text.replaceAll(/[\r\n]+/g, ' ') : text
}

function editsAt(text: string, paths: readonly (readonly string[])[], replacement: string): SpanEdit[] {
  return paths.flatMap((path) => {
    const span = findValue(text, path)
    return span === null ? [] : [{ span, text: replacement }]
  })
}

const ID_FIRST = /^\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d{1,15})\s*,/
const ID_LAST = /,\s*"id"\s*:\s*(\d{1,15})\s*\}\s*$/

/** The id of a response of which only the ends are known; null when it does not stand there. */
export function idFromEnds(head: Buffer, tail: Buffer): number | null {
  const found = ID_FIRST.exec(head.toString('latin1')) ?? ID_LAST.exec(tail.toString('latin1'))
  return found === null ? null : Number(found[1])
}
