/**
 * What one upstream answers -> as the merged mount says it: names, URIs, ids and tokens that clients hand back get their
 * owner's prefix. Decided by the shape, not by the method: a resumed stream brings answers to any. Edits on the text, so that
 * all else stays as it was written. Pure.
 */

import type { Span, SpanEdit } from '../../json/span.ts'
import { arrayElements, objectMembers, replaceSpans, rootSpan } from '../../json/span.ts'
import { strictly } from '../answer.ts'
import type { SseEvent, UpstreamAnswer } from '../types.ts'
import { answerEventId } from './event-id.ts'
import { namePrefix, uriPrefix } from './names.ts'

/** How a value is said; members -> what is in them. An array is looked through element by element. */
type Shape = 'name' | 'uri' | 'token' | { readonly [member: string]: Shape }

const RELATED_TASK = { _meta: { 'io.modelcontextprotocol/related-task': { taskId: 'name' } } } as const
/** A content block is a link to a resource, or has one in it. */
const BLOCK = { uri: 'uri', resource: { uri: 'uri' } } as const
const PLAIN_RESULT = {
  ...RELATED_TASK,
  tools: { name: 'name' },
  prompts: { name: 'name' },
  resources: { uri: 'uri' },
  resourceTemplates: { uriTemplate: 'uri' },
  tasks: { taskId: 'name' },
  contents: { uri: 'uri' },
  content: BLOCK,
  messages: { content: BLOCK },
  task: { taskId: 'name' },
  taskId: 'name',
} as const
/** 2026-07-28 `tasks/get` holds the result of the call that made the task. */
const RESPONSE: Shape = { result: { ...PLAIN_RESULT, result: PLAIN_RESULT } }
const REQUEST: Shape = { id: 'token', params: { _meta: { ...RELATED_TASK._meta, progressToken: 'token' } } }
const NOTIFICATIONS: ReadonlyMap<unknown, Shape> = new Map([
  ['notifications/resources/updated', { params: { uri: 'uri' } }],
  ['notifications/tasks/status', { params: { taskId: 'name' } }],
  ['notifications/tasks', { params: { ...PLAIN_RESULT, result: PLAIN_RESULT } }],
  ['notifications/cancelled', { params: { requestId: 'token' } }],
] satisfies [string, Shape][])

/** @throws GatewayError `upstream_failed` when the answer has something to be prefixed and could be read in two ways */
export function outwardAnswer(upstream: string, answer: UpstreamAnswer): UpstreamAnswer {
  const frame = answer.frame === null ? null : reidentified(upstream, answer.frame)
  if (answer.message === null || !mentions(answer.parsed, RESPONSE)) return { ...answer, frame }
  const { text } = strictly(answer.message)
  const message = Buffer.from(prefixed(upstream, text, RESPONSE))
  return { ...answer, message, frame: frame === null ? null : withData(frame, message.toString('utf8')) }
}

/** One event of a stream that has been reviewed; its id is left as it is. */
export function outwardEvent(upstream: string, event: SseEvent): SseEvent {
  if (event.data === null || event.data === '') return event
  const parsed = JSON.parse(event.data) as Readonly<Record<string, unknown>>
  const shape = shapeOf(parsed)
  return mentions(parsed, shape) ? withData(event, prefixed(upstream, event.data, shape)) : event
}

/** An event on the stream of one answer. */
export function outwardAnswerEvent(upstream: string, event: SseEvent): SseEvent {
  return reidentified(upstream, outwardEvent(upstream, event))
}

/** The JSON text of a list's elements, prefixed. `list` is where they stand in `text`. */
export function outwardElements(upstream: string, text: string, list: Span, shape: Shape): readonly string[] {
  return arrayElements(text, list).map((span) => {
    const edits: SpanEdit[] = []
    collect(upstream, text, span, shape, edits)
    const element = text.slice(span.start, span.end)
    const moved = edits.map((edit) => ({ text: edit.text, span: shifted(edit.span, -span.start) }))
    return replaceSpans(element, moved)
  })
}

function shapeOf(message: Readonly<Record<string, unknown>>): Shape {
  if (!('method' in message)) return RESPONSE
  return 'id' in message ? REQUEST : (NOTIFICATIONS.get(message['method']) ?? {})
}

/** Most answers hold nothing of the kind, and are not scanned for it. */
function mentions(value: unknown, shape: Shape): boolean {
  if (typeof shape === 'string') return typeof value === 'string' || typeof value === 'number'
  if (typeof value !== 'object' || value === null) return false
  if (Array.isArray(value)) return value.some((element) => mentions(element, shape))
  return Object.entries(shape).some(
    ([key, inner]) => Object.hasOwn(value, key) && mentions((value as Record<string, unknown>)[key], inner),
  )
}

function prefixed(upstream: string, text: string, shape: Shape): string {
  const edits: SpanEdit[] = []
  collect(upstream, text, rootSpan(text), shape, edits)
  return replaceSpans(text, edits)
}

function collect(upstream: string, text: string, span: Span, shape: Shape, edits: SpanEdit[]): void {
  if (typeof shape === 'string') {
    const said = saidAs(upstream, text.slice(span.start, span.end), shape)
    if (said !== null) edits.push({ span, text: said })
    return
  }
  if (text[span.start] === '[') {
    for (const element of arrayElements(text, span)) collect(upstream, text, element, shape, edits)
    return
  }
  for (const [key, value] of objectMembers(text, span)) {
    const inner = Object.hasOwn(shape, key) ? shape[key] : undefined
    if (inner !== undefined) collect(upstream, text, value, inner, edits)
  }
}

/** `raw` is JSON text; what is no string, or for a token no number either, is none of these. */
function saidAs(upstream: string, raw: string, shape: 'name' | 'uri' | 'token'): string | null {
  if (shape === 'token') return /^["\-\d]/.test(raw) ? JSON.stringify(namePrefix(upstream) + raw) : null
  if (!raw.startsWith('"')) return null
  const prefix = shape === 'name' ? namePrefix(upstream) : uriPrefix(upstream)
  return `"${prefix}${raw.slice(1)}`
}

function shifted({ start, end }: Span, by: number): Span {
  return { start: start + by, end: end + by }
}

function reidentified(upstream: string, event: SseEvent): SseEvent {
  if (event.id === null || event.id === '') return event
  return { ...event, id: answerEventId(upstream, event.id), raw: Buffer.alloc(0) }
}

function withData(event: SseEvent, data: string): SseEvent {
  return { ...event, data, raw: Buffer.alloc(0) }
}
