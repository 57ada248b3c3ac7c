/**
 * Upstreams under a test's control, on loopback, with counters.
 *
 * - {@link startRawUpstream}: every request goes to one handler, which may answer, stall, lie or die.
 * - {@link startScriptedUpstream}: answers `initialize`, `server/discover` and `tools/list` by itself, so that the gateway
 *   has a catalogue; everything else goes to the test's handler.
 *
 * The official SDK servers stand in `sdk-upstreams.ts`.
 */
import { once } from 'node:events'
import type { IncomingHttpHeaders, IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'

/** One request as it arrived. */
export interface RawRequest {
  readonly httpMethod: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  /** name, value, name, value, as received. */
  readonly rawHeaders: readonly string[]
  readonly body: Buffer
  /** The body parsed as JSON; null when it is empty or not JSON. */
  readonly json: Readonly<Record<string, unknown>> | null
  /** JSON-RPC method of the body, or the HTTP method when there is none. */
  readonly method: string
  /** JSON-RPC id as parsed; undefined when there is none. */
  readonly id: unknown
  /** `params.name` of the body, if it is a string. */
  readonly name: string | null
}

/** The reply to one request. Nothing is sent until one of the functions is called. */
export interface RawReply {
  readonly response: ServerResponse
  /** Resolves when the other side has gone, or the reply was completed. */
  readonly closed: Promise<void>
  /** true once the connection closed before the reply was complete. */
  readonly abandoned: boolean
  /** Sends a JSON body. */
  json(status: number, body: unknown, headers?: Record<string, string>): void
  /** Sends any bytes as the whole body. */
  send(status: number, body: string | Buffer, headers?: Record<string, string>): void
  /** Answers the request's id with this result; what 2026-07-28 demands of every result is added when it is missing. */
  result(result: unknown, headers?: Record<string, string>): void
  /** Answers the request's id with this JSON-RPC error. */
  error(code: number, message: string, status?: number): void
  /** Starts a stream of events. */
  stream(headers?: Record<string, string>): RawStream
  /** Sends a head that promises `promised` bytes and then only these. */
  partial(promised: number, body: string, headers?: Record<string, string>): void
  /** Breaks the connection without a further word. */
  die(): void
}

/** A reply that is a stream of server-sent events. */
export interface RawStream {
  /** Sends one event whose data is this message. Returns false when the receiver is not keeping up. */
  message(message: unknown, fields?: { id?: string; event?: string; retry?: string }): boolean
  /** Answers the request's id with this result, as an event. */
  result(result: unknown): void
  /** Sends these bytes as they are. */
  raw(text: string | Buffer): boolean
  end(): void
  die(): void
}

export type RawHandler = (request: RawRequest, reply: RawReply) => void | Promise<void>

export interface RawUpstream {
  /** Address of its MCP endpoint. */
  readonly url: string
  readonly port: number
  /** All requests so far, in order of arrival. */
  readonly requests: readonly RawRequest[]
  /** Requests so far with this JSON-RPC method (or `GET`, `DELETE`); all of them without a method. */
  count(method?: string): number
  /** tools/call requests so far that name this tool; of any tool without a name. */
  calls(tool?: string): number
  /** Resolves with the next request of this method, or one that has already arrived at that index. */
  waitFor(method: string, index?: number): Promise<RawRequest>
  /** Replaces the handler. */
  handle(handler: RawHandler): void
  /** Connections that are open now. */
  connections(): number
  /** Stops and breaks all connections. */
  close(): Promise<void>
}

/** Starts an upstream whose every request goes to `handler`. `port` 0 = any free one. */
export async function startRawUpstream(handler: RawHandler, port = 0): Promise<RawUpstream> {
  let current = handler
  const requests: RawRequest[] = []
  const waiting = new Set<() => void>()
  const sockets = new Set<Socket>()

  const server = createServer((incoming, response) => {
    void serve(incoming, response).catch((thrown: unknown) => response.destroy(thrown as Error))
  })
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })

  async function serve(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const request = await readRequest(incoming)
    requests.push(request)
    for (const wake of [...waiting]) wake()
    await current(request, createReply(request, response))
  }

  server.listen(port, '127.0.0.1')
  await once(server, 'listening')
  const bound = (server.address() as AddressInfo).port
  const matching = (method: string) => requests.filter((request) => request.method === method)

  return {
    url: `http://127.0.0.1:${bound}/mcp`,
    port: bound,
    requests,
    count: (method) => (method === undefined ? requests.length : matching(method).length),
    calls: (tool) =>
      matching('tools/call').filter((request) => tool === undefined || request.name === tool).length,
    waitFor: (method, index) => {
      const at = index ?? matching(method).length
      return new Promise((resolve) => {
        const look = () => {
          const found = matching(method)[at]
          if (found === undefined) return
          waiting.delete(look)
          resolve(found)
        }
        waiting.add(look)
        look()
      })
    },
    handle: (next) => {
      current = next
    },
    connections: () => sockets.size,
    close: async () => {
      for (const socket of sockets) socket.destroy()
      if (!server.listening) return
      server.close()
      await once(server, 'close')
    },
  }
}

