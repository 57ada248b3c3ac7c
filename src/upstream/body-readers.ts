/** One reader for each kind of answer body (see `head-plan.ts`): bytes in, the one JSON-RPC message out. */
import { createHash, hash } from 'node:crypto'
import type { IncomingHttpHeaders } from 'node:http'
import type { AnswerSink } from '../gateway/call.ts'
import type { Message, SseEvent } from '../gateway/types.ts'
import { asObject } from '../json/object.ts'
import { createByteBuffer } from './byte-buffer.ts'
import type { ChunkVerdict } from './exchange.ts'
import { failed, JSON_TYPE } from './head-plan.ts'
import { isIdentity, mediaType } from './headers.ts'
import type { Patience } from './patience.ts'
import { answersId, asResponse, parseJson } from './response.ts'
import { createSseParser } from './sse.ts'

/** The message an answer consists of. */
export interface FoundMessage {
  readonly bytes: Buffer
  readonly parsed: Readonly<Record<string, unknown>>
  /** The event that carried it; null when it was the whole body. */
  readonly frame: SseEvent | null
}

/** Reads one body. Both functions throw `upstream_failed`. */
export interface BodyReader {
  chunk(chunk: Buffer): ChunkVerdict | Promise<ChunkVerdict>
  /** The body is complete, or no more of it is wanted. */
  end(): { readonly found: FoundMessage | null; readonly sha256: string | null }
}

/** The whole body is the response to the request. */
export function readJsonBody(message: Message, maxBytes: number): BodyReader {
  return collecting(maxBytes, (body) => {
    const parsed = asResponse(parseJson(body))
    if (parsed === null) throw failed('its answer is not a JSON-RPC response')
    if (!answersId(parsed, message.idText ?? 'null')) throw failed('its answer has the id of another request')
    return { bytes: body, parsed, frame: null }
  })
}

/** Refusals are short; whoever sends more is not sending an error. */
const MAX_REFUSAL_BYTES = 1024 * 1024

/**
 * The body of an HTTP error. Its JSON-RPC error may have any id or none: servers refuse before they read the id, and an
 * HTTP exchange leaves no doubt which request is meant. `bare` = the status stands without one.
 */
export function readRefusal(status: number, headers: IncomingHttpHeaders, bare: boolean): BodyReader {
  const typed = mediaType(headers) === JSON_TYPE && isIdentity(headers)
  return collecting(MAX_REFUSAL_BYTES, (body) => {
    const parsed = typed ? asRefusal(parseJson(body)) : null
    if (parsed === null && !bare) throw failed(`it answered ${status} without a JSON-RPC error`)
    return parsed === null ? null : { bytes: body, parsed, frame: null }
  })
}

function asRefusal(value: unknown): Readonly<Record<string, unknown>> | null {
  const response = asResponse(value)
  return response !== null && 'error' in response ? response : null
}

function collecting(maxBytes: number, finish: (body: Buffer) => FoundMessage | null): BodyReader {
  const body = createByteBuffer()
  return {
    chunk: (chunk) => {
      if (body.length + chunk.length > maxBytes) throw failed(`its answer is larger than ${maxBytes} bytes`)
      body.push(chunk)
      return 'more'
    },
    end: () => found(finish(body.take())),
  }
}

function found(message: FoundMessage | null): ReturnType<BodyReader['end']> {
  return { found: message, sha256: message === null ? null : hash('sha256', message.bytes) }
}

/** No body is expected and none is kept. */
export function ignoreBody(): BodyReader {
  return { chunk: () => 'done', end: () => found(null) }
}

/**
 * A stream of events. Each goes to the sink as it comes, but the response to the request, which ends the reading. On a GET
 * stream there is none: everything goes to the sink and the digest is over all bytes. A 2025-x server may end a stream early
 * once it has sent an event id: the client comes back for the response with GET and Last-Event-ID, so there is none yet.
 */
