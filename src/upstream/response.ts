/** JSON-RPC responses of an upstream: what counts as one, and whether it answers our request. */

import { isUtf8 } from 'node:buffer'
import { asObject } from '../json/object.ts'

/** A parsed JSON-RPC message that is a response; null when the value is none. */
export function asResponse(value: unknown): Readonly<Record<string, unknown>> | null {
  const message = asObject(value)
  if (message === null || message['jsonrpc'] !== '2.0' || 'method' in message) return null
  const hasResult = 'result' in message
  if (hasResult === 'error' in message) return null
  if (hasResult) return asObject(message['result']) === null ? null : message
  return isError(message['error']) ? message : null
}

function isError(value: unknown): boolean {
  const error = asObject(value)
  return error !== null && Number.isInteger(error['code']) && typeof error['message'] === 'string'
}

/**
 * Does this response carry the request's id? Ids are compared as values: an upstream may write `1.0` for `1`, and one that
 * reads numbers as doubles cannot give back more digits than it kept. Type matters: `"1"` does not answer `1`.
 */
export function answersId(response: Readonly<Record<string, unknown>>, idText: string): boolean {
  const id = response['id']
  return (typeof id === 'string' || typeof id === 'number') && id === JSON.parse(idText)
}

/** JSON-RPC code of an error response; null for a result. */
export function errorCode(response: Readonly<Record<string, unknown>>): number | null {
  const error = asObject(response['error'])
  return error === null ? null : (error['code'] as number)
}

/** Is this a tool result that says of itself that it failed? */
export function isToolError(response: Readonly<Record<string, unknown>>): boolean {
  return asObject(response['result'])?.['isError'] === true
}

/** Bodies up to this size cannot hold enough values to matter. */
const UNCOUNTED_BYTES = 4 * 1024 * 1024
const MAX_VALUES = 4_000_000

/** Parses an answer; undefined when it is not JSON in UTF-8, or would unfold into too many values. */
export function parseJson(bytes: Buffer): unknown {
  if (!isUtf8(bytes)) return undefined
  if (bytes.length > UNCOUNTED_BYTES && countValues(bytes) > MAX_VALUES) return undefined
  try {
    return JSON.parse(bytes.toString('utf8'))
  } catch {
    return undefined
  }
}

const QUOTE = 34
const BACKSLASH = 92
const OPENERS = new Set([44, 91, 123])

/**
 * Values in a JSON text, counted by `,`, `[` and `{` outside strings. `[[[[..` costs tens of bytes of heap per byte of
 * text: 64 MiB of it would end the process, whatever the size limit says.
 */
function countValues(bytes: Buffer): number {
  let count = 0
  let at = 0
  while (at < bytes.length && count <= MAX_VALUES) {
    const byte = bytes[at] as number
    if (byte === QUOTE) at = endOfString(bytes, at)
    else if (OPENERS.has(byte)) count += 1
    at += 1
  }
  return count
}

/** Index of the quote that closes the string opened at `from`; the end of the text when none does. */
function endOfString(bytes: Buffer, from: number): number {
  for (let at = bytes.indexOf(QUOTE, from + 1); at !== -1; at = bytes.indexOf(QUOTE, at + 1)) {
    let backslashes = 0
    while (bytes[at - 1 - backslashes] === BACKSLASH) backslashes += 1
    if (backslashes % 2 === 0) return at
  }
  return bytes.length
}