/** A tool as the scripted upstream lists it. */
export interface ScriptedTool {
  readonly name: string
  readonly description?: string
  readonly inputSchema?: unknown
  readonly annotations?: Readonly<Record<string, unknown>>
  readonly [member: string]: unknown
}

export interface ScriptedUpstream extends RawUpstream {
  /** What `tools/list` answers from now on. */
  setTools(tools: readonly ScriptedTool[]): void
}

export interface ScriptedOptions {
  readonly tools?: readonly ScriptedTool[]
  /** Everything but the handshake and `tools/list`. Without it: a text result that echoes the arguments. */
  readonly handle?: RawHandler
  /** Which eras it answers; `both` when absent. */
  readonly era?: 'legacy' | 'modern' | 'both'
  /** Issue a session id on `initialize`: the same for all, or what this function makes. */
  readonly sessions?: boolean | (() => string)
  readonly port?: number
}

export const SCRIPTED_SESSION = 'scripted-session-1'

/** Starts an upstream that does the handshake and the tool list by itself. */
export async function startScriptedUpstream(options: ScriptedOptions = {}): Promise<ScriptedUpstream> {
  let tools = options.tools ?? [{ name: 'echo', inputSchema: { type: 'object' } }]
  let handle = options.handle ?? echoArguments
  const upstream = await startRawUpstream(async (request, reply) => {
    if (!handshake(request, reply, options, tools)) await handle(request, reply)
  }, options.port)
  return {
    ...upstream,
    handle: (next) => {
      handle = next
    },
    setTools: (next) => {
      tools = next
    },
  }
}

const MODERN = '2026-07-28'

function handshake(
  request: RawRequest,
  reply: RawReply,
  options: ScriptedOptions,
  tools: readonly ScriptedTool[],
): boolean {
  const era = options.era ?? 'both'
  const listed = tools.map((tool) => ({ inputSchema: { type: 'object' }, ...tool }))
  const capabilities = { tools: {}, resources: {}, prompts: {}, logging: {} }
  const serverInfo = { name: 'scripted', version: '1.0.0' }
  switch (request.method) {
    case 'server/discover':
      if (era === 'legacy') reply.error(-32000, 'Bad Request: unsupported', 400)
      else {
        const cached = { ttlMs: 0, cacheScope: 'public' }
        reply.result({ supportedVersions: [MODERN], capabilities, serverInfo, ...cached })
      }
      return true
    case 'initialize': {
      const params = request.json?.['params'] as { protocolVersion?: string } | undefined
      const { sessions = false } = options
      const id = typeof sessions === 'function' ? sessions() : SCRIPTED_SESSION
      const session = sessions === false ? {} : { 'mcp-session-id': id }
      reply.result(
        { protocolVersion: params?.protocolVersion ?? '2025-11-25', capabilities, serverInfo },
        session,
      )
      return true
    }
    case 'notifications/initialized':
      reply.send(202, '')
      return true
    case 'tools/list': {
      const modern = request.headers['mcp-protocol-version'] === MODERN
      const cached = modern ? { ttlMs: 0, cacheScope: 'public' } : {}
      reply.result({ tools: listed, ...cached })
      return true
    }
    default:
      return false
  }
}

