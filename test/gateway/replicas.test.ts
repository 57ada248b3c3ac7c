import { randomUUID } from 'node:crypto'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  Client as V2Client,
  StreamableHTTPClientTransport as V2Transport,
} from '@modelcontextprotocol/client'
import { Client as V1Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CreateMessageRequestSchema, ElicitRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { expect } from 'chai'
import { createKey } from '../../src/auth/key-store.ts'
import { keySettings } from '../support/gateway.ts'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { makeGatewayFolder, startGatewayProcess } from '../support/gateway-process.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import type { RpcReply } from '../support/rpc.ts'
import { legacy, post } from '../support/rpc.ts'
import type { SdkUpstream } from '../support/sdk-upstreams.ts'
import { startV1Upstream } from '../support/sdk-upstreams.ts'
import { until } from '../support/until.ts'
import type { RawStream, ScriptedUpstream } from '../support/upstreams.ts'
import { echoArguments, startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0
`
const STDIO_SERVER = fileURLToPath(new URL('../support/stdio-server.mjs', import.meta.url))

const initialize = {
  ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
  params: {
    ...{ protocolVersion: '2025-11-25', capabilities: { roots: {} } },
    clientInfo: { name: 't', version: '1' },
  },
}

describe('two gateways with one secret, between which a balancer sends requests as it likes', function () {
  this.timeout(60_000)
  let folder: string
  let database: TestDatabase
  let sdk: SdkUpstream
  let scripted: ScriptedUpstream
  let streams: RawStream[]
  let first: GatewayProcess
  let second: GatewayProcess
  let key: string

  before(async () => {
    database = await createTestDatabase()
    sdk = await startV1Upstream()
    streams = []
    scripted = await startScriptedUpstream({
      sessions: randomUUID,
      handle(request, reply) {
        if (request.httpMethod === 'GET') return void streams.push(reply.stream())
        if (request.method === 'response') return reply.send(202, '')
        return echoArguments(request, reply)
      },
    })
    const settings = `policies: ./policies
upstreams:
  sdk: { url: ${sdk.url} }
  scripted: { url: ${scripted.url} }
  child: { command: [${process.execPath}, ${STDIO_SERVER}] }
`
    folder = await makeGatewayFolder(database, settings, POLICY)
    const file = join(folder, 'gateway.yaml')
    key = (await createKey(database.pool, keySettings({ name: 'alice' }), Date.now())).text
    // The first one compiles; the second finds its build.
    first = await startGatewayProcess(file)
    second = await startGatewayProcess(file)
  })
  after(async () => {
    await Promise.all([first?.stop(), second?.stop()])
    await Promise.all([sdk?.close(), scripted?.close()])
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  const at = ({ mcp }: GatewayProcess, mount: string): string => new URL(mount, mcp).href

  /** Answers to requests go to the second gateway, all else to the first. */
  const balanced: typeof fetch = async (input, init) => {
    const message = typeof init?.body === 'string' ? JSON.parse(init.body) : null
    const isAnswer = message !== null && !('method' in message)
    const url = new URL(String(input))
    return await fetch(isAnswer ? at(second, url.pathname) : url, init)
  }

  const options = () => ({
    requestInit: { headers: { authorization: `Bearer ${key}` } },
    fetch: balanced,
  })

  for (const mount of ['/mcp/sdk', '/mcp']) {
    const tool = (name: string): string => (mount === '/mcp' ? `sdk__${name}` : name)

    it(`${mount}: SDK v1 is asked on a stream of the first and answers at the second`, async () => {
      const client = new V1Client(
        { name: 'v1', version: '1' },
        { capabilities: { sampling: {}, elicitation: {} } },
      )
      client.setRequestHandler(CreateMessageRequestSchema, () => ({
        ...{ model: 'm', role: 'assistant' as const },
        content: { type: 'text' as const, text: 'sampled' },
      }))
      client.setRequestHandler(ElicitRequestSchema, () => ({ action: 'accept', content: { choice: 'blue' } }))
      await client.connect(new V1Transport(new URL(at(first, mount)), options()) as never)
      expect(JSON.stringify(await client.callTool({ name: tool('ask') }))).to.contain('sampled')
      expect(JSON.stringify(await client.callTool({ name: tool('elicit') }))).to.contain('blue')
      await client.close()
    })

    it(`${mount}: SDK v2 is asked on a stream of the first and answers at the second`, async () => {
      const client = new V2Client(
        { name: 'v2', version: '1' },
        { capabilities: { sampling: {}, elicitation: {} } },
      )
      client.setRequestHandler('elicitation/create', () => ({ action: 'accept', content: { choice: 'red' } }))
      await client.connect(new V2Transport(new URL(at(first, mount)), options()))
      expect(JSON.stringify(await client.callTool({ name: tool('elicit') }))).to.contain('red')
      await client.close()
    })
  }

  /** A session of the first gateway, and what comes on its stream. */
  async function listen(mount: string): Promise<{ session: string; heard: any[]; leave(): void }> {
    const opened = await post(at(first, mount), JSON.stringify(initialize), { key })
    const session = opened.headers.get('mcp-session-id') as string
    const controller = new AbortController()
    const before = streams.length
    const response = await fetch(at(first, mount), {
      headers: {
        ...{ authorization: `Bearer ${key}`, accept: 'text/event-stream', 'mcp-session-id': session },
        'mcp-protocol-version': '2025-11-25',
      },
      signal: controller.signal,
    })
    const heard: any[] = []
    void (async () => {
      let text = ''
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        text += Buffer.from(chunk).toString()
        const blocks = text.split('\n\n')
        text = blocks.pop() as string
        for (const block of blocks) {
          const data = /^data: ?(.+)$/m.exec(block)?.[1]
          if (data !== undefined) heard.push(JSON.parse(data))
        }
      }
    })().catch(() => undefined)
    if (!mount.endsWith('child')) await until('the stream of the upstream', () => streams.length > before)
    return { session, heard, leave: () => controller.abort() }
  }

  const answer = (
    to: GatewayProcess,
    mount: string,
    { id, session, credential = key }: { id: unknown; session: string; credential?: string },
  ): Promise<RpcReply> =>
    post(
      at(to, mount),
      JSON.stringify({ jsonrpc: '2.0', id, result: { roots: [] } }),
      legacy({ key: credential, headers: { 'mcp-session-id': session } }),
    )
  const answered = (): string[] =>
    scripted.requests.filter(({ method }) => method === 'response').map(({ body }) => body.toString())

  for (const mount of ['/mcp/scripted', '/mcp']) {
    it(`${mount}: an id keeps its type and digits, is the caller's alone, and leads to the session that asked`, async () => {
      const { session, heard, leave } = await listen(mount)
      const asking = streams.at(-1) as RawStream
      asking.raw('data: {"jsonrpc":"2.0","id":9007199254740993,"method":"roots/list"}\n\n')
      asking.raw('data: {"jsonrpc":"2.0","id":"9007199254740993","method":"roots/list"}\n\n')
      await until('both requests', () => heard.length === 2)
      const before = answered().length
      const ids = heard.map(({ id }) => id)

      const other = (await createKey(database.pool, keySettings({ name: 'bob' }), Date.now())).text
      const own = await listen(mount)
      const strange: readonly [string, Promise<RpcReply>][] = [
        ['made up', answer(second, mount, { id: 5, session })],
        ['altered', answer(second, mount, { id: ids[0].replace('gwr1.W', 'gwr1.X'), session })],
        ['of another session', answer(second, mount, { id: ids[0], session: own.session })],
        [
          'without a session',
          post(
            at(second, mount),
            `{"jsonrpc":"2.0","id":${JSON.stringify(ids[0])},"result":{}}`,
            legacy({ key }),
          ),
        ],
      ]
      for (const [why, reply] of strange) expect((await reply).status, why).to.equal(403)
      const foreign = await answer(second, mount, { id: ids[0], session, credential: other })
      expect(foreign.status, 'another caller has no such session').to.equal(404)
      const elsewhere = await answer(second, '/mcp/sdk', { id: ids[0], session })
      expect(elsewhere.status, 'the session is not of that mount').to.equal(404)
      expect(answered(), 'nothing of it has reached the upstream').to.have.lengthOf(before)

      for (const id of ids) expect((await answer(second, mount, { id, session })).status).to.equal(202)
      expect(answered().slice(before)).to.deep.equal([
        '{"jsonrpc":"2.0","id":9007199254740993,"result":{"roots":[]}}',
        '{"jsonrpc":"2.0","id":"9007199254740993","result":{"roots":[]}}',
      ])
      const { rows } = await database.pool.query(
        `select target_kind, tool_name, server, outcome from audit_events where method = 'response' and outcome = 'allowed'
         order by ts desc limit 1`,
      )
      expect(rows).to.deep.equal([
        { target_kind: 'server_request', tool_name: 'roots/list', server: 'scripted', outcome: 'allowed' },
      ])
      own.leave()
      leave()
    })
  }

  it('an upstream takes a request back under the id that the client knows', async () => {
    const { heard, leave } = await listen('/mcp/scripted')
    const asking = streams.at(-1) as RawStream
    asking.message({ jsonrpc: '2.0', id: 5, method: 'roots/list' })
    asking.message({
      jsonrpc: '2.0',
      method: 'notifications/cancelled',
      params: { requestId: 5, reason: 'late' },
    })
    await until('both', () => heard.length === 2)
    expect(heard[1].params).to.deep.equal({ requestId: heard[0].id, reason: 'late' })
    leave()
  })

  it('on a resumed stream the same request has the same id', async () => {
    const { heard, leave } = await listen('/mcp/scripted')
    const asking = streams.at(-1) as RawStream
    for (let time = 0; time < 2; time += 1) asking.message({ jsonrpc: '2.0', id: 6, method: 'roots/list' })
    await until('both', () => heard.length === 2)
    expect(heard[0].id).to.equal(heard[1].id)
    leave()
  })

  it('a stdio server lives in one gateway: the other one says that it does not know the session', async () => {
    const opened = await post(at(first, '/mcp/child'), JSON.stringify(initialize), { key })
    const session = opened.headers.get('mcp-session-id') as string
    const list = '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
    const here = await post(
      at(first, '/mcp/child'),
      list,
      legacy({ key, headers: { 'mcp-session-id': session } }),
    )
    expect(here.status).to.equal(200)
    const there = await post(
      at(second, '/mcp/child'),
      list,
      legacy({ key, headers: { 'mcp-session-id': session } }),
    )
    expect(there.status, 'clients take it for: open a new one').to.equal(404)
    expect(there.json.error.message).to.match(/session/i)
  })
})
