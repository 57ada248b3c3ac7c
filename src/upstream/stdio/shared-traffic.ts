/**
 * What 2025-x sessions do on one server that they share. Nothing that the server says for one client gets to another: what
 * cannot be told whose it is goes nowhere.
 */
import { randomUUID } from 'node:crypto'
import type { HttpReply } from './http-reply.ts'
import type { Link, Unsolicited } from './link.ts'
import type { Posted, PostedRequest } from './posted.ts'
import type { StdioSession } from './session.ts'
import { createSession } from './session.ts'
import type { Sessions } from './sessions.ts'
import type { SharedServerOptions } from './shared-server.ts'
import { createSharedServer, inEra, refuseQuestion } from './shared-server.ts'
import { createSubscriptions } from './subscriptions.ts'

/** What it is made with. */
export interface SharedTrafficOptions extends Omit<SharedServerOptions, 'onUnsolicited' | 'onReady'> {
  readonly sessions: Sessions
}

/** Sessions that share one server. */
export interface SharedTraffic {
  /** Answers with the handshake that the gateway has done, and begins a session. */
  initialize(message: PostedRequest, reply: HttpReply): Promise<void>
  /** Any other message of a session. */
  serve(session: StdioSession, message: Posted, reply: HttpReply): Promise<void>
  /** A session has ended: what only it wanted to hear of is cancelled. */
  forget(session: StdioSession): void
  close(): Promise<void>
}

const LIST_CHANGED = /^notifications\/(?:tools|prompts|resources)\/list_changed$/
const UPDATED = 'notifications/resources/updated'

/** Makes it; no server is started yet. */
export function createSharedTraffic(options: SharedTrafficOptions): SharedTraffic {
  const { sessions } = options
  const { clock } = options.surroundings
  const subscriptions = createSubscriptions()
  const legacy = createSharedServer('legacy', {
    ...options,
    onUnsolicited: deliver,
    onReady: (link) => {
      for (const uri of subscriptions.uris()) tryAsk(link, 'resources/subscribe', uri)
    },
  })
  function deliver(link: Link, message: Unsolicited): void {
    refuseQuestion(link, message)
    if (message.kind === 'request') return
    const uri = message.method === UPDATED ? message.params['uri'] : null
    for (const session of sessions.shared()) {
      const isWanted = typeof uri === 'string' && session.subscriptions.has(uri)
      if (isWanted || LIST_CHANGED.test(message.method)) session.deliver(message)
    }
  }

  /** What one client asks about itself must not change what the others get; null = the server is to answer. */
  function answerFor(session: StdioSession, { method, params, idText }: Posted): string | null {
    const { uri } = params
    if (method === 'resources/subscribe' && typeof uri === 'string') subscriptions.add(session, uri)
    if (method === 'resources/unsubscribe' && typeof uri === 'string' && !subscriptions.remove(session, uri))
      return `{"jsonrpc":"2.0","id":${idText},"result":{}}`
    if (method === 'logging/setLevel')
      return `{"jsonrpc":"2.0","id":${idText},"error":{"code":-32601,"message":"Method not found"}}`
    return null
  }

  return {
    async initialize({ idText }, reply) {
      const server = await inEra(legacy)
      if (reply.isDone) return
      if (server === null) return reply.respond(400, unsupported(idText))
      const release = await sessions.reserve(false)
      const session = createSession(randomUUID(), null, clock)
      sessions.add(session, release)
      reply.setSession(session.id)
      reply.respond(200, `{"jsonrpc":"2.0","id":${idText},"result":${server.resultText}}`)
    },
    async serve(session, message, reply) {
      const { text, method, idText } = message
      if (method === null || idText === null) {
        // The handshake is the gateway's, and so are answers and what follows from capabilities it did not claim.
        if (method === 'notifications/cancelled') session.cancel(text)
        return reply.empty(202)
      }
      const { link } = await legacy.get()
      if (reply.isDone) return
      const answer = answerFor(session, message)
      if (answer === null) session.ask({ link, text, idText, reply })
      else reply.respond(200, answer)
    },
    forget(session) {
      const alone = [...session.subscriptions].filter((uri) => subscriptions.remove(session, uri))
      if (alone.length === 0) return
      const cancelAll = ({ link }: { link: Link }): void => {
        for (const uri of alone) tryAsk(link, 'resources/unsubscribe', uri)
      }
      // A server that has ended has forgotten them as well.
      legacy.running()?.then(cancelAll, () => undefined)
    },
    close: legacy.close,
  }
}

/** Asks for itself; nobody waits for the answer. */
function tryAsk(link: Link, method: string, uri: string): void {
  const nobody = { idText: '0', onNotification: nothing, onResponse: nothing, onFailure: nothing }
  try {
    link.ask(JSON.stringify({ jsonrpc: '2.0', id: 0, method, params: { uri } }), nobody)
  } catch {
    // As above.
  }
}

const nothing = (): void => undefined

/** [MCP 2026-07-28 basic/versioning] */
function unsupported(idText: string): string {
  const data = { supported: ['2026-07-28'], requested: '2025-11-25' }
  const error = { code: -32022, message: 'Unsupported protocol version', data }
  return `{"jsonrpc":"2.0","id":${idText},"error":${JSON.stringify(error)}}`
}
