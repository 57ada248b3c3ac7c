/** Writing server-sent events (WHATWG HTML §9.2). Pure. */
import type { SseEvent } from '../gateway/types.ts'

/** A comment that keeps idle connections open; clients ignore it. */
export const KEEP_ALIVE_COMMENT = Buffer.from(': keep-alive\n\n')

/** The event as it arrived; one that was edited (empty `raw`) is encoded from its fields. */
export function encodeEvent(event: SseEvent): Buffer {
  return event.raw.length > 0 ? event.raw : encodeFields(event, event.data)
}

/** The event that carries a JSON-RPC message. `frame` lends it the upstream's id, name and retry time; null: our own. */
export function encodeMessage(message: Buffer, frame: SseEvent | null): Buffer {
  return encodeFields(frame ?? OWN_FRAME, message.toString('utf8'))
}

const OWN_FRAME = { event: 'message', id: null, retry: null }

function encodeFields(frame: Pick<SseEvent, 'event' | 'id' | 'retry'>, data: string | null): Buffer {
  const lines: string[] = []
  if (frame.event !== null) lines.push(`event: ${oneLine(frame.event)}\n`)
  if (frame.id !== null) lines.push(`id: ${oneLine(frame.id)}\n`)
  if (frame.retry !== null) lines.push(`retry: ${oneLine(frame.retry)}\n`)
  // JSON has line ends between tokens only: each line becomes a data field of its own.
  if (data !== null) for (const line of data.split(/\r\n|\r|\n/)) lines.push(`data: ${line}\n`)
  lines.push('\n')
  return Buffer.from(lines.join(''))
}

function oneLine(value: string): string {
  return value.replace(/[\r\n]/g, '')
}
