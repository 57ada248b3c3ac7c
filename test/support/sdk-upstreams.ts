/**
 * Upstreams made with the official SDKs, on loopback, with counters and the raw bodies they received.
 *
 * - {@link startV1Upstream}: v1 SDK, 2025-11-25, with sessions, a GET stream and requests to the client.
 * - {@link startV2Upstream}: v2 SDK, both eras from one factory (2025-x stateless, 2026-07-28).
 *
 * Tools: `echo` (text), `slow` (milliseconds), `progress` (steps), `bignum` (value), `fail` (isError), `ask` (sampling),
 * `elicit` (elicitation), `destroy` (annotated as destructive).
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { toNodeHandler } from '@modelcontextprotocol/node'
import { Server as V1Server } from '@modelcontextprotocol/sdk/server/index.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import {
  CallToolRequestSchema,
  CreateMessageResultSchema,
  ElicitResultSchema,
  isInitializeRequest,
  ListResourcesRequestSchema,
  ListToolsRequestSchema,
  ReadResourceRequestSchema,
  SubscribeRequestSchema,
  UnsubscribeRequestSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { createMcpHandler, Server as V2Server } from '@modelcontextprotocol/server'

export interface SdkUpstream {
  readonly url: string
  /** JSON-RPC bodies as received, in order. */
  readonly bodies: readonly Buffer[]
  /** Requests with this JSON-RPC method so far, or with this HTTP method when they have no body. */
  count(method: string): number
  /** Runs of this tool so far (of all tools without a name). */
  calls(tool?: string): number
  /** Runs of a tool that were cancelled before they ended. */
  cancelled(): number
  close(): Promise<void>
}

interface Progress {
  report(progress: number, total: number): Promise<void>
  ask(): Promise<string>
  elicit(): Promise<string>
  readonly signal: AbortSignal
}

const object = (properties: Record<string, Record<string, string | number>>, required: string[] = []) => ({
  type: 'object' as const,
  properties,
  required,
})

const TOOLS = [
  {
    name: 'echo',
    description: 'Returns its text',
    inputSchema: object({ text: { type: 'string' } }, ['text']),
    annotations: { readOnlyHint: true },
  },
  {
    name: 'slow',
    description: 'Waits',
    inputSchema: object({ milliseconds: { type: 'number', minimum: 0, maximum: 60_000 } }),
    annotations: { readOnlyHint: true },
  },
  {
    name: 'progress',
    description: 'Reports its progress',
    inputSchema: object({ steps: { type: 'integer', minimum: 1, maximum: 1000 } }),
    annotations: { readOnlyHint: true },
  },
  { name: 'bignum', description: 'Takes any number', inputSchema: object({ value: { type: 'number' } }) },
  { name: 'fail', description: 'Always fails', inputSchema: object({}) },
  { name: 'ask', description: 'Asks the client to sample', inputSchema: object({}) },
  { name: 'elicit', description: 'Asks the user', inputSchema: object({}) },
  {
    name: 'destroy',
    description: 'Destroys something',
    inputSchema: object({ id: { type: 'string' } }, ['id']),
    annotations: { destructiveHint: true },
  },
]

type ToolResult = { content: { type: 'text'; text: string }[]; isError?: boolean }

const text = (value: string, isError = false): ToolResult => ({
  content: [{ type: 'text', text: value }],
  ...(isError ? { isError } : {}),
})

async function run(name: string, args: Record<string, unknown>, progress: Progress): Promise<ToolResult> {
  switch (name) {
    case 'echo':
      return text(String(args['text']))
    case 'slow':
      await delay(Number(args['milliseconds'] ?? 1000), undefined, { signal: progress.signal })
      return text('done')
    case 'progress': {
      const steps = Number(args['steps'] ?? 3)
      for (let step = 1; step <= steps; step += 1) await progress.report(step, steps)
      return text(`${steps} steps`)
    }
    case 'ask':
      return text(await progress.ask())
    case 'elicit':
      return text(await progress.elicit())
    case 'fail':
      return text('it failed', true)
    default:
      return text(`${name} ${JSON.stringify(args)}`)
  }
}

