/**
 * What comes back from an upstream, before the client sees it: lists are cut down to what the caller may use, and
 * requests to the client pass their own gate.
 */

import { GatewayError } from '../errors.ts'
import { asObject } from '../json/object.ts'
import { foldCase, scanJson, watchKeys } from '../json/scan.ts'
import type { Span, SpanEdit } from '../json/span.ts'
import { arrayElements, findValue, replaceSpans, sliceOf } from '../json/span.ts'
import type { Rooms } from './call.ts'
import { withoutKilled } from './killed.ts'
import { clientKey } from './open-call.ts'
import type { ServerRequestGate } from './server-request.ts'
import { serverRequestOf } from './server-request.ts'
import { normalisedUri, target } from './targets.ts'
import type { TaskBook } from './tasks.ts'
import type { Call, SseEvent, Target, TargetKind, UpstreamAnswer } from './types.ts'

/** What a list's answer looks like. */
export interface ListRule {
  /** Member of `result` that holds the elements. */
  readonly member: string
  readonly kind: TargetKind
  /** Member of an element that names the target. */
  readonly name: string
}

/** Method -> its list. */
export const LISTS: ReadonlyMap<string, ListRule> = new Map([
  ['tools/list', { member: 'tools', kind: 'tool', name: 'name' }],
  ['resources/list', { member: 'resources', kind: 'resource', name: 'uri' }],
  [
    'resources/templates/list',
    { member: 'resourceTemplates', kind: 'resource_template', name: 'uriTemplate' },
  ],
  ['prompts/list', { member: 'prompts', kind: 'prompt', name: 'name' }],
  ['tasks/list', { member: 'tasks', kind: 'task', name: 'taskId' }],
] satisfies [string, ListRule][])

/** Deep enough for tool schemas; the upstream is not trusted to stop. */
const MAX_ANSWER_DEPTH = 128

/** A client that reads keys in any letter case must not find a list, or a request to it, that was not looked at here. */
const ANSWER_WATCH = watchKeys(['jsonrpc', 'id', 'method', 'params', 'result', 'error'], {
  result: watchKeys([
    'resultType',
    'inputRequests',
    'cacheScope',
    ...[...LISTS.values()].map((rule) => rule.member),
  ]),
})

/** What a review is made with. */
export interface Review {
  readonly rooms: Rooms
  readonly gate: ServerRequestGate
  readonly tasks: TaskBook
}

/** The final answer, trimmed. Throws `upstream_failed` when a list cannot be read, `policy_denied` for refused requests. */
export async function reviewAnswer(
  review: Review,
  call: Call,
  answer: UpstreamAnswer,
): Promise<UpstreamAnswer> {
  if (answer.message === null || answer.parsed === null) return answer
  const result = asObject(answer.parsed['result'])
  if (result === null) return answer
  if (asksClient(result)) await admitInputRequests(review.gate, call, answer.message, 'result')
  const rule = LISTS.get(call.message?.method ?? '')
  const isShared =
    call.message?.era === 'modern' && (result['cacheScope'] ?? 'private') !== 'private' && rule === undefined
  if (rule === undefined && !isShared && !review.tasks.concerns(call, result)) return answer
  let text =
    rule === undefined ? strictly(answer.message).text : await trimList(review, call, answer.message, rule)
  if (isShared) text = replaceSpans(text, [privateScope(text)])
  return edited(answer, review.tasks.inAnswer(call, text, result))
}

/** One event of a stream that is not the final answer: the event to relay, or null to drop it. */
export async function reviewEvent(review: Review, call: Call, event: SseEvent): Promise<SseEvent | null> {
  if (event.data === null || event.data === '') return event
  const parsed = asObject(strictly(Buffer.from(event.data)).parsed)
  if (parsed === null)
    throw new GatewayError('upstream_failed', { detail: 'an event is not a JSON-RPC message' })
  if (typeof parsed['method'] !== 'string') return await reviewReplayed(review, call, event, parsed)
  if ('result' in parsed)
    throw new GatewayError('upstream_failed', { detail: 'an event is both a request and a response' })
  if (!(await isForClient(review, call, event.data, parsed))) return null
  const text = review.tasks.inEvent(call, event.data, parsed)
  return text === null ? null : rewritten(event, review.gate.outward(call, text, parsed))
}

/** Whether the client may see a request or notification of the upstream. */
async function isForClient(
  { rooms, gate }: Review,
  call: Call,
  text: string,
  parsed: Readonly<Record<string, unknown>>,
): Promise<boolean> {
  const params = asObject(parsed['params']) ?? {}
  // A task that waits for input says in its notifications what it wants to know (tasks extension).
  if (asksClient(params)) await admitInputRequests(gate, call, Buffer.from(text), 'params')
  const request = serverRequestOf(text, parsed)
  if (request !== null) return await gate.admit(call, request)
  if (parsed['method'] !== 'notifications/resources/updated') return true
  const uri = normalisedUri(params['uri'])
  if (uri === undefined) return false
  const [verdict] = await rooms.policy.visible(call, [target('resource', uri)])
  return verdict?.allow === true
}

/**
 * A response on a GET stream answers an earlier request, whose method is not known here: resuming a stream must not be a
 * way around list filtering, so the shape of the result decides.
 */
async function reviewReplayed(
  review: Review,
  call: Call,
  event: SseEvent,
  parsed: Readonly<Record<string, unknown>>,
): Promise<SseEvent> {
  const result = asObject(parsed['result'])
  if (result === null) return event
  const data = Buffer.from(event.data ?? '')
  if (asksClient(result)) await admitInputRequests(review.gate, call, data, 'result')
  const rules = [...LISTS.values()].filter((rule) => Array.isArray(result[rule.member]))
  let text = event.data ?? ''
  for (const rule of rules) text = await trimList(review, call, Buffer.from(text), rule)
  return rewritten(event, review.tasks.inAnswer(call, text, result))
}

