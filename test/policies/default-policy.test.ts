/** The shipped policies, as they stand in `policies/`, on the engine that serves. */
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import type { Principal, Target } from '../../src/gateway/types.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy, loadInputSchema } from '../../src/policy/build.ts'
import type { PolicySources } from '../../src/policy/build-sources.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'
import type { PolicyRoom } from '../../src/policy/engine.ts'
import type { RuleView, TraceView } from '../policy/engine-fixture.ts'
import { callOf, fixtureCompiler, roomOn } from '../policy/engine-fixture.ts'

const FOLDER = new URL('../../policies', import.meta.url).pathname
const SUPPORT = { name: 'support', labels: { env: 'demo', tenant: 'acme' } }
const READS = { readOnlyHint: true }
const WRITES = { readOnlyHint: false, destructiveHint: false }
const DESTROYS = { readOnlyHint: false, destructiveHint: true }

const principal = (parts: Partial<Principal>): Partial<Principal> => ({ id: 'ada', tenant: 'acme', ...parts })
const ADMIN = principal({ roles: ['admin'], claims: { mfa: true } })
const ADMIN_WITHOUT_MFA = principal({ roles: ['admin'], claims: {} })
const DEVELOPER = principal({ roles: ['developer'], claims: { mfa: false } })
const READONLY = principal({ roles: ['readonly'] })
const STRANGER = principal({ roles: ['intern'] })
const ROLELESS = principal({ roles: [] })
const OTHER_TENANT = principal({ roles: ['admin'], tenant: 'globex', claims: { mfa: true } })
const NO_TENANT = principal({ roles: ['admin'], tenant: null, claims: { mfa: true } })

