/** Lists of the merged mount: the same page of every upstream's list, each cut down to what the caller may use there. */
import type { CallSignal } from '../../call-signal.ts'
import { GatewayError } from '../../errors.ts'
import { findValue, replaceSpans, sliceOf } from '../../json/span.ts'
import type { ListRule, Review } from '../answer.ts'
import { LISTS, reviewAnswer } from '../answer.ts'
import type { Call, CallPart, Message, UpstreamAnswer } from '../types.ts'
import type { Asking } from './asking.ts'
import { orAborted, ownAnswer, quietSink } from './asking.ts'
import type { CursorSeal, Places } from './cursor.ts'
import { parseOpening } from './opening.ts'
import { outwardElements } from './outward.ts'
import type { UpstreamSessions } from './sessions.ts'

/** What merged lists are made with. */
export interface ListParts extends Review {
  readonly asking: Asking
  readonly sessions: UpstreamSessions
  readonly cursors: CursorSeal
}

/** A page of one upstream. */
interface Page {
  /** JSON texts, names prefixed. */
  readonly elements: readonly string[]
  readonly next: string | null
  readonly ttlMs: number
}

const NOTHING: Page = { elements: [], next: null, ttlMs: Number.POSITIVE_INFINITY }

/** What would make an answer larger comes with the next page. */
const MAX_PAGE_CHARS = 16 * 1024 * 1024
const MAX_UPSTREAM_CURSOR = 4096

/** Method -> the capability of those who have such a list. */
const CAPABILITIES: ReadonlyMap<string, string> = new Map([
  ['tools/list', 'tools'],
  ['resources/list', 'resources'],
  ['resources/templates/list', 'resources'],
  ['prompts/list', 'prompts'],
  ['tasks/list', 'tasks'],
])

/**
 * Answers a list request.
 * @throws GatewayError `invalid_params` for a cursor that is not the caller's; what the first upstream failed with when all did
 */
export async function mergedList(own: ListParts, call: Call, signal: CallSignal): Promise<UpstreamAnswer> {
  const message = call.message as Message
  const rule = LISTS.get(message.method) as ListRule
  const owner = [call.principal?.tenant ?? null, call.principal?.id ?? null, message.method]
  const { cursor } = message.params
  const places = cursor === undefined ? null : own.cursors.open(owner, cursor)
  const asked = (call.parts ?? []).filter(
    ({ call: { head }, refusal }) =>
      refusal === null && (places === null || Object.hasOwn(places, head.mount)),
  )
  const pages = new Map<string, Page>()
  await own.asking.askAll(asked, signal, async (part, within) => {
    pages.set(part.call.head.mount, await pageOf(own, { part, rule, places }, within))
  })
  const failed = asked.find(({ refusal }) => refusal !== null)
  if (failed?.refusal && pages.size === 0) throw failed.refusal
  const { elements, next } = joined(asked, pages, places)
  const nextCursor = Object.keys(next).length === 0 ? null : own.cursors.seal(owner, next)
  const isWhole = failed === undefined
  const ttlMs = isWhole ? Math.min(...[...pages.values()].map((page) => page.ttlMs)) : 0
  return ownAnswer(message.idText, resultText(message, rule, { elements, nextCursor, ttlMs }))
}

interface Wanted {
  readonly part: CallPart
  readonly rule: ListRule
  readonly places: Places | null
}

async function pageOf(own: ListParts, { part, rule, places }: Wanted, signal: CallSignal): Promise<Page> {
  const { call } = part
  const message = call.message as Message
  if (!(await offers(own, call, signal))) return NOTHING
  call.message = places === null ? message : withCursor(message, places[call.head.mount] ?? null)
  const sent = await own.asking.ask(call, quietSink(own.rooms, call), signal)
  call.upstream = sent.report
  const answer = await reviewAnswer(own, call, sent)
  if (answer.message === null || answer.parsed?.['error'] !== undefined) {
    // It has no such list.
    if (sent.report.jsonRpcError === METHOD_NOT_FOUND) return NOTHING
    throw new GatewayError('upstream_failed', { detail: `it answered ${message.method} with an error` })
  }
  return read(call.head.mount, answer.message.toString('utf8'), rule)
}

