import { expect } from 'chai'
import type { Desk } from '../support/desk.ts'
import { openDesk } from '../support/desk.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { legacy, modern, post } from '../support/rpc.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everything" if count(input.principal.roles) > 0

deny contains "hidden-prompt" if {
	input.target.kind == "prompt"
	input.target.name == "hidden"
}

deny contains "hidden-resource" if {
	input.target.kind in {"resource", "resource_template"}
	contains(input.target.name, "hidden")
}

deny contains "no-secrets-in-forms" if {
	input.target.kind == "server_request"
	input.target.name == "elicitation/create"
	input.request.method == "response"
	contains(input.arguments.content.text, "secret")
}

deny contains "no-samples" if {
	input.target.kind == "server_request"
	input.target.name == "sampling/createMessage"
}
`

describe('what a message holds besides its target is judged', () => {
  let desk: Desk
  let { upstream, gateway, key, mcp } = {} as Desk

  before(async () => {
    desk = await openDesk({
      policies: { 'authz/rules.rego': POLICY },
    })
    ;({ upstream, gateway, key, mcp } = desk)
  })
  after(() => desk?.close())

  const send = (method: string, params: object): Promise<RpcReply> =>
    post(mcp, JSON.stringify({ jsonrpc: '2.0', id: 7, method, params }), legacy({ key }))

  describe('the reference of a completion:', () => {
    beforeEach(() =>
      upstream.handle((_request, reply) => reply.result({ completion: { values: ['a value'] } })),
    )
    const complete = (ref: object): Promise<RpcReply> =>
      send('completion/complete', { ref, argument: { name: 'x', value: '' } })

    it('one that may be seen is completed', async () => {
      for (const ref of [
        { type: 'ref/prompt', name: 'open' },
        { type: 'ref/resource', uri: 'x://open/{id}' },
        { type: 'ref/resource', uri: 'x://open/1' },
      ])
        expect((await complete(ref)).json.result.completion.values).to.deep.equal(['a value'])
    })

    it('of a prompt, template or resource that is denied no value is shown, and none is asked for', async () => {
      const before = upstream.count('completion/complete')
      for (const ref of [
        { type: 'ref/prompt', name: 'hidden' },
        { type: 'ref/resource', uri: 'x://hidden/{id}' },
        { type: 'ref/resource', uri: 'x://open/../hidden' },
        { type: 'ref/resource', uri: 'X://open/%2e%2e/hidden' },
      ]) {
        const reply = await complete(ref)
        expect([reply.status === 403 || reply.status === 400, reply.text.includes('a value')]).to.deep.equal([
          true,
          false,
        ])
        const [row] = await gateway.rowsOf(reply.requestId)
        expect(row).to.include({ target_kind: 'completion', method: 'completion/complete' })
      }
      expect(upstream.count('completion/complete')).to.equal(before)
    })

    it('a kind of reference that nobody knows is refused', async () => {
      const before = upstream.count('completion/complete')
      for (const ref of [{ type: 'ref/tool', name: 'open' }, { name: 'open' }, 'open', null, undefined])
        expect((await complete(ref as object)).json.error.code).to.equal(-32602)
      expect(upstream.count('completion/complete')).to.equal(before)
    })
  })

  describe('answers to questions of the upstream (inputResponses):', () => {
    beforeEach(() => upstream.handle((_request, reply) => reply.result({ content: [] })))
    const retry = (inputResponses: unknown): Promise<RpcReply> =>
      modern(mcp, 'tools/call', { name: 'echo', arguments: {}, inputResponses, requestState: 's' }, { key })
    const form = (text: string): object => ({ action: 'accept', content: { text } })

    it('each is an attempt of its own, with its row; what is allowed goes up as it was written', async () => {
      const reply = await retry({ one: form('open'), two: { roots: [] } })
      expect(reply.status).to.equal(200)
      const rows = await gateway.rowsOf(reply.requestId)
      expect(
        rows.map((row) => [row['method'], row['target_kind'], row['tool_name'], row.outcome]),
      ).to.have.deep.members([
        ['response', 'server_request', 'elicitation/create', 'allowed'],
        ['response', 'server_request', 'roots/list', 'allowed'],
        ['tools/call', 'tool', 'echo', 'allowed'],
      ])
      const sent = upstream.requests.at(-1)?.json as Record<string, any>
      expect(sent['params']).to.deep.include({ requestState: 's' })
      expect(sent['params'].inputResponses.one).to.deep.equal(form('open'))
    })

    const refused: [string, unknown][] = [
      ['by what is in it', { one: form('a secret') }],
      ['beside one that is allowed', { one: form('open'), two: form('a secret') }],
      ['by what it answers', { one: { role: 'assistant', content: {}, model: 'm' } }],
      ['when it can be taken for two answers', { one: { action: 'accept', role: 'assistant' } }],
      ['in another letter case', { one: { Action: 'accept', MODEL: 'm' } }],
    ]
    for (const [how, responses] of refused) {
      it(`one that is denied ${how} stops the call before the upstream`, async () => {
        const before = upstream.calls()
        const reply = await retry(responses)
        expect([reply.status, reply.json.error.code]).to.deep.equal([403, 1403])
        expect(upstream.calls()).to.equal(before)
        const outcomes = (await gateway.rowsOf(reply.requestId)).map((row) => row.outcome)
        expect(outcomes).to.include('denied_authz')
        expect(outcomes.filter((outcome) => outcome === 'denied_authz')).to.have.length(2)
      })
    }

    it('none can be hidden, and there is an end to how many', async () => {
      const before = upstream.calls()
      const many = Object.fromEntries(Array.from({ length: 101 }, (_, at) => [`k${at}`, form('open')]))
      for (const responses of [[form('a secret')], 'secret', null, many])
        expect((await retry(responses)).json.error.code).to.equal(-32602)
      const body = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","InputResponses":{}}}`
      expect((await post(mcp, body, legacy({ key }))).status).to.equal(400)
      expect(upstream.calls()).to.equal(before)
    })
  })

  describe('a subscription', () => {
    const notify = (uri: string): object => ({
      ...{ jsonrpc: '2.0', method: 'notifications/resources/updated', params: { uri } },
    })
    beforeEach(() =>
      upstream.handle((_request, reply) => {
        const stream = reply.stream()
        for (const uri of ['x://open/1', 'x://hidden/1', 'x://open/../hidden/1']) stream.message(notify(uri))
        stream.result({})
        stream.end()
      }),
    )

    it('asks the upstream for what is allowed, letter by letter, and hears of nothing else', async () => {
      const asked = ['x://open/1', 'x://hidden/1', 'X://open/2']
      const notifications = { resourceSubscriptions: asked, toolsListChanged: true }
      const reply = await modern(mcp, 'subscriptions/listen', { notifications }, { key })
      expect(reply.status).to.equal(200)
      const sent = upstream.requests.at(-1)?.json as Record<string, any>
      expect(sent['params'].notifications).to.deep.equal({
        resourceSubscriptions: ['x://open/1', 'X://open/2'],
        toolsListChanged: true,
      })
      expect(reply.text).to.contain('x://open/1')
      expect(reply.text).not.to.contain('hidden')
      const [row] = await gateway.rowsOf(reply.requestId)
      expect(row?.decision['listed'].map((verdict: any) => verdict.allow)).to.deep.equal([true, false, true])
    })

    it('to denied resources alone is denied; beside something else they are left out', async () => {
      const resourceSubscriptions = ['x://hidden/1']
      const before = upstream.count('subscriptions/listen')
      const alone = await modern(
        mcp,
        'subscriptions/listen',
        { notifications: { resourceSubscriptions } },
        { key },
      )
      expect(alone.status).to.equal(403)
      expect(upstream.count('subscriptions/listen')).to.equal(before)
      const notifications = { resourceSubscriptions, promptsListChanged: true }
      expect((await modern(mcp, 'subscriptions/listen', { notifications }, { key })).status).to.equal(200)
      const sent = upstream.requests.at(-1)?.json as Record<string, any>
      expect(sent['params'].notifications.resourceSubscriptions).to.deep.equal([])
    })
  })
})