interface Counted {
  readonly bodies: Buffer[]
  readonly methods: string[]
  readonly tools: string[]
  cancelled: number
}

const newCounted = (): Counted => ({ bodies: [], methods: [], tools: [], cancelled: 0 })

async function counting(
  counted: Counted,
  name: string,
  args: unknown,
  progress: Progress,
): Promise<ToolResult> {
  counted.tools.push(name)
  progress.signal.addEventListener('abort', () => {
    counted.cancelled += 1
  })
  return await run(name, (args ?? {}) as Record<string, unknown>, progress)
}

const SAMPLING = {
  messages: [{ role: 'user' as const, content: { type: 'text' as const, text: 'Hello?' } }],
  maxTokens: 10,
}
const QUESTION = {
  mode: 'form' as const,
  message: 'Which one?',
  requestedSchema: { type: 'object' as const, properties: { choice: { type: 'string' as const } } },
}

/** {@link SdkUpstream} with sessions and resources that can be subscribed to. */
export interface SessionUpstream extends SdkUpstream {
  /** Ends all sessions and their streams, as a server that starts anew has none. */
  forgetSessions(): Promise<void>
  /** Tells those who have subscribed to this resource that it has changed; returns how many these are. */
  update(uri: string): Promise<number>
}

/** v1 SDK: sessions, GET stream, DELETE, requests to the client on the stream of the call, subscriptions to `test://..`. */
export async function startV1Upstream(): Promise<SessionUpstream> {
  const counted = newCounted()
  const transports = new Map<string, StreamableHTTPServerTransport>()
  const subscribers = new Map<V1Server, Set<string>>()

  function serveResources(server: V1Server): void {
    const subscribed = new Set<string>()
    subscribers.set(server, subscribed)
    server.onclose = () => subscribers.delete(server)
    server.setRequestHandler(ListResourcesRequestSchema, () => ({
      resources: ['test://a', 'test://b'].map((uri) => ({ uri, name: uri })),
    }))
    server.setRequestHandler(ReadResourceRequestSchema, ({ params: { uri } }) => ({
      contents: [{ uri, text: `content of ${uri}` }],
    }))
    server.setRequestHandler(SubscribeRequestSchema, ({ params: { uri } }) => {
      subscribed.add(uri)
      return {}
    })
    server.setRequestHandler(UnsubscribeRequestSchema, ({ params: { uri } }) => {
      subscribed.delete(uri)
      return {}
    })
  }

  function createV1(): V1Server {
    const info = { name: 'v1-fixture', version: '1.0.0' }
    const resources = { subscribe: true, listChanged: true }
    const capabilities = { tools: { listChanged: true }, logging: {}, resources }
    const server = new V1Server(info, { capabilities })
    serveResources(server)
    server.setRequestHandler(ListToolsRequestSchema, () => ({ tools: TOOLS }))
    server.setRequestHandler(CallToolRequestSchema, async (request, extra) => {
      const token = request.params._meta?.progressToken
      return await counting(counted, request.params.name, request.params.arguments, {
        signal: extra.signal,
        report: async (progress, total) => {
          if (token === undefined) return
          const params = { progressToken: token, progress, total }
          await extra.sendNotification({ method: 'notifications/progress', params })
        },
        ask: async () =>
          JSON.stringify(
            await extra.sendRequest(
              { method: 'sampling/createMessage', params: SAMPLING },
              CreateMessageResultSchema,
            ),
          ),
        elicit: async () =>
          JSON.stringify(
            await extra.sendRequest({ method: 'elicitation/create', params: QUESTION }, ElicitResultSchema),
          ),
      })
    })
    return server
  }

  async function open(): Promise<StreamableHTTPServerTransport> {
    const transport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      onsessioninitialized: (id) => {
        transports.set(id, transport)
      },
      onsessionclosed: (id) => {
        transports.delete(id)
      },
    })
    // The SDK's own class does not fit its own interface under exactOptionalPropertyTypes.
    await createV1().connect(transport as Parameters<V1Server['connect']>[0])
    return transport
  }

  const upstream = await serve(counted, async (request, response, body) => {
    const id = request.headers['mcp-session-id']
    const known = typeof id === 'string' ? transports.get(id) : undefined
    if (known !== undefined) return await known.handleRequest(request, response, body)
    if (id === undefined && isInitializeRequest(body))
      return await (await open()).handleRequest(request, response, body)
    const status = id === undefined ? 400 : 404
    const error = { code: id === undefined ? -32000 : -32001, message: 'No valid session' }
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ jsonrpc: '2.0', error, id: null }))
  })
  return {
    ...upstream,
    async forgetSessions() {
      const ending = [...transports.values()]
      transports.clear()
      for (const transport of ending) await transport.close()
    },
    async update(uri) {
      const told = [...subscribers].filter(([, subscribed]) => subscribed.has(uri))
      for (const [server] of told) await server.sendResourceUpdated({ uri })
      return told.length
    },
  }
}

