/** What the gateway is measured against: a Node proxy that parses the body once and forwards it. Ends with its parent. */
import { createServer } from 'node:http'
import { Pool } from 'undici'

const pool = new Pool(`http://127.0.0.1:${process.argv[2]}`, { connections: 64, pipelining: 1 })

const server = createServer((request, response) => {
  const chunks = []
  request.on('data', (chunk) => chunks.push(chunk))
  request.on('end', () => {
    const body = Buffer.concat(chunks)
    const { method } = JSON.parse(body.toString())
    if (method === '') return response.writeHead(400).end()
    const headers = { 'content-type': 'application/json', accept: 'application/json' }
    const handler = {
      onRequestStart: () => undefined,
      onResponseStart: (_controller, status, incoming) => {
        response.writeHead(status, { 'content-type': String(incoming['content-type']) })
      },
      onResponseData: (_controller, chunk) => void response.write(chunk),
      onResponseEnd: () => void response.end(),
      onResponseError: () => void response.destroy(),
    }
    return void pool.dispatch({ path: request.url ?? '/', method: 'POST', headers, body }, handler)
  })
})
server.keepAliveTimeout = 60_000
server.listen(0, '127.0.0.1', () => {
  process.stdout.write(`${JSON.stringify({ port: server.address().port })}\n`)
})
process.stdin.resume().once('end', () => process.exit(0))
