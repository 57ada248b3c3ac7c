/**
 * A stdio upstream as a Streamable HTTP one, without HTTP: takes requests where undici would take them, so that everything
 * in front of it (deadlines, breaker, catalogue, sessions, streams) is the same for both. [MCP basic/transports]
 *
 * A 2025-x session has a server of its own, or shares one with all others (`sessions`). Requests of 2026-07-28 stand alone
 * and share one. What the gateway asks for itself (tools, health) always goes to a shared one.
 */
import { Dispatcher } from 'undici'
import { GatewayError, toGatewayError } from '../../errors.ts'
import { EVERY_CAPABILITY } from '../catalog-client.ts'
import type { ChildSurroundings, StdioCommand } from './child.ts'
import { HttpReply } from './http-reply.ts'
import { createModernTraffic } from './modern-traffic.ts'
import { createOwnTraffic } from './own-traffic.ts'
import type { Posted } from './posted.ts'
import { isRequest, readPosted, refuse } from './posted.ts'
import { createSessions } from './sessions.ts'
import type { SharedTraffic } from './shared-traffic.ts'
import { createSharedTraffic } from './shared-traffic.ts'

/** What the bridge to one stdio server is made with. */
export interface StdioBridgeOptions {
  readonly command: StdioCommand
  readonly surroundings: ChildSurroundings
  /** Whether each 2025-x session of a caller has a server of its own. */
  readonly sessions: 'per_session' | 'shared'
  /** Servers for sessions at the same time. */
  readonly maxChildren: number
  readonly sessionIdleMs: number
  /** Longest the gateway waits for a shared server to come up. */
  readonly startTimeoutMs: number
  readonly version: string
  readonly random: () => number
}

/** Stands where an HTTP upstream has its connections. */
export interface StdioBridge {
  /** For what callers send. */
  readonly calls: Dispatcher
  /** For what the gateway itself asks. */
  readonly own: Dispatcher
  /** Ends all servers; resolves when nothing of them is left. */
  close(): Promise<void>
}

/** Sessions on one shared server cost memory only. */
const MAX_SHARED_SESSIONS = 10_000

/** Starts nothing yet. */
export function createStdioBridge(options: StdioBridgeOptions): StdioBridge {
  const sessions = createSessions({
    maxOwn: options.maxChildren,
    maxShared: MAX_SHARED_SESSIONS,
    idleMs: options.sessionIdleMs,
    clock: options.surroundings.clock,
    onSharedEnd: (session) => shared.forget(session),
  })
  // Where only the gateway itself uses it, it lists what it offers to any of the clients.
  const capabilities = options.sessions === 'shared' ? {} : EVERY_CAPABILITY
  const shared: SharedTraffic = createSharedTraffic({ ...options, sessions, capabilities })
  const modern = createModernTraffic({ ...options, capabilities })
  const own = createOwnTraffic({ ...options, sessions })

  async function serve(request: BridgeRequest, reply: HttpReply, isShared: boolean): Promise<void> {
    if (request.httpMethod !== 'POST') return await serveBodiless(request, reply)
    const posted = readPosted(request.body)
    if (posted === null) refuse(reply, 'malformed', null)
    else if (posted.isModern) await modern.serve(posted, reply)
    else if (posted.method !== 'initialize' || !isRequest(posted))
      await serveSession(request.sessionId, posted, reply)
    else if (isShared) await shared.initialize(posted, reply)
    else await own.initialize(posted, reply)
  }

  async function serveSession(id: string | null, posted: Posted, reply: HttpReply): Promise<void> {
    const session = id === null ? null : sessions.find(id)
    if (session === null) refuse(reply, id === null ? 'noSession' : 'unknownSession', posted.idText)
    else if (session.own === null) await shared.serve(session, posted, reply)
    else own.serve(session, session.own, posted, reply)
  }

  async function serveBodiless({ httpMethod, sessionId }: BridgeRequest, reply: HttpReply): Promise<void> {
    const session = sessionId === null ? null : sessions.find(sessionId)
    if (session === null) reply.empty(sessionId === null ? 405 : 404)
    else if (httpMethod === 'GET') session.listen(reply) || refuse(reply, 'secondStream', null)
    else {
      await sessions.end(session, new GatewayError('client_closed', { detail: 'the session was ended' }))
      reply.empty(200)
    }
  }

  const dispatcherFor = (isShared: boolean): Dispatcher =>
    new BridgeDispatcher((request, reply) => serve(request, reply, isShared)).compose(
      // What is composed gets handlers of undici's present form, also from callers of the older one.
      (dispatch) => (request, handler) => dispatch(request, handler),
    )

  return {
    calls: dispatcherFor(options.sessions === 'shared'),
    own: dispatcherFor(true),
    async close() {
      await Promise.all([sessions.close(), shared.close(), modern.close()])
    },
  }
}

interface BridgeRequest {
  readonly httpMethod: string
  readonly sessionId: string | null
  readonly body: string
}

class BridgeDispatcher extends Dispatcher {
  readonly #serve: (request: BridgeRequest, reply: HttpReply) => Promise<void>

  constructor(serve: (request: BridgeRequest, reply: HttpReply) => Promise<void>) {
    super()
    this.#serve = serve
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
    const reply = new HttpReply(handler)
    const headers = options.headers as Readonly<Record<string, string>> | undefined
    const request: BridgeRequest = {
      httpMethod: options.method,
      sessionId: headers?.['mcp-session-id'] ?? null,
      body: options.body === null || options.body === undefined ? '' : String(options.body),
    }
    if (!reply.isDone)
      void this.#serve(request, reply).catch((thrown: unknown) => reply.fail(toGatewayError(thrown)))
    return true
  }
}
