import { execFile } from 'node:child_process'
import { mkdtemp, realpath, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import {
  Client as V2Client,
  StreamableHTTPClientTransport as V2Transport,
} from '@modelcontextprotocol/client'
import { Client as V1Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  CreateMessageRequestSchema,
  ListRootsRequestSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { legacy, modern, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'

const NODE = process.execPath
const FILESYSTEM = fileURLToPath(import.meta.resolve('@modelcontextprotocol/server-filesystem/dist/index.js'))
const MEMORY = fileURLToPath(import.meta.resolve('@modelcontextprotocol/server-memory/dist/index.js'))
const EVERYTHING = fileURLToPath(import.meta.resolve('@modelcontextprotocol/server-everything/dist/index.js'))
const FIXTURE = fileURLToPath(new URL('../support/stdio-server.mjs', import.meta.url))
const DUAL = fileURLToPath(new URL('../support/stdio-dual-server.ts', import.meta.url))
/** An interpreter that has the package `mcp`. */
const INTERPRETER = process.env['MCP_PYTHON'] ?? 'python3'
const PYTHON = fileURLToPath(new URL('../support/python_server.py', import.meta.url))

const POLICY = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0

deny contains "no-environment" if input.target.name == "get-env"
`

describe('stdio upstreams behind the gateway', function () {
  this.timeout(40_000)
  let folder: string
  let gateway: TestGateway
  let key: string
  let hasPython = false

  before(async () => {
    folder = await realpath(await mkdtemp(join(tmpdir(), 'gateway-stdio-')))
    await writeFile(join(folder, 'hello.txt'), 'Hello from a file')
    hasPython = await promisify(execFile)(INTERPRETER, ['-c', 'import mcp']).then(
      () => true,
      () => false,
    )
    const everything = [NODE, EVERYTHING, 'stdio']
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      environment: { PATH: process.env['PATH'] ?? '' },
      upstreams: {
        files: { command: [NODE, FILESYSTEM, folder], cwd: folder },
        memory: {
          command: [NODE, MEMORY],
          env: { MEMORY_FILE_PATH: join(folder, 'memory.jsonl') },
          sessions: 'shared',
          cwd: folder,
        },
        everything: { command: everything, cwd: folder },
        everybody: { command: everything, cwd: folder, sessions: 'shared' },
        dual: { command: [NODE, '--import=tsx/esm', DUAL], cwd: process.cwd() },
        fixture: { command: [NODE, FIXTURE], cwd: folder },
        ...(hasPython ? { python: { command: [INTERPRETER, PYTHON], cwd: folder } } : {}),
      },
    })
    key = await gateway.key()
  })
  after(async () => {
    await gateway?.close()
    await rm(folder, { recursive: true, force: true })
  })

  const url = (mount: string): URL => new URL(`${gateway.url}/mcp/${mount}`)
  const init = (): { requestInit: RequestInit } => ({
    requestInit: { headers: { authorization: `Bearer ${key}` } },
  })

  async function v1(mount: string): Promise<{ client: V1Client; end(): Promise<void> }> {
    const client = new V1Client(
      { name: 'v1', version: '1' },
      { capabilities: { sampling: {}, roots: { listChanged: true } } },
    )
    client.setRequestHandler(CreateMessageRequestSchema, () => ({
      model: 'm',
      role: 'assistant' as const,
      content: { type: 'text' as const, text: 'sampled by the client' },
    }))
    client.setRequestHandler(ListRootsRequestSchema, () => ({ roots: [{ uri: `file://${folder}` }] }))
    const transport = new V1Transport(url(mount), init())
    await client.connect(transport as never)
    const end = async (): Promise<void> => {
      await transport.terminateSession()
      await client.close()
    }
    return { client, end }
  }

  async function v2(mount: string, mode: 'auto' | 'legacy' | { pin: string }): Promise<V2Client> {
    const client = new V2Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } })
    await client.connect(new V2Transport(url(mount), init()))
    return client
  }

  for (const [sdk, connect] of [
    ['v1', async () => await v1('files')],
    ['v2', async () => ({ client: await v2('files', 'auto'), end: async () => undefined })],
  ] as const) {
    it(`the official filesystem server serves an SDK client ${sdk}`, async () => {
      const { client, end } = await connect()
      expect((await client.listTools()).tools.map(({ name }) => name)).to.include('read_text_file')
      const read = (path: string): Promise<string> =>
        client.callTool({ name: 'read_text_file', arguments: { path } }).then(JSON.stringify)
      expect(await read(join(folder, 'hello.txt'))).to.contain('Hello from a file')
      // An error of the tool is its answer, not a denial.
      expect(await read('/etc/hostname'))
        .to.contain('"isError":true')
        .and.to.contain('denied')
      await end()
      await client.close()
    })
  }

  it('the official memory server is one for all sessions', async () => {
    const [one, other] = [await v1('memory'), await v1('memory')]
    const entities = [{ name: 'gateway', entityType: 'software', observations: ['is tested'] }]
    await one.client.callTool({ name: 'create_entities', arguments: { entities } })
    const graph = JSON.stringify(await other.client.callTool({ name: 'read_graph', arguments: {} }))
    expect(graph).to.contain('is tested')
    await Promise.all([one.end(), other.end()])
  })

  describe('the official everything server', () => {
    it('lists, calls, reports progress and logs to a session of its own', async () => {
      const { client, end } = await v1('everything')
      const { tools } = await client.listTools()
      expect(tools.map(({ name }) => name))
        .to.include('echo')
        .and.not.include('get-env')
      expect(
        JSON.stringify(await client.callTool({ name: 'echo', arguments: { message: 'hi' } })),
      ).to.contain('hi')
      const steps: number[] = []
      await client.callTool(
        { name: 'trigger-long-running-operation', arguments: { duration: 0.3, steps: 3 } },
        undefined,
        { onprogress: ({ progress }) => steps.push(progress) },
      )
      expect(steps).to.deep.equal([1, 2, 3])
      expect((await client.listPrompts()).prompts).to.have.length.greaterThan(0)
      expect((await client.listResources()).resources).to.have.length.greaterThan(0)
      await client.setLoggingLevel('debug')
      await end()
    })

    it('asks the client, and waits for it', async () => {
      const { client, end } = await v1('everything')
      const args = { prompt: 'Hello?', maxTokens: 10 }
      const answer = await client.callTool({ name: 'trigger-sampling-request', arguments: args })
      expect(JSON.stringify(answer)).to.contain('sampled by the client')
      await end()
    })

    it('tells those that have subscribed, and only them, when all share it', async () => {
      const [one, other] = [await v1('everybody'), await v1('everybody')]
      const heard: string[][] = [[], []]
      for (const [at, { client }] of [one, other].entries())
        client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
          heard[at]?.push(params.uri)
        })
      const uri = (await one.client.listResources()).resources[0]?.uri ?? ''
      await one.client.subscribeResource({ uri })
      await one.client.callTool({ name: 'toggle-subscriber-updates', arguments: {} })
      await until('an update', () => (heard[0]?.length ?? 0) > 0, 20_000)
      expect(heard[1]).to.deep.equal([])
      expect(one.client.getServerCapabilities()).not.to.have.property('logging')
      await Promise.all([one.end(), other.end()])
    })

    it('serves many clients at once through one process', async () => {
      const clients = await Promise.all(Array.from({ length: 8 }, () => v1('everybody')))
      const answers = await Promise.all(
        clients.flatMap(({ client }, at) =>
          Array.from({ length: 10 }, async (_, nth) => {
            const message = `${at}-${nth}`
            const answer = await client.callTool({ name: 'echo', arguments: { message } })
            return JSON.stringify(answer).includes(`"Echo: ${message}"`)
          }),
        ),
      )
      expect(answers.every(Boolean)).to.equal(true)
      await Promise.all(clients.map(({ end }) => end()))
    })
  })

  for (const mode of ['legacy', 'auto', { pin: '2026-07-28' }] as const) {
    it(`a server of both eras serves a client in mode ${JSON.stringify(mode)}`, async () => {
      const client = await v2('dual', mode)
      expect(client.getNegotiatedProtocolVersion()).to.equal(mode === 'legacy' ? '2025-11-25' : '2026-07-28')
      const answer = await client.callTool({ name: 'greet', arguments: { name: 'you' } })
      expect(JSON.stringify(answer)).to.contain('Hello, you')
      await client.close()
    })
  }

  it('a Python server serves an SDK client', async function () {
    if (!hasPython) {
      console.log(
        `      skipped: ${INTERPRETER} has no package mcp; MCP_PYTHON names an interpreter that has`,
      )
      this.skip()
    }
    const { client, end } = await v1('python')
    expect((await client.listTools()).tools.map(({ name }) => name)).to.include('add')
    const answer = await client.callTool({ name: 'add', arguments: { a: 1, b: 2 } })
    expect(JSON.stringify(answer)).to.contain('3')
    await end()
  })

  it('stands behind the merged endpoint like any other', async () => {
    const client = new V1Client({ name: 'v1', version: '1' })
    const transport = new V1Transport(new URL(`${gateway.url}/mcp`), init())
    await client.connect(transport as never)
    const answer = await client.callTool({ name: 'dual__greet', arguments: { name: 'all' } })
    expect(JSON.stringify(answer)).to.contain('Hello, all')
    await transport.terminateSession()
    await client.close()
  })

  it('denials never reach the server, and leave their row', async () => {
    const { client, end } = await v1('everything')
    const denied = await client.callTool({ name: 'get-env', arguments: {} }).catch(String)
    expect(denied).to.contain('Forbidden')
    const rows = await gateway.rows()
    expect(rows.find(({ tool_name }) => tool_name === 'get-env')).to.include({
      outcome: 'denied_authz',
      status_code: 403,
    })
    await end()
  })

  it('a server that dies in the middle of a call is a 502 and one row, and the session is over', async () => {
    const initialize = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'c', version: '1' },
    }
    const body = { jsonrpc: '2.0', id: 1, method: 'initialize', params: initialize }
    const address = String(url('fixture'))
    const begun = await post(address, JSON.stringify(body), legacy({ key }))
    const session = { 'mcp-session-id': begun.headers.get('mcp-session-id') ?? '' }
    const call = (name: string) =>
      post(
        address,
        JSON.stringify({ jsonrpc: '2.0', id: 2, method: 'tools/call', params: { name, arguments: {} } }),
        legacy({ key, headers: session }),
      )
    const died = await call('die')
    expect(died.status).to.equal(502)
    expect(died.json).to.deep.include({ id: 2 })
    expect(died.json.error.code).to.equal(1502)
    const rows = await gateway.rowsOf(died.requestId)
    expect(rows).to.have.length(1)
    expect(rows[0]).to.include({ outcome: 'upstream_error', server: 'fixture', tool_name: 'die' })
    expect((await call('echo')).status).to.equal(404)
  })

  it('what a caller sends never becomes part of a command or of the environment', async () => {
    const answer = await modern(
      String(url('dual')),
      'tools/call',
      { name: 'surroundings', arguments: { env: 'X', command: 'x' } },
      { key },
    )
    const { argv, env } = JSON.parse(answer.json.result.content[0].text)
    expect(argv).to.deep.equal([DUAL])
    expect(Object.keys(env)).to.deep.equal(['PATH'])
  })
})
