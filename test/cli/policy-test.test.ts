import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { expectGolden, gateway } from './policy-fixture.ts'

const PROGRAM = fileURLToPath(new URL('../../src/cli/gateway.ts', import.meta.url))
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

const POLICY = `package gateway.authz

# METADATA
# title: Engineers may call
allow contains "engineers-may-call" if "engineer" in input.principal.roles

# METADATA
# title: What destroys needs a second factor
deny contains "destructive-without-mfa" if {
	input.target.annotations.destructiveHint == true
	not input.principal.claims.mfa
	input.server.labels.env in data.mfa.required_envs
}
`
const CASES = (mfa: boolean) => `fixtures:
  principals:
    eng: { roles: [engineer], claims: { mfa: ${mfa} } }
    guest: {}
  tools: { delete_repo: { server: github, annotations: { destructiveHint: true } } }
  servers: { github: { labels: { env: prod } } }
cases:
  - name: delete_repo without MFA is denied
    principal: [eng]
    tool: [delete_repo]
    expect: { allow: false, denied_by: [destructive-without-mfa] }
  - { name: guests may nothing, principal: guest, tool: delete_repo }
  - { name: billing freeze, principal: eng, tool: delete_repo, skip: waits for data }
`
const RULES = `package tools_test

import data.gateway.authz

test_guests if count(authz.allow) == 0 with input.principal as {"roles": []}

todo_test_quota if 1 == 2
`
const FILES = {
  'authz/tools.rego': POLICY,
  'authz/tools_test.rego': RULES,
  'mfa/data.yaml': 'required_envs: [prod]\n',
}

