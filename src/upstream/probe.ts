/**
 * A look at one upstream, as cheap as its era allows: `server/discover` on 2026-07-28, `ping` on a session of the gateway's
 * own before that. The answer does not matter, only that there is one.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type { Dispatcher } from 'undici'
import type { CallSignal } from '../call-signal.ts'
import type { ExchangeReceiver } from './exchange.ts'
import { exchange } from './exchange.ts'
import type { ForwardTarget } from './forward.ts'
import { EVENT_STREAM, failed } from './head-plan.ts'
import { issuedSession, mediaType } from './headers.ts'
import type { StreamWatch } from './stream-watch.ts'

/** What a probe is made with. */
export interface ProbeOptions {
  readonly target: Pick<ForwardTarget, 'url' | 'own'>
  readonly dispatcher: Dispatcher
  readonly watch: StreamWatch
  readonly timeoutMs: number
  /** Version of the gateway, as upstreams see it. */
  readonly version: string
}

/** Asks one upstream whether it is there. */
export interface Probe {
  /**
   * Asks in the revision the upstream was last heard in. Resolves with the HTTP status of the answer: a 4xx means that it is
   * there and may speak another revision by now.
   * @throws GatewayError `upstream_failed`, `upstream_timeout`
   */
  ask(protocolVersion: string, signal: CallSignal): Promise<number>
  /** Ends the session, if there is one. Never rejects. */
  close(): Promise<void>
}

/** First revision without sessions. */
const STATELESS = '2026-07-28'
/** More of an answer that nobody reads is not waited for. */
const MAX_BYTES = 65_536
const CLOSE_TIMEOUT_MS = 1000

const POST_HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
}

interface Answer {
  readonly status: number
  readonly headers: IncomingHttpHeaders
}

/** Makes a probe; it asks when it is told to. */
export function createProbe(options: ProbeOptions): Probe {
  const { target, dispatcher, watch } = options
  const connection = { dispatcher, watch }
  const path = `${target.url.pathname}${target.url.search}`
  const common = {
    'accept-encoding': 'identity',
    'user-agent': target.own.userAgent,
    ...target.own.configured,
  }
  const clientInfo = { name: 'mcp-policy-gateway', version: options.version }
  let session: { readonly id: string; readonly version: string } | null = null
  let isInitialized = false
  let lastId = 0

  async function post(
    method: string,
    params: object,
    headers: Record<string, string>,
    signal: CallSignal,
  ): Promise<Answer> {
    lastId += 1
    const id = method.startsWith('notifications/') ? {} : { id: lastId }
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...id, method, params }))
    const receiver = createAnswerReceiver()
    await exchange(
      { method: 'POST', path, headers: { ...POST_HEADERS, ...common, ...headers }, body },
      receiver,
      { ...connection, timeoutMs: options.timeoutMs, signal },
    )
    return receiver.answer()
  }

  async function discover(version: string, signal: CallSignal): Promise<number> {
    const method = 'server/discover'
    const headers = { 'mcp-protocol-version': version, 'mcp-method': method }
    return (await post(method, discoverParams(version, clientInfo), headers, signal)).status
  }

  /** A session that has ended is replaced once; whoever refuses that as well refuses. */
  async function ping(version: string, signal: CallSignal): Promise<number> {
    if (isInitialized) {
      const { status } = await post('ping', {}, sessionHeaders(version), signal)
      if (status < 400 || status >= 500) return status
    }
    const status = await initialize(version, signal)
    return status >= 300 ? status : (await post('ping', {}, sessionHeaders(version), signal)).status
  }

  async function initialize(version: string, signal: CallSignal): Promise<number> {
    isInitialized = false
    session = null
    const params = { protocolVersion: version, capabilities: {}, clientInfo }
    const { status, headers } = await post('initialize', params, {}, signal)
    if (status >= 300) return status
    const id = issuedSession(headers) ?? null
    session = id === null ? null : { id, version }
    isInitialized = true
    await post('notifications/initialized', {}, sessionHeaders(version), signal)
    return status
  }

  function sessionHeaders(version: string): Record<string, string> {
    return { 'mcp-protocol-version': version, ...(session === null ? {} : { 'mcp-session-id': session.id }) }
  }

  return {
    ask: (version, signal) => (version >= STATELESS ? discover(version, signal) : ping(version, signal)),
    async close() {
      if (session === null) return
      const headers = { ...common, ...sessionHeaders(session.version) }
      session = null
      const bounds = { ...connection, timeoutMs: CLOSE_TIMEOUT_MS, signal: null }
      await exchange({ method: 'DELETE', path, headers, body: null }, createAnswerReceiver(), bounds).catch(
        () => undefined,
      )
    },
  }
}

function discoverParams(version: string, clientInfo: object) {
  return {
    _meta: {
      'io.modelcontextprotocol/protocolVersion': version,
      'io.modelcontextprotocol/clientCapabilities': {},
      'io.modelcontextprotocol/clientInfo': clientInfo,
    },
  }
}

/** Reads a JSON answer to its end, so that one that stalls is noticed; of a stream its head is proof enough. */
function createAnswerReceiver(): ExchangeReceiver & { answer(): Answer } {
  let answer: Answer | null = null
  let bytes = 0
  return {
    onHead(status, headers) {
      answer = { status, headers }
      return mediaType(headers) === EVENT_STREAM ? 'done' : null
    },
    onChunk(chunk) {
      bytes += chunk.length
      return bytes > MAX_BYTES ? 'done' : 'more'
    },
    answer() {
      if (answer === null) throw failed('it closed without an answer')
      return answer
    },
  }
}
