/** The stage `read`: an exchange -> one message, checked against everything that could be read in two ways. */

import { argumentsOf } from '../gateway/arguments.ts'
import type { Call, Exchange, Message, Principal, Reading, RequestHead, Session } from '../gateway/types.ts'
import { isObject } from '../json/object.ts'
import type { Scan } from '../json/scan.ts'
import { isWellFormed, JsonRefusal, scanJson } from '../json/scan.ts'
import type { Span } from '../json/span.ts'
import { arrayElements, objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import { shareExchange } from './batch.ts'
import type { Owner } from './binding.ts'
import { headerOf, requireAccept, requireJsonBody } from './content.ts'
import type { Envelope } from './envelope.ts'
import { parseEnvelope } from './envelope.ts'
import type { Revision } from './era.ts'
import { bodilessRevision, revisionOf, speaksBatches } from './era.ts'
import { MessageRefusal } from './message-refusal.ts'
import { MESSAGE_WATCH, META_CLIENT } from './protocol.ts'
import type { SessionBinder } from './session.ts'
import type { TaskBinder } from './task.ts'
import { ownTask, withOwnTasks } from './task.ts'

/** What reading needs besides the exchange. */
export interface ReadOptions {
  readonly maxBodyBytes: number
  readonly sessions: SessionBinder
  readonly tasks: TaskBinder
}

/** Reads the message of an exchange, or those of a batch; throws every refusal of stage `read`. */
export async function readMessage(
  exchange: Exchange,
  principal: Principal,
  options: ReadOptions,
): Promise<Reading> {
  const { head } = exchange
  const owner = { principalId: principal.id, tenant: principal.tenant, mount: head.mount }
  const sessionOf: SessionReader = (revision, idText) =>
    readSession(head, owner, revision, options.sessions, idText)
  const taskOf = (presented: string, isRouted: boolean) => ownTask(options.tasks, owner, presented, isRouted)
  if (head.httpMethod === 'GET' || head.httpMethod === 'DELETE')
    return { message: readBodiless(head, sessionOf), exchange, others: [] }
  if (head.httpMethod !== 'POST') {
    throw new MessageRefusal('method_not_allowed', { allow: 'GET, POST, DELETE' })
  }
  requireJsonBody(head)
  requireAccept(head, ['application/json', 'text/event-stream'])
  const body = await exchange.readBody(options.maxBodyBytes)
  const { text, root } = scanBody(body)
  const readOne = (one: string, bytes: Buffer): Message => messageOf(head, one, bytes, { sessionOf, taskOf })
  if (root !== 'array') return { message: readOne(text, body), exchange, others: [] }
  return readBatch(exchange, text, (bytes) => readOne(scanBody(bytes).text, bytes))
}

/** Most messages of one batch: each is an attempt with a row, and a request to the upstream. */
const MAX_BATCH = 50

/**
 * Every element is read before any is worked on: what cannot be read cannot be taken apart either, so one that is refused
 * here refuses all of them, in one row.
 */
function readBatch(exchange: Exchange, text: string, readOne: (bytes: Buffer) => Message): Reading {
  if (!speaksBatches(exchange.head)) throw badBatch('Batches are not supported in this revision')
  const spans = arrayElements(text, rootSpan(text))
  if (spans.length === 0 || spans.length > MAX_BATCH)
    throw badBatch(`Invalid request: a batch has 1 to ${MAX_BATCH} messages`)
  const bodies = spans.map((span) => Buffer.from(sliceOf(text, span)))
  const messages = bodies.map((bytes) => readElement(bytes, readOne))
  requireOneMeaning(messages)
  const elements = bodies.map((body, index) => ({ body, isRequest: messages[index]?.kind === 'request' }))
  const [first, ...others] = shareExchange(exchange, elements)
  return { message: messages[0] as Message, exchange: first as Exchange, others }
}

/** A refusal of one element is that of the whole body, which has no id. */
function readElement(bytes: Buffer, readOne: (bytes: Buffer) => Message): Message {
  try {
    return readOne(bytes)
  } catch (thrown) {
    if (!(thrown instanceof MessageRefusal)) throw thrown
    const { kind, message, detail, data } = thrown
    throw new MessageRefusal(kind, { cause: thrown, message, data, ...(detail === null ? {} : { detail }) })
  }
}

/** 2025-03-26 `basic/lifecycle`, `basic/transports`: no `initialize`, and requests or responses, never both. */
function requireOneMeaning(messages: readonly Message[]): void {
  if (messages.some(({ era }) => era !== 'legacy'))
    throw badBatch('Batches are not supported in this revision')
  if (messages.some(({ method }) => method === 'initialize'))
    throw badBatch('Invalid request: initialize must not be part of a batch')
  const responses = messages.filter(({ kind }) => kind === 'response')
  if (responses.length > 0 && responses.length < messages.length)
    throw badBatch('Invalid request: a batch has either responses or requests and notifications')
  const ids = messages.flatMap(({ idText }) => (idText === null ? [] : [JSON.stringify(JSON.parse(idText))]))
  if (new Set(ids).size < ids.length) throw badBatch('Invalid request: an id stands twice in the batch')
}

function badBatch(message: string): MessageRefusal {
  return new MessageRefusal('invalid_request', { message })
}

/** What belongs to the caller, as it names it. */
interface Belongings {
  readonly sessionOf: SessionReader
  /** The upstream's own id of a task; null when it is not the caller's. */
  taskOf(presented: string, isRouted: boolean): string | null
}

function messageOf(
  head: RequestHead,
  text: string,
  body: Buffer,
  { sessionOf, taskOf }: Belongings,
): Message {
  const read = envelopeOf(text)
  const { envelope } = read
  const revision = revisionOf(head, envelope)
  requireReadableNames(envelope)
  const session = sessionOf(revision, envelope.idText)
  const edited = withOwnTasks(text, { ...envelope, era: revision.era }, taskOf)
  // From here on the message is the one that goes up.
  const sent = edited === null ? read : envelopeOf(edited)
  const { kind, method, idText, params } = sent.envelope
  return {
    kind,
    ...revision,
    method,
    idText,
    params,
    argumentsText: kind === 'request' ? argumentsTextOf(sent) : null,
    body: edited === null ? body : Buffer.from(edited),
    session,
    client: clientOf(envelope, revision),
  }
}

interface ReadEnvelope {
  readonly text: string
  readonly envelope: Envelope
  readonly paramsSpan: Span | undefined
}

function envelopeOf(text: string): ReadEnvelope {
  const members = objectMembers(text, rootSpan(text))
  const envelope = parseEnvelope(JSON.parse(text), text, members)
  return { text, envelope, paramsSpan: members.get('params') }
}

type SessionReader = (revision: Revision, idText: string | null) => Session | null

/** How much of a refused caller's body is looked at for the audit row. */
const MAX_HINT_BYTES = 16_384

/** Method and name of a small body that has already arrived, for the row of a 401. Never throws, never waits. */
export async function readHint(exchange: Exchange): Promise<Call['hint']> {
  try {
    const body = await exchange.peekBody(MAX_HINT_BYTES)
    if (body === null) return null
    const parsed: unknown = JSON.parse(scanJson(body, { watch: MESSAGE_WATCH }).text)
    if (!isObject(parsed)) return null
    const params = isObject(parsed['params']) ? parsed['params'] : {}
    return {
      method: boundedText(parsed['method']),
      name: boundedText(params['name'] ?? params['uri'] ?? params['taskId']),
    }
  } catch {
    return null
  }
}

const MAX_HINT_CHARS = 256

function boundedText(value: unknown): string | null {
  return typeof value === 'string' ? value.slice(0, MAX_HINT_CHARS) : null
}

/** GET opens the stream of a session, DELETE ends a session; both exist in 2025-x only. */
function readBodiless(head: RequestHead, sessionOf: SessionReader): Message {
  const revision = bodilessRevision(head)
  if (headerOf(head, 'transfer-encoding') !== null || Number(headerOf(head, 'content-length') ?? 0) > 0) {
    throw new MessageRefusal('invalid_request', {
      message: `Invalid request: ${head.httpMethod} has no body`,
    })
  }
  if (head.httpMethod === 'GET') requireAccept(head, ['text/event-stream'])
  const session = sessionOf(revision, null)
  // Without a session there is nothing to listen to or to end; 405 is what clients take for "not offered here".
  if (session === null) throw new MessageRefusal('method_not_allowed', { allow: 'POST' })
  return {
    kind: head.httpMethod === 'GET' ? 'stream' : 'terminate',
    ...revision,
    method: head.httpMethod,
    idText: null,
    params: {},
    argumentsText: null,
    body: Buffer.alloc(0),
    session,
    client: null,
  }
}

function scanBody(body: Buffer): Scan {
  try {
    return scanJson(body, { watch: MESSAGE_WATCH })
  } catch (thrown) {
    if (!(thrown instanceof JsonRefusal)) throw thrown
    throw new MessageRefusal('parse_error', {
      cause: thrown,
      detail: `${thrown.kind}: ${thrown.message}`,
      message: `Parse error: ${thrown.message}`,
    })
  }
}

/** 2026-07-28 has no sessions: there the header means nothing. */
function readSession(
  head: RequestHead,
  owner: Owner,
  revision: Revision,
  sessions: SessionBinder,
  idText: string | null,
): Session | null {
  const presented = headerOf(head, 'mcp-session-id')
  if (presented === null || revision.era === 'modern') return null
  const session = sessions.unwrap(owner, presented)
  if (session === null) throw new MessageRefusal('session_unknown', { idText })
  return session
}

/** Names are compared by policy and upstream alike, so they must be strings that survive UTF-8. */
function requireReadableNames({ params, idText }: Envelope): void {
  const ref = isObject(params['ref']) ? params['ref'] : {}
  for (const name of [params['name'], params['uri'], params['taskId'], ref['name'], ref['uri']]) {
    if (typeof name === 'string' && !isWellFormed(name)) {
      throw new MessageRefusal('invalid_params', {
        idText,
        message: 'Invalid params: a name must not hold lone surrogates',
      })
    }
  }
}

function argumentsTextOf({ text, envelope, paramsSpan }: ReadEnvelope): string | null {
  const { method, idText } = envelope
  const found = argumentsOf(method, text, paramsSpan)
  if (found !== null) return found.text
  throw new MessageRefusal('invalid_params', {
    idText,
    message: 'Invalid params: arguments must be an object',
  })
}

const MAX_CLIENT_CHARS = 128

/** What the client says it is. Unverified: for logs and rows, never for decisions. */
function clientOf(envelope: Envelope, revision: Revision): Message['client'] {
  const meta = envelope.params['_meta']
  const info =
    revision.era === 'modern'
      ? isObject(meta) && meta[META_CLIENT]
      : envelope.method === 'initialize' && envelope.params['clientInfo']
  if (!isObject(info)) return null
  const { name, version } = info
  if (typeof name !== 'string') return null
  return {
    name: name.slice(0, MAX_CLIENT_CHARS),
    version: typeof version === 'string' ? version.slice(0, MAX_CLIENT_CHARS) : '',
  }
}
