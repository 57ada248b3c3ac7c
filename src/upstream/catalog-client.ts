/**
 * Asks an upstream for its tools, as a client of its own: the official SDK does the handshake of whatever revision the
 * upstream speaks. What comes back is untrusted and bounded in pages, tools, bytes and time.
 */
import type { IncomingHttpHeaders } from 'node:http'
import type {
  Client,
  ClientCapabilities,
  RequestOptions,
  StandardSchemaV1,
} from '@modelcontextprotocol/client'
import type { Dispatcher } from 'undici'
import { asObject } from '../json/object.ts'
import { ConnectionFault, connectionError } from './exchange.ts'
import { failed } from './head-plan.ts'
import type { OwnHeaders } from './headers.ts'
import { isIdentity } from './headers.ts'

/** Bounds on one reading of the whole list. */
export interface CatalogBounds {
  readonly maxPages: number
  readonly maxTools: number
  /** Bytes of all answers together. */
  readonly maxBytes: number
  /** Bytes of one answer, which is parsed at one go: everybody waits for that. */
  readonly maxPageBytes: number
  readonly timeoutMs: number
}

/** What reading a list of tools needs. */
export interface CatalogClientOptions {
  readonly url: URL
  readonly own: OwnHeaders
  readonly version: string
  readonly dispatcher: Dispatcher
  readonly bounds: CatalogBounds
  /** Told when there is no connection, no answer in time or a 5xx; what else goes wrong is only thrown. */
  readonly onFault: () => void
}

/** The tools as the upstream listed them, unchecked, and the revision it answered in. */
export interface ListedTools {
  readonly tools: readonly unknown[]
  readonly protocolVersion: string | null
}

/** Connects, reads all pages and ends the session again. Throws `upstream_failed` or an error of the SDK or connection. */
export async function listTools(options: CatalogClientOptions, signal: AbortSignal): Promise<ListedTools> {
  const { bounds } = options
  // A fifth of what a gateway loads, and it can listen without.
  const sdk = await import('@modelcontextprotocol/client')
  const ending = new AbortController()
  const end = () => ending.abort(signal.reason)
  const timer = setTimeout(() => {
    options.onFault()
    ending.abort(failed('it did not list its tools in time'))
  }, bounds.timeoutMs)
  signal.addEventListener('abort', end, { once: true })
  if (signal.aborted) end()
  const client = new sdk.Client(
    { name: 'mcp-policy-gateway', version: options.version },
    { versionNegotiation: { mode: 'auto' }, capabilities: EVERY_CAPABILITY },
  )
  // A broken notification or event is not a reason to stop; a broken answer rejects the request it belongs to.
  client.onerror = () => {}
  const transport = new sdk.StreamableHTTPClientTransport(options.url, {
    fetch: boundedFetch(options, ending.signal),
    redirectPolicy: 'follow',
  })
  try {
    // Our own timer is the deadline; the SDK's would count for each request anew.
    const request = { signal: ending.signal, timeout: bounds.timeoutMs * 2 }
    await client.connect(transport, request)
    const tools = await readPages(client, bounds, request)
    return { tools, protocolVersion: client.getNegotiatedProtocolVersion() ?? null }
  } finally {
    await transport.terminateSession().catch(() => undefined)
    await client.close().catch(() => undefined)
    clearTimeout(timer)
    signal.removeEventListener('abort', end)
    // Whatever is still open, such as an answer that was not read to its end.
    ending.abort()
  }
}

/**
 * Servers offer some tools only to clients that can be asked for something. Our callers may be such clients, so all of these
 * are claimed; a request that comes of it meets no handler here, and is answered so.
 */
export const EVERY_CAPABILITY: ClientCapabilities = {
  sampling: { context: {}, tools: {} },
  elicitation: { form: {}, url: {} },
  roots: { listChanged: true },
  tasks: {
    list: {},
    cancel: {},
    requests: { sampling: { createMessage: {} }, elicitation: { create: {} } },
  },
}

async function readPages(client: Client, bounds: CatalogBounds, request: RequestOptions): Promise<unknown[]> {
  const tools: unknown[] = []
  const seen = new Set<string>()
  let cursor: string | null = null
  do {
    const params: Record<string, unknown> = cursor === null ? {} : { cursor }
    const page = await client.request({ method: 'tools/list', params }, TOOL_PAGE, request)
    for (const tool of page.tools) tools.push(tool)
    if (tools.length > bounds.maxTools) throw failed(`it lists more than ${bounds.maxTools} tools`)
    cursor = page.nextCursor
    if (cursor !== null && seen.has(cursor)) throw failed('its tool list goes round in circles')
    if (cursor !== null) seen.add(cursor)
    if (seen.size >= bounds.maxPages && cursor !== null)
      throw failed(`its tool list has more than ${bounds.maxPages} pages`)
  } while (cursor !== null)
  return tools
}

