/**
 * The upstream of `proxy.ts`: answers of any size, as JSON or as a stream; lists of `?tools=N` tools; streams that stay silent
 * (`subscriptions/listen`), streams that send an event every few milliseconds, and calls that are never answered. Ends with
 * its parent.
 */
import type { IncomingMessage, ServerResponse } from 'node:http'
import { createServer } from 'node:http'

interface Asked {
  readonly id: unknown
  readonly method: string
  readonly params?: {
    readonly arguments?: {
      readonly bytes?: number
      readonly sse?: boolean
      readonly events?: number
      /** Never answered. */
      readonly hang?: boolean
    }
  }
}

const EVENT_EVERY_MS = 5
/** Of the requests that are never answered: how many are open, and when they were left, in ms since the epoch. */
let hanging = 0
let left: number[] = []
const texts = new Map<number, string>()

function resultOf({ method, params }: Asked, tools: number): unknown {
  const cached = { ttlMs: 0, cacheScope: 'private' }
  if (method === 'initialize')
    return {
      protocolVersion: '2025-11-25',
      capabilities: { tools: {} },
      serverInfo: { name: 'bench', version: '1' },
    }
  if (method === 'server/discover')
    return {
      ...{ resultType: 'complete', supportedVersions: ['2026-07-28'], capabilities: { tools: {} } },
      ...{ serverInfo: { name: 'bench', version: '1' }, ...cached },
    }
  if (method === 'tools/list')
    return { resultType: 'complete', tools: Array.from({ length: tools }, (_, n) => toolOf(n)), ...cached }
  const bytes = params?.arguments?.bytes ?? 0
  if (!texts.has(bytes)) texts.set(bytes, 'x'.repeat(bytes))
  return { resultType: 'complete', content: [{ type: 'text', text: texts.get(bytes) }] }
}

function toolOf(n: number) {
  const properties = { query: { type: 'string' }, bytes: { type: 'integer' }, sse: { type: 'boolean' } }
  const description = 'Looks for tickets that match a query and gives back the newest of them first.'
  return { name: `tool-${n}`, description, inputSchema: { type: 'object', properties } }
}

function answer(asked: Asked, request: IncomingMessage, response: ServerResponse): void {
  if (asked.id === undefined) return void response.writeHead(202).end()
  const { events, sse, hang } = asked.params?.arguments ?? {}
  const isStream = sse === true || events !== undefined || asked.method === 'subscriptions/listen'
  if (isStream) {
    response.writeHead(200, { 'content-type': 'text/event-stream' })
    response.flushHeaders()
    if (asked.method === 'subscriptions/listen') return
  }
  if (hang === true) {
    letHang(response)
    return
  }
  if (events !== undefined) {
    sendEvents(response, events, asked.id)
    return
  }
  const tools = Number(/[?&]tools=(\d+)/.exec(request.url ?? '')?.[1] ?? 1)
  const body = JSON.stringify({ jsonrpc: '2.0', id: asked.id, result: resultOf(asked, tools) })
  if (isStream) response.end(`${progress(0)}data: ${body}\n\n`)
  else {
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
    response.end(body)
  }
}

function letHang(response: ServerResponse): void {
  hanging += 1
  response.on('close', () => {
    hanging -= 1
    left.push(performance.timeOrigin + performance.now())
  })
}

/** What the benchmark wants to know of them. */
function tell(path: string, response: ServerResponse): void {
  response.end(JSON.stringify(path === '/open' ? [hanging] : left))
  if (path === '/left') left = []
}

function progress(at: number): string {
  const params = { progressToken: 1, progress: at }
  return `data: ${JSON.stringify({ jsonrpc: '2.0', method: 'notifications/progress', params })}\n\n`
}

/** Each event says when it was sent, in ms since the epoch. */
function sendEvents(response: ServerResponse, events: number, id: unknown): void {
  let sent = 0
  const timer = setInterval(() => {
    sent += 1
    if (sent <= events) return void response.write(progress(performance.timeOrigin + performance.now()))
    clearInterval(timer)
    response.end(
      `data: ${JSON.stringify({ jsonrpc: '2.0', id, result: { resultType: 'complete', content: [] } })}\n\n`,
    )
  }, EVENT_EVERY_MS)
  response.on('close', () => clearInterval(timer))
}

const server = createServer((request, response) => {
  if (request.url === '/open' || request.url === '/left') return tell(request.url, response)
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    if (chunks.length === 0) return void response.writeHead(request.method === 'GET' ? 405 : 200).end()
    answer(JSON.parse(Buffer.concat(chunks).toString()) as Asked, request, response)
  })
})
server.keepAliveTimeout = 60_000
server.requestTimeout = 0
server.listen(0, '127.0.0.1', 4096, () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as { port: number }).port })}\n`)
})
process.stdin.resume().once('end', () => process.exit(0))
