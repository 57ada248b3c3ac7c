import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import fc from 'fast-check'
import { createTraceCoder } from '../../src/audit/compact-trace.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import { WHOLE_ROWS } from '../../src/audit/payload.ts'
import { findRows } from '../../src/audit/query.ts'
import { storeRevision } from '../../src/audit/revisions.ts'
import { createStore } from '../../src/audit/store.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy } from '../../src/policy/build.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'
import type { PolicyLimits } from '../../src/policy/engine.ts'
import { callOf, closeFixture, fixtureCompiler, roomOn } from '../policy/engine-fixture.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { denied, evaluation, NOW_MS, newId } from './fixtures.ts'

const matchesSchema = new Ajv2020({ strict: true, allowUnionTypes: true }).compile(
  JSON.parse(readFileSync(new URL('../../schemas/decision.schema.json', import.meta.url), 'utf8')) as object,
)
const COMPACT = { ...WHOLE_ROWS, compact: true }

/** Policies of which an evaluation shows every member a trace can have. */
const SPECIAL = `package gateway.authz

deny contains "size" if {
	some x in input.arguments.xs
	x.size > 2
	not small(x)
	every y in input.arguments.ys { y < 10.50 }
}

small(x) if x.size < 1.5

deny contains sprintf("%v", [input.arguments.n]) if input.arguments.n > 1
`

