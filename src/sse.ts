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
  let text = named(fields)
  if (fields.data !== null) for (const line of fields.data.split(/\r\n|\r|\n/)) text += `data: ${line}\n`
  return Buffer.from(`${text}\n`)
}

/**
 * The event that carries a JSON-RPC message. `frame` lends it the name, id and retry time of the event that brought it;
 * null: it is our own. A message that still is a part of what came (`raw`) goes as it came.
 */
export function encodeMessage(message: Buffer, frame: (SseFields & { readonly raw: Buffer }) | null): Buffer {
  if (frame !== null && isPartOf(message, frame.raw)) return frame.raw
  const fields = frame ?? OWN_FRAME
  if (message.includes('\n') || message.includes('\r'))
    return encodeEvent({ ...fields, data: message.toString('utf8') })
  return Buffer.concat([Buffer.from(`${named(fields)}data: `), message, END])
}

/** Whether the bytes of `part` are some of those of `whole`: the very ones, not the same again. */
function isPartOf(part: Buffer, whole: Buffer): boolean {
  const from = part.byteOffset - whole.byteOffset
  return part.buffer === whole.buffer && from >= 0 && from + part.length <= whole.length
}

const END = Buffer.from('\n\n')
const OWN_FRAME: SseFields = { event: 'message', id: null, retry: null, data: null }

/** The lines before the data. */
function named({ event, id, retry }: SseFields): string {
  let text = ''
  if (event !== null) text += `event: ${oneLine(event)}\n`
  if (id !== null) text += `id: ${oneLine(id)}\n`
  if (retry !== null) text += `retry: ${oneLine(retry)}\n`
  return text
}

/** A line end in a field would begin another one. */
function oneLine(value: string): string {
  return value.replace(/[\r\n]/g, '')
}
