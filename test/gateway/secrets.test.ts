import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { SECRET, startTestGateway } from '../support/gateway.ts'
import { call, legacy, post } from '../support/rpc.ts'
import { SECRET_VALUES } from '../support/secrets-corpus.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

/** Copies what the caller sent into variables, helper results and conditions that fail: all of it ends up in the trace. */
const POLICY = `package gateway.authz

allow contains "everybody" if {
	copied := input.arguments.secret
	joined := concat(" ", ["a", copied, "b"])
	count(joined) > 0
	wrapped := {"deep": [copied, {"again": joined}]}
	count(wrapped) == 1
	echoed(copied)
}

echoed(x) if startswith(x, "")

deny contains "says-deny" if {
	input.arguments.deny
	value := input.arguments.secret
	contains(value, value)
}

deny contains "never" if {
	some word in split(input.arguments.secret, " ")
	word == "no such word"
}
`
const UPSTREAM_TOKEN = 'upstream-credential-7f3a9c'

describe('secrets', function () {
  this.timeout(60_000)
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream()
    gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: { url: upstream.url, headers: { authorization: 'Bearer ${UPSTREAM_TOKEN}' } } },
      environment: { UPSTREAM_TOKEN },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  async function everythingStored(): Promise<string> {
    const { rows } = await gateway.database.pool.query<{ text: string }>(
      'select row_to_json(audit_events)::text as text from audit_events',
    )
    return rows.map((row) => row.text).join('\n')
  }

  it('of every known kind are in no row, no trace and no log line, also when a policy copies them', async () => {
    for (const secret of Object.values(SECRET_VALUES)) {
      expect((await call(mcp, 'echo', { secret }, { key })).status).to.equal(200)
      expect((await call(mcp, 'echo', { secret, deny: true }, { key })).status).to.equal(403)
    }
    const stored = await everythingStored()
    expect(stored).to.contain('says-deny')
    for (const [kind, secret] of Object.entries(SECRET_VALUES)) {
      const escaped = JSON.stringify(secret).slice(1, -1)
      expect(stored.includes(secret) || stored.includes(escaped), `${kind} in a row`).to.equal(false)
      expect(gateway.log().includes(secret), `${kind} in the log`).to.equal(false)
    }
  })

  it('that only their name gives away are gone from the request and from wherever the policy put them', async () => {
    const value = 'plain words that nothing else would catch'
    await call(mcp, 'echo', { password: value, secret: value }, { key })
    expect(await everythingStored()).not.to.contain(value)
  })

  it('in tool names, methods and bad credentials stay out as well', async () => {
    const secret = SECRET_VALUES['github'] as string
    await call(mcp, secret, {}, { key })
    await post(mcp, JSON.stringify({ jsonrpc: '2.0', id: 1, method: secret }), legacy({ key }))
    await call(mcp, 'echo', {}, { key: secret })
    await call(mcp, 'echo', {}, { headers: { 'x-api-key': secret } })
    expect(await everythingStored()).not.to.contain(secret)
    expect(gateway.log()).not.to.contain(secret)
  })

  it("of the gateway itself are nowhere: the caller's key, the upstream's credential, the gateway's secret", async () => {
    const half = key.split('_').slice(2).join('_')
    const wrong = `${key.slice(0, -4)}AAAA`
    const reply = await call(mcp, 'echo', { text: `my key is ${key}` }, { key })
    await call(mcp, 'echo', { text: 'x' }, { key: wrong })
    const everything = `${await everythingStored()}\n${gateway.log()}`
    for (const secret of [half, wrong.split('_').slice(2).join('_'), UPSTREAM_TOKEN, SECRET]) {
      expect(everything).not.to.contain(secret)
    }
    expect(JSON.stringify([...reply.headers])).not.to.contain(UPSTREAM_TOKEN)
    for (const request of upstream.requests) {
      expect(request.headers.authorization).to.equal(`Bearer ${UPSTREAM_TOKEN}`)
      expect(JSON.stringify(request.headers)).not.to.contain(half)
    }
  })
})
