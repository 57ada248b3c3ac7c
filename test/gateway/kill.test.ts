import { expect } from 'chai'
import { waitUntilApplied } from '../../src/db/applied.ts'
import type { KillOrder, KillTarget } from '../../src/kill/store.ts'
import { kill, unkill } from '../../src/kill/store.ts'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, modern, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

describe('kill switches stop what the policy allows', function () {
  this.timeout(20_000)
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string
  const set: KillTarget[] = []

  before(async () => {
    upstream = await startScriptedUpstream({
      sessions: true,
      tools: ['echo', 'delete_repo'].map((name) => ({ name, inputSchema: { type: 'object' } })),
    })
    gateway = await startTestGateway({
      upstreams: { github: upstream.url, other: upstream.url },
      // Gateway, upstream and callers share one process here: that it is late says nothing.
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/github`
  })
  afterEach(async () => {
    for (const target of set.splice(0)) await lift(target)
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  async function stop(target: KillTarget, more: Partial<KillOrder> = {}): Promise<void> {
    const order = { target, reason: 'leaks <secrets>', forMs: null, actor: 'ann@ops', ...more }
    const { seq } = await kill(gateway.database.pool, order)
    set.push(target)
    expect((await waitUntilApplied(gateway.database.pool, seq)).pending).to.deep.equal([])
  }

  async function lift(target: KillTarget): Promise<void> {
    const seq = await unkill(gateway.database.pool, { target, reason: null, actor: 'ann@ops' })
    if (seq !== null) await waitUntilApplied(gateway.database.pool, seq)
  }

  async function rowOf(reply: RpcReply): Promise<Row> {
    const rows = await gateway.rowsOf(reply.requestId)
    expect(rows).to.have.lengthOf(1)
    return rows[0] as Row
  }

  async function expectKilled(reply: RpcReply): Promise<Row> {
    expect(reply.status).to.equal(403)
    expect(reply.text).to.not.contain('leaks')
    const row = await rowOf(reply)
    expect(row).to.include({ outcome: 'killed', reason: 'killed', status_code: 403 })
    expect(row.decision['stage']).to.equal('authz')
    return row
  }

  const list = (): Promise<RpcReply> =>
    post(mcp, '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}', legacy({ key }))
  const rpc = (method: string, more: object = {}, session = ''): Promise<RpcReply> =>
    post(
      mcp,
      JSON.stringify({ jsonrpc: '2.0', method, params: {}, ...more }),
      legacy({ key, ...(session !== '' && { headers: { 'mcp-session-id': session } }) }),
    )
  const INITIALIZE = {
    id: 1,
    params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } },
  }
  async function openSession(): Promise<string> {
    const reply = await rpc('initialize', INITIALIZE)
    expect(reply.status).to.equal(200)
    return reply.headers.get('mcp-session-id') as string
  }
  const names = (reply: RpcReply): string[] => reply.json.result.tools.map((tool: any) => tool.name)

  it('a tool: the next call is refused before the upstream is asked, and others go on', async () => {
    expect((await call(mcp, 'delete_repo', {}, { key })).status).to.equal(200)
    await stop({ kind: 'tool', name: 'delete_repo', server: null })
    const before = upstream.calls()
    const reply = await call(mcp, 'delete_repo', { id: 1 }, { key })
    const row = await expectKilled(reply)
    expect(reply.json.error).to.include({ code: 1403, message: 'Forbidden' })
    expect(row).to.include({ tool_name: 'delete_repo', target_kind: 'tool', server: 'github' })
    expect(row['error_message']).to.contain('ann@ops').and.contain('leaks')
    expect(upstream.calls()).to.equal(before)
    expect((await call(mcp, 'echo', {}, { key })).status).to.equal(200)
    await lift({ kind: 'tool', name: 'delete_repo', server: null })
    expect((await call(mcp, 'delete_repo', {}, { key })).status).to.equal(200)
  })

  it('a tool is hidden from lists, and the row says why', async () => {
    expect(names(await list())).to.deep.equal(['echo', 'delete_repo'])
    await stop({ kind: 'tool', name: 'delete_repo', server: null })
    const reply = await list()
    expect(names(reply)).to.deep.equal(['echo'])
    const listed = (await rowOf(reply)).decision['listed']
    expect(listed[1]).to.deep.include({ name: 'delete_repo', allow: false, denied_by: ['killed'] })
  })

  it('a tool on one server only is stopped there and nowhere else', async () => {
    await stop({ kind: 'tool', name: 'echo', server: 'other' })
    expect((await call(mcp, 'echo', {}, { key })).status).to.equal(200)
    await expectKilled(await call(`${gateway.url}/mcp/other`, 'echo', {}, { key }))
  })

  it('a caller without a key learns nothing of it', async () => {
    await stop({ kind: 'server', name: 'github' })
    expect((await call(mcp, 'echo', {}, { key: null })).status).to.equal(401)
  })

  it('a server: every method is refused, those that begin a session and those nobody knows too', async () => {
    const session = await openSession()
    await stop({ kind: 'server', name: 'github' })
    const before = upstream.requests.length
    const bodiless = (httpMethod: string): Promise<RpcReply> =>
      post(mcp, null, legacy({ key, httpMethod, headers: { 'mcp-session-id': session } }))
    const replies = [
      await rpc('initialize', INITIALIZE),
      await rpc('ping', { id: 1 }),
      await rpc('tools/list', { id: 1 }),
      await rpc('resources/read', { id: 1, params: { uri: 'file:///a' } }),
      await rpc('prompts/get', { id: 1, params: { name: 'p' } }),
      await rpc('tools/call', { id: 1, params: { name: 'echo', arguments: {} } }),
      await rpc('tools/call', { id: 1, params: {} }),
      await rpc('made/up', { id: 1 }),
      await rpc('notifications/initialized'),
      await modern(mcp, 'server/discover', {}, { key }),
      await bodiless('GET'),
      await bodiless('DELETE'),
    ]
    for (const reply of replies) await expectKilled(reply)
    expect((await rowOf(replies[5] as RpcReply))['tool_name']).to.equal('echo')
    expect(upstream.requests.length).to.equal(before)
    expect((await call(`${gateway.url}/mcp/other`, 'echo', {}, { key })).status).to.equal(200)
  })

  it('a switch ends by itself when its time is over', async () => {
    await stop({ kind: 'server', name: 'github' }, { forMs: 1000 })
    await expectKilled(await call(mcp, 'echo', {}, { key }))
    const back = await until('the end of the switch', async () => {
      const reply = await call(mcp, 'echo', {}, { key })
      return reply.status === 200 ? reply : null
    })
    expect(await rowOf(back)).to.include({ outcome: 'allowed' })
  })

  it('open streams of a server that is killed end, with a row that says killed', async () => {
    const session = await openSession()
    upstream.handle((request, reply) => {
      if (request.method === 'GET' || request.method === 'tools/call') reply.stream().raw(': open\n\n')
      else reply.result({})
    })
    const open = (method: string, body: string | null) =>
      fetch(mcp, {
        method,
        headers: {
          authorization: `Bearer ${key}`,
          accept: 'application/json, text/event-stream',
          'content-type': 'application/json',
          'mcp-protocol-version': '2025-11-25',
          'mcp-session-id': session,
        },
        body,
      })
    const toolCall = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{}}}'
    const streams = await Promise.all([open('GET', null), open('POST', toolCall)])
    for (const stream of streams) expect(stream.status).to.equal(200)
    await stop({ kind: 'server', name: 'github' })
    const texts = await Promise.all(streams.map((stream) => stream.text()))
    expect(texts[1]).to.contain('"id":7').and.contain('"code":1403').and.not.contain('leaks')
    for (const stream of streams) {
      const requestId = stream.headers.get('x-request-id')
      const rows = await until('the row', async () => {
        const found = await gateway.rowsOf(requestId)
        return found.length > 0 ? found : null
      })
      expect(rows.map((row) => row.outcome)).to.deep.equal(['killed'])
      expect(rows[0]?.['error_message']).to.contain('server github was stopped by ann@ops')
    }
    upstream.handle((_request, reply) => reply.result({ content: [] }))
  })

  it('readiness and metrics show how many there are', async () => {
    await stop({ kind: 'server', name: 'nowhere' })
    await stop({ kind: 'tool', name: 'a', server: null })
    await stop({ kind: 'tool', name: 'a', server: 'github' })
    const ready = (await (await fetch(`${gateway.adminUrl}/readyz`)).json()) as any
    expect(ready.checks.kill_switches).to.deep.equal({ state: 'ok', required: false, tool: 2, server: 1 })
    const admin = await gateway.key({ name: 'ops', scopes: ['gateway:admin'] })
    const metrics = await fetch(`${gateway.adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${admin}` },
    })
    const text = await metrics.text()
    expect(text).to.contain('gateway_kill_switches{kind="tool"} 2')
    expect(text).to.contain('gateway_kill_switches{kind="server"} 1')
    expect(text).to.match(/gateway_attempts_total\{outcome="killed"\} \d/)
  })
})
