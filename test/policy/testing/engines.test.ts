import { expect } from 'chai'
import type { Compiler, EvaluateRequest } from '../../../src/policy/compiler.ts'
import { DEFAULT_POLICY_LIMITS } from '../../../src/policy/engine.ts'
import type { TestReport } from '../../../src/policy/testing/report.ts'
import type { TestRunOptions } from '../../../src/policy/testing/run-tests.ts'
import { runPolicyTests } from '../../../src/policy/testing/run-tests.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'
import { createFolders } from './folder.ts'

const HEAD = `fixtures:
  principals: { eng: { roles: [eng] } }
  tools: { read: { server: s }, drop: { server: s } }
`

describe('cases decided by both engines', function () {
  this.timeout(60_000)
  const folders = createFolders('policy-engines-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  async function both(
    policy: string,
    cases: string,
    changed: Partial<TestRunOptions> = {},
  ): Promise<TestReport & { readonly queries: readonly EvaluateRequest[] }> {
    const folder = await folders.make({ 'authz/p.rego': policy, 'cases/a.yaml': `${HEAD}cases:\n${cases}` })
    const real = await fixtureCompiler()
    const queries: EvaluateRequest[] = []
    const compiler: Compiler = {
      ...real,
      evaluate(request) {
        queries.push(request)
        return real.evaluate(request)
      },
    }
    const options = { folder, compiler, cacheDir: null, limits: DEFAULT_POLICY_LIMITS, filter: null }
    const report = await runPolicyTests({
      ...options,
      engine: 'both',
      monotonicMs: () => performance.now(),
      ...changed,
    })
    return { ...report, queries }
  }
  const told = ({ results }: TestReport) =>
    results.map(({ outcome, name, failure }) =>
      [outcome, name, ...(failure?.notes.slice(0, 1) ?? [])].join(' '),
    )

  it('pass where both say the same: reasons, limits, obligations, clocks, lists', async () => {
    const report = await both(
      `package gateway.authz

allow contains "role" if "eng" in input.principal.roles

deny contains "new-year" if time.now_ns() == 1798761600000000000

limits contains {"name": "calls", "key": [input.principal.id], "limit": 3, "window_s": 60} if input.phase == "call"

obligations contains {"kind": "audit_payload", "level": "metadata"} if input.arguments.n == 12345678901234
`,
      `  - { name: call, principal: eng, tool: read, arguments: { big: 1e300, tiny: -0.0, n: 12345678901234, "a\\"b": "\\u2028 \\\\ / \\ud83d\\ude00" }, expect: { allow: true } }
  - { name: list, phase: list, principal: eng, tool: [read, drop], expect: { allow: true } }
  - { name: later, now: "2027-01-01T00:00:00Z", principal: eng, tool: read, expect: { denied_by: [new-year] } }
  - { name: skipped, principal: eng, tool: read, skip: not now }
`,
    )
    expect(told(report)).to.deep.equal([
      'passed call',
      'passed list',
      'passed list',
      'passed later',
      'skipped skipped',
    ])
    // One query for each moment.
    expect(report.queries.map(({ nowNs }) => nowNs)).to.deep.equal([
      1_767_225_600_000_000_000n,
      1_798_761_600_000_000_000n,
    ])
  })

  it('fail where they differ, although what was expected came', async () => {
    const policy = `package gateway.authz

allow contains "bytes" if count(base64.decode("/w==")) == 1
`
    const cases = '  - { name: a, principal: eng, tool: read, expect: { failure: policy_error } }\n'
    const alone = await both(policy, cases, { engine: 'wasm' })
    expect([told(alone), alone.queries]).to.deep.equal([['passed a'], []])
    const report = await both(policy, cases)
    expect(told(report)).to.deep.equal([
      'failed a the engines differ: Wasm gives {"failure":"policy_error"}, topdown gives {"allow":true,"allowedBy":["bytes"],"deniedBy":[],"limits":[],"obligations":[],"masks":[],"maskFailure":null}',
    ])
  })

  it('agree on evaluations that both refuse', async () => {
    const report = await both(
      `package gateway.authz

allow contains "Not A Reason" if input.target.name == "read"

allow contains "conflict" if f(1) == 1

f(x) := 1 if input.target.name == "drop"

f(x) := 2 if input.target.name == "drop"
`.replaceAll('f(x)', 'f(_)'),
      `  - { name: malformed, principal: eng, tool: read, expect: { failure: policy_malformed } }
  - { name: error, principal: eng, tool: drop, expect: { failure: policy_error } }
`,
    )
    expect(told(report)).to.deep.equal(['passed malformed', 'passed error'])
  })

  it('do not ask the engine without budgets about what is too much for the other', async () => {
    const policy = `package gateway.authz

allow contains "long" if count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a == b]) == 0
`
    const cases = '  - { name: a, principal: eng, tool: read, expect: { failure: policy_budget } }\n'
    const report = await both(policy, cases, { limits: { ...DEFAULT_POLICY_LIMITS, fuel: 10_000_000 } })
    expect([told(report), report.queries]).to.deep.equal([['passed a'], []])
  })

  it('fail when they take longer than they may, and say how long', async () => {
    let now = 0
    const ticking = () => {
      now += 1000
      return now
    }
    const report = await both(
      'package gateway.authz\n\nallow contains "a"\n',
      '  - { name: a, principal: eng, tool: read, expect: { allow: true } }\n',
      { monotonicMs: ticking, timeoutMs: 999, engine: 'wasm' },
    )
    expect(told(report)).to.have.length(1)
    expect(told(report)[0]).to.match(/^failed a it took \d+ ms, longer than --timeout allows \(999 ms\)$/)
  })
})
