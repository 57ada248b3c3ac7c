import { expect } from 'chai'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { call } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

/** Copies what is masked into variables, helpers and conditions that fail. */
const POLICY = `package gateway.authz

allow contains "everybody" if {
	copied := object.get(input.arguments, "name", "nobody")
	startswith(sprintf("call of %v", [copied]), "call")
}

deny contains "never" if input.arguments.name == "no such name"

mask contains "/arguments/name"

mask contains {"op": "upsert", "path": "/arguments/birthday", "value": year} if {
	year := substring(input.arguments.birthday, 0, 4)
}

mask contains "/result/structuredContent/diagnosis"

mask contains sprintf("/%v", [input.arguments.wrong]) if input.arguments.wrong
`

describe('masks', function () {
  this.timeout(60_000)
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream({
      tools: [{ name: 'patient' }, { name: 'other' }],
      handle: (_request, reply) =>
        reply.result({
          content: [{ type: 'text', text: '{"diagnosis":"rare fever"}' }],
          structuredContent: { diagnosis: 'rare fever', id: 5 },
        }),
    })
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: {
        desk: { url: upstream.url, tools: { patient: { redact: ['/arguments/address/*/street'] } } },
      },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  async function rowOf(tool: string, args: unknown) {
    const reply = await call(mcp, tool, args, { key })
    const [row] = await gateway.rowsOf(reply.requestId)
    return { reply, row: row as Row, text: JSON.stringify(row) }
  }

  it('of the policy and of the configuration keep values out of the whole row, and the call is forwarded as it came', async () => {
    const args = {
      name: 'Ann Miller',
      birthday: '1984-05-06',
      address: [{ street: '12 Rose Garden' }],
      ok: 1,
    }
    const { reply, row, text } = await rowOf('patient', args)
    expect(reply.status).to.equal(200)
    expect(reply.json.result.structuredContent).to.deep.equal({ diagnosis: 'rare fever', id: 5 })
    expect(upstream.requests.at(-1)?.json).to.have.nested.property('params.arguments').deep.equal(args)
    expect(text).not.to.match(/Miller|05-06|Rose|fever/)
    const stored = row['request_json'].params.arguments
    expect(stored).to.deep.include({ birthday: '1984', ok: 1 })
    expect(stored.address[0].street).to.match(/^\[redacted:pointer hmac:[0-9a-f]{12}\]$/)
    expect(row['response_json'].result.structuredContent).to.deep.equal({ id: 5 })
    expect(JSON.stringify(row['decision']['authz'].trace)).to.include('[redacted:mask]')
    expect(gateway.log()).not.to.match(/Miller|Rose|fever/)
  })

  it('of the configuration are for their tool alone', async () => {
    const { row } = await rowOf('other', { address: [{ street: '12 Rose Garden' }] })
    expect(row['request_json'].params.arguments.address[0].street).to.equal('12 Rose Garden')
  })

  it('that are malformed cost the row its payloads; the call goes on and the log says so once', async () => {
    for (let count = 0; count < 2; count += 1) {
      const { reply, row, text } = await rowOf('patient', { name: 'Ann Miller', wrong: 'principal/id' })
      expect(reply.status).to.equal(200)
      expect(text).not.to.match(/Miller|fever/)
      expect(row['request_json']).to.equal(null)
      expect(row['response_json']).to.equal(null)
      expect(row['decision']['authz'].mask_failure).to.match(/path must begin with/)
      expect(row['decision']['authz'].allowed_by).to.deep.equal(['everybody'])
    }
    expect(gateway.log().match(/a mask of the policy is malformed/g)).to.have.length(1)
  })

  it('that nobody was asked for: a tool that does not exist leaves no arguments', async () => {
    const { reply, row, text } = await rowOf('missing', { name: 'Ann Miller' })
    expect(reply.status).to.equal(403)
    expect(text).not.to.include('Miller')
    expect(row['request_json']).to.equal(null)
    expect(row['tool_name']).to.equal('missing')
  })
})