/** v2 SDK: 2026-07-28 and, without sessions, 2025-x, from one factory. `legacy: 'reject'` = modern only. */
export async function startV2Upstream(legacy: 'stateless' | 'reject' = 'stateless'): Promise<SdkUpstream> {
  const counted = newCounted()
  const handler = createMcpHandler(
    () => {
      const info = { name: 'v2-fixture', version: '1.0.0' }
      const server = new V2Server(info, { capabilities: { tools: { listChanged: true }, logging: {} } })
      server.setRequestHandler('tools/list', () => ({ tools: TOOLS }))
      server.setRequestHandler('tools/call', async (request, context) => {
        const token = request.params._meta?.progressToken
        return await counting(counted, request.params.name, request.params.arguments, {
          signal: context.mcpReq.signal,
          report: async (progress, total) => {
            if (token === undefined) return
            const params = { progressToken: token, progress, total }
            await context.mcpReq.notify({ method: 'notifications/progress', params })
          },
          ask: async () => JSON.stringify(await context.mcpReq.requestSampling(SAMPLING)),
          elicit: async () => JSON.stringify(await context.mcpReq.elicitInput(QUESTION)),
        })
      })
      return server
    },
    { legacy },
  )
  const node = toNodeHandler(handler)
  const upstream = await serve(counted, async (request, response, body) => {
    await node(request as Parameters<typeof node>[0], response as unknown as Parameters<typeof node>[1], body)
  })
  return {
    ...upstream,
    close: async () => {
      await handler.close()
      await upstream.close()
    },
  }
}

type Serve = (request: IncomingMessage, response: ServerResponse, body: unknown) => Promise<void>

async function serve(counted: Counted, handle: Serve): Promise<SdkUpstream> {
  const sockets = new Set<Socket>()
  const server = createServer((request, response) => {
    void receive(counted, request)
      .then((body) => handle(request, response, body))
      .catch((thrown: unknown) => response.destroy(thrown as Error))
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`,
    bodies: counted.bodies,
    count: (method) => counted.methods.filter((one) => one === method).length,
    calls: (tool) => counted.tools.filter((one) => tool === undefined || one === tool).length,
    cancelled: () => counted.cancelled,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      server.close()
      await once(server, 'close')
    },
  }
}

async function receive(counted: Counted, request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk as Buffer)
  const body = Buffer.concat(chunks)
  const parsed: unknown = body.length === 0 ? undefined : JSON.parse(body.toString())
  if (body.length > 0) counted.bodies.push(body)
  const method = (parsed as { method?: unknown } | undefined)?.method
  counted.methods.push(typeof method === 'string' ? method : (request.method ?? ''))
  return parsed
}
