/** The upstream of the benchmarks: answers at once, as cheaply as Node can. Argument: number of tools. Ends with its parent. */
import { createServer } from 'node:http'

const toolOf = (name: string) => ({
  ...{ name, inputSchema: { type: 'object' }, annotations: { readOnlyHint: true } },
})
const others = Array.from({ length: Number(process.argv[2] ?? 1) - 1 }, (_, at) => toolOf(`tool_${at + 1}`))
const tools = [toolOf('search_tickets'), ...others]
const text = 'x'.repeat(700)
const answers: Record<string, (id: unknown) => unknown> = {
  'server/discover': () => ({
    resultType: 'complete',
    supportedVersions: ['2026-07-28'],
    capabilities: { tools: {} },
    serverInfo: { name: 'bench', version: '1' },
    ttlMs: 0,
    cacheScope: 'private',
  }),
  'tools/list': () => ({ resultType: 'complete', tools, ttlMs: 0, cacheScope: 'private' }),
  'tools/call': () => ({ resultType: 'complete', content: [{ type: 'text', text }] }),
}

const server = createServer((request, response) => {
  const chunks: Buffer[] = []
  request.on('data', (chunk: Buffer) => chunks.push(chunk))
  request.on('end', () => {
    const { id, method } = JSON.parse(Buffer.concat(chunks).toString()) as { id: unknown; method: string }
    const body = JSON.stringify({ jsonrpc: '2.0', id, result: answers[method]?.(id) ?? {} })
    response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) })
    response.end(body)
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: (server.address() as { port: number }).port })}\n`)
})
process.stdin.resume().once('end', () => process.exit(0))
