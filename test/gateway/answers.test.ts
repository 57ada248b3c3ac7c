import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Desk } from '../support/desk.ts'
import { openDesk } from '../support/desk.ts'
import type { Row } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { legacy, modern, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { RawHandler } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

/** Allows by default and denies by name: whatever slips through under another name is allowed. */
const POLICY = `package gateway.authz

allow contains "everything" if count(input.principal.roles) > 0

deny contains "hidden" if contains(input.target.name, "hidden")

deny contains "no-questions" if {
	input.target.kind == "server_request"
	input.target.name == "elicitation/create"
}
`

const HIDDEN = '[{"name":"hidden","uri":"x://hidden"}]'
const QUESTION = '{"q":{"method":"elicitation/create","params":{"message":"hidden"}}}'

describe('what an upstream sends back cannot get around the policy', () => {
  let desk: Desk
  let { upstream, gateway, key, mcp } = {} as Desk

  before(async () => {
    desk = await openDesk({
      policies: { 'authz/rules.rego': POLICY },
    })
    ;({ upstream, gateway, key, mcp } = desk)
  })
  after(() => desk?.close())

  const send = (method: string, params: object = {}): Promise<RpcReply> =>
    post(mcp, JSON.stringify({ jsonrpc: '2.0', id: 7, method, params }), legacy({ key }))
  const answering =
    (result: string): RawHandler =>
    (_request, reply) =>
      reply.send(200, `{"jsonrpc":"2.0","id":7,${result}}`, { 'content-type': 'application/json' })
  const streaming =
    (...events: string[]): RawHandler =>
    (_request, reply) => {
      const stream = reply.stream()
      for (const event of events) stream.raw(`data: ${event}\n\n`)
      stream.raw('data: {"jsonrpc":"2.0","id":7,"result":{"content":[]}}\n\n')
      stream.end()
    }
  const rowsOf = (reply: RpcReply): Promise<readonly Row[]> => gateway.rowsOf(reply.requestId)

  const lists: [string, string][] = [
    [
      'a member that only another letter case makes the list',
      `"result":{"resources":[],"Resources":${HIDDEN}}`,
    ],
    ['a second result in another letter case', `"result":{"resources":[]},"Result":{"resources":${HIDDEN}}`],
    ['an element with a second name', '"result":{"resources":[{"uri":"x://a","URI":"x://hidden"}]}'],
    ['the list twice', `"result":{"resources":${HIDDEN},"resources":[]}`],
  ]
  for (const [what, result] of lists) {
    it(`a list with ${what} is a failed upstream`, async () => {
      upstream.handle(answering(result))
      const reply = await send('resources/list')
      expect(reply.status).to.equal(502)
      expect(reply.text).not.to.contain('hidden')
    })
  }

  const questions: [string, string, number][] = [
    ['of its type', `"resultType":"input_required","inputRequests":${QUESTION}`, 403],
    ['without saying so', `"inputRequests":${QUESTION}`, 403],
    ['in another letter case', `"InputRequests":${QUESTION}`, 502],
    ['as a list', '"inputRequests":[{"method":"elicitation/create","params":{"message":"hidden"}}]', 502],
  ]
  for (const method of ['resources/list', 'resources/read']) {
    for (const [how, members, status] of questions) {
      it(`a question to the client in the answer to ${method}, ${how}, is judged`, async () => {
        upstream.handle(answering(`"result":{"resources":[],"contents":[],${members}}`))
        const reply = await send(method, { uri: 'x://a' })
        expect(reply.status).to.equal(status)
        expect(reply.text).not.to.contain('hidden')
      })
    }
  }

  it('a request to the client is judged also when it has no id', async () => {
    upstream.handle(
      streaming('{"jsonrpc":"2.0","method":"elicitation/create","params":{"message":"hidden"}}'),
    )
    const reply = await send('resources/read', { uri: 'x://a' })
    expect(reply.text).not.to.contain('hidden')
    expect((await rowsOf(reply)).map((row) => row['method'])).to.have.members([
      'resources/read',
      'elicitation/create',
    ])
  })

  const events: [string, string][] = [
    [
      'hides a method behind another letter case',
      '"method":"notifications/x","Method":"elicitation/create","Id":1',
    ],
    ['has an object for an id', '"method":"roots/list","id":{"a":1}'],
    ['has an id of more than 1024 characters', `"method":"roots/list","id":"${'x'.repeat(1025)}"`],
  ]
  for (const [what, members] of events) {
    it(`an event that ${what} ends the stream`, async () => {
      upstream.handle(streaming(`{"jsonrpc":"2.0",${members}}`))
      const reply = await send('resources/read', { uri: 'x://a' })
      expect(reply.json.error.code).to.equal(1502)
      expect(reply.text).not.to.match(/elicitation|roots/)
    })
  }
})

describe('what a caller names is what the policy judges', () => {
  let desk: Desk
  let { upstream, gateway, key, mcp } = {} as Desk

  before(async () => {
    desk = await openDesk({
      policies: { 'authz/rules.rego': POLICY },
    })
    ;({ upstream, gateway, key, mcp } = desk)
  })
  after(() => desk?.close())

  it('a URI that two readers may take for two resources is refused before the upstream', async () => {
    const uris = [
      'http://open.example\\@hidden.example/',
      'file:///open/\\..\\secret',
      'file:///open/..%2fsecret',
      'file:///open/%2e%2e%5Csecret',
      'docs:open/../secret',
      '../secret',
      'fi\nle:///secret',
      ' file:///secret',
      'file:///secret\u0000.txt',
    ]
    for (const uri of uris) {
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'resources/read', params: { uri } })
      const reply = await post(mcp, body, legacy({ key }))
      expect([uri, reply.status, reply.json.error.code]).to.deep.equal([uri, 400, -32602])
    }
    expect(upstream.count('resources/read')).to.equal(0)
  })

  it('a subscription cannot name a resource in a way that no rule would know', async () => {
    const long = `x://hidden?${'a'.repeat(8192)}`
    for (const uri of [long, 7, null, { uri: 'x://hidden' }, '', 'x://hidden\\']) {
      const notifications = { resourceSubscriptions: ['x://open', uri] }
      const reply = await modern(mcp, 'subscriptions/listen', { notifications }, { key })
      expect([reply.status, reply.json.error.code]).to.deep.equal([400, -32602])
    }
    const notifications = { resourceSubscriptions: ['x://hidden'] }
    expect((await modern(mcp, 'subscriptions/listen', { notifications }, { key })).status).to.equal(403)
    expect(upstream.count('subscriptions/listen')).to.equal(0)
  })

  it('an answer to a request that was never relayed is refused, also when the policy allows all answers', async () => {
    for (const rest of ['"result":{"action":"accept"}', '"error":{"code":-1,"message":"no"}']) {
      const reply = await post(mcp, `{"jsonrpc":"2.0","id":5,${rest}}`, legacy({ key }))
      expect(reply.status).to.equal(403)
      const [row] = await gateway.rowsOf(reply.requestId)
      expect(row).to.include({ outcome: 'denied_authz', reason: 'policy_denied', method: 'response' })
    }
    expect(upstream.count('response')).to.equal(0)
  })

  it('a session belongs to a principal of its tenant, not to one of the same name in another', async () => {
    const initialize = {
      ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
      params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 'a', version: '1' } },
    }
    const opened = await post(mcp, JSON.stringify(initialize), { key })
    const session = { 'mcp-session-id': opened.headers.get('mcp-session-id') as string }
    const list = '{"jsonrpc":"2.0","id":2,"method":"tools/list"}'
    expect((await post(mcp, list, legacy({ key, headers: session }))).status).to.equal(200)
    const namesake = await gateway.key({ tenant: 'globex' })
    expect((await post(mcp, list, legacy({ key: namesake, headers: session }))).status).to.equal(404)
  })
})

describe('a subscription that is open when the policy changes', function () {
  this.timeout(20_000)

  it('ends when a resource in it is not allowed any more', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'gateway-subscriptions-'))
    const rules = join(folder, 'rules.rego')
    await writeFile(rules, POLICY)
    const upstream = await startScriptedUpstream({
      handle: (_request, reply) => void reply.stream(),
    })
    const gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { policies: folder },
    })
    try {
      const key = await gateway.key()
      const notifications = { resourceSubscriptions: ['x://payroll'] }
      const open = modern(`${gateway.url}/mcp/desk`, 'subscriptions/listen', { notifications }, { key })
      await upstream.waitFor('subscriptions/listen', 0)
      await writeFile(rules, `${POLICY}\ndeny contains "closed" if input.target.name == "x://payroll"\n`)
      const reply = await open
      expect(reply.json.error.code).to.equal(1403)
      const row = await until('the row', async () => (await gateway.rowsOf(reply.requestId))[0])
      expect(row).to.include({ outcome: 'denied_authz', reason: 'policy_denied' })
      expect(row?.decision['listed'][0]).to.include({ allow: false })
    } finally {
      await gateway.close()
      await upstream.close()
      await rm(folder, { recursive: true, force: true })
    }
  })
})