async function trimList(
  { rooms, tasks }: Review,
  call: Call,
  message: Buffer,
  rule: ListRule,
): Promise<string> {
  const { text } = strictly(message)
  const list = findValue(text, ['result', rule.member])
  if (list === null) return text
  if (text[list.start] !== '[')
    throw new GatewayError('upstream_failed', { detail: `result.${rule.member} is not a list` })
  const elements = arrayElements(text, list)
  const targets = elements.map((span) => elementTarget(text, span, rule))
  const allowed = await rooms.policy.visible(call, targets)
  const verdicts = rule.kind === 'tool' ? withoutKilled(await rooms.kills.current(), call, allowed) : allowed
  call.listed = [...(call.listed ?? []), ...verdicts]
  const allowedTexts = elements
    .map((span, index) => ({ name: targets[index]?.name ?? '', text: sliceOf(text, span), at: index }))
    .filter(({ at }) => verdicts[at]?.allow === true)
  if (rule.kind === 'tool') rooms.upstreams.learnTools(call.head.mount, clientKey(call), allowedTexts)
  const kept = allowedTexts.flatMap((element) => shownElement(tasks, call, element.text, rule))
  const edits: SpanEdit[] = [{ span: list, text: `[${kept.join(',')}]` }]
  if (call.message?.era === 'modern') edits.push(privateScope(text))
  return replaceSpans(text, edits)
}

/** Of tasks the caller sees its own, whatever the policy lets it see. */
function shownElement(tasks: TaskBook, call: Call, element: string, rule: ListRule): readonly string[] {
  if (rule.kind !== 'task') return [element]
  const own = tasks.inList(call, element)
  return own === null ? [] : [own]
}

/** What was decided for one caller must not be cached for others (2026-07-28 server/utilities/caching). */
function privateScope(text: string): SpanEdit {
  const scope = findValue(text, ['result', 'cacheScope'])
  if (scope !== null) return { span: scope, text: '"private"' }
  const result = findValue(text, ['result']) as Span
  return { span: { start: result.start + 1, end: result.start + 1 }, text: '"cacheScope":"private",' }
}

function elementTarget(text: string, span: Span, rule: ListRule): Target {
  const element = asObject(JSON.parse(sliceOf(text, span)))
  const folded = foldCase(rule.name)
  if (Object.keys(element ?? {}).some((key) => key !== rule.name && foldCase(key) === folded))
    throw new GatewayError('upstream_failed', {
      detail: `an element of the list has two keys like ${rule.name}`,
    })
  const raw = element?.[rule.name]
  const name = rule.kind === 'resource' ? normalisedUri(raw) : raw
  // An element without a name cannot be allowed by name; the policy sees the empty one.
  const named = target(rule.kind, typeof name === 'string' ? name : '')
  return { ...named, annotations: asObject(element?.['annotations']) ?? {} }
}

/** Whatever the result says of its type, and to whichever method: requests in it are requests to the client. */
function asksClient(result: Readonly<Record<string, unknown>>): boolean {
  return Object.keys(result).some(
    (key) => key.length === INPUT_REQUESTS.length && foldCase(key) === INPUT_REQUESTS,
  )
}

const INPUT_REQUESTS = foldCase('inputRequests')

/** Most questions to the client in one message: each is an attempt of its own. */
const MAX_INPUT_REQUESTS = 100

/**
 * The requests embedded in an `input_required` result (2026-07-28 basic/patterns), or in what is said of a task that waits
 * for input: all must be allowed, or none is shown.
 */
async function admitInputRequests(
  gate: ServerRequestGate,
  call: Call,
  message: Buffer,
  holder: 'result' | 'params',
): Promise<void> {
  const { text, parsed } = strictly(message)
  const requests = asObject(asObject(asObject(parsed)?.[holder])?.['inputRequests'])
  const entries = Object.entries(requests ?? {})
  if (requests === null || entries.length > MAX_INPUT_REQUESTS)
    throw new GatewayError('upstream_failed', {
      detail: `${holder}.inputRequests is not an object of at most ${MAX_INPUT_REQUESTS} requests`,
    })
  for (const [key, value] of entries) {
    const method = asObject(value)?.['method']
    const params = findValue(text, [holder, 'inputRequests', key, 'params'])
    const request = {
      method: typeof method === 'string' ? method : '',
      idText: null,
      paramsText: params === null ? null : sliceOf(text, params),
    }
    if (!(await gate.admit(call, request))) {
      throw new GatewayError('policy_denied', {
        detail: `the upstream's request ${request.method} to the client is not allowed`,
      })
    }
  }
}

/**
 * What decides here must be what the client reads: no duplicate keys, no second meaning.
 * @throws GatewayError `upstream_failed`
 */
export function strictly(message: Buffer): { text: string; parsed: unknown } {
  try {
    const { text } = scanJson(message, { maxDepth: MAX_ANSWER_DEPTH, watch: ANSWER_WATCH })
    return { text, parsed: JSON.parse(text) }
  } catch (thrown) {
    throw new GatewayError('upstream_failed', {
      cause: thrown,
      detail: 'the upstream sent JSON that cannot be trusted',
    })
  }
}

function edited(answer: UpstreamAnswer, text: string): UpstreamAnswer {
  return { ...answer, message: Buffer.from(text), frame: reframed(answer.frame, text) }
}

function reframed(frame: SseEvent | null, text: string): SseEvent | null {
  return frame === null ? null : rewritten(frame, text)
}

function rewritten(event: SseEvent, text: string): SseEvent {
  return text === event.data ? event : { ...event, data: text, raw: Buffer.alloc(0) }
}
