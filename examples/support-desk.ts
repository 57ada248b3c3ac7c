/**
 * An example MCP server to try the gateway with: a support desk with a few tickets in memory.
 *
 *     node --import=tsx/esm examples/support-desk.ts [--port 9100] [--tenant acme]
 *
 * Speaks 2025-x with sessions and 2026-07-28 without, on http://127.0.0.1:<port>/mcp (port 0 = any free one). Says where in
 * one line on stderr. Ends on SIGTERM and SIGINT, and with the process that started it (when stdin is a pipe and closes).
 */
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { fstatSync } from 'node:fs'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseArgs } from 'node:util'
import {
  localhostHostValidation,
  localhostOriginValidation,
  NodeStreamableHTTPServerTransport,
  toNodeHandler,
} from '@modelcontextprotocol/node'
import { createMcpHandler, isInitializeRequest } from '@modelcontextprotocol/server'
import { createDesk } from './support-desk/desk.ts'
import { createSupportDeskServer } from './support-desk/server.ts'

const MAX_BODY_BYTES = 1024 * 1024
const MAX_SESSIONS = 1000

const { values } = parseArgs({
  options: {
    port: { type: 'string', default: '9100' },
    tenant: { type: 'string', default: 'acme' },
  },
})
const desk = createDesk(values.tenant)
const sessions = new Map<string, NodeStreamableHTTPServerTransport>()
const stateless = toNodeHandler(createMcpHandler(() => createSupportDeskServer(desk)))
const isLocalHost = localhostHostValidation()
const isLocalOrigin = localhostOriginValidation()

async function openSession(): Promise<NodeStreamableHTTPServerTransport> {
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    onsessioninitialized: (id) => {
      const [oldest] = sessions.keys()
      if (sessions.size >= MAX_SESSIONS && oldest !== undefined) void sessions.get(oldest)?.close()
      sessions.set(id, transport)
    },
  })
  transport.onclose = () => {
    if (transport.sessionId !== undefined) sessions.delete(transport.sessionId)
  }
  await createSupportDeskServer(desk).connect(transport)
  return transport
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = []
  let bytes = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length
    if (bytes > MAX_BODY_BYTES) throw new Error('body too large')
    chunks.push(chunk)
  }
  return bytes === 0 ? undefined : (JSON.parse(Buffer.concat(chunks).toString()) as unknown)
}

async function serve(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!isLocalHost(request, response) || !isLocalOrigin(request, response)) return
  if (request.url?.split('?', 1)[0] !== '/mcp') return void response.writeHead(404).end()
  const body = await readJson(request)
  const id = request.headers['mcp-session-id']
  const session = typeof id === 'string' ? sessions.get(id) : undefined
  if (session !== undefined) return await session.handleRequest(request, response, body)
  if (id !== undefined) return void response.writeHead(404).end()
  if (isInitializeRequest(body)) return await (await openSession()).handleRequest(request, response, body)
  await stateless(
    request as Parameters<typeof stateless>[0],
    response as unknown as Parameters<typeof stateless>[1],
    body,
  )
}

const server = createServer((request, response) => {
  serve(request, response).catch(() => {
    if (!response.headersSent) response.writeHead(400)
    response.end()
  })
})

function stop(): void {
  server.close()
  server.closeAllConnections()
  process.stdin.destroy()
}

process.once('SIGTERM', stop)
process.once('SIGINT', stop)
const stdin = fstatSync(0)
if (stdin.isFIFO() || stdin.isSocket()) process.stdin.once('close', stop).resume()

server.listen(Number(values.port), '127.0.0.1')
await once(server, 'listening')
const { port } = server.address() as AddressInfo
process.stderr.write(`support-desk (${desk.tenant}) listening on http://127.0.0.1:${port}/mcp\n`)
