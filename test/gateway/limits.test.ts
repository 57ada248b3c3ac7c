import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, post } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everybody" if count(input.principal.roles) > 0

deny contains "not-this" if input.arguments.deny

limits contains {"name": "per-principal", "key": [input.principal.id], "limit": 20, "window_s": 3600} if {
	input.target.kind == "tool"
	not input.arguments.cost
}

limits contains {"name": "budget", "key": [input.principal.tenant], "limit": 100, "calendar": "day", "cost": input.arguments.cost} if {
	input.arguments.cost
}

limits contains {"name": "watched", "key": [input.principal.id], "limit": 1, "window_s": 60, "mode": "shadow"} if {
	input.target.kind == "tool"
}

limits contains {"name": "no-handshake", "key": ["x"], "limit": 1, "window_s": 60} if {
	input.request.method == "initialize"
}
`

describe('limits that a policy asks for', function () {
  this.timeout(30_000)
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let second: TestGateway
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream()
    const options = { policies: { 'authz/rules.rego': POLICY }, upstreams: { desk: upstream.url } }
    gateway = await startTestGateway(options)
    second = await startTestGateway({ ...options, database: gateway.database })
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await second?.close()
    await gateway?.close()
    await upstream?.close()
  })

  const rowOf = async (reply: RpcReply): Promise<Record<string, any>> => {
    const rows = await gateway.rowsOf(reply.requestId)
    expect(rows).to.have.length(1)
    return rows[0]!
  }

  it('are exact under concurrency and shared by two gateways; the one over it gets 429 and its reason', async () => {
    const key = await gateway.key({ name: 'counted' })
    const urls = [mcp, `${second.url}/mcp/desk`]
    const before = upstream.calls()
    const replies = await Promise.all(
      Array.from({ length: 60 }, (_, n) => call(urls[n % 2] as string, 'echo', {}, { key })),
    )
    const allowed = replies.filter((reply) => reply.status === 200)
    const limited = replies.filter((reply) => reply.status === 429)
    expect([allowed.length, limited.length]).to.deep.equal([20, 40])
    expect(upstream.calls() - before).to.equal(20)

    const one = limited[0] as RpcReply
    expect(one.json.error.code).to.equal(1429)
    expect(one.json.error.data.retryAfterSeconds).to.be.within(1, 3600)
    expect(Number(one.headers.get('retry-after'))).to.equal(one.json.error.data.retryAfterSeconds)
    expect(one.headers.get('ratelimit-policy')).to.contain('"per-principal";q=20;w=3600')
    expect(one.headers.get('ratelimit')).to.contain('"per-principal";r=0')
    expect(one.text).not.to.contain('per-principal')
    const row = await rowOf(one)
    expect(row).to.include({ outcome: 'rate_limited', reason: 'rate_limited', status_code: 429 })
    const limit = row['decision'].rate.limits.find((found: any) => found.name === 'per-principal')
    expect(limit).to.include({ consumed: 20, limit: 20, refused: true, source: 'db' })
    expect(row['decision'].authz.allow).to.equal(true)
  })

  it('are named in the row and the header fields of an allowed call', async () => {
    const reply = await call(mcp, 'echo', {}, { key: await gateway.key({ name: 'fresh' }) })
    expect(reply.status).to.equal(200)
    expect(reply.headers.get('ratelimit')).to.match(/"per-principal";r=19;t=\d+/)
    const { limits } = (await rowOf(reply))['decision'].rate
    expect(limits.map((limit: any) => [limit.name, limit.consumed])).to.deep.equal([
      ['per-principal', 1],
      ['watched', 1],
    ])
  })

  it('that are only watched refuse nobody', async () => {
    const key = await gateway.key({ name: 'watched' })
    for (let n = 0; n < 3; n += 1) expect((await call(mcp, 'echo', {}, { key })).status).to.equal(200)
  })

  it('cost what the policy says, and a day is a window', async () => {
    const key = await gateway.key({ name: 'spender', tenant: 'budgeted' })
    expect((await call(mcp, 'echo', { cost: 60 }, { key })).status).to.equal(200)
    expect((await call(mcp, 'echo', { cost: 60 }, { key })).status).to.equal(429)
    expect((await call(mcp, 'echo', { cost: 40 }, { key })).status).to.equal(200)
  })

  it('with a cost that is none deny the call', async () => {
    const key = await gateway.key({ name: 'cheat' })
    for (const cost of [0, -5, 1.5, 101]) {
      const reply = await call(mcp, 'echo', { cost }, { key })
      expect(reply.status).to.equal(403)
      expect(await rowOf(reply)).to.include({ reason: 'policy_malformed' })
    }
  })

  it('are not consumed by a call that is denied', async () => {
    const key = await gateway.key({ name: 'denied' })
    for (let n = 0; n < 25; n += 1)
      expect((await call(mcp, 'echo', { deny: true }, { key })).status).to.equal(403)
    expect((await call(mcp, 'echo', {}, { key })).headers.get('ratelimit')).to.contain('r=19')
  })

  it('never keep a client from its handshake', async () => {
    const key = await gateway.key({ name: 'newcomer' })
    const body = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'initialize',
      params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'c', version: '1' } },
    })
    for (let n = 0; n < 3; n += 1) expect((await post(mcp, body, { key })).status).to.equal(200)
    expect((await post(mcp, '{"jsonrpc":"2.0","id":1,"method":"ping"}', legacy({ key }))).status).to.equal(
      200,
    )
  })

  it('of the gateway itself bound what one principal does at once and how often it is denied', async () => {
    const capped = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: upstream.url },
      settings: { limits: { principal_max_denials_per_minute: 3 } },
    })
    try {
      const key = await capped.key({ name: 'prober' })
      const statuses: number[] = []
      for (let n = 0; n < 6; n += 1)
        statuses.push((await call(`${capped.url}/mcp/desk`, 'echo', { deny: true }, { key })).status)
      expect(statuses).to.deep.equal([403, 403, 403, 429, 429, 429])
      const other = await capped.key({ name: 'innocent' })
      expect((await call(`${capped.url}/mcp/desk`, 'echo', {}, { key: other })).status).to.equal(200)
      expect((await capped.rows()).filter((row) => row.outcome === 'rate_limited')).to.have.length(3)
    } finally {
      await capped.close()
    }
  })
})
