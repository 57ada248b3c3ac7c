import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, post } from '../support/rpc.ts'
import type { RawUpstream } from '../support/upstreams.ts'
import { startRawUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everything" if count(input.principal.roles) > 0

deny contains "denied-tool" if input.target.name == "denied"
`
const schema = { type: 'object', properties: { n: { type: 'integer' } } }
const tool = (name: string): object => ({ name, inputSchema: schema })

/** Sessions of clients have tools of their own; the gateway's own session has only `shared`. */
async function startSessionUpstream(): Promise<RawUpstream> {
  let sessions = 0
  return await startRawUpstream((request, reply) => {
    const own = request.headers['mcp-session-id'] ?? ''
    if (request.id === undefined) return reply.send(request.httpMethod === 'GET' ? 405 : 202, '')
    if (request.method === 'initialize') {
      const { clientInfo, protocolVersion } = (request.json as any).params
      sessions += 1
      const session = { 'mcp-session-id': `${clientInfo.name}-${sessions}` }
      const serverInfo = { name: 'own', version: '1' }
      return reply.result({ protocolVersion, capabilities: { tools: {} }, serverInfo }, session)
    }
    if (request.method === 'server/discover') return reply.error(-32000, 'no', 400)
    if (request.method !== 'tools/list')
      return reply.result({ content: [{ type: 'text', text: String(request.name) }] })
    const more = String(own).startsWith('client') ? ['own', 'denied', 'twice', 'twice'] : []
    return reply.result({ tools: ['shared', ...more].map(tool) })
  })
}

describe('a tool that only one session has', () => {
  let upstream: RawUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startSessionUpstream()
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: upstream.url },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  async function open(): Promise<Record<string, string>> {
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 'client', version: '1' },
    }
    const body = { jsonrpc: '2.0', id: 1, method: 'initialize', params }
    const reply = await post(mcp, JSON.stringify(body), { key })
    return { 'mcp-session-id': reply.headers.get('mcp-session-id') as string }
  }
  const list = (headers: Record<string, string>): Promise<RpcReply> =>
    post(mcp, '{"jsonrpc":"2.0","id":2,"method":"tools/list"}', legacy({ key, headers }))

  it('is unknown until the session has been shown it, and known to that session from then on', async () => {
    const session = await open()
    expect((await call(mcp, 'own', {}, { key, headers: session })).status).to.equal(403)
    const shown = (await list(session)).json.result.tools.map((one: any) => one.name)
    expect(shown).to.deep.equal(['shared', 'own', 'twice', 'twice'])
    const reply = await call(mcp, 'own', { n: 1 }, { key, headers: session })
    expect(reply.json.result.content[0].text).to.equal('own')
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row).to.include({ outcome: 'allowed', tool_name: 'own' })
    const invalid = await call(mcp, 'own', { n: 'x' }, { key, headers: session })
    expect(invalid.json.result.isError, 'its arguments are checked, too').to.equal(true)
  })

  it('is unknown to every other session and caller, and so is one that was never shown or is listed twice', async () => {
    const session = await open()
    await list(session)
    const other = await open()
    const before = upstream.calls()
    const calls: [string, Record<string, string>][] = [
      ['own', other],
      ['own', {}],
      ['denied', session],
      ['twice', session],
    ]
    for (const [name, headers] of calls) {
      const reply = await call(mcp, name, {}, { key, headers })
      expect([name, reply.status]).to.deep.equal([name, 403])
      const [row] = await gateway.rowsOf(reply.requestId)
      expect(row).to.include({ outcome: 'denied_authz', reason: 'unknown_tool' })
    }
    expect(upstream.calls()).to.equal(before)
  })
})
