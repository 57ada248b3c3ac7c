import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { toAuditRow, toInterruptedRow } from '../../src/audit/event.ts'
import { WHOLE_ROWS } from '../../src/audit/payload.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { gapRow, withoutPayload } from '../../src/audit/row.ts'
import { createStore } from '../../src/audit/store.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import {
  ANNA,
  allowed,
  call,
  DICTIONARY,
  denied,
  evaluation,
  NO_ALLOW_TRACE,
  newId,
  refused,
  toolsCall,
} from './fixtures.ts'

type Row = Readonly<Record<string, unknown>>
const PAGE = readFileSync(new URL('../../docs/audit/queries.md', import.meta.url), 'utf8')
const QUERIES = new Map(
  [...PAGE.matchAll(/^## (.+)$[\s\S]*?^```sql\n([\s\S]*?)^```$/gm)].map(([, title = '', sql = '']) => [
    title,
    sql,
  ]),
)

const BOB = { ...ANNA, id: 'bob', tenant: 'globex', apiKeyId: 'bobskeybobsk' }

describe('the queries of docs/audit/queries.md', () => {
  let database: TestDatabase
  const at = Date.now() - 3_600_000

  before(async () => {
    database = await createTestDatabase()
    const { policy } = evaluation()
    await database.pool.query(
      `insert into policy_revisions (digest, revision, opa, sources, dictionary, data_sha256)
       values ($1, $2, '1', '{"authz/tools.rego": "package gateway.authz"}', $3, '')`,
      [policy.digest, policy.revision, DICTIONARY],
    )
    const store = createStore({ pool: database.pool, writerId: newId(at), newId, clock: { nowMs: Date.now } })
    await store.store(
      rows().map((row, index) => store.entry(row, index + 1)),
      () => undefined,
    )
  })
  after(() => database.drop())

  function rows(): readonly AuditRow[] {
    const limited: AuditEvent = {
      call: call({
        startedMs: at + 3,
        stage: 'rate',
        principal: BOB,
        evaluation: evaluation({ allow: true, deniedBy: [] }),
        rate: {
          allowed: false,
          retryAfterSeconds: 1,
          limits: [
            {
              ...{
                name: 'per-tool',
                consumed: 30,
                limit: 30,
                remaining: 0,
                reset_ms: 1,
                window_s: 60,
                cost: 1,
              },
              ...{ source: 'db', mode: 'enforce', refused: true },
            },
          ],
        },
        timingsUs: { rate: 1500 },
      }),
      ending: refused('rate_limited'),
    }
    const search = { kind: 'tool', name: 'search', annotations: {}, schemaDigest: null } as const
    const unauthenticated: AuditEvent = {
      call: call({ startedMs: at, stage: 'auth', principal: null, message: null, target: null }),
      ending: refused('unauthenticated', 'unknown key'),
    }
    const input = JSON.stringify({ target: { annotations: {} } })
    return [
      toAuditRow(denied({ startedMs: at + 1 })),
      toAuditRow(
        denied({
          startedMs: at + 2,
          principal: BOB,
          evaluation: evaluation({ trace: NO_ALLOW_TRACE, deniedBy: [] }),
        }),
      ),
      toAuditRow(limited),
      toAuditRow(
        allowed({
          startedMs: at + 4,
          target: search,
          message: toolsCall('{"q":"x","password":"hunter2hunter2"}', 'search'),
          evaluation: evaluation({ allow: true, deniedBy: [], inputText: input, fuel: 5, evalUs: 2000 }),
        }),
      ),
      toAuditRow(unauthenticated),
      toAuditRow(allowed({ startedMs: at + 5 }), {
        plan: { ...WHOLE_ROWS, payload: { level: 'metadata', upstreams: {} } },
      }),
      toInterruptedRow(call({ startedMs: at + 6 }), at + 100),
      gapRow(newId(at), at, { why: 'spool_full', count: 3, fromMs: at, toMs: at }),
      withoutPayload(toAuditRow(denied({ startedMs: at + 7 })), { why: 'memory was short' }),
    ]
  }

  /** What each of them has to say about these rows. */
  const EXPECTED: Readonly<Record<string, (rows: readonly Row[]) => void>> = {
    'Who was denied what in the last day, and why?': (found) => {
      expect(found).to.have.length(5)
      expect(found.map(({ outcome }) => outcome)).to.have.members([
        ...['denied_authz', 'denied_authz', 'denied_authz', 'rate_limited', 'denied_auth'],
      ])
      expect(found[0]).to.deep.include({ principal_id: 'anna', denied_by: ['destructive-without-mfa'] })
    },
    'Which reasons deny most?': (found) =>
      expect(found).to.deep.equal([{ denied: 'destructive-without-mfa', attempts: '2', principals: '1' }]),
    'Who is denied most?': (found) =>
      expect(found).to.deep.equal([
        { tenant: 'acme', principal_id: 'anna', denials: '2' },
        { tenant: 'globex', principal_id: 'bob', denials: '2' },
      ]),
    'Every denial for one reason': (found) =>
      expect(found.map((row) => row['principal_id'])).to.deep.equal(['anna', 'anna']),
    'Who used a tool, and how often was it refused?': (found) => {
      expect(found.map(({ last_used: _last, ...row }) => row)).to.deep.equal([
        { principal_id: 'anna', allowed: '1', refused: '3' },
        { principal_id: 'bob', allowed: '0', refused: '2' },
      ])
    },
    'Everything one principal did': (found) => {
      expect(found.map(({ outcome }) => outcome)).to.deep.equal([
        ...['denied_authz', 'allowed', 'allowed', 'interrupted', 'denied_authz'],
      ])
    },
    'Everything done with one API key': (found) => expect(found).to.have.length(5),
    'From which addresses was a key used?': (found) =>
      expect(found.map((row) => [row['api_key_id'], row['client_ip'], row['attempts']])).to.deep.equal([
        ['bobskeybobsk', '10.1.2.3', '2'],
        ['k3v9x2m4q8p1', '10.1.2.3', '5'],
      ]),
    'Where do attempts without a valid credential come from?': (found) =>
      expect(found.map((row) => row['attempts'])).to.deep.equal(['1']),
    'What did a call send, and what came back?': ([row, ...others]) => {
      expect(others).to.deep.equal([])
      expect(row?.['arguments']).to.deep.equal({ q: 'x', password: '[redacted:key]' })
      expect(row?.['response_json']).to.deep.include({ id: 7 })
    },
    'Which calls had a certain argument?': (found) => expect(found).to.have.length(4),
    'Which rules were decisive, and how often?': (found) => {
      expect(found[0]).to.deep.equal({
        ...{ rule: 'data.gateway.authz.allow', rule_at: 'authz/tools.rego:12', rule_title: null, hits: '4' },
      })
      expect(found[1]).to.include({ rule_title: 'Destructive tools need a second factor', hits: '4' })
    },
    'Which rules never held?': (found) =>
      expect(found.map((row) => [row['rule_at'], row['entered']])).to.deep.include.members([
        ['authz/tools.rego:30', '4'],
        ['authz/tools.rego:5', '1'],
      ]),
    'Which line failed, with which values?': (found) =>
      expect(found).to.deep.equal([
        {
          rule: 'data.gateway.authz.deny',
          at: 'authz/tools.rego:31',
          expr: 'input.server.labels.env == "prod"',
          reads: { 'input.server.labels.env': 'test' },
          missing: null,
        },
      ]),
    'Which policy decided, and since when?': (found) =>
      expect(found.map((row) => [row['policy_revision'], row['attempts']])).to.deep.equal([
        ['3f9c2a1b5d7e', '6'],
      ]),
    'What did the rules say at that time?': (found) => {
      expect(found).to.have.length(3)
      expect(found[0]).to.include({ file: 'authz/tools.rego', source: 'package gateway.authz' })
    },
    'Who runs into limits?': (found) =>
      expect(found).to.deep.equal([{ principal_id: 'bob', limit_name: 'per-tool', refusals: '1' }]),
    'What was allowed that destroys something?': (found) =>
      expect(found.map((row) => [row['tool_name'], row['allowed_by']])).to.deep.equal([
        ['delete_repo', ['developers-may-call']],
      ]),
    'Which allowed calls failed at the upstream?': (found) =>
      expect(found).to.deep.equal([
        { server: 'github', tool_name: 'delete_repo', attempts: '1', failed: '0', tool_errors: '0' },
        { server: 'github', tool_name: 'search', attempts: '1', failed: '0', tool_errors: '0' },
      ]),
    'How long do tools take, and how much of it is the gateway?': (found) =>
      expect(found[0]).to.deep.equal({
        ...{ server: 'github', tool_name: 'delete_repo', calls: '1' },
        ...{ p50_ms: '43.5', p99_ms: '43.5', gateway_p99_ms: '2.3' },
      }),
    'Which evaluations are dear?': (found) => {
      expect(found).to.have.length(6)
      expect(found.at(-1)).to.include({ tool_name: 'search', fuel: 5, eval_ms: 2 })
    },
    'Is the record complete?': (found) =>
      expect(
        found.map((row) => [row['outcome'], row['stored'] ?? (row['gap'] as Row | null)?.['count']]),
      ).to.have.deep.members([
        ['gap', 3],
        ['interrupted', undefined],
        ['denied_authz', { as: 'without_payload', why: 'memory was short' }],
      ]),
    'From which rows was something left out?': (found) => {
      expect(
        found.some(({ secrets }) => JSON.stringify(secrets)?.includes('/params/arguments/password')),
      ).to.equal(true)
      expect(found.map(({ payload }) => payload)).to.deep.include({ by: 'configuration', level: 'metadata' })
    },
    'How much room does a day take?': (found) => {
      expect(found.length).to.be.greaterThan(0)
      expect(found[0]?.['size']).to.match(/^\d+ kB$/)
    },
  }

  it('are all expected here, and nothing else is', () => {
    expect([...QUERIES.keys()]).to.deep.equal(Object.keys(EXPECTED))
    expect(QUERIES.size).to.be.greaterThan(19)
  })

  for (const [title, sql] of QUERIES) {
    it(`answer: ${title}`, async () => {
      const { rows: found } = await database.pool.query<Row>(sql)
      EXPECTED[title]?.(found)
    })
  }

  it('can be asked by a role that has only the rights the page names', async () => {
    const [grants = ''] = /^ {4}grant usage[\s\S]*?policy_revisions to auditor;/m.exec(PAGE) ?? []
    const role = `auditor_${database.name}`
    await database.ownerPool.query(`create role ${role}; ${grants.replaceAll('auditor', role)}`)
    const client = await database.ownerPool.connect()
    try {
      await client.query(`set role ${role}`)
      for (const [title, sql] of QUERIES) {
        const { rows: found } = await client.query<Row>(sql)
        EXPECTED[title]?.(found)
      }
      for (const forbidden of [
        'delete from audit_events',
        'update audit_denials set ts = now()',
        'select * from api_keys',
      ]) {
        const refusal = await client.query(forbidden).catch((thrown: unknown) => String(thrown))
        expect(refusal, forbidden).to.match(/permission denied|cannot update/)
      }
    } finally {
      await client.query(`reset role; drop owned by ${role}; drop role ${role}`)
      client.release()
    }
  })
})