describe('the shipped policies', function () {
  this.timeout(60_000)
  let sources: PolicySources
  let policy: CompiledPolicy
  let room: PolicyRoom

  before(async () => {
    sources = await loadPolicySources(FOLDER)
    const cacheDir = join(tmpdir(), 'mcp-policy-gateway-test', 'builds')
    policy = await buildPolicy(sources, { compiler: await fixtureCompiler(), cacheDir })
    room = await roomOn(policy)
  })
  after(() => room.close())

  const decide = (
    who: Partial<Principal>,
    name: string,
    annotations: Target['annotations'],
    args: unknown = {},
  ) =>
    room.decide(
      callOf({
        principal: who,
        server: SUPPORT,
        target: { kind: 'tool', name, annotations },
        argumentsText: args === null ? null : JSON.stringify(args),
      }),
    )

  it('pass their own Rego tests', async () => {
    const file = 'authz/authz_test.rego'
    const rego = { ...sources.rego, [file]: readFileSync(join(FOLDER, file), 'utf8') }
    const answer = await (await fixtureCompiler()).evaluate({
      sources: rego,
      data: sources.data,
      inputSchema: await loadInputSchema(),
      query: 'results = data.authz_test',
    })
    if (!answer.ok) throw new Error(JSON.stringify(answer.errors))
    const results = answer.result[0]?.['results'] as Record<string, unknown>
    const written = [...rego[file].matchAll(/^(test_\w+)/gm)].map(([, name]) => name ?? '')
    expect(written).to.have.length.greaterThan(10)
    expect(written.filter((name) => results[name] !== true)).to.deep.equal([])
  })

  const table: readonly [
    who: string,
    Partial<Principal>,
    tool: string,
    Target['annotations'],
    denied: string[] | null,
  ][] = [
    ['an admin', ADMIN, 'search_tickets', READS, null],
    ['an admin', ADMIN, 'update_ticket', WRITES, null],
    ['an admin', ADMIN, 'delete_ticket', DESTROYS, null],
    [
      'an admin without a second factor',
      ADMIN_WITHOUT_MFA,
      'delete_ticket',
      DESTROYS,
      ['destructive-without-mfa'],
    ],
    ['an admin without a second factor', ADMIN_WITHOUT_MFA, 'update_ticket', WRITES, null],
    ['an admin', ADMIN, 'not_listed', READS, ['tool-not-listed']],
    ['a developer', DEVELOPER, 'search_tickets', READS, null],
    ['a developer', DEVELOPER, 'create_ticket', WRITES, null],
    [
      'a developer',
      DEVELOPER,
      'delete_ticket',
      DESTROYS,
      ['destructive-without-mfa', 'role-may-not-use-tool'],
    ],
    ['a developer', DEVELOPER, 'delete_ticket', READS, ['destructive-without-mfa', 'role-may-not-use-tool']],
    ['a developer', DEVELOPER, 'search_tickets', {}, ['destructive-without-mfa', 'role-may-not-use-tool']],
    ['a reader', READONLY, 'get_ticket', READS, null],
    ['a reader', READONLY, 'update_ticket', WRITES, ['role-may-not-use-tool']],
    ['a stranger', STRANGER, 'search_tickets', READS, ['no-known-role', 'role-may-not-use-tool']],
    [
      'a principal without roles',
      ROLELESS,
      'search_tickets',
      READS,
      ['no-known-role', 'role-may-not-use-tool'],
    ],
    ['an admin of another tenant', OTHER_TENANT, 'search_tickets', READS, ['other-tenant']],
    ['an admin without a tenant', NO_TENANT, 'search_tickets', READS, ['other-tenant']],
  ]
  for (const [who, parts, tool, annotations, denied] of table) {
    const verb = denied === null ? 'let' : 'do not let'
    it(`${verb} ${who} call ${tool} (${JSON.stringify(annotations)})`, () => {
      const evaluation = decide(parts, tool, annotations)
      expect(evaluation.failure).to.equal(null)
      expect(evaluation.allow).to.equal(denied === null)
      expect([...evaluation.deniedBy].sort()).to.deep.equal(denied ?? [])
    })
    it(`show ${tool} in a list to ${who} exactly when it may be called (${JSON.stringify(annotations)})`, async () => {
      const call = callOf({
        principal: parts,
        server: SUPPORT,
        target: { kind: 'server', name: 'support' },
        argumentsText: null,
      })
      const [verdict] = await room.visible(call, [
        { kind: 'tool', name: tool, annotations, schemaDigest: null },
      ])
      expect(verdict?.allow).to.equal(denied === null)
    })
  }

  it('look into the arguments of a tool that takes SQL', () => {
    const run = (args: unknown) => decide(DEVELOPER, 'run_sql', READS, args)
    expect(run({ sql: 'SELECT * FROM tickets' }).allow).to.equal(true)
    for (const args of [{ sql: 'DELETE FROM tickets' }, { sql: ['SELECT 1'] }, {}, null]) {
      expect(run(args).deniedBy, JSON.stringify(args)).to.deep.equal(['sql-must-only-read'])
    }
  })

  it('let known roles open a session and nobody else', () => {
    const open = (who: Partial<Principal>) =>
      room.decide(
        callOf({
          principal: who,
          server: SUPPORT,
          target: { kind: 'server', name: 'support' },
          argumentsText: null,
        }),
      ).allow
    expect([ADMIN, DEVELOPER, READONLY].map(open)).to.deep.equal([true, true, true])
    expect([STRANGER, ROLELESS, OTHER_TENANT].map(open)).to.deep.equal([false, false, false])
  })

  it('let nobody use an upstream that has no data of its own', () => {
    const evaluation = room.decide(
      callOf({
        principal: ADMIN,
        server: { name: 'unknown', labels: {} },
        target: { kind: 'tool', name: 'search_tickets', annotations: READS },
      }),
    )
    expect(evaluation.deniedBy).to.deep.equal(['tool-not-listed'])
  })

  it('give every rule a title', () => {
    for (const [file, text] of Object.entries(sources.rego)) {
      const lines = text.split('\n')
      for (const [at, line] of lines.entries()) {
        if (!/^(allow|deny) contains/.test(line)) continue
        const block = lines.slice(0, at).join('\n').split('\n\n').at(-1) ?? ''
        expect(block, `${file}:${at + 1}`).to.match(/^# METADATA\n# title: \S/)
      }
    }
  })

  it('leave a trace that names the deciding rule, its line and the value', () => {
    const trace = JSON.parse(decide(DEVELOPER, 'delete_ticket', DESTROYS).traceText()) as TraceView
    expect(trace.truncated).to.equal(false)
    const line = policy.sources['authz/tools.rego']
      ?.split('\n')
      .indexOf('deny contains "destructive-without-mfa" if {')
    const rule = everyRule(trace.rules).find(({ at }) => at === `authz/tools.rego:${(line ?? 0) + 1}`)
    expect(rule).to.deep.include({ rule: 'data.gateway.authz.deny', outcome: 'defined' })
    const step = rule?.steps.find(({ expr }) => expr.startsWith('not input.principal.claims.mfa'))
    expect(step).to.deep.include({ ok: true, reads: { 'input.principal.claims.mfa': false } })
  })
})

function everyRule(rules: readonly RuleView[]): RuleView[] {
  return rules.flatMap((rule) => [rule, ...everyRule(rule.rules ?? [])])
}