describe('a compact trace', function () {
  this.timeout(60_000)
  let database: TestDatabase
  let shipped: CompiledPolicy
  let special: CompiledPolicy

  before(async () => {
    database = await createTestDatabase()
    const options = {
      compiler: await fixtureCompiler(),
      cacheDir: join(tmpdir(), 'mcp-policy-gateway-test', 'builds'),
    }
    const folder = new URL('../../policies', import.meta.url).pathname
    shipped = await buildPolicy(await loadPolicySources(folder), options)
    special = await buildPolicy({ rego: { 'authz/special.rego': SPECIAL }, data: {} }, options)
    for (const policy of [shipped, special]) {
      await storeRevision(database.pool, { ...policy, loadedAt: new Date(NOW_MS) })
    }
  })
  after(async () => {
    await database.drop()
    await closeFixture()
  })

  /** Real evaluations, each with what was decided. */
  async function evaluations(policy: CompiledPolicy, limits: Partial<PolicyLimits> = {}) {
    const room = await roomOn(policy, limits)
    const roles = [['admin'], ['developer'], ['readonly'], []]
    const tools = ['search_tickets', 'delete_ticket', 'run_query', 'nothing']
    const many = JSON.stringify({
      xs: Array.from({ length: 40 }, (_, size) => ({ size: size / 4, at: 1e21, 'a"b': 'é' })),
      ys: [1.5, 9007199254740993n.toString()],
      sql: 'select 1; drop table x',
      path: '../x',
      n: 2,
    })
    const exact = `{"n":9007199254740993,"xs":[{"size":3.50,"m":-0},{"size":1E5}],"ys":[1.10,2e3]}`
    return roles.flatMap((role) =>
      tools.flatMap((name) =>
        [many, exact, '{}'].map((argumentsText) => {
          const evaluated = room.decide(
            callOf({
              principal: { roles: role, tenant: 'acme', claims: role[0] === 'admin' ? { mfa: true } : {} },
              server: { name: 'support', labels: { env: 'demo', tenant: 'acme' } },
              target: { kind: 'tool', name, annotations: { destructiveHint: name.startsWith('delete') } },
              argumentsText,
            }),
          )
          // The values of a trace can be read until the next evaluation.
          evaluated.traceText()
          return evaluated
        }),
      ),
    )
  }

  /** Same value, whatever the order of members; PostgreSQL compares numbers by value. */
  async function differences(pairs: readonly { readonly readable: string; readonly decision: string }[]) {
    const { rows } = await database.pool.query<{ readable: string; expanded: string }>(
      `select (pair -> 'readable')::text as readable, (audit_decision(pair -> 'decision') -> 'authz' -> 'trace')::text as expanded
       from jsonb_array_elements($1::jsonb) as pair
       where (pair -> 'readable')::text is distinct from audit_trace(pair -> 'decision')::text`,
      [
        `[${pairs.map(({ readable, decision }) => `{"readable":${readable},"decision":${decision}}`).join(',')}]`,
      ],
    )
    return rows
  }

  const decisionOf = (policy: Pick<CompiledPolicy, 'digest' | 'revision'>, trace: string) =>
    `{"authz":{"policy":${JSON.stringify({ digest: policy.digest, revision: policy.revision })},"trace":${trace}}}`

  it('expands to exactly the readable one, whole, truncated and aborted', async () => {
    let compared = 0
    for (const policy of [shipped, special]) {
      const code = createTraceCoder(policy.dictionary)
      for (const limits of [
        {},
        { trace: { maxBytes: 2048, maxEvents: 500 } },
        { trace: { maxBytes: 65_536, maxEvents: 12 } },
        { fuel: 3000 },
      ]) {
        const texts = (await evaluations(policy, limits)).map((one) => one.traceText())
        const pairs = texts.map((readable) => ({ readable, decision: decisionOf(policy, code(readable)) }))
        for (const { decision } of pairs) expect(decision).to.include('"compact":')
        expect(await differences(pairs)).to.deep.equal([])
        compared += pairs.length
      }
    }
    expect(compared).to.be.greaterThan(300)
  })

  it('expands to exactly what was stored, whatever the redactor made of it', async () => {
    const code = createTraceCoder(special.dictionary)
    const words = fc.constantFrom(
      ...special.dictionary.exprs.flatMap(({ file, row, text, reads }) => [
        `${file}:${row}`,
        text,
        ...reads.map((read) => read.text),
      ]),
      ...special.dictionary.rules.flatMap(({ path, file, row, text }) => [path, `${file}:${row}`, text]),
      '__proto__',
      'compact',
      'vars',
      'a\\"b\u2028',
    )
    const value = fc.json({ maxDepth: 2 }).map((text) => JSON.parse(text) as unknown)
    const members = fc.oneof(fc.dictionary(words, value, { maxKeys: 3 }), fc.constant('[redacted:withheld]'))
    const { rule } = fc.letrec((tie) => ({
      rule: fc.record(
        {
          rule: fc.oneof(words, fc.string()),
          at: words,
          title: words,
          outcome: fc.constantFrom('defined', 'undefined', 'aborted', 'other'),
          args: members,
          value,
          steps: fc.array(tie('step'), { maxLength: 3 }),
          rules: fc.array(tie('rule'), { maxLength: 2 }),
          more: value,
        },
        { requiredKeys: [] },
      ),
      step: fc.record(
        {
          at: words,
          expr: words,
          ok: fc.oneof(fc.boolean(), fc.constant('yes')),
          aborted: fc.constant(true),
          vars: fc.oneof(members, fc.constant(null)),
          reads: members,
          missing: fc.array(fc.oneof(words, fc.constant(7)), { maxLength: 3 }),
          steps: fc.array(tie('step'), { maxLength: 2 }),
          rules: fc.array(tie('rule'), { maxLength: 1 }),
        },
        { requiredKeys: [] },
      ),
    }))
    const trace = fc.record({
      v: fc.constant(1),
      truncated: fc.boolean(),
      rules: fc.array(rule, { maxLength: 4 }),
    })
    const texts = fc
      .sample(trace, { numRuns: 200, seed: 7 })
      .map((one) => JSON.stringify(one))
      .filter((text) => !text.includes('\\u0000') && !/\\ud[89a-f]/i.test(text))
    expect(texts.length).to.be.greaterThan(150)
    const pairs = texts.map((readable) => ({ readable, decision: decisionOf(special, code(readable)) }))
    expect(pairs.filter(({ decision }) => decision.includes('"compact":[')).length).to.be.greaterThan(25)
    expect(await differences(pairs)).to.deep.equal([])
  })

  it('keeps digits that JavaScript would not', () => {
    const code = createTraceCoder(special.dictionary)
    const numbers = '[1.0,1.10,-0,1e5,12345678901234567890,1E400,"1.0"]'
    const text = `{"v":1,"truncated":false,"dropped":0,"rules":[{"rule":"r","at":"a:1","outcome":"defined","value":${numbers},"steps":[]}]}`
    expect(code(text)).to.include(`"value":${numbers}`)
  })

  it('takes less than half of the room, and comes back when a row is read', async () => {
    const evaluated = (await evaluations(shipped)).find(({ deniedBy }) => deniedBy.length > 0)
    if (evaluated === undefined) throw new Error('nothing was denied')
    const event = denied({ startedMs: NOW_MS, evaluation: evaluated })
    const readable = toAuditRow(event)
    const compact = toAuditRow(event, { plan: COMPACT })
    const size = (row: { decision: string }) => traceOf(row.decision).length
    expect(size(compact)).to.be.lessThan(size(readable) / 2)
    for (const { decision } of [readable, compact])
      expect(matchesSchema(JSON.parse(decision)), JSON.stringify(matchesSchema.errors)).to.equal(true)
    const store = createStore({
      pool: database.pool,
      writerId: newId(NOW_MS),
      newId,
      clock: { nowMs: Date.now },
    })
    const other = { ...readable, id: newId(NOW_MS), request_id: newId(NOW_MS) }
    await store.store([store.entry(compact, 1), store.entry(other, 2)], () => undefined)
    const read = async (id: string) => (await findRows(database.pool, id))?.[0]?.decision
    expect(await read(compact.id))
      .to.include('"rules"')
      .and.equal(await read(other.id))
  })

  const traceOf = (decision: string): string =>
    JSON.stringify((JSON.parse(decision) as { authz: { trace: unknown } }).authz.trace)

  it('is only made once the database holds the very dictionary', async () => {
    const dictionary = structuredClone(special.dictionary)
    const event = denied({ evaluation: { ...evaluation(), traceDictionary: dictionary } })
    const form = () => Object.keys(JSON.parse(traceOf(toAuditRow(event, { plan: COMPACT }).decision)))
    expect(form()).to.include('rules')
    const known = { ...special, dictionary, loadedAt: new Date(NOW_MS) }
    // Under the same names another dictionary is stored already: what refers to this one would be misread.
    const other = { ...dictionary, rules: dictionary.rules.slice(1) }
    await storeRevision(database.pool, { ...known, dictionary: other })
    expect(form()).to.include('rules')
    const foreign = {
      ...event,
      call: { ...event.call, evaluation: { ...evaluation(), traceDictionary: other } },
    }
    expect(traceOf(toAuditRow(foreign, { plan: COMPACT }).decision)).to.include('"rules":')
    await storeRevision(database.pool, known)
    expect(form()).to.include('compact').and.not.include('rules')
  })

  it('that was tampered with is shown, not refused: one bad row must not hide the others', async () => {
    const odd =
      '{"v":1,"truncated":false,"dropped":0,"compact":[[99999,1,[[99999,0,{"reads":[99,1],"missing":[99]}]]]]}'
    const { rows } = await database.pool.query<{ trace: { rules: unknown } }>(
      'select audit_trace($1::jsonb) as trace',
      [decisionOf(special, odd)],
    )
    expect(rows[0]?.trace).to.have.property('rules')
  })

  it('stays as it is when its policy is gone', async () => {
    const code = createTraceCoder(special.dictionary)
    const decision = decisionOf(
      { digest: 'sha256:0', revision: 'gone' },
      code('{"v":1,"truncated":false,"dropped":0,"rules":[]}'),
    )
    const { rows } = await database.pool.query('select audit_decision($1::jsonb) = $1::jsonb as same', [
      decision,
    ])
    expect(rows).to.deep.equal([{ same: true }])
  })
})
