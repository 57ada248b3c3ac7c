import { expect } from 'chai'
import { DEFAULT_POLICY_LIMITS } from '../../../src/policy/engine.ts'
import { runPolicyTests } from '../../../src/policy/testing/run-tests.ts'
import { loadTableCheck } from '../../../src/policy/testing/table-schema.ts'
import type { UpdatePlan } from '../../../src/policy/testing/update.ts'
import { planUpdates } from '../../../src/policy/testing/update.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'
import { createFolders } from './folder.ts'

const POLICY = `package gateway.authz

allow contains "role" if "eng" in input.principal.roles

deny contains "no-mfa" if input.target.annotations.destructiveHint == true

limits contains {"name": "calls", "key": ["[ a ]", "x, y"], "limit": 3, "window_s": 60} if "eng" in input.principal.roles

obligations contains {"kind": "audit_payload", "level": "metadata"} if input.target.name == "drop"
`
const FIXTURES = `fixtures:
  principals: { eng: { roles: [eng] }, ops: { roles: [ops] } }
  tools:
    read: { server: s }
    drop: { server: s, annotations: { destructiveHint: true } }
`

describe('writing into tables what the policy says', function () {
  this.timeout(60_000)
  const folders = createFolders('policy-update-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  async function plan(
    cases: string,
    { policy = POLICY, filter = null }: { policy?: string; filter?: RegExp | null } = {},
  ): Promise<UpdatePlan> {
    const tables = { 'cases/a.yaml': cases, 'cases/fixtures.yaml': FIXTURES }
    const folder = await folders.make({ 'authz/p.rego': policy, ...tables })
    const compiler = await fixtureCompiler()
    const options = { folder, compiler, cacheDir: null, limits: DEFAULT_POLICY_LIMITS, filter }
    const report = await runPolicyTests({ ...options, monotonicMs: () => 0 })
    return planUpdates(tables, report.cases, await loadTableCheck())
  }

  /** What becomes of the text; every test has to be updated. */
  async function updated(cases: string): Promise<string | undefined> {
    const { tables, left } = await plan(cases)
    expect(left.map(({ result, reason }) => `${result.name}: ${reason}`)).to.deep.equal([])
    return tables[0]?.after
  }

  it('changes values in their place and nothing else, comments and layout included', async () => {
    expect(
      await updated(`# Who may what.
principal:   eng      # the same for all
cases:

  # first
  - name: one line
    tool: read
    expect: {allow: false,   denied_by: [other]}    # why: ticket 12

  - name:   "block"   # odd spaces
    tool:   drop
    expect:
      # the reason comes first
      denied_by:
        - other        # gone
      allow: false # stays
  - { name: obligations, tool: drop, expect: { obligations: [], denied_by: [no-mfa] } }   # last
`),
    ).to.equal(`# Who may what.
principal:   eng      # the same for all
cases:

  # first
  - name: one line
    tool: read
    expect: {allow: true,   denied_by: []}    # why: ticket 12

  - name:   "block"   # odd spaces
    tool:   drop
    expect:
      # the reason comes first
      denied_by: [no-mfa]        # gone
      allow: false # stays
  - { name: obligations, tool: drop, expect: { obligations: [{ kind: audit_payload, level: metadata }], denied_by: [no-mfa] } }   # last
`)
  })

  it('says allow where it does not follow from the reasons any more', async () => {
    expect(
      await updated(`principal: eng
cases:
  - { name: implied, tool: drop, expect: { allowed_by: [role] } }
  - name: default
    tool: read
    expect:
      limits: [{ name: calls, limit: 3 }]
`),
    ).to.equal(`principal: eng
cases:
  - { name: implied, tool: drop, expect: { allow: false, allowed_by: [role] } }
  - name: default
    tool: read
    expect:
      allow: true
      limits: [{ name: calls, limit: 3 }]
`)
  })

  it('quotes what YAML would read otherwise', async () => {
    const text = await updated(
      'principal: eng\ncases: [{ name: a, tool: read, expect: { allow: true, limits: [{ name: calls, key: [] }] } }]\n',
    )
    expect(text).to.include('limits: [{ name: calls, key: ["[ a ]", "x, y"] }]')
  })

  it('adds an expectation where there is none', async () => {
    expect(
      await updated(`principal: eng
tool: read
cases:
  - name: block # a comment
  - { name: flow }
  - name: behind
    arguments:
      a: 1

  - name: several
    principal: [eng, ops]
    tool: [read, drop]
`),
    ).to.equal(`principal: eng
tool: read
cases:
  - name: block # a comment
    expect: { allow: true, allowed_by: [role] }
  - { name: flow, expect: { allow: true, allowed_by: [role] } }
  - name: behind
    expect: { allow: true, allowed_by: [role] }
    arguments:
      a: 1

  - name: several
    principal: [eng, ops]
    tool: [read, drop]
    expect:
      - { principal: eng, tool: read, allow: true, allowed_by: [role] }
`)
  })

  it('takes an expectation apart when its combinations differ now', async () => {
    expect(
      await updated(`cases:
  - name: matrix
    principal: [eng, ops]
    tool: [read, drop]
    expect:
      - { principal: eng, allow: true } # engineers
      - { principal: ops, denied_by: [] }
  - name: single
    principal: eng
    tool: [read, drop]
    expect: { allow: true }
`),
    ).to.equal(`cases:
  - name: matrix
    principal: [eng, ops]
    tool: [read, drop]
    expect:
      - { principal: eng, tool: read, allow: true }
      - { principal: eng, tool: drop, allow: false } # engineers
      - { principal: ops, tool: read, denied_by: [] }
      - { principal: ops, tool: drop, denied_by: [no-mfa] }
  - name: single
    principal: eng
    tool: [read, drop]
    expect:
      - { tool: read, allow: true }
      - { tool: drop, allow: false }
`)
  })

  it('adds to lists of expectations, whatever they are written like', async () => {
    expect(
      await updated(`tool: read
principal: [eng, ops]
cases:
  - name: block
    expect:
      - principal: ops
        allow: false   # never

  - { name: flow, expect: [{ principal: ops, allow: false }] }
`),
    ).to.equal(`tool: read
principal: [eng, ops]
cases:
  - name: block
    expect:
      - principal: ops
        allow: false   # never
      - { principal: eng, allow: true, allowed_by: [role] }

  - { name: flow, expect: [{ principal: ops, allow: false }, { principal: eng, allow: true, allowed_by: [role] }] }
`)
  })

  it('keeps the line ends of the file', async () => {
    const text = 'principal: eng\r\ntool: read\r\ncases:\r\n  - name: a\r\n  - name: b\r\n'
    const expectation = '\r\n    expect: { allow: true, allowed_by: [role] }\r\n'
    expect(await updated(text)).to.equal(
      `principal: eng\r\ntool: read\r\ncases:\r\n  - name: a${expectation}  - name: b${expectation}`,
    )
  })

  it('tells lines apart as a person compares them', async () => {
    const { tables } = await plan(
      'principal: eng\ncases:\n  - name: a\n    tool: read\n  - { name: b, tool: drop, expect: { allow: true } }\n',
    )
    expect(tables[0]?.hunks).to.deep.equal([
      { row: 5, removed: [], added: ['    expect: { allow: true, allowed_by: [role] }'] },
      {
        row: 5,
        removed: ['  - { name: b, tool: drop, expect: { allow: true } }'],
        added: ['  - { name: b, tool: drop, expect: { allow: false } }'],
      },
    ])
  })

  it('leaves alone what was not run', async () => {
    const text = `principal: eng
tool: read
cases: [{ name: chosen }, { name: other }, { name: matrix, principal: [eng, ops], expect: { allow: false } }]
`
    const { tables, left } = await plan(text, { filter: /chosen/ })
    expect(left).to.deep.equal([])
    expect(tables[0]?.after).to.equal(
      text.replace('name: chosen', 'name: chosen, expect: { allow: true, allowed_by: [role] }'),
    )
    const part = await plan(text, { filter: /matrix \[eng/ })
    expect(part.tables[0]?.after).to.include(
      'expect: [{ principal: eng, allow: true }, { principal: ops, allow: false }] }]',
    )
  })

  it('does not touch what is written elsewhere, and says so', async () => {
    const { tables, left } = await plan(`principal: eng
cases:
  - { name: anchor, tool: read, expect: &denied { allow: false } }
  - { name: alias, tool: read, expect: *denied }
  - { name: plain, tool: read, expect: { allow: false } }
`)
    expect(left.map(({ result, reason }) => `${result.name}: ${reason}`)).to.deep.equal([
      'anchor: it is written in a way that has to be changed by hand',
      'alias: it is written in a way that has to be changed by hand',
    ])
    expect(tables.map(({ updated: done }) => done.map(({ name }) => name))).to.deep.equal([['plain']])
    expect(tables[0]?.after).to.include('*denied }\n  - { name: plain, tool: read, expect: { allow: true } }')
  })

  it('does not take a failing evaluation for what the policy says', async () => {
    const policy = `${POLICY}\ndeny contains "Bad Reason" if input.target.name == "drop"\n`
    const { tables, left } = await plan('principal: eng\ncases: [{ name: a, tool: drop }]\n', { policy })
    expect(tables).to.deep.equal([])
    expect(left.map(({ reason }) => reason)).to.deep.equal(['the evaluation itself failed: mend the policy'])
  })
})
