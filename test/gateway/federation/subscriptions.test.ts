import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import {
  ResourceListChangedNotificationSchema,
  ResourceUpdatedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js'
import { expect } from 'chai'
import type { TestGateway } from '../../support/gateway.ts'
import { startTestGateway } from '../../support/gateway.ts'
import type { TestDatabase } from '../../support/postgres.ts'
import { createTestDatabase } from '../../support/postgres.ts'
import type { SessionUpstream } from '../../support/sdk-upstreams.ts'
import { startV1Upstream } from '../../support/sdk-upstreams.ts'
import { until } from '../../support/until.ts'

/** From a moment on nobody may hear of one of the resources any more. */
const CUT_OFF_MS = Date.parse('2100-01-01T00:00:00Z')
const POLICY = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0

deny contains "too-late" if {
	input.target.name == "test://b"
	input.request.now_ns >= ${CUT_OFF_MS}000000
}
`

interface Listener {
  readonly client: Client
  readonly updated: string[]
  listChanges(): number
}

describe('subscriptions of the merged mount (2025-x)', function () {
  this.timeout(30_000)
  let database: TestDatabase
  let upstream: SessionUpstream
  let nowMs: number | null
  const gateways: TestGateway[] = []
  const clients: Client[] = []

  beforeEach(async () => {
    nowMs = null
    database = await createTestDatabase()
    upstream = await startV1Upstream()
  })
  afterEach(async () => {
    for (const client of clients.splice(0)) await client.close()
    for (const gateway of gateways.splice(0)) await gateway.close()
    await upstream.close()
    await database.drop()
  })

  async function start(): Promise<TestGateway> {
    const gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { up: upstream.url },
      database,
      nowMs: () => nowMs ?? Date.now(),
    })
    gateways.push(gateway)
    return gateway
  }

  /** `balanced` gets the method of each request and says where it goes. */
  async function listen(key: string, balanced: (method: string) => TestGateway): Promise<Listener> {
    const client = new Client({ name: 'listener', version: '1' })
    const updated: string[] = []
    let listChanges = 0
    client.setNotificationHandler(ResourceUpdatedNotificationSchema, ({ params }) => {
      updated.push(params.uri)
    })
    client.setNotificationHandler(ResourceListChangedNotificationSchema, () => {
      listChanges += 1
    })
    const transport = new StreamableHTTPClientTransport(new URL(`${balanced('initialize').url}/mcp`), {
      requestInit: { headers: { authorization: `Bearer ${key}` } },
      fetch: async (_url, init) => {
        const { method } = typeof init?.body === 'string' ? JSON.parse(init.body) : { method: init?.method }
        return await fetch(`${balanced(method).url}/mcp`, init)
      },
    })
    await client.connect(transport as never)
    clients.push(client)
    return { client, updated, listChanges: () => listChanges }
  }

  it('outlive the session of the upstream: they are asked for again, and the client hears that it missed something', async () => {
    const gateway = await start()
    const { client, updated, listChanges } = await listen(await gateway.key(), () => gateway)
    await client.subscribeResource({ uri: 'mcp+up+test://a' })
    await until('the update', async () => (await upstream.update('test://a')) === 1 && updated.length > 0)
    expect(updated[0]).to.equal('mcp+up+test://a')
    const before = updated.length
    await upstream.forgetSessions()
    expect(await upstream.update('test://a'), 'it knows nobody').to.equal(0)
    await until('an update in the new session', async () => {
      await upstream.update('test://a')
      return updated.length > before
    })
    await until('the change', () => listChanges() > 0)
    await client.unsubscribeResource({ uri: 'mcp+up+test://a' })
    await upstream.forgetSessions()
    await until('the next session', () => upstream.count('initialize') >= 3)
    expect(await upstream.update('test://a'), 'not wanted any more').to.equal(0)
  })

  it('are asked for again only where the policy still allows them', async () => {
    const gateway = await start()
    const { client } = await listen(await gateway.key(), () => gateway)
    await client.subscribeResource({ uri: 'mcp+up+test://b' })
    await client.subscribeResource({ uri: 'mcp+up+test://a' })
    expect([await upstream.update('test://a'), await upstream.update('test://b')]).to.deep.equal([1, 1])
    nowMs = CUT_OFF_MS
    await upstream.forgetSessions()
    await until('the allowed one', async () => (await upstream.update('test://a')) === 1)
    expect(await upstream.update('test://b')).to.equal(0)
  })

  it('are heard of on another gateway than the one that relayed them, and after a restart', async () => {
    const [first, second] = [await start(), await start()]
    const key = await first.key()
    const { client, updated } = await listen(key, (method) => (method === 'GET' ? second : first))
    await client.subscribeResource({ uri: 'mcp+up+test://a' })
    await until('the update', async () => {
      expect(await upstream.update('test://a'), 'one session, whichever gateway').to.equal(1)
      return updated.length > 0
    })
    expect(updated[0]).to.equal('mcp+up+test://a')
  })
})
