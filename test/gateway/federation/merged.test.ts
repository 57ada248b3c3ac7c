import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { waitUntilApplied } from '../../../src/db/applied.ts'
import type { KillTarget } from '../../../src/kill/store.ts'
import { kill, unkill } from '../../../src/kill/store.ts'
import type { Row, TestGateway } from '../../support/gateway.ts'
import { startTestGateway } from '../../support/gateway.ts'
import type { RpcOptions, RpcReply } from '../../support/rpc.ts'
import { call, legacy, modern, post } from '../../support/rpc.ts'
import type { RawHandler, ScriptedUpstream } from '../../support/upstreams.ts'
import { echoArguments, SCRIPTED_SESSION, startScriptedUpstream } from '../../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "visible" if {
	input.server.labels.team in input.principal.teams
	input.target.kind != "server_request"
}

deny contains "not-that-one" if input.target.name in {"danger", "file:///etc/shadow", "oops"}

limits contains {"name": "two-limited", "key": [input.principal.id], "limit": 2, "window_s": 3600} if {
	input.target.name == "limited"
}

limits contains {"name": "lists", "key": [input.principal.id, input.server.name], "limit": 1, "window_s": 3600} if {
	input.request.method == "prompts/list"
	input.server.name == "wiki"
}

limits contains {"name": "all-lists", "key": [input.principal.id], "limit": 2, "window_s": 3600} if {
	input.request.method == "prompts/list"
	input.principal.id == "lister"
}
`

const DATA = { type: 'object' }

/** Resources, prompts and completion; everything else as echo. */
const everything: RawHandler = (request, reply) => {
  const params = request.json?.['params'] as Record<string, any>
  switch (request.method) {
    case 'resources/list':
      return reply.result({
        resources: [
          { uri: 'file:///a', name: 'a' },
          { uri: 'file:///etc/shadow', name: 's' },
        ],
      })
    case 'resources/templates/list':
      return reply.result({ resourceTemplates: [{ uriTemplate: 'file:///{+path}', name: 'any' }] })
    case 'resources/read':
      return reply.result({ contents: [{ uri: params['uri'], text: 'content' }] })
    case 'prompts/list':
      return reply.result({ prompts: [{ name: 'hello' }, { name: 'oops' }] })
    case 'prompts/get': {
      const content = { type: 'resource', resource: { uri: 'file:///p', text: params['name'] } }
      return reply.result({ messages: [{ role: 'user', content }] })
    }
    case 'completion/complete':
      return reply.result({ completion: { values: [JSON.stringify(params['ref'])] } })
    case 'tools/call':
      if (request.name !== 'link') break
      return reply.result({ content: [{ type: 'resource_link', uri: 'file:///linked', name: 'l' }] })
  }
  return echoArguments(request, reply)
}

describe('the merged mount', function () {
  this.timeout(30_000)
  let files: ScriptedUpstream
  let wiki: ScriptedUpstream
  let secret: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    const tools = ['echo', 'danger', 'limited', 'link', 'a__b'].map((name) => ({ name, inputSchema: DATA }))
    files = await startScriptedUpstream({ sessions: true, tools, handle: everything })
    wiki = await startScriptedUpstream({ tools, handle: everything })
    secret = await startScriptedUpstream({ tools, handle: everything })
    const upstream = ({ url }: ScriptedUpstream, team: string) => ({ url, labels: { team } })
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: {
        files: upstream(files, 'all'),
        wiki: upstream(wiki, 'all'),
        secret: upstream(secret, 'none'),
      },
      settings: { limits: { max_delay_ms: null } },
    })
    key = await gateway.key({ teams: ['all'] })
    mcp = `${gateway.url}/mcp`
  })
  after(async () => {
    await gateway?.close()
    for (const upstream of [files, wiki, secret]) await upstream?.close()
  })

  const rpc = (method: string, params: object, options: RpcOptions = {}): Promise<RpcReply> =>
    post(mcp, JSON.stringify({ jsonrpc: '2.0', id: 7, method, params }), legacy({ key, ...options }))

  async function rowOf(reply: RpcReply): Promise<Row> {
    const rows = await gateway.rowsOf(reply.requestId)
    expect(rows).to.have.lengthOf(1)
    return rows[0] as Row
  }

  async function open(credential = key, url = mcp): Promise<string> {
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 't', version: '1' },
    }
    const reply = await post(url, JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }), {
      key: credential,
    })
    expect(reply.status, reply.text).to.equal(200)
    return reply.headers.get('mcp-session-id') as string
  }
  const inSession = (session: string): RpcOptions => ({ headers: { 'mcp-session-id': session } })

  it('decides a call as the mount of its upstream does: same answer, same row, same trace', async () => {
    for (const tool of ['echo', 'danger', 'unheard-of']) {
      const direct = await call(`${mcp}/wiki`, tool, { n: 1 }, { key })
      const merged = await call(mcp, `wiki__${tool}`, { n: 1 }, { key })
      const plain = (text: string, { requestId }: RpcReply) => text.replaceAll(requestId ?? '', 'ID')
      expect(merged.status).to.equal(direct.status)
      expect(plain(merged.text, merged)).to.equal(plain(direct.text, direct))
      const [one, other] = [await rowOf(direct), await rowOf(merged)]
      for (const column of [
        'server',
        'target_kind',
        'tool_name',
        'method',
        'outcome',
        'reason',
        'status_code',
      ])
        expect(other[column], column).to.deep.equal(one[column])
      const without = ({ decision }: Row) => {
        const { authz = {}, mount, timings_us, upstream, ...rest } = decision
        const { input, input_mac, now_ns, eval_us, ...verdict } = authz
        return { rest, verdict, server: input?.server, target: input?.target }
      }
      expect(without(other), tool).to.deep.equal(without(one))
      expect(other.decision['mount']).to.equal('/mcp')
    }
  })

  it('charges the limits of both mounts together', async () => {
    const own = await gateway.key({ name: 'limited', teams: ['all'] })
    expect((await call(mcp, 'wiki__limited', {}, { key: own })).status).to.equal(200)
    expect((await call(`${mcp}/wiki`, 'limited', {}, { key: own })).status).to.equal(200)
    expect((await call(mcp, 'wiki__limited', {}, { key: own })).status).to.equal(429)
  })

  it('charges a list once for all parts, and leaves out those whose own limit is reached', async () => {
    const options = { key: await gateway.key({ name: 'lister', teams: ['all'] }) }
    const list = async () => await rpc('prompts/list', {}, options)
    const names = ({ json }: RpcReply) => json.result.prompts.map((one: any) => one.name)
    expect(names(await list())).to.deep.equal(['files__hello', 'wiki__hello'])
    const second = await list()
    expect(names(second)).to.deep.equal(['files__hello'])
    const { parts, rate } = (await rowOf(second)).decision
    expect(parts.map((part: any) => part.refused)).to.deep.equal([undefined, 'policy_denied', 'rate_limited'])
    expect(rate.limits).to.have.lengthOf(1)
    expect(rate.limits[0]).to.include({ name: 'all-lists', consumed: 2 })
    expect((await list()).status).to.equal(429)
  })

  it('a kill switch of an upstream stops its part, one of a tool its tool', async () => {
    const targets: readonly KillTarget[] = [
      { kind: 'server', name: 'wiki' },
      { kind: 'tool', server: 'wiki', name: 'echo' },
    ]
    for (const target of targets) {
      const order = { target, reason: 'test', forMs: null, actor: 'ann' }
      await waitUntilApplied(gateway.database.pool, (await kill(gateway.database.pool, order)).seq)
      const refused = await call(mcp, 'wiki__echo', {}, { key })
      const names = (await rpc('tools/list', {})).json.result.tools.map((tool: any) => tool.name)
      const seq = await unkill(gateway.database.pool, { target, reason: null, actor: 'ann' })
      await waitUntilApplied(gateway.database.pool, seq as bigint)
      expect(refused.status).to.equal(403)
      expect((await rowOf(refused)).outcome).to.equal('killed')
      expect(names).to.include('files__echo').and.not.include('wiki__echo')
      expect(names.includes('wiki__link')).to.equal(target.kind === 'tool')
    }
  })

  it('says nothing of an upstream that is hidden, and asks it nothing', async () => {
    const asked = secret.count()
    const session = await open()
    const greeting = await rpc('initialize', { protocolVersion: '2025-11-25', capabilities: {} })
    const found = [
      greeting,
      await modern(mcp, 'server/discover', {}, { key }),
      await rpc('tools/list', {}, inSession(session)),
      await rpc('resources/list', {}, inSession(session)),
      await rpc('resources/templates/list', {}),
      await rpc('prompts/list', {}),
    ]
    for (const reply of found) {
      expect(reply.status, reply.text).to.equal(200)
      expect(reply.text).to.not.contain('secret')
    }
    const hidden = await call(mcp, 'secret__a__b', {}, { key })
    const nobody = await call(mcp, 'nobody__a__b', {}, { key })
    expect(hidden.text.replace(hidden.requestId ?? '', '')).to.equal(
      nobody.text.replace(nobody.requestId ?? '', ''),
    )
    expect([hidden.status, nobody.status]).to.deep.equal([403, 403])
    const read = await rpc('resources/read', { uri: 'mcp+secret+file:///a' })
    expect([read.status, (await rpc('resources/read', { uri: 'file:///a' })).status]).to.deep.equal([
      403, 403,
    ])
    // Its list of tools may have been read again for the gateway itself.
    expect(secret.calls() + secret.count('resources/read')).to.equal(0)
    expect(asked).to.be.at.most(secret.count())
  })

  it('a list leaves one row, with the verdict, the elements and the answer of each upstream', async () => {
    const row = await rowOf(await rpc('tools/list', {}, inSession(await open())))
    expect(row).to.include({ server: '*', method: 'tools/list', outcome: 'allowed', target_kind: 'server' })
    expect(row.decision['authz']).to.include({ allow: true })
    const parts = row.decision['parts']
    expect(parts.map((part: any) => [part.server.name, part.authz.allow, part.refused])).to.deep.equal([
      ['files', true, undefined],
      ['secret', false, 'policy_denied'],
      ['wiki', true, undefined],
    ])
    expect(parts[0].listed.find((one: any) => one.name === 'danger')).to.include({ allow: false })
    expect(parts[0].upstream).to.include({ server: 'files', status: 200 })
    expect(parts[1]).to.not.have.property('upstream')
    const schema = JSON.parse(
      readFileSync(new URL('../../../schemas/decision.schema.json', import.meta.url), 'utf8'),
    )
    const validate = new Ajv2020({ strict: false }).compile(schema)
    expect(validate(row.decision), JSON.stringify(validate.errors)).to.equal(true)
  })

  it('a principal who may see no upstream is refused, whatever is asked', async () => {
    const stranger = await gateway.key({ name: 'stranger', teams: [] })
    const initialize = { protocolVersion: '2025-11-25', capabilities: {} }
    for (const [method, params] of [
      ['initialize', initialize],
      ['tools/list', {}],
      ['ping', {}],
    ] as const) {
      const reply = await rpc(method, params, { key: stranger })
      expect(reply.status, method).to.equal(403)
      expect(await rowOf(reply)).to.include({ outcome: 'denied_authz', reason: 'policy_denied' })
    }
    expect((await rpc('tools/list', {}, { key: null })).status).to.equal(401)
  })

  it('names are split at the first separator, so names with separators in them are reached', async () => {
    const { status } = await call(mcp, 'wiki__a__b', { n: 1 }, { key })
    expect(status).to.equal(200)
    expect(wiki.requests.findLast((request) => request.method === 'tools/call')?.name).to.equal('a__b')
  })

  it('forwards what it does not rename as it was written', async () => {
    const body =
      '{ "jsonrpc":"2.0", "id":12345678901234567890, "method":"tools/call", "params":{"arguments":{"n":0.10, "big":9007199254740993}, "name" : "wiki__echo"} }'
    const reply = await post(mcp, body, legacy({ key }))
    expect(reply.status).to.equal(200)
    expect(wiki.requests.at(-1)?.body.toString()).to.equal(body.replace('wiki__echo', 'echo'))
  })

  it('repeats the bare name in the headers of a modern request', async () => {
    const reply = await modern(mcp, 'tools/call', { name: 'wiki__echo', arguments: {} }, { key })
    expect(reply.status, reply.text).to.equal(200)
    expect(wiki.requests.at(-1)?.headers['mcp-name']).to.equal('echo')
    const lying = { key, headers: { 'mcp-name': 'files__echo' } }
    expect((await modern(mcp, 'tools/call', { name: 'wiki__echo', arguments: {} }, lying)).status).to.equal(
      400,
    )
  })

  it('resources are found under URIs that say whose they are, wherever a client meets them', async () => {
    const listed = (await rpc('resources/list', {})).json.result.resources.map((one: any) => one.uri)
    expect(listed, 'also without a session').to.deep.equal(['mcp+files+file:///a', 'mcp+wiki+file:///a'])
    const session = inSession(await open())
    const both = (await rpc('resources/list', {}, session)).json.result.resources.map((one: any) => one.uri)
    expect(both).to.deep.equal(['mcp+files+file:///a', 'mcp+wiki+file:///a'])
    const templates = (await rpc('resources/templates/list', {}, session)).json.result.resourceTemplates
    expect(templates[0].uriTemplate).to.equal('mcp+files+file:///{+path}')
    const read = await rpc('resources/read', { uri: 'mcp+files+file:///x/y' }, session)
    expect(read.json.result.contents[0].uri).to.equal('mcp+files+file:///x/y')
    expect((await rowOf(read)).decision['authz'].input.target.name).to.equal('file:///x/y')
    expect((await rowOf(read))['request_json'].params.uri).to.equal('file:///x/y')
    const denied = await rpc('resources/read', { uri: 'mcp+files+file:///x/../etc/shadow' }, session)
    expect(denied.status).to.equal(403)
    const linked = await call(mcp, 'wiki__link', {}, { key })
    expect(linked.json.result.content[0].uri).to.equal('mcp+wiki+file:///linked')
    const prompt = await rpc('prompts/get', { name: 'wiki__hello' })
    expect(prompt.json.result.messages[0].content.resource).to.deep.equal({
      uri: 'mcp+wiki+file:///p',
      text: 'hello',
    })
  })

  it('completion goes to whoever owns the prompt or template, under the same rule', async () => {
    const argument = { name: 'a', value: '' }
    const ofPrompt = await rpc('completion/complete', {
      ref: { type: 'ref/prompt', name: 'wiki__hello' },
      argument,
    })
    expect(ofPrompt.json.result.completion.values[0]).to.equal('{"type":"ref/prompt","name":"hello"}')
    const uri = 'mcp+wiki+file:///{+path}'
    const ofTemplate = await rpc('completion/complete', { ref: { type: 'ref/resource', uri }, argument })
    expect(ofTemplate.json.result.completion.values[0]).to.contain('"file:///{+path}"')
    const denied = { ref: { type: 'ref/prompt', name: 'wiki__oops' }, argument }
    expect((await rpc('completion/complete', denied)).status).to.equal(403)
  })

  it('ping is answered by the gateway; methods nobody knows are refused as everywhere', async () => {
    const asked = wiki.count('ping') + files.count('ping')
    expect((await rpc('ping', {})).json).to.deep.equal({ jsonrpc: '2.0', id: 7, result: {} })
    expect(wiki.count('ping') + files.count('ping')).to.equal(asked)
    expect((await rpc('tools/unknown', {})).json.error.code).to.equal(-32601)
    expect((await rpc('tools/call', {})).json.error.code).to.equal(-32602)
  })

  describe('sessions', () => {
    it('belong to the principal and the mount they were made for', async () => {
      const session = await open()
      expect((await rpc('tools/list', {}, inSession(session))).status).to.equal(200)
      const mallory = await gateway.key({ name: 'mallory', teams: ['all'] })
      expect((await rpc('tools/list', {}, { ...inSession(session), key: mallory })).status).to.equal(404)
      expect((await call(`${mcp}/files`, 'echo', {}, { key, ...inSession(session) })).status).to.equal(404)
      const direct = await open(key, `${mcp}/files`)
      expect((await rpc('tools/list', {}, inSession(direct))).status).to.equal(404)
    })

    /** Sessions that were opened in the name of a client. */
    const opening = (upstream: ScriptedUpstream): number =>
      upstream.requests.filter(
        ({ method, json }) => method === 'initialize' && (json as any).params.clientInfo.name === 't',
      ).length

    it('are carried to each upstream as its own, and end with DELETE', async () => {
      const session = await open()
      expect((await call(mcp, 'files__echo', {}, { key, ...inSession(session) })).status).to.equal(200)
      expect(files.requests.at(-1)?.headers['mcp-session-id']).to.equal('scripted-session-1')
      expect((await call(mcp, 'wiki__echo', {}, { key, ...inSession(session) })).status).to.equal(200)
      expect(wiki.requests.at(-1)?.headers).to.not.have.property('mcp-session-id')
      const ended = files.count('DELETE')
      const reply = await post(mcp, null, { ...legacy({ key, ...inSession(session) }), httpMethod: 'DELETE' })
      expect(reply.status).to.equal(200)
      expect(files.count('DELETE')).to.equal(ended + 1)
      expect((await call(mcp, 'files__echo', {}, { key, ...inSession(session) })).status).to.equal(404)
    })

    it('are good on another gateway with the same secret, which goes on in the very sessions of the upstreams', async () => {
      const session = await open()
      const opened = opening(files)
      const replica = await startTestGateway({
        policies: { 'authz/rules.rego': POLICY },
        upstreams: { files: { url: files.url, labels: { team: 'all' } } },
        database: gateway.database,
      })
      try {
        const reply = await call(`${replica.url}/mcp`, 'files__echo', {}, { key, ...inSession(session) })
        expect(reply.status, reply.text).to.equal(200)
        expect(opening(files), 'nothing is opened in the name of the client').to.equal(opened)
        expect(files.requests.findLast(({ method }) => method === 'tools/call')?.headers).to.include({
          'mcp-session-id': SCRIPTED_SESSION,
        })
      } finally {
        await replica.close()
      }
    })

    it('that an upstream has lost are opened again; a tool is not called twice for it', async () => {
      const session = await open()
      await call(mcp, 'files__echo', {}, { key, ...inSession(session) })
      const calls = files.calls()
      const opened = files.count('initialize')
      let isLost = true
      files.handle((request, reply) => {
        if (request.headers['mcp-session-id'] === undefined || !isLost) return everything(request, reply)
        isLost = false
        return reply.json(404, { jsonrpc: '2.0', id: null, error: { code: -32001, message: 'no session' } })
      })
      const lost = await call(mcp, 'files__echo', {}, { key, ...inSession(session) })
      expect(lost.status).to.equal(502)
      expect(files.calls()).to.equal(calls + 1)
      const after = await call(mcp, 'files__echo', {}, { key, ...inSession(session) })
      isLost = true
      const prompt = await rpc('prompts/get', { name: 'files__hello' }, inSession(session))
      files.handle(everything)
      expect([after.status, prompt.status]).to.deep.equal([200, 200])
      expect(files.count('initialize')).to.equal(opened + 2)
    })

    it('log at the level the client has set, also where they are opened later', async () => {
      const session = await open()
      const set = (await rpc('logging/setLevel', { level: 'error' }, inSession(session))).json
      expect(set.result).to.deep.equal({})
      expect(wiki.count('logging/setLevel')).to.be.greaterThan(0)
    })

    it('a cancellation reaches the upstream that is working on the request, and no other', async () => {
      const session = await open()
      let answer: (() => unknown) | null = null
      files.handle((request, reply) => {
        if (request.method !== 'tools/call') return everything(request, reply)
        answer = () => echoArguments(request, reply)
      })
      const index = files.count('tools/call')
      const running = call(mcp, 'files__echo', {}, { key, ...inSession(session) })
      await files.waitFor('tools/call', index)
      const others = wiki.count('notifications/cancelled')
      const body = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}'
      const reply = await post(mcp, body, legacy({ key, ...inSession(session) }))
      ;(answer as (() => unknown) | null)?.()
      await running
      files.handle(everything)
      expect(reply.status).to.equal(202)
      expect(files.count('notifications/cancelled')).to.be.greaterThan(0)
      expect(wiki.count('notifications/cancelled')).to.equal(others)
    })
  })
})