interface ToolPage {
  readonly tools: readonly unknown[]
  readonly nextCursor: string | null
}

/**
 * Only the page is checked here, each tool on its own later: one malformed tool must not hide the others. (On 2026-07-28 the
 * SDK checks every tool nevertheless, here as in the clients of that upstream.) The interface is Standard Schema's
 * (https://standardschema.dev), which the SDK takes.
 */
const TOOL_PAGE: StandardSchemaV1<unknown, ToolPage> = {
  '~standard': {
    version: 1,
    vendor: 'mcp-policy-gateway',
    validate: (value) => {
      const page = asObject(value)
      const tools = page?.['tools']
      const nextCursor = page?.['nextCursor'] ?? null
      if (!Array.isArray(tools) || !(nextCursor === null || typeof nextCursor === 'string'))
        return { issues: [{ message: 'not a page of tools' }] }
      return { value: { tools, nextCursor } }
    },
  },
}

type Fetch = (url: string | URL, init?: RequestInit) => Promise<Response>

/**
 * `fetch` for the SDK over the upstream's own connections: configured headers, one address, no redirects, no more bytes than
 * allowed. It keeps only the two headers the SDK needs, so that nothing can make it start an authorization flow.
 */
function boundedFetch(options: CatalogClientOptions, signal: AbortSignal): Fetch {
  let left = options.bounds.maxBytes

  /** What we ended ourselves is no fault of the connection. */
  function note(thrown: unknown): void {
    const isAbort = thrown instanceof Error && thrown.name === 'AbortError'
    if (!(signal.aborted || isAbort) && connectionError(thrown) instanceof ConnectionFault) options.onFault()
  }

  async function* bounded(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    const { maxPageBytes } = options.bounds
    let pageLeft = maxPageBytes
    try {
      for await (const chunk of body) {
        left -= chunk.length
        pageLeft -= chunk.length
        if (pageLeft < 0) throw failed(`a page of its tool list is larger than ${maxPageBytes} bytes`)
        if (left < 0) throw failed(`its tool list is larger than ${options.bounds.maxBytes} bytes`)
        yield chunk
      }
    } catch (thrown) {
      note(thrown)
      throw thrown
    }
  }

  async function send(method: 'POST' | 'DELETE', init: RequestInit): Promise<Dispatcher.ResponseData> {
    try {
      return await options.dispatcher.request({
        method,
        path: `${options.url.pathname}${options.url.search}`,
        headers: { ...Object.fromEntries(new Headers(init.headers)), ...ownHeaders(options.own) },
        body: typeof init.body === 'string' ? init.body : null,
        signal: init.signal ? AbortSignal.any([signal, init.signal]) : signal,
      })
    } catch (thrown) {
      note(thrown)
      throw thrown
    }
  }

  return async (_url, init = {}) => {
    const method = init.method ?? 'GET'
    // The stream for notifications: a reader of one list has no use for it.
    if (method === 'GET') return new Response(null, { status: 405 })
    const answer = await send(method === 'DELETE' ? 'DELETE' : 'POST', init)
    const { statusCode: status, body } = answer
    if (status >= 500) options.onFault()
    // A body that is destroyed says so with an event, which nobody else may be there to hear.
    body.on('error', () => {})
    const head = { status, headers: keptHeaders(answer.headers) }
    if (BODILESS.has(status)) {
      body.destroy()
      return new Response(null, head)
    }
    if ((status !== 200 && status < 400) || !isIdentity(answer.headers)) {
      body.destroy()
      throw failed(`it answered ${status} to a request for its tools`)
    }
    return new Response(ReadableStream.from(bounded(body)), head)
  }
}

function keptHeaders(headers: IncomingHttpHeaders): Headers {
  const kept = new Headers()
  for (const name of ['content-type', 'mcp-session-id']) {
    const value = headers[name]
    if (typeof value === 'string') kept.set(name, value)
  }
  return kept
}

/** Answers to notifications and DELETE: a Response of such a status may not, or need not, have a body. */
const BODILESS = new Set([202, 204])

function ownHeaders(own: OwnHeaders): Record<string, string> {
  return { 'user-agent': own.userAgent, 'accept-encoding': 'identity', ...own.configured }
}
