/**
 * Reading server-sent events (WHATWG HTML §9.2) as they come in.
 *
 * Parsers on npm hand out decoded fields only. The gateway relays an event it does not edit byte for byte, so each event
 * keeps its raw block; that is why this is own code. A block whose reading could differ between two parsers (bare CR, a
 * byte order mark, comments, unknown or ignored fields) is not relayed as it came: its `raw` is encoded anew from the
 * fields understood here, so that the client reads exactly what was checked.
 */
import { isUtf8 } from 'node:buffer'
import type { SseEvent } from '../gateway/types.ts'
import { encodeEvent } from '../sse.ts'
import { createByteBuffer } from './byte-buffer.ts'

/** The stream broke a rule: an event too large, or bytes that are not UTF-8. Nothing after it can be trusted. */
export class SseError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'SseError'
  }
}

/** One event as it was read. */
export interface ReadSseEvent extends SseEvent {
  /** The bytes of `data` where they stand in `raw`; null when they do not stand there in one piece. */
  readonly dataBytes: Buffer | null
}

/** Takes the bytes of one stream in order. */
export interface SseParser {
  /** The events completed by these bytes. Throws {@link SseError}; the parser is of no use after that. */
  push(chunk: Buffer): ReadSseEvent[]
}

const LF = 10
const CR = 13
const COLON = 58
const SPACE = 32
/** Of the longest field there is. */
const MAX_NAME = 'event'.length
const BOM = Buffer.from([0xef, 0xbb, 0xbf])

/** `maxEventBytes` bounds one block from its first byte to its blank line, comments included, and so every line too. */
export function createSseParser(options: { readonly maxEventBytes: number }): SseParser {
  const { maxEventBytes } = options
  /** The unfinished block of earlier chunks. */
  const pending = createByteBuffer()
  /** No byte of the current line has been seen. */
  let atLineStart = true
  /** The last byte was a CR that ended a line: an LF right after it belongs to the same line ending. */
  let afterCr = false
  /** Bytes of a possible byte order mark at the very start; null once decided. */
  let start: Buffer | null = Buffer.alloc(0)

  function withoutBom(chunk: Buffer): Buffer {
    if (start === null) return chunk
    start = Buffer.concat([start, chunk])
    if (start.length < BOM.length && BOM.subarray(0, start.length).equals(start)) return Buffer.alloc(0)
    const bytes = start.subarray(0, BOM.length).equals(BOM) ? start.subarray(BOM.length) : start
    start = null
    return bytes
  }

  /** Start of the next line after the break at `at`. */
  function afterBreak(bytes: Buffer, at: number): number {
    if (bytes[at] === LF) return at + 1
    if (at + 1 < bytes.length) return bytes[at + 1] === LF ? at + 2 : at + 1
    afterCr = true
    return at + 1
  }

  function scan(bytes: Buffer): ReadSseEvent[] {
    const events: ReadSseEvent[] = []
    const nextBreak = lineBreaks(bytes)
    let from = afterCr && bytes[0] === LF ? 1 : 0
    afterCr = false
    let blockStart = from
    for (let at = nextBreak(from); at !== -1; at = nextBreak(from)) {
      const blank = atLineStart && at === from
      from = afterBreak(bytes, at)
      atLineStart = true
      if (blank) {
        keep(bytes.subarray(blockStart, from))
        blockStart = from
        const event = parseBlock(pending.take())
        if (event !== null) events.push(event)
      }
    }
    if (from < bytes.length) atLineStart = false
    keep(bytes.subarray(blockStart))
    return events
  }

  function keep(bytes: Buffer): void {
    if (bytes.length === 0) return
    if (pending.length + bytes.length > maxEventBytes)
      throw new SseError(`an event is larger than ${maxEventBytes} bytes`)
    pending.push(bytes)
  }

  return {
    push: (chunk) => {
      const bytes = withoutBom(chunk)
      return bytes.length === 0 ? [] : scan(bytes)
    },
  }
}

/** Finds line breaks from a moving start. Chunks without CR, which is nearly all of them, are searched for LF alone. */
function lineBreaks(bytes: Buffer): (from: number) => number {
  let nextCr = bytes.indexOf(CR)
  return (from) => {
    if (nextCr !== -1 && nextCr < from) nextCr = bytes.indexOf(CR, from)
    const nextLf = bytes.indexOf(LF, from)
    if (nextCr === -1) return nextLf
    return nextLf === -1 ? nextCr : Math.min(nextLf, nextCr)
  }
}

interface Fields {
  data: string | null
  id: string | null
  event: string | null
  retry: string | null
}

/** One block with its blank line; null when it has no field (comments, extra blank lines). Large data is decoded once. */
function parseBlock(block: Buffer): ReadSseEvent | null {
  if (!isUtf8(block)) throw new SseError('an event is not valid UTF-8')
  const fields: Fields = { data: null, id: null, event: null, retry: null }
  const data: Buffer[] = []
  let clean = !block.includes(CR)
  const nextBreak = lineBreaks(block)
  for (let from = 0; from < block.length; ) {
    const at = nextBreak(from)
    const end = at === -1 ? block.length : at
    // Between the CR and the LF of one line ending there is an empty line, which says nothing either.
    if (end > from && !readLine(block.subarray(from, end), fields, data)) clean = false
    from = end + 1
  }
  if (data.length > 0) fields.data = data.map((line) => line.toString('utf8')).join('\n')
  if (Object.values(fields).every((value) => value === null)) return null
  if (!clean) return { ...fields, raw: encodeEvent(fields), dataBytes: null }
  return { ...fields, raw: block, dataBytes: data.length === 1 ? (data[0] ?? null) : null }
}

/** Reads one line into the fields; false when it says nothing, so that the block has to be encoded anew. */
function readLine(line: Buffer, fields: Fields, data: Buffer[]): boolean {
  const colon = line.indexOf(COLON)
  const nameEnd = colon === -1 ? line.length : colon
  if (nameEnd > MAX_NAME) return false
  const rest = line.subarray(colon === -1 ? line.length : colon + 1)
  const value = rest[0] === SPACE ? rest.subarray(1) : rest
  switch (line.toString('latin1', 0, nameEnd)) {
    case 'data':
      data.push(value)
      return true
    case 'event':
      fields.event = value.toString('utf8')
      return true
    case 'id':
      if (value.includes(0)) return false
      fields.id = value.toString('utf8')
      return true
    case 'retry':
      if (!/^[0-9]+$/.test(value.toString('latin1'))) return false
      fields.retry = value.toString('latin1')
      return true
    default:
      return false
  }
}
