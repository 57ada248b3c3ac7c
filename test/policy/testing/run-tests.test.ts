import { createHash } from 'node:crypto'
import { expect } from 'chai'
import { buildPolicy } from '../../../src/policy/build.ts'
import { PolicyBuildError } from '../../../src/policy/build-error.ts'
import { loadPolicySources } from '../../../src/policy/build-sources.ts'
import { DEFAULT_POLICY_LIMITS } from '../../../src/policy/engine.ts'
import type { TestReport, TestResult } from '../../../src/policy/testing/report.ts'
import { runPolicyTests, testId } from '../../../src/policy/testing/run-tests.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'
import { createFolders } from './folder.ts'

const POLICY = `package gateway.authz

may contains kind if {
	some role in input.principal.roles
	some kind in data.roles[role]
}

allow contains "role" if input.target.name in may

deny contains "no-mfa" if {
	input.target.annotations.destructiveHint == true
	not input.principal.claims.mfa
}

deny contains "leads-outside" if {
	input.phase == "call"
	contains(input.arguments.path, "..")
}

limits contains {"name": "calls", "key": [input.principal.id], "limit": 3, "window_s": 60} if true

obligations contains {"kind": "audit_payload", "level": "metadata"} if input.target.name == "drop"
`
const DATA = 'eng: [read]\nops: [read, drop]\n'
const HEAD = `fixtures:
  principals:
    eng: { roles: [eng], claims: { mfa: true } }
    ops: { roles: [ops] }
  tools:
    read: { server: s }
    drop: { server: s, annotations: { destructiveHint: true } }
`

