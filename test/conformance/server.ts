/**
 * The upstream the public conformance suite is run against: everything its scenarios ask for, made with the official SDK.
 * One address serves both eras: 2025-x with sessions, an event store and polling, 2026-07-28 without any state.
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { ReadableStream } from 'node:stream/web'
import { localhostHostValidation, localhostOriginValidation, toWebRequest } from '@modelcontextprotocol/node'
import type { EventStore, ServerContext, ServerNotifier } from '@modelcontextprotocol/server'
import {
  createMcpHandler,
  createRequestStateCodec,
  isInitializeRequest,
  isLegacyRequest,
  McpServer,
  WebStandardStreamableHTTPServerTransport,
} from '@modelcontextprotocol/server'
import { addAsking } from './server-asking.ts'
import { addInputRequired } from './server-input.ts'
import { addPrompts, addResources } from './server-offers.ts'
import { addTasks } from './server-tasks.ts'
import { addTools } from './server-tools.ts'

export interface ConformanceServer {
  readonly url: string
  close(): Promise<void>
}

/** How soon a client whose stream was closed in the middle of a call may come back. */
const RETRY_MS = 300

/** Listens on a free loopback port. */
export async function startConformanceServer(): Promise<ConformanceServer> {
  const states = createRequestStateCodec<string>({ key: randomUUID() })
  const modern = createMcpHandler(() => createServerOf(() => modern.notify, states), {
    legacy: 'reject',
    keepAliveMs: 0,
  })
  const sessions = createSessions(() => createServerOf(() => null, states))
  const [isKnownHost, isKnownOrigin] = [localhostHostValidation(), localhostOriginValidation()]
  const server = createServer((request, response) => {
    if (!(isKnownHost(request, response) && isKnownOrigin(request, response))) return
    const answer = async (asked: Request): Promise<Response> =>
      (await isLegacyRequest(asked)) ? await sessions.fetch(asked) : await modern.fetch(asked)
    // Left by its client, or a body that could not be read.
    relay(request, response, answer).catch(() => response.destroy())
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    async close() {
      await modern.close()
      await sessions.close()
      server.closeAllConnections()
      server.close()
      await once(server, 'close')
    },
  }
}

/** As the SDK's own adapter does, but a stream is open before its first event. */
async function relay(
  request: IncomingMessage,
  response: ServerResponse,
  answer: (asked: Request) => Promise<Response>,
): Promise<void> {
  const left = new AbortController()
  response.once('close', () => left.abort())
  const asked = await toWebRequest(request as Parameters<typeof toWebRequest>[0], undefined, {
    signal: left.signal,
  })
  const { status, headers, body } = await answer(asked)
  response.writeHead(status, Object.fromEntries(headers))
  response.flushHeaders()
  if (body === null) response.end()
  else await pipeline(Readable.fromWeb(body as ReadableStream), response)
}

/** Signs what a client has to hand back, and checks it. */
export interface States {
  mint(payload: string): Promise<string>
  verify(state: string, context: ServerContext): Promise<string>
}

/** A server with everything. `notify` gives the way to open subscriptions of the modern era; null in a session. */
function createServerOf(notify: () => ServerNotifier | null, states: States): McpServer {
  const server = new McpServer(
    { name: 'conformance-fixture', version: '1.0.0' },
    {
      capabilities: {
        tools: { listChanged: true },
        resources: { subscribe: true, listChanged: true },
        prompts: { listChanged: true },
        completions: {},
        logging: {},
      },
      requestState: { verify: (state, context) => states.verify(state, context) },
    },
  )
  addTools(server, notify)
  addAsking(server)
  addInputRequired(server, states)
  addResources(server)
  addPrompts(server)
  addTasks(server)
  return server
}

interface Sessions {
  fetch(request: Request): Promise<Response>
  close(): Promise<void>
}

function createSessions(create: () => McpServer): Sessions {
  const transports = new Map<string, WebStandardStreamableHTTPServerTransport>()

  async function open(): Promise<WebStandardStreamableHTTPServerTransport> {
    const transport = new WebStandardStreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      eventStore: createEventStore(),
      retryInterval: RETRY_MS,
      keepAliveMs: 0,
      onsessioninitialized: (id) => {
        transports.set(id, transport)
      },
      onsessionclosed: (id) => {
        transports.delete(id)
      },
    })
    await create().connect(transport)
    return transport
  }

  return {
    async fetch(request) {
      const id = request.headers.get('mcp-session-id')
      const known = id === null ? undefined : transports.get(id)
      if (known !== undefined) return await known.handleRequest(request)
      if (id !== null) return refuse(404, -32001, 'Session not found')
      if (request.method === 'POST' && isInitializeRequest(await bodyOf(request)))
        return await (await open()).handleRequest(request)
      return refuse(400, -32000, 'Bad Request: there is no session')
    },
    async close() {
      for (const transport of transports.values()) await transport.close()
    },
  }
}

async function bodyOf(request: Request): Promise<unknown> {
  return await request
    .clone()
    .json()
    .catch(() => null)
}

function refuse(status: number, code: number, message: string): Response {
  return Response.json({ jsonrpc: '2.0', error: { code, message }, id: null }, { status })
}

type StoredMessage = Parameters<EventStore['storeEvent']>[1]

/** Keeps the events of one session, in order, so that each of its streams can be taken up again. */
function createEventStore(): EventStore {
  const events: { readonly stream: string; readonly message: StoredMessage }[] = []
  const indexOf = (id: string): number => Number(id.slice(id.lastIndexOf('-') + 1))
  return {
    async storeEvent(stream, message) {
      events.push({ stream, message })
      return `event-${events.length - 1}`
    },
    async getStreamIdForEventId(id) {
      return events[indexOf(id)]?.stream
    },
    async replayEventsAfter(id, { send }) {
      const from = indexOf(id)
      const stream = events[from]?.stream ?? ''
      for (const [at, event] of events.entries()) {
        // A priming event has no message.
        const isDue = at > from && event.stream === stream && Object.keys(event.message).length > 0
        if (isDue) await send(`event-${at}`, event.message)
      }
      return stream
    },
  }
}
