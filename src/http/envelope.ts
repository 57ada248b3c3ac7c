/** A scanned JSON text -> one JSON-RPC 2.0 message. Pure. */

import type { JsonObject } from '../json/object.ts'
import { isObject } from '../json/object.ts'
import { isWellFormed } from '../json/scan.ts'
import type { Span } from '../json/span.ts'
import { sliceOf } from '../json/span.ts'
import { MessageRefusal } from './message-refusal.ts'

/** One JSON-RPC message, its kind decided by which members it has. */
export interface Envelope {
  readonly kind: 'request' | 'notification' | 'response'
  /** `response` for responses. */
  readonly method: string
  /** Exact JSON text of the id; null on notifications. */
  readonly idText: string | null
  /** Parsed `params`; empty when absent and on responses. */
  readonly params: JsonObject
}

const REQUEST_MEMBERS: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'method', 'params'])
const RESPONSE_MEMBERS: ReadonlySet<string> = new Set(['jsonrpc', 'id', 'result', 'error'])

/** Bounds of what is echoed and recorded. */
const MAX_ID_CHARS = 1024
/** Of ids in answers, which the gateway has made itself (`server-request-id.ts`): longer than those of upstreams that are in them. */
const MAX_ANSWERED_ID_CHARS = 32_768
const MAX_METHOD_CHARS = 256

/**
 * Reads a message. Members that JSON-RPC does not define are refused: nobody has judged them, and a message that is both
 * a request and a response means different things to different readers.
 *
 * @param parsed what `JSON.parse(text)` gave
 * @param members the outermost object's members in `text`
 * @throws MessageRefusal `invalid_request`, with the id when it can be trusted
 */
export function parseEnvelope(parsed: unknown, text: string, members: ReadonlyMap<string, Span>): Envelope {
  if (!isObject(parsed)) throw new MessageRefusal('invalid_request')
  const idText = idTextOf(parsed, text, members)
  const fail = (rule: string) =>
    new MessageRefusal('invalid_request', { idText, message: `Invalid request: ${rule}` })
  if (parsed['jsonrpc'] !== '2.0') throw fail('jsonrpc must be "2.0"')
  if ('id' in parsed && idText === null)
    throw fail(`id must be an integer or a string of at most ${maxIdChars(parsed)} characters`)
  return 'method' in parsed ? callOf(parsed, idText, fail) : responseOf(parsed, idText, fail)
}

function callOf(parsed: JsonObject, idText: string | null, fail: (rule: string) => MessageRefusal): Envelope {
  const { method, params = {} } = parsed
  if (hasOtherMembers(parsed, REQUEST_MEMBERS)) throw fail('only jsonrpc, id, method and params are allowed')
  if (
    typeof method !== 'string' ||
    method === '' ||
    method.length > MAX_METHOD_CHARS ||
    !isWellFormed(method)
  ) {
    throw fail('method must be a string')
  }
  if (!isObject(params)) throw fail('params must be an object')
  return { kind: idText === null ? 'notification' : 'request', method, idText, params }
}

function idTextOf(parsed: JsonObject, text: string, members: ReadonlyMap<string, Span>): string | null {
  const id = parsed['id']
  const span = members.get('id')
  if (span === undefined || (typeof id !== 'string' && !Number.isInteger(id))) return null
  return span.end - span.start > maxIdChars(parsed) ? null : sliceOf(text, span)
}

function maxIdChars(parsed: JsonObject): number {
  return 'method' in parsed ? MAX_ID_CHARS : MAX_ANSWERED_ID_CHARS
}

function hasOtherMembers(parsed: JsonObject, allowed: ReadonlySet<string>): boolean {
  return Object.keys(parsed).some((key) => !allowed.has(key))
}

function responseOf(
  parsed: JsonObject,
  idText: string | null,
  fail: (rule: string) => MessageRefusal,
): Envelope {
  const { result, error } = parsed
  if (hasOtherMembers(parsed, RESPONSE_MEMBERS)) throw fail('neither a request nor a response')
  const isResult = isObject(result) && error === undefined
  const isError = result === undefined && isErrorObject(error)
  if (!isResult && !isError) throw fail('a response has either a result or an error')
  if (idText === null) throw fail('a response has the id of its request')
  return { kind: 'response', method: 'response', idText, params: {} }
}

function isErrorObject(value: unknown): boolean {
  return isObject(value) && Number.isInteger(value['code']) && typeof value['message'] === 'string'
}
