import {
  Client as V2Client,
  StreamableHTTPClientTransport as V2Transport,
} from '@modelcontextprotocol/client'
import { Client as V1Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as V1Transport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { CreateMessageRequestSchema } from '@modelcontextprotocol/sdk/types.js'
import { expect } from 'chai'
import type { TestGateway } from '../../support/gateway.ts'
import { startTestGateway } from '../../support/gateway.ts'
import type { SdkUpstream } from '../../support/sdk-upstreams.ts'
import { startV1Upstream, startV2Upstream } from '../../support/sdk-upstreams.ts'

const POLICY = `package gateway.authz

allow contains "visible" if {
	input.server.labels.hidden != "yes"
	input.target.kind != "server_request"
}

allow contains "insider" if "insider" in input.principal.roles

deny contains "no-destruction" if input.target.name == "destroy"

allow contains "may-sample" if {
	input.target.name == "sampling/createMessage"
	"sampler" in input.principal.roles
}
`

describe('unmodified MCP clients use all their upstreams at /mcp', function () {
  this.timeout(20_000)
  let upstreams: SdkUpstream[]
  let gateway: TestGateway
  let mixed: URL
  let key: string

  before(async () => {
    upstreams = [await startV1Upstream(), await startV2Upstream(), await startV2Upstream()]
    const [v1, v2, hidden] = upstreams as [SdkUpstream, SdkUpstream, SdkUpstream]
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: {
        sessions: { url: v1.url, labels: { hidden: 'no' } },
        both: { url: v2.url, labels: { hidden: 'no' } },
        secret: { url: hidden.url, labels: { hidden: 'yes' } },
        gone: { url: 'http://127.0.0.1:9/mcp', labels: { hidden: 'no' } },
      },
    })
    key = await gateway.key()
    mixed = new URL(`${gateway.url}/mcp`)
  })
  after(async () => {
    await gateway?.close()
    for (const upstream of upstreams ?? []) await upstream.close()
  })

  const init = (credential: string): { requestInit: RequestInit } => ({
    requestInit: { headers: { authorization: `Bearer ${credential}` } },
  })

  async function v1Client(credential = key): Promise<{ client: V1Client; transport: V1Transport }> {
    const client = new V1Client({ name: 'v1', version: '1' }, { capabilities: { sampling: {} } })
    const transport = new V1Transport(mixed, init(credential))
    client.setRequestHandler(CreateMessageRequestSchema, () => ({
      model: 'm',
      role: 'assistant' as const,
      content: { type: 'text' as const, text: 'sampled' },
    }))
    await client.connect(transport as never)
    return { client, transport }
  }

  async function use(client: V1Client | V2Client): Promise<void> {
    const { tools } = await client.listTools()
    const names = tools.map((tool) => tool.name)
    expect(names).to.include('sessions__echo').and.include('both__echo')
    expect(names).to.not.include('sessions__destroy').and.not.include('both__destroy')
    expect(names.filter((name) => /^(secret|gone)__/.test(name))).to.deep.equal([])
    for (const upstream of ['sessions', 'both']) {
      const said = await client.callTool({ name: `${upstream}__echo`, arguments: { text: `hi ${upstream}` } })
      expect(JSON.stringify(said)).to.contain(`hi ${upstream}`)
    }
    for (const name of ['both__destroy', 'secret__echo', 'nobody__echo', 'echo']) {
      const denied = await client
        .callTool({ name, arguments: { id: '1', text: 'x' } })
        .catch((error) => error)
      expect(String(denied), name).to.contain('Forbidden')
    }
  }

  it('SDK v1, with a session', async () => {
    const { client, transport } = await v1Client()
    expect(client.getServerCapabilities()).to.deep.include({ tools: { listChanged: true }, logging: {} })
    expect(client.getServerVersion()?.name).to.equal('mcp-policy-gateway')
    await use(client)
    const steps: number[] = []
    await client.callTool({ name: 'sessions__progress', arguments: { steps: 3 } }, undefined, {
      onprogress: (p) => steps.push(p.progress),
    })
    expect(steps).to.deep.equal([1, 2, 3])
    await client.ping()
    await client.setLoggingLevel('debug')
    await transport.terminateSession()
    await client.close()
    expect(upstreams[0]?.count('DELETE'), 'the session upstream has ended too').to.be.greaterThan(0)
  })

  for (const mode of ['legacy', 'auto'] as const) {
    it(`SDK v2 with version negotiation ${mode}`, async () => {
      const client = new V2Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } })
      await client.connect(new V2Transport(mixed, init(key)))
      await use(client)
      await client.close()
    })
  }

  for (const mode of ['auto', { pin: '2026-07-28' }] as const) {
    it(`SDK v2 with ${JSON.stringify(mode)} is stateless where every upstream can be`, async () => {
      const only = await startV2Upstream('reject')
      upstreams.push(only)
      const modern = await startTestGateway({
        upstreams: { both: (upstreams[1] as SdkUpstream).url, only: only.url },
      })
      try {
        const client = new V2Client({ name: 'v2', version: '1' }, { versionNegotiation: { mode } })
        await client.connect(new V2Transport(new URL(`${modern.url}/mcp`), init(await modern.key())))
        expect(client.getNegotiatedProtocolVersion()).to.equal('2026-07-28')
        const names = (await client.listTools()).tools.map((tool) => tool.name)
        expect(names).to.include('both__echo').and.include('only__echo')
        const said = await client.callTool({ name: 'only__echo', arguments: { text: 'hi' } })
        expect(JSON.stringify(said)).to.contain('hi')
        await client.close()
      } finally {
        await modern.close()
      }
    })
  }

  it('a client of sessions alone is told so when every upstream is stateless', async () => {
    const only = await startV2Upstream('reject')
    upstreams.push(only)
    const modern = await startTestGateway({ upstreams: { only: only.url } })
    try {
      const client = new V1Client({ name: 'v1', version: '1' })
      const transport = new V1Transport(new URL(`${modern.url}/mcp`), init(await modern.key()))
      const refused = await client.connect(transport as never).catch((error: unknown) => error)
      expect(String(refused)).to.contain('Unsupported protocol version')
    } finally {
      await modern.close()
    }
  })

  it('a request from a server reaches the client when a policy allows it, and so does the answer', async () => {
    const { client } = await v1Client(await gateway.key({ name: 'sampler', roles: ['sampler'] }))
    const result = await client.callTool({ name: 'sessions__ask', arguments: {} })
    expect(JSON.stringify(result)).to.contain('sampled')
    await client.close()
    const row = (await gateway.rows()).findLast((found) => found['target_kind'] === 'server_request')
    expect(row).to.include({ outcome: 'allowed', server: 'sessions', principal_id: 'sampler' })
  })
})
