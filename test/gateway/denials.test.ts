import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, modern, post } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "developers-use-tools" if {
	"developer" in input.principal.roles
	input.target.kind in {"server", "tool"}
}

deny contains "too-many-rows" if input.arguments.rows > 100

deny contains "other-tenant" if input.server.labels.tenant != input.principal.tenant

deny contains "exact-integer" if input.arguments.big == 9007199254740993

obligations contains {"kind": "launch-rockets"} if input.arguments.rocket
`

describe('a gateway in front of one upstream', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream({
      tools: [
        { name: 'echo', inputSchema: { type: 'object' } },
        {
          name: 'strict',
          inputSchema: { type: 'object', properties: { n: { type: 'integer' } }, required: ['n'] },
        },
      ],
    })
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: { url: upstream.url, labels: { tenant: 'acme' } } },
      settings: { auth: { throttle: { max_failures: 1000 } } },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  async function rowOf(reply: RpcReply): Promise<Record<string, any>> {
    const rows = await gateway.rowsOf(reply.requestId)
    expect(rows, 'exactly one row').to.have.length(1)
    expect(rows[0]?.id).to.equal(reply.requestId)
    return rows[0]!
  }

  async function refusedBeforeUpstream(
    send: () => Promise<RpcReply>,
    want: { status: number; code: number; outcome: string; reason: string; stage?: string },
  ): Promise<Record<string, any>> {
    const before = upstream.calls()
    const reply = await send()
    expect(reply.status).to.equal(want.status)
    expect(reply.json?.error?.code).to.equal(want.code)
    expect(Object.keys(reply.json.error)).to.have.members(['code', 'message', 'data'])
    expect(reply.json.error.data.requestId).to.equal(reply.requestId)
    expect(upstream.calls()).to.equal(before)
    const row = await rowOf(reply)
    expect(row).to.include({ outcome: want.outcome, status_code: want.status, reason: want.reason })
    if (want.stage) expect(row['decision'].stage).to.equal(want.stage)
    return row
  }

  it('relays an allowed call and keeps the trace of the evaluation that allowed it', async () => {
    const reply = await call(mcp, 'echo', { hello: 'world' }, { key })
    expect(reply.status).to.equal(200)
    expect(reply.json.result.content[0].text).to.equal('{"hello":"world"}')
    const row = await rowOf(reply)
    expect(row).to.include({
      outcome: 'allowed',
      status_code: 200,
      server: 'desk',
      tool_name: 'echo',
      target_kind: 'tool',
    })
    expect(row['decision'].authz).to.include({ allow: true })
    expect(row['decision'].authz.allowed_by).to.deep.equal(['developers-use-tools'])
    const allow = row['decision'].authz.trace.rules.find(
      (rule: any) => rule.rule === 'data.gateway.authz.allow',
    )
    expect(allow.outcome).to.equal('defined')
    expect(allow.steps.map((step: any) => step.ok)).to.deep.equal([true, true])
    expect(row['decision'].upstream).to.include({ server: 'desk', status: 200, tool_is_error: false })
  })

  describe('answers 401 with one text', () => {
    const credentials: [string, () => Promise<Record<string, string>>][] = [
      ['no key', async () => ({})],
      ['a malformed key', async () => ({ authorization: 'Bearer nonsense' })],
      ['a malformed header', async () => ({ authorization: 'Basic' })],
      ['an unknown key', async () => ({ authorization: `Bearer gwk_${'a'.repeat(16)}_${'A'.repeat(43)}` })],
      [
        'an expired key',
        async () => ({ 'x-api-key': await gateway.key({ expiresAt: new Date(Date.now() - 1000) }) }),
      ],
    ]
    for (const [what, headers] of credentials) {
      it(`to ${what}`, async () => {
        const row = await refusedBeforeUpstream(
          async () => call(mcp, 'echo', {}, { headers: await headers() }),
          {
            status: 401,
            code: 1401,
            outcome: 'denied_auth',
            reason: 'unauthenticated',
            stage: 'auth',
          },
        )
        expect(row).to.include({ method: 'tools/call', tool_name: 'echo', principal_id: null })
      })
    }
  })

  it('accepts a key as X-API-Key, and refuses two credentials at once', async () => {
    expect((await call(mcp, 'echo', {}, { headers: { 'x-api-key': key } })).status).to.equal(200)
    await refusedBeforeUpstream(() => call(mcp, 'echo', {}, { key, headers: { 'x-api-key': key } }), {
      status: 400,
      code: 1400,
      outcome: 'invalid',
      reason: 'ambiguous_credentials',
    })
  })

  it('denies by role, and the trace shows the expression that failed with what it read', async () => {
    const reader = await gateway.key({ roles: ['readonly'] })
    const row = await refusedBeforeUpstream(() => call(mcp, 'echo', {}, { key: reader }), denied())
    const allow = row['decision'].authz.trace.rules.find(
      (rule: any) => rule.rule === 'data.gateway.authz.allow',
    )
    const failed = allow.steps.find((step: any) => step.ok === false)
    expect(failed.expr).to.equal('"developer" in input.principal.roles')
    expect(failed.reads['input.principal.roles']).to.deep.equal(['readonly'])
    expect(failed.at).to.equal('authz/rules.rego:4')
  })

  it('denies by argument, and names the rule that denied', async () => {
    const row = await refusedBeforeUpstream(() => call(mcp, 'echo', { rows: 101 }, { key }), denied())
    expect(row['decision'].authz.denied_by).to.deep.equal(['too-many-rows'])
    const deny = row['decision'].authz.trace.rules.find(
      (rule: any) => rule.outcome === 'defined' && /deny/.test(rule.rule),
    )
    expect(deny.at).to.equal('authz/rules.rego:8')
  })

  it('denies by tenant', async () => {
    const other = await gateway.key({ tenant: 'globex' })
    const row = await refusedBeforeUpstream(() => call(mcp, 'echo', {}, { key: other }), denied())
    expect(row['decision'].authz.denied_by).to.deep.equal(['other-tenant'])
  })

  it('answers an unknown tool exactly as a forbidden one', async () => {
    const forbidden = await call(mcp, 'echo', { rows: 101 }, { key })
    const unknown = await call(mcp, 'no_such_tool', {}, { key })
    const strip = (reply: RpcReply): string => reply.text.replaceAll(reply.requestId as string, '')
    expect(strip(unknown)).to.equal(strip(forbidden))
    expect(unknown.status).to.equal(forbidden.status)
    expect(await rowOf(unknown)).to.include({ outcome: 'denied_authz', reason: 'unknown_tool' })
  })

  it('denies when the policy asks for an obligation it does not know', async () => {
    await refusedBeforeUpstream(() => call(mcp, 'echo', { rocket: true }, { key }), {
      ...denied(),
      reason: 'policy_malformed',
    })
  })

  it('compares integers beyond 2^53 exactly, and hands them on digit for digit', async () => {
    const send = (digits: string): Promise<RpcReply> =>
      post(
        mcp,
        `{"jsonrpc":"2.0","id":9007199254740993,"method":"tools/call","params":{"name":"echo","arguments":{"big":${digits}}}}`,
        legacy({ key }),
      )
    expect((await send('9007199254740993')).status).to.equal(403)
    const reply = await send('9007199254740992')
    expect(reply.status).to.equal(200)
    expect(upstream.requests.at(-1)?.body.toString()).to.contain('"big":9007199254740992}')
    const denied = await send('9007199254740993')
    expect(denied.text).to.contain('"id":9007199254740993')
    expect(await rowOf(denied)).to.include({ outcome: 'denied_authz' })
  })

  describe('refuses a method it does not know', () => {
    it('with 200 on a 2025 session', async () => {
      const body = '{"jsonrpc":"2.0","id":1,"method":"tools/run","params":{}}'
      await refusedBeforeUpstream(() => post(mcp, body, legacy({ key })), {
        status: 200,
        code: -32601,
        outcome: 'denied_authz',
        reason: 'unknown_method',
      })
    })
    it('with 404 in 2026-07-28', async () => {
      await refusedBeforeUpstream(() => modern(mcp, 'tools/run', {}, { key }), {
        status: 404,
        code: -32601,
        outcome: 'denied_authz',
        reason: 'unknown_method',
      })
    })
  })

  it('refuses invalid arguments without echoing them, as the revision wants it', async () => {
    const before = upstream.calls()
    const body = {
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'strict', arguments: { n: 'SECRETVALUE' } },
    }
    const current = await post(mcp, JSON.stringify(body), legacy({ key }))
    expect(current.status).to.equal(200)
    expect(current.json.result.isError).to.equal(true)
    expect(current.text).to.contain('/n').and.not.to.contain('SECRETVALUE')
    expect(await rowOf(current)).to.include({
      outcome: 'invalid',
      reason: 'invalid_arguments',
      status_code: 200,
    })
    const older = await post(mcp, JSON.stringify(body), {
      key,
      headers: { 'mcp-protocol-version': '2025-06-18' },
    })
    expect(older.json.error.code).to.equal(-32602)
    const absent = await post(
      mcp,
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"strict"}}',
      legacy({ key }),
    )
    expect(absent.json.result.isError).to.equal(true)
    expect(upstream.calls()).to.equal(before)
  })

  describe('refuses a body that two readers could read differently', () => {
    const tool = (args: string, more = ''): string =>
      `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":${args}}${more}}`
    const bodies: [string, string | Uint8Array, number, string][] = [
      ['bad JSON', '{"jsonrpc":"2.0",', -32700, 'parse_error'],
      ['a raw NUL', tool('{"a":"\u0000"}'), -32700, 'parse_error'],
      ['invalid UTF-8', Buffer.from(tool('{"a":"X"}')).fill(0xff, 85, 86), -32700, 'parse_error'],
      ['not JSON-RPC', '{"hello":1}', -32600, 'invalid_request'],
      ['an array', `[${tool('{}')}]`, -32600, 'invalid_request'],
      ['a scalar', '7', -32600, 'invalid_request'],
      [
        'duplicate keys in the envelope',
        '{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call","params":{"name":"echo"}}',
        -32700,
        'parse_error',
      ],
      ['duplicate keys deep in arguments', tool('{"a":{"b":1,"\\u0062":2}}'), -32700, 'parse_error'],
      [
        'a look-alike key',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","Params":{"name":"x"},"params":{"name":"echo"}}',
        -32700,
        'parse_error',
      ],
      [
        'a look-alike of name',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","NAME":"other"}}',
        -32700,
        'parse_error',
      ],
      ['a NUL in a key', tool('{"a\\u0000b":1}'), -32700, 'parse_error'],
      ['a number outside the double range', tool('{"n":1e400}'), -32700, 'parse_error'],
      ['a depth of 70', tool(`${'['.repeat(70)}${']'.repeat(70)}`), -32700, 'parse_error'],
    ]
    for (const [what, body, code, reason] of bodies) {
      it(what, async () => {
        await refusedBeforeUpstream(() => post(mcp, body, legacy({ key })), {
          status: 400,
          code,
          outcome: 'invalid',
          reason,
          stage: 'read',
        })
      })
    }
  })

  it('passes an escaped NUL in an argument on and stores the row sanitised, its neighbours too', async () => {
    const poisoned =
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"a":"x\\u0000y\\ud800"}}}'
    const replies = await Promise.all([
      call(mcp, 'echo', { n: 1 }, { key }),
      post(mcp, poisoned, legacy({ key })),
      call(mcp, 'echo', { n: 2 }, { key }),
    ])
    for (const reply of replies) {
      expect(reply.status).to.equal(200)
      expect(await rowOf(reply)).to.include({ outcome: 'allowed' })
    }
    expect(upstream.requests.some((request) => request.body.toString() === poisoned)).to.equal(true)
  })

  it('refuses a body beyond the bound with 413', async () => {
    const huge = JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name: 'echo', arguments: { a: 'x'.repeat(5_000_000) } },
    })
    const reply = await post(mcp, huge, legacy({ key }))
    expect(reply.status).to.equal(413)
    expect(await rowOf(reply)).to.include({ outcome: 'invalid', reason: 'body_too_large' })
  })

  it('refuses other content types and unacceptable answers', async () => {
    const type = await post(mcp, '{}', legacy({ key, headers: { 'content-type': 'text/plain' } }))
    expect(type.status).to.equal(415)
    const accept = await post(
      mcp,
      '{"jsonrpc":"2.0","id":1,"method":"ping"}',
      legacy({ key, headers: { accept: 'text/html' } }),
    )
    expect(accept.status).to.equal(406)
    expect((await rowOf(accept))['reason']).to.equal('not_acceptable')
  })

  it('refuses a foreign Host and a foreign Origin', async () => {
    const origin = await call(mcp, 'echo', {}, { key, headers: { origin: 'https://evil.example' } })
    expect(origin.status).to.equal(403)
    expect(await rowOf(origin)).to.include({ outcome: 'denied_admit', reason: 'origin_refused' })
  })

  it('refuses a 2026-07-28 request whose headers name another tool', async () => {
    await refusedBeforeUpstream(
      () =>
        modern(mcp, 'tools/call', { name: 'echo', arguments: {} }, { key, headers: { 'mcp-name': 'other' } }),
      {
        status: 400,
        code: -32020,
        outcome: 'invalid',
        reason: 'header_mismatch',
      },
    )
  })

  it("refuses a mount that does not exist, a session that is not the caller's, and other verbs", async () => {
    const mount = await call(`${gateway.url}/mcp/nothing`, 'echo', {}, { key })
    expect(mount.status).to.equal(404)
    expect((await rowOf(mount))['reason']).to.equal('mount_unknown')
    const session = await call(mcp, 'echo', {}, { key, headers: { 'mcp-session-id': 'stolen' } })
    expect(session.status).to.equal(404)
    expect((await rowOf(session))['reason']).to.equal('session_unknown')
    const verb = await post(mcp, '{}', legacy({ key, httpMethod: 'PUT' }))
    expect(verb.status).to.equal(405)
    expect((await rowOf(verb))['reason']).to.equal('method_not_allowed')
  })

  it('shows a caller only the tools it may use', async () => {
    const list = (credential: string): Promise<RpcReply> =>
      post(mcp, '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}', legacy({ key: credential }))
    const all = await list(key)
    expect(all.json.result.tools.map((tool: any) => tool.name)).to.deep.equal(['echo', 'strict'])
    const row = await rowOf(all)
    expect(row['decision'].listed.map((entry: any) => [entry.name, entry.allow])).to.deep.equal([
      ['echo', true],
      ['strict', true],
    ])
  })

  function denied(): { status: number; code: number; outcome: string; reason: string; stage: string } {
    return { status: 403, code: 1403, outcome: 'denied_authz', reason: 'policy_denied', stage: 'authz' }
  }
})
