/** Writing server-sent events (WHATWG HTML §9.2). Pure; a foundation every room may use. */

/** The fields of one event; null = the event has none of that name. */
export interface SseFields {
  readonly event: string | null
  readonly id: string | null
  /** Digits. */
  readonly retry: string | null
  /** Lines parted by line ends of any kind. */
  readonly data: string | null
}

/** A comment that keeps idle connections open; clients ignore it. */
export const KEEP_ALIVE_COMMENT = Buffer.from(': keep-alive\n\n')

/** The wire form of an event. Each line of its data becomes a field of its own: JSON has line ends between tokens only. */
export function encodeEvent(fields: SseFields): Buffer {
  let text = ''
  if (fields.event !== null) text += `event: ${oneLine(fields.event)}\n`
  if (fields.id !== null) text += `id: ${oneLine(fields.id)}\n`
  if (fields.retry !== null) text += `retry: ${oneLine(fields.retry)}\n`
  if (fields.data !== null) for (const line of fields.data.split(/\r\n|\r|\n/)) text += `data: ${line}\n`
  return Buffer.from(`${text}\n`)
}

/**
 * The event that carries a JSON-RPC message. `frame` lends it the name, id and retry time of the event that brought it;
 * null: it is our own.
 */
export function encodeMessage(message: Buffer, frame: SseFields | null): Buffer {
  return encodeEvent({ ...(frame ?? OWN_FRAME), data: message.toString('utf8') })
}

const OWN_FRAME: SseFields = { event: 'message', id: null, retry: null, data: null }

/** A line end in a field would begin another one. */
function oneLine(value: string): string {
  return value.replace(/[\r\n]/g, '')
}
