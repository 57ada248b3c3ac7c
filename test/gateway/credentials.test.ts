import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { call } from '../support/rpc.ts'
import type { RawUpstream, ScriptedUpstream } from '../support/upstreams.ts'
import { startRawUpstream, startScriptedUpstream } from '../support/upstreams.ts'

const CLIENT_SECRET = 'cl1ent-proof-of-the-gateway'
const TOKEN = 'acc3ss-0f-the-gateway'

describe("the gateway's credential for an upstream", function () {
  this.timeout(60_000)
  let issuer: RawUpstream
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    issuer = await startRawUpstream((_request, reply) =>
      reply.json(200, { access_token: TOKEN, token_type: 'Bearer', expires_in: 600 }),
    )
    upstream = await startScriptedUpstream()
    const oauth = { token_url: issuer.url, client_id: 'gateway', client_secret: '${CLIENT_SECRET}' }
    gateway = await startTestGateway({
      upstreams: { desk: { url: upstream.url, credential: { oauth } } },
      environment: { CLIENT_SECRET },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
    await issuer?.close()
  })

  async function expectNothingTold(): Promise<void> {
    const told = JSON.stringify(await gateway.rows()) + gateway.log()
    expect(told).to.contain('echo')
    for (const secret of [CLIENT_SECRET, TOKEN, key]) expect(told).not.to.contain(secret)
  }

  it('is shown instead of the caller’s, and is in no answer, row or log line', async () => {
    const reply = await call(mcp, 'echo', { a: 1 }, { key, headers: { cookie: `session=${key}` } })
    expect(reply.status).to.equal(200)
    expect(reply.text + JSON.stringify([...reply.headers])).not.to.contain(TOKEN)
    expect(upstream.calls('echo')).to.equal(1)
    for (const { headers } of upstream.requests) {
      expect(headers.authorization).to.equal(`Bearer ${TOKEN}`)
      expect(JSON.stringify(headers)).not.to.contain(key)
    }
    expect(JSON.stringify(issuer.requests[0]?.headers)).not.to.contain(key)
    expect(issuer.count()).to.equal(1)
    await expectNothingTold()
  })

  it('that the upstream refuses is a failed upstream to the caller, and nothing more', async () => {
    upstream.handle((_request, reply) =>
      reply.json(401, { error: `bad token ${TOKEN}` }, { 'www-authenticate': `Bearer realm="${TOKEN}"` }),
    )
    const before = upstream.calls()
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(502)
    expect(reply.json.error).to.deep.include({ code: 1502, message: 'Upstream failed' })
    expect(reply.text + JSON.stringify([...reply.headers])).not.to.contain(TOKEN)
    expect(upstream.calls()).to.equal(before + 1)
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row).to.deep.include({ outcome: 'upstream_error', error_message: 'it answered 401' })
    await expectNothingTold()
  })

  it('that cannot be had keeps the call from the upstream, and the row says why', async () => {
    issuer.handle((_request, reply) =>
      reply.json(400, { error: 'invalid_client', error_description: CLIENT_SECRET }),
    )
    const before = upstream.count()
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(502)
    expect(reply.text).not.to.contain('token endpoint')
    expect(upstream.count()).to.equal(before)
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row?.['error_message']).to.equal('the token endpoint refused the client (400 invalid_client)')
    await expectNothingTold()
  })
})
