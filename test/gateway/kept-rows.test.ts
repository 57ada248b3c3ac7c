import { expect } from 'chai'
import { findRows } from '../../src/audit/query.ts'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { call } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "everybody" if {
	copied := input.arguments.text
	count(copied) > 0
}

deny contains "too-long" if count(input.arguments.text) > 1000

obligations contains {"kind": "audit_payload", "level": "metadata"} if startswith(input.arguments.text, "private")
`

describe('rows as they are kept', function () {
  this.timeout(60_000)
  let upstream: ScriptedUpstream
  let database: TestDatabase

  before(async () => {
    upstream = await startScriptedUpstream()
    database = await createTestDatabase()
  })
  after(async () => {
    await upstream?.close()
    await database?.drop()
  })

  async function withGateway(
    settings: Readonly<Record<string, unknown>>,
    desk: Readonly<Record<string, unknown>>,
    use: (gateway: TestGateway, mcp: string, key: string) => Promise<void>,
  ): Promise<void> {
    const gateway = await startTestGateway({
      policies: { 'authz/rules.rego': POLICY },
      upstreams: { desk: { url: upstream.url, ...desk } },
      settings: { audit: settings },
      database,
    })
    try {
      await use(gateway, `${gateway.url}/mcp/desk`, await gateway.key())
    } finally {
      await gateway.close()
    }
  }

  async function stored(id: string | null): Promise<string> {
    const { rows } = await database.pool.query<{ text: string }>(
      'select to_json(e)::text as text from audit_events e where request_id = $1',
      [id],
    )
    return rows.map(({ text }) => text).join('\n')
  }

  it('hold what the configuration says, less when the policy asks', async () => {
    await withGateway(
      { payload: 'request' },
      { tools: { other: { audit_payload: 'metadata' } } },
      async (_, mcp, key) => {
        const plain = await call(mcp, 'echo', { text: 'said-openly' }, { key })
        expect(plain.status).to.equal(200)
        expect(await stored(plain.requestId))
          .to.include('said-openly')
          .and.include('"response_json":null')
        const asked = await call(mcp, 'echo', { text: 'private-words' }, { key })
        expect(asked.status).to.equal(200)
        const askedRow = await stored(asked.requestId)
        expect(askedRow).to.include('"by": "policy"')
        expect(askedRow).to.not.include('private-words')
        const other = await call(mcp, 'other', { text: 'said-elsewhere' }, { key })
        const otherRow = await stored(other.requestId)
        expect(otherRow).to.include('"request_json":null')
        expect(otherRow).to.not.include('said-elsewhere')
      },
    )
  })

  it('hold compact traces that read as if they were readable, and are measured', async () => {
    await withGateway({ trace_encoding: 'compact' }, {}, async (gateway, mcp, key) => {
      const { requestId } = await call(mcp, 'echo', { text: 'hello' }, { key })
      expect(await stored(requestId)).to.include('"compact": [[')
      const [row] = (await findRows(database.pool, requestId ?? '')) ?? []
      const { trace } = JSON.parse(row?.decision ?? '{}').authz
      const lines = trace.rules[0].steps.map((step: { expr: string }) => step.expr)
      expect(lines).to.deep.equal(['copied := input.arguments.text', 'count(copied) > 0'])
      const admin = await gateway.key({ scopes: ['gateway:admin'] })
      const metrics = await fetch(`${gateway.adminUrl}/metrics`, {
        headers: { authorization: `Bearer ${admin}` },
      })
      expect(await metrics.text()).to.match(/^gateway_audit_row_bytes_count 1$/m)
    })
  })

  it('go when they are old enough, and with retention_days null never', async () => {
    const oldRow = `insert into audit_events (id, ts, writer, seq, request_id, outcome, status_code, latency_ms, decision)
      values (gen_random_uuid(), now() - interval '120 days', gen_random_uuid(), 1, 'old', 'allowed', 200, 1, '{}')`
    const count = async () =>
      (await database.pool.query(`select from audit_events where request_id = 'old'`)).rowCount
    await database.pool.query(
      `select audit_create_day((now() at time zone 'UTC' - interval '120 days')::date)`,
    )
    await database.pool.query(oldRow)
    await withGateway({ retention_days: null }, {}, async () => undefined)
    expect(await count()).to.equal(1)
    await withGateway({ retention_days: 100 }, {}, async (gateway) => {
      await until('the old day to go', async () => (await count()) === 0)
      await until('the word of it', () => gateway.log().includes('audit day removed'))
    })
  })
})
