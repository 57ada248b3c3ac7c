import { expect } from 'chai'
import type { Desk } from '../support/desk.ts'
import { openDesk } from '../support/desk.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, post } from '../support/rpc.ts'

const PAGE = 'http://localhost:6274'

describe('a page in a browser', () => {
  let desk: Desk
  let { upstream, gateway, key, mcp } = {} as Desk

  before(async () => {
    desk = await openDesk({
      settings: { allowed_origins: ['http://localhost:*', 'https://app.example.com'] },
    })
    ;({ upstream, gateway, key, mcp } = desk)
  })
  after(() => desk?.close())

  const preflight = (headers: Record<string, string>): Promise<RpcReply> =>
    post(mcp, null, { httpMethod: 'OPTIONS', headers })

  it('of an allowed origin is told what it may send, without a key, a row or the upstream', async () => {
    const before = [(await gateway.rows()).length, upstream.count()]
    const reply = await preflight({
      origin: PAGE,
      'access-control-request-method': 'POST',
      'access-control-request-headers': 'authorization,mcp-protocol-version,Mcp-Param-Region,x-anything',
    })
    expect([reply.status, reply.text]).to.deep.equal([204, ''])
    expect(reply.headers.get('access-control-allow-origin')).to.equal(PAGE)
    expect(reply.headers.get('access-control-allow-methods')).to.equal('GET, POST, DELETE')
    const names = String(reply.headers.get('access-control-allow-headers')).split(', ')
    expect(names).to.include.members(['authorization', 'mcp-session-id', 'last-event-id', 'mcp-param-region'])
    expect(names).not.to.include.members(['x-anything'])
    expect(names).not.to.include('*')
    expect(reply.headers.has('access-control-allow-credentials')).to.equal(false)
    expect(reply.headers.get('vary')).to.contain('Origin')
    expect([(await gateway.rows()).length, upstream.count()]).to.deep.equal(before)
  })

  it('of another origin is refused and recorded, also with its preflight', async () => {
    const headers = { 'access-control-request-method': 'POST' }
    for (const origin of ['https://evil.example', 'null', 'http://localhost.evil.example:80']) {
      const reply = await preflight({ ...headers, origin })
      expect(reply.status).to.equal(403)
      expect(reply.headers.has('access-control-allow-origin')).to.equal(false)
      expect((await gateway.rowsOf(reply.requestId)).map((row) => row['reason'])).to.deep.equal([
        'origin_refused',
      ])
    }
  })

  it('may not use an OPTIONS that is no preflight', async () => {
    expect((await preflight({ origin: PAGE })).status).to.equal(401)
    expect((await preflight({ 'access-control-request-method': 'POST' })).status).to.equal(401)
  })

  it('can read every answer, its session and what it may still send, and why it was refused', async () => {
    const allowed = await call(mcp, 'echo', {}, { key, headers: { origin: PAGE } })
    const denied = await call(mcp, 'nothing', {}, { key, headers: { origin: PAGE } })
    const unknown = await call(mcp, 'echo', {}, { headers: { origin: PAGE } })
    expect([allowed.status, denied.status, unknown.status]).to.deep.equal([200, 403, 401])
    for (const { headers } of [allowed, denied, unknown]) {
      expect(headers.get('access-control-allow-origin')).to.equal(PAGE)
      expect(headers.get('access-control-expose-headers'))
        .to.contain('mcp-session-id')
        .and.contain('retry-after')
      expect(headers.get('vary')).to.equal('Origin')
    }
    const plain = await call(mcp, 'echo', {}, { key })
    expect(plain.headers.has('access-control-allow-origin')).to.equal(false)
  })
})

describe('a gateway that refuses in band (deny_as: in_band)', () => {
  let desk: Desk
  let { gateway, key, mcp } = {} as Desk

  before(async () => {
    desk = await openDesk({
      upstreams: { dead: 'http://127.0.0.1:9/mcp' },
      settings: { deny_as: 'in_band' },
    })
    ;({ gateway, key, mcp } = desk)
  })
  after(() => desk?.close())

  it('says no with status 200 and the error; the row has the true status', async () => {
    const reply = await call(mcp, 'nothing', {}, { key })
    expect([reply.status, reply.json.id, reply.json.error.code]).to.deep.equal([200, 7, 1403])
    expect(reply.json.error.message, 'of such an error clients show the message alone').to.equal(
      `Forbidden (request ${reply.requestId})`,
    )
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row).to.include({ outcome: 'denied_authz', status_code: 403, reason: 'unknown_tool' })
    const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}'
    const failed = await post(`${gateway.url}/mcp/dead`, ping, { key })
    expect([failed.status, failed.json.error.code]).to.deep.equal([200, 1502])
    expect((await gateway.rowsOf(failed.requestId))[0]).to.include({ status_code: 502 })
    const batch = await post(mcp, `[${ping.replace('ping', 'tools/run')},${ping.replace('1', '2')}]`, { key })
    expect(batch.status).to.equal(200)
  })

  it('still uses the status for what has no message to say it in', async () => {
    expect((await call(mcp, 'echo', {})).status).to.equal(401)
    expect((await post(mcp, '{', { key })).status).to.equal(400)
    expect((await call(mcp, 'echo', {}, { key, headers: { 'mcp-session-id': 'x' } })).status).to.equal(404)
    const notice = '{"jsonrpc":"2.0","method":"notifications/unheard"}'
    expect((await post(mcp, notice, { key })).status).to.equal(400)
    expect((await call(`${gateway.url}/mcp/none`, 'echo', {}, { key })).status).to.equal(404)
  })
})