const METHOD_NOT_FOUND = -32601

/** Whether the upstream said in its session that it has such lists; without a session, or in one that another process has opened, only asking tells. */
async function offers({ sessions }: ListParts, call: Call, signal: CallSignal): Promise<boolean> {
  const { session, method } = call.message as Message
  if (session === null) return true
  const { profile } = await orAborted(sessions.open(parseOpening(session), call), signal)
  return profile === null || (CAPABILITIES.get(method) ?? '') in profile.capabilities
}

/** `text` has been scanned and trimmed. */
function read(upstream: string, text: string, rule: ListRule): Page {
  const list = findValue(text, ['result', rule.member])
  const next = findValue(text, ['result', 'nextCursor'])
  const ttl = findValue(text, ['result', 'ttlMs'])
  const cursor: unknown = next === null ? null : JSON.parse(sliceOf(text, next))
  const ttlMs: unknown = ttl === null ? 0 : JSON.parse(sliceOf(text, ttl))
  if (cursor !== null && (typeof cursor !== 'string' || cursor.length > MAX_UPSTREAM_CURSOR))
    throw new GatewayError('upstream_failed', { detail: 'its cursor is not a string of a usable length' })
  const shape = { [rule.name]: rule.kind.startsWith('resource') ? 'uri' : 'name' } as const
  return {
    elements: list === null ? [] : outwardElements(upstream, text, list, shape),
    next: cursor,
    ttlMs: typeof ttlMs === 'number' && ttlMs >= 0 ? ttlMs : 0,
  }
}

/** The message of a further page as it is for one upstream; with null for one whose first page is still to come. */
function withCursor(message: Message, cursor: string | null): Message {
  const text = message.body.toString('utf8')
  const span = findValue(text, ['params', 'cursor'])
  if (cursor !== null && span !== null)
    return { ...message, body: Buffer.from(replaceSpans(text, [{ span, text: JSON.stringify(cursor) }])) }
  const meta = findValue(text, ['params', '_meta'])
  const params = meta === null ? '{}' : `{"_meta":${sliceOf(text, meta)}}`
  const head = `{"jsonrpc":"2.0","id":${message.idText},"method":${JSON.stringify(message.method)}`
  return { ...message, body: Buffer.from(`${head},"params":${params}}`) }
}

function joined(
  asked: readonly CallPart[],
  pages: ReadonlyMap<string, Page>,
  places: Places | null,
): { readonly elements: readonly string[]; readonly next: Places } {
  const elements: string[] = []
  const next: Record<string, string | null> = {}
  let chars = 0
  for (const { call } of asked) {
    const name = call.head.mount
    const page = pages.get(name)
    if (page === undefined) continue
    const size = page.elements.reduce((sum, element) => sum + element.length + 1, 0)
    if (chars > 0 && chars + size > MAX_PAGE_CHARS) {
      next[name] = places?.[name] ?? null
      continue
    }
    chars += size
    for (const element of page.elements) elements.push(element)
    if (page.next !== null) next[name] = page.next
  }
  return { elements, next }
}

function resultText(
  { era }: Message,
  rule: ListRule,
  made: { readonly elements: readonly string[]; readonly nextCursor: string | null; readonly ttlMs: number },
): string {
  const ttlMs = Number.isFinite(made.ttlMs) ? made.ttlMs : 0
  const cached = era === 'modern' ? `"resultType":"complete","ttlMs":${ttlMs},"cacheScope":"private",` : ''
  const next = made.nextCursor === null ? '' : `,"nextCursor":"${made.nextCursor}"`
  return `{${cached}"${rule.member}":[${made.elements.join(',')}]${next}}`
}
