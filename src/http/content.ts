/** The headers that say what a body is and what the client takes (RFC 9110 §8.3, §12.5.1). Pure. */
import { GatewayError } from '../errors.ts'
import type { RequestHead } from '../gateway/types.ts'

/** The value of a header that may stand once; joined when it stood more than once, null when absent. */
export function headerOf(head: RequestHead, name: string): string | null {
  const value = head.headers[name]
  if (value === undefined) return null
  return typeof value === 'string' ? value : value.join(', ')
}

/**
 * The body must be plain JSON in UTF-8.
 * @throws GatewayError `unsupported_media_type`
 */
export function requireJsonBody(head: RequestHead): void {
  const [type = '', ...parameters] = (headerOf(head, 'content-type') ?? '').split(';')
  const charset = parameters
    .map((each) => each.trim().toLowerCase())
    .find((each) => each.startsWith('charset='))
  const isUtf8 = charset === undefined || /^charset="?utf-?8"?$/.test(charset)
  if (type.trim().toLowerCase() !== 'application/json' || !isUtf8) {
    throw new GatewayError('unsupported_media_type', {
      detail: 'Content-Type is not application/json in UTF-8',
    })
  }
  const encoding = headerOf(head, 'content-encoding')
  if (encoding !== null && encoding.trim().toLowerCase() !== 'identity') {
    throw new GatewayError('unsupported_media_type', {
      message: 'Content-Encoding is not supported',
      detail: 'Content-Encoding is set',
    })
  }
  // Node takes `gzip, chunked` and hands out the compressed bytes; who stands before us may read something else.
  const coding = headerOf(head, 'transfer-encoding')
  if (coding !== null && coding.trim().toLowerCase() !== 'chunked') {
    throw new GatewayError('unsupported_media_type', {
      message: 'Transfer-Encoding is not supported',
      detail: 'Transfer-Encoding is not chunked',
    })
  }
}

/**
 * The client must take every one of these media types; wildcards count, a missing header does not (MCP asks for it).
 * @throws GatewayError `not_acceptable`
 */
export function requireAccept(head: RequestHead, types: readonly string[]): void {
  const ranges = (headerOf(head, 'accept') ?? '').toLowerCase().split(',').map(parseRange)
  for (const type of types) {
    if (!accepts(ranges, type)) {
      throw new GatewayError('not_acceptable', {
        message: `Accept must allow ${types.join(' and ')}`,
        detail: `Accept does not allow ${type}`,
      })
    }
  }
}

interface MediaRange {
  readonly range: string
  readonly refused: boolean
}

function parseRange(text: string): MediaRange {
  const [range = '', ...parameters] = text.split(';')
  return {
    range: range.trim(),
    refused: parameters.some((parameter) => /^\s*q\s*=\s*0(\.0*)?\s*$/.test(parameter)),
  }
}

/** The most specific range that matches decides. */
function accepts(ranges: readonly MediaRange[], type: string): boolean {
  const family = `${type.slice(0, type.indexOf('/'))}/*`
  for (const wanted of [type, family, '*/*']) {
    const match = ranges.find((each) => each.range === wanted)
    if (match !== undefined) return !match.refused
  }
  return false
}