describe('gateway policy test', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-policy-')
  after(() => folders.remove())

  it('prints one line for each file whose tests pass, and both digests', async () => {
    const folder = await folders.make({ ...FILES, 'cases/tools.yaml': CASES(false) })
    const { code, stdout, stderr } = await gateway(['policy', 'test', folder])
    expect(code).to.equal(0)
    expect(stderr.replace('testing the policies ...\n', '')).to.equal('')
    expectGolden('test-passed', stdout, folder)
  })

  it('prints for a failing case what was expected, what came, and the rule with its values', async () => {
    const folder = await folders.make({ ...FILES, 'cases/tools.yaml': CASES(true) })
    const { code, stdout, stderr } = await gateway(['policy', 'test', folder])
    expect(code).to.equal(1)
    expect(stderr).to.match(/error: 1 of 5 tests failed\n$/)
    expectGolden('test-failed-case', stdout, folder)
  })

  it('prints for a failing rule its lines, and what differs between the engines', async () => {
    const folder = await folders.make({
      'authz/tools.rego': POLICY,
      'mfa/data.yaml': 'required_envs: [prod]\n',
      'authz/tools_test.rego': `package tools_test

import data.gateway.authz

principal(mfa) := {"id": "a", "roles": ["engineer"], "claims": {"mfa": mfa}}

test_mfa if {
	p := principal(false)
	authz.deny == set() with input.principal as p with input.target.annotations as {"destructiveHint": true} with input.server.labels.env as "prod"
}

test_roles[role] if {
	some role in ["engineer", "guest"]
	count(authz.allow) == 1 with input.principal as {"roles": [role]}
}

test_bytes if count(base64.decode("/w==")) == 1
`,
    })
    const { code, stdout } = await gateway(['policy', 'test', folder])
    expect(code).to.equal(1)
    expectGolden('test-failed-rules', stdout, folder)
  })

  it('prints mistakes of tables with their place, and runs nothing', async () => {
    const folder = await folders.make({
      ...FILES,
      'cases/tools.yaml': CASES(true)
        .replace('principal: [eng]', 'principals: [eng]')
        .replace('tool: [delete_repo]', 'tool: [delete_rep]')
        .replace('skip: waits', 'skip: "\\u001b[31m", x: waits'),
    })
    const { code, stdout, stderr } = await gateway(['policy', 'test', folder])
    expect(code).to.equal(1)
    expect(stderr).to.match(/error: 2 errors in .*\. No test ran\.\n$/)
    expectGolden('test-wrong-table', stdout, folder)
  })

  it('prints policies that do not build as `policy check` does, exit code 1', async () => {
    const folder = await folders.make({
      ...FILES,
      'authz/x.rego': 'package gateway.authz\n\nx if not input.principal.clams.mfa\n',
    })
    const { code, stdout } = await gateway(['policy', 'test', folder])
    expect(code).to.equal(1)
    expectGolden('test-does-not-build', stdout, folder)
  })

  it('runs what --run matches; nothing is exit code 2', async () => {
    const folder = await folders.make({ ...FILES, 'cases/tools.yaml': CASES(true) })
    const some = await gateway(['policy', 'test', folder, '--run', 'guests may'])
    expect(some.code).to.equal(0)
    expectGolden('test-some', some.stdout, folder)
    const none = await gateway(['policy', 'test', folder, '--run', 'nothing like it'])
    expect([none.code, none.stdout]).to.deep.equal([2, ''])
    expect(none.stderr).to.include('No test matches --run nothing like it; there are 5.')
    const wrong = await gateway(['policy', 'test', folder, '--run', '(', '--json'])
    expect([wrong.code, JSON.parse(wrong.stderr).code]).to.deep.equal([2, 'usage'])
  })

  it('is exit code 2 for a folder without tests', async () => {
    const folder = await folders.make({
      'authz/tools.rego': POLICY,
      'mfa/data.yaml': 'required_envs: [prod]\n',
    })
    const { code, stderr } = await gateway(['policy', 'test', folder])
    expect(code).to.equal(2)
    expect(stderr).to.include('holds no tests. Write tables in cases/*.yaml')
  })

  it('speaks JSON to programs', async () => {
    const folder = await folders.make({ ...FILES, 'cases/tools.yaml': CASES(true) })
    const { code, stdout, stderr } = await gateway(['policy', 'test', folder, '--json'])
    expect(code).to.equal(1)
    expect(JSON.parse(stderr)).to.deep.equal({ code: 'check_failed', message: '1 of 5 tests failed' })
    const report = JSON.parse(stdout)
    expect(report).to.deep.include({ total: 5, passed: 2, failed: 1, skipped: 1, todo: 1 })
    expect(report.digest).to.match(/^sha256:[0-9a-f]{64}$/)
    expect(report.rule_digest).to.match(/^sha256:[0-9a-f]{64}$/)
    const failed = report.results.find((result: { outcome: string }) => result.outcome === 'failed')
    expect(failed).to.deep.include({
      kind: 'case',
      file: 'cases/tools.yaml',
      row: 8,
      labels: ['eng', 'delete_repo'],
    })
    expect(failed.failure).to.deep.include({
      expected: { allow: false, denied_by: ['destructive-without-mfa'] },
      got: { allow: true, allowed_by: ['engineers-may-call'], denied_by: [] },
    })
    const marks = failed.failure.trace.map((line: { mark: string | null }) => line.mark ?? '-')
    expect(marks.join('')).to.equal('---+x.--+')
  })

  it('shows hostile names escaped', async () => {
    const folder = await folders.make({
      ...FILES,
      'cases/tools.yaml': CASES(true)
        .replace('delete_repo without', '"\\x1b[2Jdelete\\u202e')
        .replace('is denied', 'is denied"'),
    })
    const { stdout } = await gateway(['policy', 'test', folder])
    expect(stdout)
      .to.include('\\u{001b}[2Jdelete\\u{202e}')
      .and.not.include('\u001b')
      .and.not.include('\u202e')
  })

  it('uses colours on a terminal only, and never as the only sign', async () => {
    const folder = await folders.make({ ...FILES, 'cases/tools.yaml': CASES(true) })
    const environment = { ...process.env }
    for (const name of ['NO_COLOR', 'FORCE_COLOR', 'NODE_DISABLE_COLORS']) delete process.env[name]
    process.env['TERM'] = 'xterm'
    try {
      const { stdout } = await gateway(['policy', 'test', folder], true)
      expect(stdout).to.include('\u001b[32mok\u001b[39m').and.include('\u001b[31mFAIL\u001b[39m')
      const plain = await gateway(['policy', 'test', folder])
      expect(plain.stdout).to.include('FAIL').and.not.include('\u001b')
    } finally {
      Object.assign(process.env, environment)
    }
  })

  it('passes on the policies that are shipped', async () => {
    // The whole program in a process of its own, as CI and authors run it; no configuration is needed for a folder.
    const { stdout } = await promisify(execFile)(
      process.execPath,
      ['--import=tsx/esm', PROGRAM, 'policy', 'test', './policies', '--json'],
      { cwd: ROOT },
    )
    const report = JSON.parse(stdout)
    expect(report).to.deep.include({ failed: 0, skipped: 0, todo: 0 })
    expect(report.passed).to.be.greaterThan(100)
    const kinds = new Set(report.results.map(({ kind }: { kind: string }) => kind))
    expect([...kinds].sort()).to.deep.equal(['case', 'rule'])
  })
})
