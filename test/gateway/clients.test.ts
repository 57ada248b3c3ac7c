import {
  Client as V2Client,
  StreamableHTTPClientTransport as V2Transport,
} from '@modelcontextprotocol/client'
import { Client as V1Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CreateMessageRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { legacy, post } from '../support/rpc.ts'
import type { SdkUpstream } from '../support/sdk-upstreams.ts'
import { startV1Upstream, startV2Upstream } from '../support/sdk-upstreams.ts'
import { until } from '../support/until.ts'

const POLICY = `package gateway.authz

allow contains "all-but-destroy" if {
	count(input.principal.roles) > 0
	input.target.kind != "server_request"
}

deny contains "no-destruction" if input.target.name == "destroy"

allow contains "may-sample" if {
	input.target.kind == "server_request"
	input.target.name == "sampling/createMessage"
	"sampler" in input.principal.roles
}
`

describe('unmodified MCP clients work through the gateway', function () {
  this.timeout(20_000)
  let v1: SdkUpstream
  let v2: SdkUpstream
  let modern: SdkUpstream
  let gateway: TestGateway
  let key: string

  before(async () => {
    v1 = await startV1Upstream()
    v2 = await startV2Upstream()
    modern = await startV2Upstream('reject')
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { sessions: v1.url, both: v2.url, modern: modern.url },
    })
    key = await gateway.key()
  })
  after(async () => {
    await gateway?.close()
    await v1?.close()
    await v2?.close()
    await modern?.close()
  })

  const url = (mount: string): URL => new URL(`${gateway.url}/mcp/${mount}`)
  const init = (credential: string): { requestInit: RequestInit } => ({
    requestInit: { headers: { authorization: `Bearer ${credential}` } },
  })

  async function v1Client(
    mount: string,
    credential = key,
  ): Promise<{ client: V1Client; transport: V1Transport }> {
    const client = new V1Client({ name: 'v1', version: '1' }, { capabilities: { sampling: {} } })
    const transport = new V1Transport(url(mount), init(credential))
    client.setRequestHandler(CreateMessageRequestSchema, () => ({
      model: 'm',
      role: 'assistant' as const,
      content: { type: 'text' as const, text: 'sampled' },
    }))
    await client.connect(transport as never)
    return { client, transport }
  }

  for (const mount of ['sessions', 'both']) {
    it(`SDK v1 in front of ${mount}`, async () => {
      const { client, transport } = await v1Client(mount)
      const { tools } = await client.listTools()
      expect(tools.map((tool) => tool.name))
        .to.include('echo')
        .and.not.include('destroy')
      const result = await client.callTool({ name: 'echo', arguments: { text: 'hi' } })
      expect(JSON.stringify(result)).to.contain('hi')
      const steps: number[] = []
      await client.callTool({ name: 'progress', arguments: { steps: 3 } }, undefined, {
        onprogress: (p) => steps.push(p.progress),
      })
      expect(steps).to.deep.equal([1, 2, 3])
      const denied = await client
        .callTool({ name: 'destroy', arguments: { id: '1' } })
        .catch((error: unknown) => error)
      expect(String(denied)).to.contain('Forbidden')
      if (mount === 'sessions') await transport.terminateSession()
      await client.close()
    })
  }

  for (const [mount, mode] of [
    ['both', 'legacy'],
    ['both', 'auto'],
    ['both', { pin: '2026-07-28' }],
    ['modern', 'auto'],
    ['modern', { pin: '2026-07-28' }],
  ] as const) {
    it(`SDK v2 with version negotiation ${JSON.stringify(mode)} in front of ${mount}`, async () => {
      const client = new V2Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } })
      await client.connect(new V2Transport(url(mount), init(key)))
      const { tools } = await client.listTools()
      expect(tools.map((tool) => tool.name))
        .to.include('echo')
        .and.not.include('destroy')
      expect(JSON.stringify(await client.callTool({ name: 'echo', arguments: { text: 'hi' } }))).to.contain(
        'hi',
      )
      const denied = await client
        .callTool({ name: 'destroy', arguments: { id: '1' } })
        .catch((error: unknown) => error)
      expect(String(denied)).to.contain('Forbidden')
      await client.close()
    })
  }

  it('SDK v2 in auto mode falls back to a session with an upstream that knows only those', async () => {
    const client = new V2Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode: 'auto' } })
    await client.connect(new V2Transport(url('sessions'), init(key)))
    expect(JSON.stringify(await client.callTool({ name: 'echo', arguments: { text: 'hi' } }))).to.contain(
      'hi',
    )
    await client.close()
  })

  it('a client that knows only sessions is told so by an upstream that has none, and the other way round', async () => {
    const refused = await v1Client('modern').catch((error: unknown) => error)
    expect(String(refused)).to.contain('Unsupported protocol version').and.contain('2026-07-28')
    const mode = { pin: '2026-07-28' }
    const client = new V2Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } })
    const failed = await client.connect(new V2Transport(url('sessions'), init(key))).catch((error) => error)
    expect(failed).to.include({ code: 'ERA_NEGOTIATION_FAILED' })
    await client.close()
  })

  it('every attempt of a whole session leaves its row, GET and DELETE and notifications too', async () => {
    const own = await gateway.key({ name: 'counted' })
    const { client, transport } = await v1Client('sessions', own)
    await client.callTool({ name: 'echo', arguments: { text: 'hi' } })
    await transport.terminateSession()
    await client.close()
    const rows = await until('all rows', async () => {
      const found = (await gateway.rows()).filter((row) => row['principal_id'] === 'counted')
      return found.length >= 5 ? found : null
    })
    const methods = rows.map((row) => row['method']).sort()
    expect(methods).to.deep.equal(['DELETE', 'GET', 'initialize', 'notifications/initialized', 'tools/call'])
    for (const row of rows) expect(row.outcome, row['method']).to.equal('allowed')
    const hashes = new Set(
      rows.filter((row) => row['method'] !== 'initialize').map((row) => row['session_hash']),
    )
    expect(hashes.size, 'one session').to.equal(1)
  })

  it('a subscription that its client leaves has ended as it should', async () => {
    const own = await gateway.key({ name: 'subscriber' })
    const meta = {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const params = { notifications: { toolsListChanged: true }, _meta: meta }
    const leaving = new AbortController()
    const { body } = await fetch(url('both'), {
      method: 'POST',
      headers: {
        ...init(own).requestInit.headers,
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'subscriptions/listen',
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 'sub', method: 'subscriptions/listen', params }),
      signal: leaving.signal,
    })
    const first = await body?.getReader().read()
    expect(Buffer.from(first?.value ?? []).toString()).to.contain('subscriptions/acknowledged')
    leaving.abort()
    const row = await until('the row of the subscription', async () =>
      (await gateway.rows()).find((found) => found['principal_id'] === 'subscriber'),
    )
    expect(row).to.include({ method: 'subscriptions/listen', outcome: 'allowed', status_code: 200 })
  })

  it('a session id works only for the principal and the mount it was made for', async () => {
    const { client, transport } = await v1Client('sessions')
    const session = transport.sessionId as string
    const body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
    const send = async (mount: string, credential: string): Promise<number> =>
      (await post(url(mount).href, body, legacy({ key: credential, headers: { 'mcp-session-id': session } })))
        .status
    expect(await send('sessions', key)).to.equal(200)
    expect(await send('both', key)).to.equal(404)
    expect(await send('sessions', await gateway.key({ name: 'mallory' }))).to.equal(404)
    await client.close()
  })

  it('a request from the server to the client is refused by default, answered in its place, and recorded', async () => {
    const { client } = await v1Client('sessions')
    const failed = await client.callTool({ name: 'ask', arguments: {} }).catch((error: unknown) => error)
    expect(String(failed), 'the upstream was told').to.contain('Forbidden')
    const row = (await gateway.rows()).findLast((found) => found['target_kind'] === 'server_request')
    expect(row).to.include({
      outcome: 'denied_authz',
      method: 'sampling/createMessage',
      tool_name: 'sampling/createMessage',
    })
    await client.close()
  })

  it('a request from the server reaches the client when a policy allows it, and so does the answer', async () => {
    const sampler = await gateway.key({ name: 'sampler', roles: ['sampler'] })
    const { client } = await v1Client('sessions', sampler)
    const result = await client.callTool({ name: 'ask', arguments: {} })
    expect(JSON.stringify(result)).to.contain('sampled')
    const rows = (await gateway.rows()).filter(
      (row) => row['principal_id'] === 'sampler' && row['target_kind'] === 'server_request',
    )
    expect(rows.map((row) => [row['method'], row.outcome])).to.deep.equal([
      ['sampling/createMessage', 'allowed'],
      ['response', 'allowed'],
    ])
    await client.close()
  })

  it('an answer to a request that nobody asked is refused', async () => {
    const { client, transport } = await v1Client('sessions')
    const before = v1.count('response')
    const reply = await post(
      url('sessions').href,
      '{"jsonrpc":"2.0","id":99,"result":{}}',
      legacy({ key, headers: { 'mcp-session-id': transport.sessionId as string } }),
    )
    expect(reply.status).to.equal(403)
    expect(v1.count('response')).to.equal(before)
    await client.close()
  })

  it('a stream whose key is revoked ends within a second, and its row says why', async () => {
    const own = await gateway.key({ name: 'leaver' })
    const { client } = await v1Client('sessions', own)
    const id = own.split('_')[1]
    await until('the stream to be open', async () => v1.count('GET') > 0)
    const { revokeKey } = await import('../../src/auth/key-store.ts')
    await revokeKey(gateway.database.pool, id as string)
    const row = await until('the row of the stream', async () =>
      (await gateway.rows()).find((found) => found['principal_id'] === 'leaver' && found['method'] === 'GET'),
    )
    expect(row).to.include({ outcome: 'denied_auth', reason: 'unauthenticated' })
    await client.close().catch(() => undefined)
  })
})