/** Answers tools/call with the arguments as text, 202 to notifications, 405 to GET and 200 to DELETE. */
export const echoArguments: RawHandler = (request, reply) => {
  if (request.httpMethod === 'GET') return reply.send(405, '', { allow: 'POST, DELETE' })
  if (request.httpMethod === 'DELETE') return reply.send(200, '')
  if (request.id === undefined) return reply.send(202, '')
  const params = request.json?.['params'] as { arguments?: unknown } | undefined
  reply.result({ content: [{ type: 'text', text: JSON.stringify(params?.arguments ?? {}) }] })
}

async function readRequest(incoming: IncomingMessage): Promise<RawRequest> {
  const chunks: Buffer[] = []
  for await (const chunk of incoming) chunks.push(chunk as Buffer)
  const body = Buffer.concat(chunks)
  const json = parseObject(body)
  const params = json?.['params'] as Record<string, unknown> | undefined
  return {
    httpMethod: incoming.method ?? '',
    path: incoming.url ?? '',
    headers: incoming.headers,
    rawHeaders: incoming.rawHeaders,
    body,
    json,
    method:
      typeof json?.['method'] === 'string'
        ? json['method']
        : json === null
          ? (incoming.method ?? '')
          : 'response',
    id: json?.['id'],
    name: typeof params?.['name'] === 'string' ? params['name'] : null,
  }
}

function parseObject(body: Buffer): Record<string, unknown> | null {
  try {
    const parsed: unknown = JSON.parse(body.toString())
    return typeof parsed === 'object' && parsed !== null ? (parsed as Record<string, unknown>) : null
  } catch {
    return null
  }
}

function createReply(request: RawRequest, response: ServerResponse): RawReply {
  let abandoned = false
  const closed = new Promise<void>((resolve) => {
    response.on('close', () => {
      abandoned = !response.writableFinished
      resolve()
    })
  })
  const send = (status: number, body: string | Buffer, headers: Record<string, string> = {}) => {
    response.writeHead(status, headers)
    response.end(body)
  }
  const json = (status: number, body: unknown, headers: Record<string, string> = {}) =>
    send(status, JSON.stringify(body), { 'content-type': 'application/json', ...headers })
  return {
    response,
    closed,
    get abandoned() {
      return abandoned
    },
    json,
    send,
    result: (result, headers) =>
      json(200, { jsonrpc: '2.0', id: request.id, result: inEra(request, result) }, headers),
    error: (code, message, status = 200) =>
      json(status, { jsonrpc: '2.0', id: request.id, error: { code, message } }),
    stream: (headers) => createStream(request, response, headers),
    partial: (promised, body, headers = {}) => {
      response.writeHead(200, { 'content-type': 'application/json', ...headers, 'content-length': promised })
      response.write(body)
    },
    die: () => {
      response.socket?.destroy()
    },
  }
}

function inEra(request: RawRequest, result: unknown): unknown {
  const modern = request.headers['mcp-protocol-version'] === MODERN
  return modern && typeof result === 'object' ? { resultType: 'complete', ...result } : result
}

function createStream(
  request: RawRequest,
  response: ServerResponse,
  headers: Record<string, string> = {},
): RawStream {
  response.writeHead(200, { 'content-type': 'text/event-stream', ...headers })
  response.flushHeaders()
  const message: RawStream['message'] = (content, fields = {}) => {
    const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\n`)
    return response.write(`${lines.join('')}data: ${JSON.stringify(content)}\n\n`)
  }
  return {
    message,
    result: (result) => {
      message({ jsonrpc: '2.0', id: request.id, result: inEra(request, result) })
    },
    raw: (text) => response.write(text),
    end: () => {
      response.end()
    },
    die: () => {
      response.socket?.destroy()
    },
  }
}
