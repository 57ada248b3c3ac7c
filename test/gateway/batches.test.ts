import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { post } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everything" if count(input.principal.roles) > 0

deny contains "forbidden-tool" if input.target.name == "forbidden"

limits contains {"name": "echo", "key": [input.principal.id], "limit": 2, "window_s": 3600} if {
	input.target.name == "limited"
}
`

const tool = (id: number | string | null, name: string, args: object = {}): object => ({
  jsonrpc: '2.0',
  ...(id === null ? {} : { id }),
  method: 'tools/call',
  params: { name, arguments: args },
})

describe('a batch (2025-03-26)', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream({
      sessions: true,
      tools: ['echo', 'forbidden', 'limited', 'stream'].map((name) => ({
        name,
        inputSchema: { type: 'object' },
      })),
    })
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
  beforeEach(() =>
    upstream.handle((request, reply) => {
      if (request.id === undefined) return reply.send(202, '')
      if (request.name !== 'stream')
        return reply.result({ content: [{ type: 'text', text: String(request.name) }] })
      const stream = reply.stream()
      const params = { progressToken: 't', progress: 1 }
      stream.message({ jsonrpc: '2.0', method: 'notifications/progress', params })
      stream.result({ content: [{ type: 'text', text: 'streamed' }] })
      return stream.end()
    }),
  )

  const send = (body: unknown, headers: Record<string, string> = {}): Promise<RpcReply> =>
    post(mcp, typeof body === 'string' ? body : JSON.stringify(body), { key, headers })

  it('is taken apart: each element has its own decision, row and answer', async () => {
    const before = upstream.requests.length
    const reply = await send([
      tool(1, 'echo'),
      tool('two', 'forbidden'),
      tool(3, 'no_such_tool'),
      { jsonrpc: '2.0', method: 'notifications/roots/list_changed' },
      tool(5, 'echo'),
    ])
    expect(reply.status).to.equal(200)
    expect(reply.json.map((answer: any) => [answer.id, answer.error?.code ?? 0])).to.deep.equal([
      [1, 0],
      ['two', 1403],
      [3, 1403],
      [5, 0],
    ])
    const rows = await gateway.rowsOf(reply.requestId)
    const found = rows.map((row) => [row['method'], row['tool_name'], row.outcome, row.status_code])
    expect(found).to.have.deep.members([
      ['tools/call', 'echo', 'allowed', 200],
      ['tools/call', 'forbidden', 'denied_authz', 403],
      ['tools/call', 'no_such_tool', 'denied_authz', 403],
      ['notifications/roots/list_changed', 'desk', 'allowed', 202],
      ['tools/call', 'echo', 'allowed', 200],
    ])
    expect(new Set(rows.map((row) => row.id))).to.have.length(5)
    // Beside them the gateway may have looked for the tool that nobody knows.
    const sent = upstream.requests.slice(before).filter(({ method }) => method !== 'tools/list')
    expect(sent.map(({ method }) => method)).to.have.members([
      'tools/call',
      'tools/call',
      'notifications/roots/list_changed',
    ])
    expect(upstream.calls('forbidden')).to.equal(0)
    // Each went up on its own, as it was written.
    for (const request of upstream.requests) expect(request.body.toString()).not.to.match(/^\s*\[/)
  })

  it('is limited element by element', async () => {
    const before = upstream.calls('limited')
    const reply = await send([1, 2, 3, 4].map((id) => tool(id, 'limited')))
    const codes = reply.json.map((answer: any) => answer.error?.code ?? 0)
    expect([...codes].sort()).to.deep.equal([0, 0, 1429, 1429])
    expect(upstream.calls('limited') - before).to.equal(2)
    const outcomes = (await gateway.rowsOf(reply.requestId)).map((row) => row.outcome).sort()
    expect(outcomes).to.deep.equal(['allowed', 'allowed', 'rate_limited', 'rate_limited'])
  })

  it('of notifications alone is answered 202 without a body', async () => {
    const notice = { jsonrpc: '2.0', method: 'notifications/initialized' }
    const reply = await send([notice, notice])
    expect([reply.status, reply.text]).to.deep.equal([202, ''])
    expect(await gateway.rowsOf(reply.requestId)).to.have.length(2)
  })

  it('of requests that are all refused for one reason has the status of that reason', async () => {
    const reply = await send([tool(1, 'forbidden')])
    expect(reply.status).to.equal(403)
    expect(reply.json).to.have.length(1)
    expect(reply.json[0]).to.include({ id: 1 })
  })

  it('is answered as a stream when one answer is one, with every answer once', async () => {
    const reply = await send([tool(1, 'echo'), tool(2, 'stream'), tool(3, 'forbidden'), tool(4, 'stream')])
    expect(reply.headers.get('content-type')).to.equal('text/event-stream')
    const messages = reply.text
      .split('\n')
      .filter((line) => line.startsWith('data: '))
      .map((line) => JSON.parse(line.slice(6)))
    const ids = messages.flatMap((message) => ('id' in message ? [message.id] : []))
    expect(ids.sort()).to.deep.equal([1, 2, 3, 4])
    expect(messages.filter((message) => message.method === 'notifications/progress')).to.have.length(2)
    expect(await gateway.rowsOf(reply.requestId)).to.have.length(4)
  })

  it('is taken apart on the merged mount, too', async () => {
    const body = [tool(1, 'desk__echo'), tool(2, 'desk__forbidden'), tool(3, 'nowhere__echo')]
    const reply = await post(`${gateway.url}/mcp`, JSON.stringify(body), { key })
    const codes = reply.json.map((answer: any) => [answer.id, answer.error?.code ?? 0])
    expect(codes).to.deep.equal([
      [1, 0],
      [2, 1403],
      [3, 1403],
    ])
    expect(await gateway.rowsOf(reply.requestId)).to.have.length(3)
    expect(upstream.calls('forbidden')).to.equal(0)
  })

  it('keeps the digits of its elements', async () => {
    const element = '{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"echo"}}'
    upstream.handle((_request, reply) =>
      reply.send(200, '{"jsonrpc":"2.0","id":9007199254740993,"result":{}}', {
        'content-type': 'application/json',
      }),
    )
    const reply = await send(`[ ${element} ]`)
    expect(reply.text).to.equal('[{"jsonrpc":"2.0","id":9007199254740993,"result":{}}]')
    expect(upstream.requests.at(-1)?.body.toString()).to.equal(element)
  })

  it('tells a client of a session that the session has ended', async () => {
    const initialize = {
      ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
      params: { protocolVersion: '2025-03-26', capabilities: {}, clientInfo: { name: 'a', version: '1' } },
    }
    const opened = await send(initialize)
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
    upstream.handle((_request, reply) => reply.send(404, ''))
    const reply = await send([tool(1, 'echo'), tool(2, 'echo')], session)
    expect([reply.status, reply.text]).to.deep.equal([404, ''])
    const foreign = { 'mcp-session-id': `${session['mcp-session-id'].slice(0, -4)}AAAA` }
    const before = upstream.count()
    expect((await send([tool(1, 'echo')], foreign)).status).to.equal(404)
    expect(upstream.count()).to.equal(before)
  })

  describe('is refused as a whole, in one row and before the upstream,', () => {
    const MODERN = { 'io.modelcontextprotocol/protocolVersion': '2026-07-28' }
    const bodies: [string, unknown, Record<string, string>][] = [
      ['in 2025-06-18', [tool(1, 'echo')], { 'mcp-protocol-version': '2025-06-18' }],
      ['in 2025-11-25', [tool(1, 'echo')], { 'mcp-protocol-version': '2025-11-25' }],
      ['in 2026-07-28', [tool(1, 'echo')], { 'mcp-protocol-version': '2026-07-28' }],
      ['when it is empty', [], {}],
      ['when it has more than 50 elements', Array.from({ length: 51 }, (_, id) => tool(id, 'echo')), {}],
      ['when a batch stands in it', [[tool(1, 'echo')]], {}],
      ['when an element is no message', [tool(1, 'echo'), 7], {}],
      ['when two requests have one id', [tool(1, 'echo'), tool(1, 'echo')], {}],
      [
        'when two ids differ in spelling only',
        `[${JSON.stringify(tool('a', 'echo'))},${JSON.stringify(tool('a', 'echo')).replace('"a"', '"\\u0061"')}]`,
        {},
      ],
      [
        'with initialize in it',
        [{ jsonrpc: '2.0', id: 1, method: 'initialize', params: { protocolVersion: '2025-03-26' } }],
        {},
      ],
      ['with requests and responses', [tool(1, 'echo'), { jsonrpc: '2.0', id: 2, result: {} }], {}],
      [
        'when an element claims 2026-07-28',
        [tool(1, 'echo'), { jsonrpc: '2.0', id: 2, method: 'tools/list', params: { _meta: MODERN } }],
        {},
      ],
      [
        'with a look-alike key in an element',
        '[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","NAME":"forbidden"}}]',
        {},
      ],
      [
        'with a duplicate key in an element',
        '[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","name":"forbidden"}}]',
        {},
      ],
      ['with something behind it', '[]{}', {}],
    ]
    for (const [what, body, headers] of bodies) {
      it(what, async () => {
        const before = upstream.count()
        const reply = await send(body, headers)
        expect(reply.status).to.equal(400)
        expect(reply.json.error).to.be.an('object')
        expect(reply.json).not.to.have.property('id')
        expect(upstream.count()).to.equal(before)
        const rows = await gateway.rowsOf(reply.requestId)
        expect(rows.map((row) => row.outcome)).to.deep.equal(['invalid'])
      })
    }
  })

  it('of an unknown caller is one 401', async () => {
    const reply = await post(mcp, JSON.stringify([tool(1, 'echo'), tool(2, 'echo')]))
    expect(reply.status).to.equal(401)
    expect(await gateway.rowsOf(reply.requestId)).to.have.length(1)
  })
})