describe('running policy tests', function () {
  this.timeout(60_000)
  const folders = createFolders('policy-tests-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  async function runFiles(
    files: Readonly<Record<string, string>>,
    filter: RegExp | null = null,
  ): Promise<TestReport> {
    const folder = await folders.make({ 'authz/p.rego': POLICY, 'roles/data.yaml': DATA, ...files })
    const compiler = await fixtureCompiler()
    const options = { folder, compiler, cacheDir: null, limits: DEFAULT_POLICY_LIMITS, filter }
    return await runPolicyTests({ ...options, monotonicMs: () => performance.now() })
  }
  const cases = (text: string) => runFiles({ 'cases/a.yaml': `${HEAD}cases:\n${text}` })
  const rules = (text: string) => runFiles({ 'authz/p_test.rego': `package p_test\n\n${text}` })
  const told = (results: readonly TestResult[]) =>
    results.map(({ outcome, name, labels }) => [outcome, name, ...labels].join(' '))
  async function errors(run: Promise<unknown>): Promise<readonly string[]> {
    try {
      await run
    } catch (error) {
      if (!(error instanceof PolicyBuildError)) throw error
      return error.errors.map(({ file, row, message }) => `${file}:${row} ${message}`)
    }
    throw new Error('it ran')
  }

  describe('cases', () => {
    it('run on the very module that serves', async () => {
      const folder = await folders.make({
        'authz/p.rego': POLICY,
        'roles/data.yaml': DATA,
        'cases/a.yaml': `${HEAD}cases: [{ name: a, principal: eng, tool: drop }]`,
      })
      const compiler = await fixtureCompiler()
      const served = await buildPolicy(await loadPolicySources(folder), { compiler, cacheDir: null })
      const options = { folder, compiler, cacheDir: null, limits: DEFAULT_POLICY_LIMITS, filter: null }
      const report = await runPolicyTests({ ...options, monotonicMs: () => performance.now() })
      expect(report.digest).to.equal(served.digest)
      expect(report.digest).to.equal(`sha256:${createHash('sha256').update(served.wasm).digest('hex')}`)
      expect(report.revision).to.equal(served.revision)
      expect(report.ruleDigest).to.equal(null)
      expect(told(report.results)).to.deep.equal(['passed a eng drop'])
    })

    it('compare everything a decision has, and only what is listed', async () => {
      const { results } = await cases(`
  - { name: reasons, principal: [eng], tool: read, expect: { allowed_by: [role] } }
  - { name: denied, principal: ops, tool: drop, expect: { allowed_by: [role], denied_by: [no-mfa] } }
  - { name: limits, principal: eng, tool: read, expect: { allow: true, limits: [{ name: calls, key: [eng], limit: 3, mode: enforce }] } }
  - { name: obligations, principal: ops, tool: drop, expect: { obligations: [{ level: metadata, kind: audit_payload }] } }
  - { name: arguments, principal: eng, tool: read, arguments: { path: ../x }, expect: { denied_by: [leads-outside] } }
  - { name: list, phase: list, principal: [eng, ops], tool: [read, drop], expect: [{ tool: read, allow: true }] }
  - { name: large, principal: eng, tool: read, arguments: { n: 99999999999999999999 }, expect: { failure: policy_error } }
`)
      expect(told(results).filter((line) => !line.startsWith('passed'))).to.deep.equal([])
      expect(results).to.have.length(10)
    })

    it('fail when a decision has more, less or something else', async () => {
      const { results } = await cases(`
  - { name: more, principal: eng, tool: read }
  - { name: less, principal: ops, tool: drop, expect: { denied_by: [no-mfa, other] } }
  - { name: limit, principal: eng, tool: read, expect: { allow: true, limits: [{ name: calls, limit: 4 }] } }
  - { name: no limits, principal: eng, tool: read, expect: { allow: true, limits: [] } }
  - { name: obligation, principal: ops, tool: drop, expect: { obligations: [] } }
  - { name: listed, phase: list, principal: eng, tool: read }
`)
      expect(results.map(({ outcome }) => outcome)).to.deep.equal(Array(6).fill('failed'))
      expect(results.map(({ failure }) => failure?.mismatches)).to.deep.equal([
        [{ member: 'allow', expected: false, got: true }],
        [{ member: 'denied_by', expected: ['no-mfa', 'other'], got: ['no-mfa'] }],
        [{ member: 'limits', expected: [{ name: 'calls', limit: 4 }], got: [{ name: 'calls', limit: 3 }] }],
        [
          {
            member: 'limits',
            expected: [],
            got: [{ name: 'calls', key: ['eng'], limit: 3, window_s: 60, cost: 1 }],
          },
        ],
        [{ member: 'obligations', expected: [], got: [{ kind: 'audit_payload', level: 'metadata' }] }],
        [{ member: 'allow', expected: false, got: true }],
      ])
      expect(results[1]?.failure?.notes).to.deep.equal(['no rule deny gives the reason other'])
    })

    it('compare masks as policies write them, in any order', async () => {
      const { results } = await runFiles({
        'authz/mask.rego': `package gateway.authz

mask contains "/arguments/ssn" if input.target.name == "read"

mask contains {"op": "upsert", "path": "/arguments/iban", "value": {"is": 1}} if input.target.name == "read"

mask contains "/request/id" if input.target.name == "drop"
`,
        'cases/a.yaml': `${HEAD}
principal: eng
tool: read
cases:
  - { name: bare, expect: { allow: true, mask: [{ op: upsert, path: /arguments/iban, value: { is: 1 } }, /arguments/ssn] } }
  - { name: spelt out, expect: { allow: true, mask: [{ op: remove, path: /input/arguments/ssn }, { op: upsert, path: /arguments/iban, value: { is: 1 } }] } }
  - { name: less, expect: { allow: true, mask: [/arguments/ssn] } }
  - { name: malformed, tool: drop, expect: { allow: false, mask: [] } }
`,
      })
      expect(results.map(({ outcome }) => outcome)).to.deep.equal(['passed', 'passed', 'failed', 'failed'])
      const upsert = { op: 'upsert', path: '/arguments/iban', value: { is: 1 } }
      expect(results.slice(2).map(({ failure }) => failure?.mismatches)).to.deep.equal([
        [{ member: 'mask', expected: ['/arguments/ssn'], got: ['/arguments/ssn', upsert] }],
        [
          {
            member: 'mask',
            expected: [],
            got: 'malformed: mask[0] path must begin with /arguments, /result, /client, /principal/claims, /target/annotations',
          },
        ],
      ])
    })

    it('do not pass as denied when the evaluation failed', async () => {
      const report = await runFiles({
        'authz/bad.rego':
          'package gateway.authz\n\ndeny contains input.target.name if input.target.name == "Bad Reason"\n',
        'cases/a.yaml': `${HEAD}    bad: { server: s, name: Bad Reason }\ncases:
  - { name: call, principal: eng, tool: bad }
  - { name: list, phase: list, principal: eng, tool: bad }
  - { name: meant, principal: eng, tool: bad, expect: { failure: policy_malformed } }
`,
      })
      expect(told(report.results)).to.deep.equal([
        'failed call eng bad',
        'failed list eng bad',
        'passed meant eng bad',
      ])
      for (const { failure } of report.results.slice(0, 2)) {
        expect(failure?.mismatches).to.deep.equal([
          { member: 'failure', expected: null, got: 'policy_malformed' },
        ])
        expect(failure?.notes.join()).to.include('denied_by[0] must match')
      }
    })

    it('know the clock of their case and no other', async () => {
      const clock = `package gateway.authz

allow contains "new-year" if input.request.now_ns == 1798761600000000000
deny contains "clocks-differ" if time.now_ns() != input.request.now_ns
`
      const report = await runFiles({
        'authz/clock.rego': clock,
        'cases/a.yaml': `${HEAD}cases:
  - { name: then, now: "2027-01-01T00:00:00Z", principal: ops, tool: read, expect: { allowed_by: [new-year, role], denied_by: [] } }
  - { name: by default, principal: ops, tool: read, expect: { allowed_by: [role], denied_by: [] } }
`,
      })
      expect(told(report.results)).to.deep.equal(['passed then ops read', 'passed by default ops read'])
    })

    it('that are skipped do not run', async () => {
      const { results } = await cases('  - { name: a, principal: eng, tool: read, skip: "no data yet" }\n')
      expect(results).to.deep.include.members([
        { ...results[0], outcome: 'skipped', reason: 'no data yet', failure: null },
      ])
    })

    it('are chosen by file, line, name and combination', async () => {
      const text = `${HEAD}cases:\n  - { name: first, principal: [eng, ops], tool: drop }\n  - { name: second, principal: eng, tool: drop }\n`
      const chosen = async (filter: RegExp) => {
        const report = await runFiles({ 'cases/a.yaml': text }, filter)
        expect(report.total).to.equal(3)
        return report.results.map(testId)
      }
      expect(await chosen(/first.*ops/)).to.deep.equal(['cases/a.yaml:9 first [ops, drop]'])
      expect(await chosen(/a\.yaml:10\b/)).to.deep.equal(['cases/a.yaml:10 second [eng, drop]'])
      expect(await chosen(/nothing/)).to.deep.equal([])
    })
  })

  describe('a failed case is explained', () => {
    const explain = async (text: string, files: Readonly<Record<string, string>> = {}) => {
      const { results } = await runFiles({ 'cases/a.yaml': `${HEAD}cases:\n${text}`, ...files })
      const failure = results[0]?.failure
      if (failure == null) throw new Error('it passed')
      const lines = failure.lines.map(({ kind, mark, place, text: shown, values }) => {
        const list = values.map(({ name, json }) => `${name}=${json}`).join(' ')
        return `${kind === 'rule' ? place : `${mark ?? ' '}${place}`} ${shown.trim()}${list === '' ? '' : ` | ${list}`}`
      })
      return { lines, why: failure.why, notes: failure.notes }
    }

    it('by the rule that should have given the reason, and where the value it read comes from', async () => {
      expect(
        await explain('  - { name: a, principal: eng, tool: drop, expect: { denied_by: [no-mfa] } }\n'),
      ).to.deep.equal({
        lines: [
          'authz/p.rego:10 data.gateway.authz.deny | undefined=null',
          ' 10 deny contains "no-mfa" if {',
          '+11 input.target.annotations.destructiveHint == true',
          'x12 not input.principal.claims.mfa | input.principal.claims.mfa=true',
        ],
        why: 'line 12 is false here; claims.mfa comes from cases/a.yaml:3 (fixtures.principals.eng)',
        notes: [],
      })
    })

    it('by the rule that gave a reason too many, with what its lines read', async () => {
      const { lines, why } = await explain(
        '  - { name: a, principal: ops, tool: drop, expect: { allow: true } }\n',
      )
      expect(lines).to.deep.equal([
        'authz/p.rego:10 data.gateway.authz.deny | defined=["no-mfa"]',
        ' 10 deny contains "no-mfa" if {',
        '+11 input.target.annotations.destructiveHint == true | input.target.annotations.destructiveHint=true',
        '+12 not input.principal.claims.mfa | input.principal.claims.mfa=null',
      ])
      expect(why).to.equal('line 12 holds; claims.mfa is not in cases/a.yaml:4 (fixtures.principals.ops)')
    })

    it('by what the rules that a line names gave', async () => {
      const { lines } = await explain(
        '  - { name: a, principal: eng, tool: drop, expect: { allowed_by: [role] } }\n',
      )
      expect(lines).to.deep.equal([
        'authz/p.rego:8 data.gateway.authz.allow | undefined=null',
        'x8 allow contains "role" if input.target.name in may | input.target.name="drop" data.gateway.authz.may=["read"]',
      ])
    })

    it('by what was not reached', async () => {
      const { lines, why } = await explain(
        '  - { name: a, principal: ops, tool: read, expect: { denied_by: [no-mfa] } }\n',
      )
      expect(lines.slice(2, 4)).to.deep.equal([
        'x11 input.target.annotations.destructiveHint == true | input.target.annotations.destructiveHint=null',
        '.12 not input.principal.claims.mfa',
      ])
      expect(why).to.equal(
        'line 11 is undefined: input.target.annotations.destructiveHint has no value; annotations.destructiveHint is not in cases/a.yaml:6 (fixtures.tools.read)',
      )
    })

    it('by the nearest reason there is', async () => {
      const { notes } = await explain(
        '  - { name: a, principal: eng, tool: read, expect: { denied_by: [no-mfaa] } }\n',
      )
      expect(notes).to.deep.equal(['no rule deny gives the reason no-mfaa; did you mean no-mfa?'])
    })

    it('by the place of data', async () => {
      const { why } = await explain(
        '  - { name: a, principal: eng, tool: read, expect: { denied_by: [frozen] } }\n',
        {
          'authz/f.rego': 'package gateway.authz\n\ndeny contains "frozen" if data.freeze.active == true\n',
          'freeze/data.yaml': '# when\nactive: false\n',
        },
      )
      expect(why).to.equal('line 3 is false here; freeze.active comes from freeze/data.yaml:2')
    })

    it('in lists as in calls', async () => {
      const { lines } = await explain(
        '  - { name: a, phase: list, principal: eng, tool: drop, expect: { denied_by: [no-mfa] } }\n',
      )
      expect(lines.at(-1)).to.equal('x12 not input.principal.claims.mfa | input.principal.claims.mfa=true')
    })
  })

  describe('rules test_..', () => {
    it('pass, fail and wait', async () => {
      const { results, ruleDigest, digest } = await rules(`import data.gateway.authz

test_holds if 1 == 1

test_fails if {
	x := {"roles": ["eng"]}
	authz.may == {"write"} with input.principal as x with data.roles as {"eng": ["read"]}
}

test_is_false := false

test_is_a_set contains 1

todo_test_later if 1 == 2

todo_test_now if 1 == 1
`)
      expect(told(results)).to.deep.equal([
        'passed test_holds',
        'failed test_fails',
        'failed test_is_false',
        'failed test_is_a_set',
        'todo todo_test_later',
        'todo todo_test_now',
      ])
      expect(results.map(({ failure }) => failure?.notes ?? null)).to.deep.equal([
        null,
        [],
        ['it gives false instead of true'],
        ['it gives [1] instead of true'],
        null,
        null,
      ])
      expect(results.at(-1)?.reason).to.equal('it holds by now: take todo_ out of its name')
      expect(results[1]?.failure?.why).to.equal('line 9 is false here')
      expect(ruleDigest)
        .to.match(/^sha256:[0-9a-f]{64}$/)
        .and.not.equal(digest)
    })

    it('have sub-cases, each with its own result', async () => {
      const { results } =
        await rules(`cases := {"one": {"x": 1, "y": 1}, "two": {"x": 1, "y": 2}, "three": {"x": 3, "y": 3}}

test_all[note] if {
	some note, tc in cases
	tc.x == tc.y
}

test_named["here"] if 1 == 1

test_named["there"] if 1 == 2

test_none[note] if {
	some note in object.get(data.roles, "none", [])
	note == 1
}
`)
      expect(told(results).sort()).to.deep.equal([
        'failed test_all two',
        'failed test_named there',
        'failed test_none no sub-case was reached',
        'passed test_all one',
        'passed test_all three',
        'passed test_named here',
      ])
      const two = results.find(({ labels }) => labels[0] === 'two')
      expect(
        two?.failure?.lines.map(({ mark, values }) => [
          mark,
          values.map(({ name, json }) => `${name}=${json}`).join(' '),
        ]),
      ).to.deep.equal([
        [null, 'undefined=null'],
        [null, ''],
        ['+', ''],
        ['x', 'tc.x=1 tc.y=2 tc={"x":1,"y":2}'],
      ])
    })

    it('fail loudly where Wasm and topdown differ', async () => {
      // The border to Wasm carries text.
      const { results } = await rules(`test_same if [x | some x in {"b", "a"}] == ["a", "b"]

test_not_in_wasm if count(base64.decode("/w==")) == 1
`)
      expect(told(results)).to.deep.equal(['passed test_same', 'failed test_not_in_wasm'])
      expect(results[1]?.failure?.notes[0]).to.match(
        /^the engines differ: Wasm gives an error \(.+\), topdown gives true$/,
      )
    })

    it('fail alone when their evaluation does', async () => {
      const { results } = await rules(`x := 1 if data.a

x := 2 if data.b

test_conflict if x == 1 with data.a as true with data.b as true

test_other if 1 == 1
`)
      expect(told(results)).to.deep.equal(['failed test_conflict', 'passed test_other'])
      expect(results[0]?.failure?.notes.join()).to.include('conflict')
    })

    it('end when they take too long, and that is no difference', async () => {
      const { results } = await rules(`test_long if {
	every x in numbers.range(1, 1000) {
		count([y | some y in numbers.range(1, 20000); y % 7 == x % 7]) > 0
	}
}
`)
      expect(told(results)).to.deep.equal(['failed test_long'])
      expect(results[0]?.failure?.notes.join()).to.match(/fuel|budget|events|memory/)
    })

    it('must not change the policy they test', async () => {
      const files = {
        'authz/p_test.rego':
          'package gateway.authz\n\nallow contains "test" if true\n\ntest_x if count(allow) == 1\n',
        'other_test.rego': 'package gateway.authz\n\ndefault tier := "gold"\n\ntest_y if tier == "gold"\n',
        'authz/tier.rego': 'package gateway.authz\n\ntier := "silver" if input.phase == "call"\n',
      }
      expect(await errors(runFiles(files))).to.deep.equal([
        'authz/p_test.rego:3 a test file adds to data.gateway.authz.allow, a rule of the policy',
        'other_test.rego:3 a test file adds to data.gateway.authz.tier, a rule of the policy',
      ])
    })

    it('must not hide one another', async () => {
      expect(await errors(rules('test_x if 1 == 1\n\ntest_x if 1 == 2\n'))).to.deep.equal([
        'authz/p_test.rego:5 test_x is there already, at authz/p_test.rego:3',
      ])
    })
  })

  it('takes both modules from the cache when nothing has changed, and says the same', async () => {
    const folder = await folders.make({
      'authz/p.rego': POLICY,
      'roles/data.yaml': DATA,
      'p_test.rego': 'package p_test\n\ntest_a if 1 == 1\n',
      'cases/a.yaml': `${HEAD}cases: [{ name: a, principal: eng, tool: drop }]`,
    })
    const cacheDir = await folders.make({})
    const compiler = await fixtureCompiler()
    let builds = 0
    const counted = {
      ...compiler,
      build: (request: Parameters<typeof compiler.build>[0]) => {
        builds += 1
        return compiler.build(request)
      },
    }
    const options = { folder, compiler: counted, cacheDir, limits: DEFAULT_POLICY_LIMITS, filter: null }
    const first = await runPolicyTests({ ...options, monotonicMs: () => 0 })
    const second = await runPolicyTests({ ...options, monotonicMs: () => 0 })
    expect(builds).to.equal(2)
    // Cases hold their parsed files.
    expect({ ...second, cases: [] }).to.deep.equal({ ...first, cases: [] })
  })

  it('does not begin when policies, test rules or tables are wrong', async () => {
    expect(
      await errors(runFiles({ 'authz/q.rego': 'package gateway.authz\n\nx if input.usr\n' })),
    ).to.deep.equal(['authz/q.rego:3 undefined ref: input.usr'])
    const files = { 'a_test.rego': 'package a_test\n\ntest_x if input.usr\n', 'cases/a.yaml': 'cases: []\n' }
    expect(await errors(runFiles(files))).to.deep.equal([
      'a_test.rego:3 undefined ref: input.usr',
      'cases/a.yaml:1 cases is empty',
    ])
  })
})
