import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { until } from '../support/until.ts'

/** An interpreter that has the package `mcp`. */
const PYTHON = process.env['MCP_PYTHON'] ?? 'python3'
const SERVER = fileURLToPath(new URL('../support/python_server.py', import.meta.url))

const POLICY = `package gateway.authz

allow contains "all" if count(input.principal.roles) > 0

deny contains "no-negatives" if input.arguments.a < 0
`

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

describe('servers on the official Python SDK work behind the gateway', function () {
  this.timeout(60_000)
  let server: ChildProcess
  let gateway: TestGateway

  before(async function () {
    const hasPackage = await promisify(execFile)(PYTHON, ['-c', 'import mcp']).then(
      () => true,
      () => false,
    )
    if (!hasPackage) {
      console.log(`      skipped: ${PYTHON} has no package mcp; MCP_PYTHON names an interpreter that has`)
      this.skip()
    }
    const port = await freePort()
    const url = `http://127.0.0.1:${port}/mcp`
    server = spawn(PYTHON, [SERVER, String(port)], { stdio: 'ignore' })
    await until(
      'the server to listen',
      () =>
        fetch(url)
          .then(() => true)
          .catch(() => false),
      30_000,
    )
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      environment: { PATH: process.env['PATH'] ?? '' },
      upstreams: { http: url, stdio: { command: [PYTHON, SERVER] } },
    })
  })
  after(async () => {
    await gateway?.close()
    if (server === undefined) return
    const closed = once(server, 'close')
    server.kill('SIGKILL')
    await closed
  })

  for (const [mount, prefix] of [
    ['/mcp/http', ''],
    ['/mcp/stdio', ''],
    ['/mcp', 'http__'],
    ['/mcp', 'stdio__'],
  ] as const) {
    it(`${prefix}add and ${prefix}ask at ${mount}`, async () => {
      const client = new Client({ name: 'v1', version: '1' }, { capabilities: { elicitation: {} } })
      client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { color: 'green' } }))
      const headers = { authorization: `Bearer ${await gateway.key()}` }
      const url = new URL(`${gateway.url}${mount}`)
      await client.connect(new StreamableHTTPClientTransport(url, { requestInit: { headers } }) as never)
      expect((await client.listTools()).tools.map(({ name }) => name)).to.include(`${prefix}add`)
      const sum = await client.callTool({ name: `${prefix}add`, arguments: { a: 1, b: 2 } })
      expect(sum.content).to.deep.include({ type: 'text', text: '3' })
      const denied = await client.callTool({ name: `${prefix}add`, arguments: { a: -1, b: 2 } }).catch(String)
      expect(denied).to.contain('Forbidden')
      const asked = await client.callTool({ name: `${prefix}ask` })
      expect(asked.content).to.deep.include({ type: 'text', text: 'chose green' })
      await client.close()
    })
  }
})