describe('a gateway that stops', () => {
  it('ends a subscription with an empty result, by which its client knows that nothing has broken', async () => {
    const upstream = await startScriptedUpstream({
      handle: (_request, reply) => void reply.stream(),
    })
    const gateway = await startTestGateway({ upstreams: { desk: upstream.url } })
    try {
      const key = await gateway.key()
      const meta = {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
      }
      const params = { notifications: { toolsListChanged: true }, _meta: meta }
      // Resolves when the stream is open.
      const response = await fetch(`${gateway.url}/mcp/desk`, {
        method: 'POST',
        headers: {
          'content-type': 'application/json',
          accept: 'application/json, text/event-stream',
          authorization: `Bearer ${key}`,
          'mcp-protocol-version': '2026-07-28',
          'mcp-method': 'subscriptions/listen',
        },
        body: JSON.stringify({ jsonrpc: '2.0', id: 'sub', method: 'subscriptions/listen', params }),
      })
      await gateway.stop()
      const [data] = (await response.text()).split('\n').filter((line) => line.startsWith('data: '))
      expect(JSON.parse(String(data).slice(6))).to.deep.equal({
        ...{ jsonrpc: '2.0', id: 'sub' },
        result: { resultType: 'complete', _meta: { 'io.modelcontextprotocol/subscriptionId': 'sub' } },
      })
      const [row] = await gateway.rowsOf(response.headers.get('x-request-id'))
      expect(row).to.include({ outcome: 'allowed', status_code: 200, method: 'subscriptions/listen' })
    } finally {
      await gateway.close()
      await upstream.close()
    }
  })
})
