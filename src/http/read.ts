/** The stage `read`: an exchange -> one message, checked against everything that could be read in two ways. */
import { argumentsOf } from '../gateway/arguments.ts'
import type { Call, Exchange, Message, Principal, RequestHead, Session } from '../gateway/types.ts'
import { isWellFormed, JsonRefusal, scanJson } from '../json/scan.ts'
import type { Span } from '../json/span.ts'
import { objectMembers, rootSpan } from '../json/span.ts'
import { headerOf, requireAccept, requireJsonBody } from './content.ts'
import type { Envelope } from './envelope.ts'
import { isObject, parseEnvelope } from './envelope.ts'
import type { Revision } from './era.ts'
import { bodilessRevision, revisionOf } from './era.ts'
import { MessageRefusal } from './message-refusal.ts'
import { MESSAGE_WATCH, META_CLIENT } from './protocol.ts'
import type { SessionBinder } from './session.ts'

/** What reading needs besides the exchange. */
export interface ReadOptions {
  readonly maxBodyBytes: number
  readonly sessions: SessionBinder
}

/** Reads the message of an exchange; throws every refusal of stage `read`. */
export async function readMessage(
  exchange: Exchange,
  principal: Principal,
  options: ReadOptions,
): Promise<Message> {
  const { head } = exchange
  const sessionOf: SessionReader = (revision, idText) =>
    readSession(head, principal, revision, options.sessions, idText)
  if (head.httpMethod === 'GET' || head.httpMethod === 'DELETE') return readBodiless(head, sessionOf)
  if (head.httpMethod !== 'POST') {
    throw new MessageRefusal('method_not_allowed', { allow: 'GET, POST, DELETE' })
  }
  requireJsonBody(head)
  requireAccept(head, ['application/json', 'text/event-stream'])
  const body = await exchange.readBody(options.maxBodyBytes)
  const { text, members, envelope } = parseBody(body)
  const revision = revisionOf(head, envelope)
  requireReadableNames(envelope)
  return {
    kind: envelope.kind,
    ...revision,
    method: envelope.method,
    idText: envelope.idText,
    params: envelope.params,
    argumentsText:
      envelope.kind === 'request' ? argumentsTextOf(envelope, text, members.get('params')) : null,
    body,
    session: sessionOf(revision, envelope.idText),
    client: clientOf(envelope, revision),
  }
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

interface ParsedBody {
  readonly text: string
  readonly members: ReadonlyMap<string, Span>
  readonly envelope: Envelope
}

function parseBody(body: Buffer): ParsedBody {
  try {
    const { text } = scanJson(body, { watch: MESSAGE_WATCH })
    const members = objectMembers(text, rootSpan(text))
    return { text, members, envelope: parseEnvelope(JSON.parse(text), text, members) }
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
  principal: Principal,
  revision: Revision,
  sessions: SessionBinder,
  idText: string | null,
): Session | null {
  const presented = headerOf(head, 'mcp-session-id')
  if (presented === null || revision.era === 'modern') return null
  const { id: principalId, tenant } = principal
  const session = sessions.unwrap({ principalId, tenant, mount: head.mount }, presented)
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

function argumentsTextOf(
  { method, idText }: Envelope,
  text: string,
  params: Span | undefined,
): string | null {
  const found = argumentsOf(method, text, params)
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
