import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, modern, post } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everything" if count(input.principal.roles) > 0

deny contains "hidden" if input.target.name in {"hidden", "x://hidden"}
`
const base64 = (text: string): string => `=?base64?${Buffer.from(text).toString('base64')}?=`

describe('what the policy saw is what the upstream gets', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream({
      sessions: true,
      tools: ['echo', 'hidden', 'größe'].map((name) => ({ name, inputSchema: { type: 'object' } })),
    })
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: upstream.url, other: upstream.url },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  /** Refused in one row, with nothing sent up. */
  async function refused(reply: () => Promise<RpcReply>, status: number): Promise<void> {
    const before = [upstream.calls(), upstream.count('resources/read'), upstream.count('prompts/get')]
    const answer = await reply()
    expect(answer.status).to.equal(status)
    expect([upstream.calls(), upstream.count('resources/read'), upstream.count('prompts/get')]).to.deep.equal(
      before,
    )
    expect(await gateway.rowsOf(answer.requestId)).to.have.length(1)
  }

  describe('a name spelled with escapes is one name for both:', () => {
    const spelled = (name: string): string =>
      `{"jsonrpc":"2.0","id":1,"method":"tools\\u002fcall","params":{"n\\u0061me":"${name}","arguments":{}}}`
    it('the denied one is denied', () =>
      refused(() => post(mcp, spelled('h\\u0069dden'), legacy({ key })), 403))
    it('the allowed one goes up as it was written', async () => {
      const body = spelled('\\u0065cho')
      expect((await post(mcp, body, legacy({ key }))).status).to.equal(200)
      expect(upstream.requests.at(-1)?.body.toString()).to.equal(body)
    })
    it('a key that is written twice in two spellings is refused', () =>
      refused(() => {
        const body =
          '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","n\\u0061me":"hidden"}}'
        return post(mcp, body, legacy({ key }))
      }, 400))
  })

  describe('a name that would not survive UTF-8 is refused:', () => {
    const bodies: [string, string][] = [
      ['tools/call', '{"name":"hidden\\ud800"}'],
      ['prompts/get', '{"name":"\\udc00hidden"}'],
      ['resources/read', '{"uri":"x://hidden\\ud83d"}'],
      ['completion/complete', '{"ref":{"type":"ref/prompt","name":"\\ud800"},"argument":{}}'],
    ]
    for (const [method, params] of bodies) {
      it(method, () =>
        refused(
          () =>
            post(mcp, `{"jsonrpc":"2.0","id":1,"method":"${method}","params":${params}}`, legacy({ key })),
          400,
        ),
      )
    }
  })

  describe('headers of 2026-07-28 say what the body says, or the request is refused:', () => {
    const ask = (headers: Record<string, string>, name = 'hidden'): Promise<RpcReply> =>
      modern(mcp, 'tools/call', { name, arguments: {} }, { key, headers })
    const lies: [string, Record<string, string>][] = [
      ['another name', { 'mcp-name': 'echo' }],
      ['another name in base64', { 'mcp-name': base64('echo') }],
      ['base64 that is not canonical', { 'mcp-name': '=?base64?aGlkZGVu====?=' }],
      ['base64 of another alphabet', { 'mcp-name': '=?base64?aGlk_GVu?=' }],
      ['the name in another letter case', { 'mcp-name': 'Hidden' }],
      ['an empty name', { 'mcp-name': '' }],
      ['another method', { 'mcp-method': 'tools/list' }],
      ['a method in another letter case', { 'mcp-method': 'Tools/Call' }],
      ['a session revision', { 'mcp-protocol-version': '2025-11-25' }],
      ['a revision nobody knows', { 'mcp-protocol-version': '2027-01-01' }],
    ]
    for (const [what, headers] of lies) it(what, () => refused(() => ask(headers), 400))

    it('the true name does not help a denied tool, in either form', async () => {
      await refused(() => ask({}), 403)
      await refused(() => ask({ 'mcp-name': base64('hidden') }), 403)
    })
    it('a name that no header can carry as it is passes in base64', async () => {
      expect((await ask({ 'mcp-name': base64('größe') }, 'größe')).status).to.equal(200)
      expect(upstream.requests.at(-1)?.headers['mcp-name']).to.equal(base64('größe'))
    })
  })

  it('on 2025-x traffic, where nobody checks those headers, they decide nothing and do not go up', async () => {
    const headers = { 'mcp-name': 'echo', 'mcp-method': 'tools/list', 'mcp-param-x': '1' }
    await refused(() => call(mcp, 'hidden', {}, { key, headers }), 403)
    expect(
      (await call(mcp, 'echo', {}, { key, headers: { ...headers, 'mcp-name': 'hidden' } })).status,
    ).to.equal(200)
    const sent = upstream.requests.at(-1)?.headers ?? {}
    expect(Object.keys(sent).filter((name) => /^mcp-(name|method|param)/.test(name))).to.deep.equal([])
  })

  it("a session of somebody else, of another mount, or the upstream's own id opens nothing", async () => {
    const initialize = {
      ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
      params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'a', version: '1' } },
    }
    const opened = await post(mcp, JSON.stringify(initialize), { key })
    const session = opened.headers.get('mcp-session-id') as string
    const mallory = await gateway.key({ name: 'mallory' })
    const tries: [string, string, string][] = [
      [session, mallory, mcp],
      [session, key, `${gateway.url}/mcp/other`],
      ['scripted-session-1', key, mcp],
      [`${session.slice(0, -1)}${session.endsWith('A') ? 'B' : 'A'}`, key, mcp],
    ]
    const before = upstream.count()
    for (const [id, caller, url] of tries) {
      const headers = { 'mcp-session-id': id }
      for (const httpMethod of ['GET', 'DELETE'])
        expect((await post(url, null, legacy({ key: caller, httpMethod, headers }))).status).to.equal(404)
      await refused(() => call(url, 'echo', {}, { key: caller, headers }), 404)
    }
    expect(upstream.count()).to.equal(before)
  })
})