export function readEvents(
  message: Message,
  sink: AnswerSink,
  limits: { readonly maxEventBytes: number; readonly patience: Patience | null },
): BodyReader {
  const parser = createSseParser({ maxEventBytes: limits.maxEventBytes })
  const digest = message.kind === 'stream' ? createHash('sha256') : null
  let response: FoundMessage | null = null
  let resumable = false

  /** Relays events up to the response, or the first one that the receiver wants time for. */
  async function relay(events: readonly SseEvent[]): Promise<ChunkVerdict> {
    for (const event of events) {
      const read = readEvent(event, message)
      response = read.response
      if (response !== null) return 'done'
      if (read.asksClient) limits.patience?.stop()
      if (event.id !== null && event.id !== '') resumable = true
      const relayed = relayedPart(event)
      if (relayed !== null) await sink.event(relayed)
    }
    return 'more'
  }

  async function relayInTurn(events: readonly SseEvent[]): Promise<ChunkVerdict> {
    limits.patience?.pause()
    try {
      return await relay(events)
    } finally {
      limits.patience?.resume(events.some(hasMessage))
    }
  }

  return {
    chunk: (chunk) => {
      digest?.update(chunk)
      const events = parse(parser, chunk)
      return events.length === 0 ? 'more' : relayInTurn(events)
    },
    end: () => {
      if (digest !== null) return { found: null, sha256: digest.digest('hex') }
      if (response === null && !(resumable && message.era === 'legacy'))
        throw failed('its stream ended without the response')
      return found(response)
    },
  }
}

function parse(parser: ReturnType<typeof createSseParser>, chunk: Buffer): SseEvent[] {
  try {
    return parser.push(chunk)
  } catch (thrown) {
    throw failed(thrown instanceof Error ? thrown.message : 'its stream is malformed', thrown)
  }
}

/**
 * Clients read only events of the type `message`; what they ignore is not passed on, but its id and retry time are, which hold
 * whatever the type of the event that brings them (WHATWG HTML §9.2.6).
 */
function relayedPart(event: SseEvent): SseEvent | null {
  if (event.data === null || isMessageEvent(event)) return event
  const { id, retry } = event
  return id === null && retry === null ? null : { id, retry, event: null, data: null, raw: Buffer.alloc(0) }
}

function isMessageEvent(event: SseEvent): boolean {
  return event.event === null || event.event === '' || event.event === 'message'
}

function hasMessage(event: SseEvent): boolean {
  return event.data !== null && event.data !== '' && isMessageEvent(event)
}

interface ReadEvent {
  /** The response to our request, if the event carries it. */
  readonly response: FoundMessage | null
  /** It carries a request to the client. */
  readonly asksClient: boolean
}

const NO_RESPONSE: ReadEvent = { response: null, asksClient: false }

/** A request or notification. */
function isAddressed(message: Readonly<Record<string, unknown>>): boolean {
  return typeof message['method'] === 'string' && !('result' in message) && !('error' in message)
}

/** A response to anything but our request has no business on its stream. */
function readEvent(event: SseEvent, message: Message): ReadEvent {
  if (event.data === null || !hasMessage(event)) return NO_RESPONSE
  const bytes = Buffer.from(event.data)
  const parsed = asObject(parseJson(bytes))
  if (parsed === null || parsed['jsonrpc'] !== '2.0') throw failed('an event is not a JSON-RPC message')
  if (isAddressed(parsed)) return { response: null, asksClient: 'id' in parsed }
  const response = asResponse(parsed)
  if (response === null) throw failed('an event is not a JSON-RPC message')
  // What a GET stream brings belongs to earlier requests (resumption).
  if (message.kind === 'stream') return NO_RESPONSE
  if (!answersId(response, message.idText ?? 'null')) throw failed('its stream answers another request')
  return { response: { bytes, parsed: response, frame: event }, asksClient: false }
}
