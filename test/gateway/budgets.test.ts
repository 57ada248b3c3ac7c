import { expect } from 'chai'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { call } from '../support/rpc.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everybody" if count(input.principal.roles) > 0

deny contains "joined" if {
	input.arguments.case == "join"
	some i, j
	input.arguments.a[i].id == input.arguments.b[j].id
}

deny contains "ranged" if {
	input.arguments.case == "range"
	count(numbers.range(1, 1000000000)) == 7
}

deny contains "walked" if {
	input.arguments.case == "walk"
	some path
	walk(input.arguments.deep, [path, value])
	walk(input.arguments.deep, [_, other])
	value == other
	value == "never"
}

deny contains "sorted" if {
	input.arguments.case == "sort"
	sort(input.arguments.list)[0] == "never"
}

deny contains "grouped" if {
	input.arguments.case == "group"
	groups := {k: [v | some v in input.arguments.list; v % 1000 == k] | some k in input.arguments.list}
	groups[-1]
}

conflict := 1 if input.arguments.case == "conflict"

conflict := 2 if input.arguments.case == "conflict"

deny contains "conflicting" if conflict == 3
`

describe('an evaluation that asks for too much', function () {
  this.timeout(30_000)
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream()
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

  async function onlyRow(requestId: string | null): Promise<Row> {
    const rows = await gateway.rowsOf(requestId)
    expect(rows).to.have.length(1)
    return rows[0]!
  }

  const ids = (from: number): { id: number }[] => Array.from({ length: 9000 }, (_, n) => ({ id: from + n }))
  let deep: unknown = 'end'
  for (let depth = 0; depth < 55; depth += 1) deep = Array.from({ length: depth < 7 ? 3 : 1 }, () => deep)
  const hostile: [string, Record<string, unknown>][] = [
    ['a quadratic join over the largest input', { case: 'join', a: ids(0), b: ids(100_000) }],
    ['a range of a thousand million numbers', { case: 'range' }],
    ['a walk over a walk of a deep value', { case: 'walk', deep }],
    [
      'a sort of 20,000 numbers',
      { case: 'sort', list: Array.from({ length: 20_000 }, (_, n) => (n * 7919) % 20_011) },
    ],
    ['a group-by comprehension', { case: 'group', list: Array.from({ length: 20_000 }, (_, n) => n) }],
  ]
  for (const [what, args] of hostile) {
    it(`is denied within its budget: ${what}`, async () => {
      const before = upstream.calls()
      const reply = await call(mcp, 'echo', args, { key })
      expect(reply.status).to.equal(403)
      expect(reply.json.error.message).to.equal('Forbidden')
      expect(upstream.calls()).to.equal(before)
      const row = await onlyRow(reply.requestId)
      expect(row).to.include({ outcome: 'denied_authz', reason: 'policy_budget' })
      expect(row.decision['authz'].trace.rules, 'the partial trace is kept').not.to.deep.equal([])
      expect((await call(mcp, 'echo', {}, { key })).status, 'the same instance is right after').to.equal(200)
    })
  }

  it('an input over the bound is denied, not cut', async () => {
    const reply = await call(mcp, 'echo', { text: 'x'.repeat(300_000) }, { key })
    expect(reply.status).to.equal(403)
    expect(await onlyRow(reply.requestId)).to.include({ reason: 'policy_budget' })
  })

  it('a policy that throws is a denial that keeps the partial trace', async () => {
    const reply = await call(mcp, 'echo', { case: 'conflict' }, { key })
    expect(reply.status).to.equal(403)
    const row = await onlyRow(reply.requestId)
    expect(row).to.include({ reason: 'policy_error' })
    expect(row['error_message']).to.contain('rules.rego')
    expect(JSON.stringify(row.decision['authz'].trace)).to.contain('aborted')
  })

  it('an integer that no 64 bits hold is denied rather than rounded', async () => {
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(200)
    const { post, legacy } = await import('../support/rpc.ts')
    const huge = await post(
      mcp,
      '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"n":18446744073709551617}}}',
      legacy({ key }),
    )
    expect(huge.status).to.equal(403)
    expect(await onlyRow(huge.requestId)).to.include({ reason: 'policy_error' })
  })
})
