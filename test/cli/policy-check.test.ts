import { join } from 'node:path'
import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'
import { expectGolden, gateway } from './policy-fixture.ts'

const ALLOW = 'package gateway.authz\n\nallow contains "all" if input.principal.id\n'

describe('gateway policy check', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-check-')
  after(() => folders.remove())

  it('says that policies, tests and tables are in order', async () => {
    const folder = await folders.make({
      'a.rego': ALLOW,
      'a_test.rego': 'package a_test\n\ntest_a if 1 == 1\n',
      'cases/fixtures.yaml': 'fixtures: {}\n',
    })
    const { code, stdout } = await gateway(['policy', 'check', folder])
    expect(code).to.equal(0)
    expectGolden('check-passed', stdout, folder)
    const json = await gateway(['policy', 'check', folder, '--json'])
    expect([json.code, JSON.parse(json.stdout)]).to.deep.equal([0, []])
  })

  const mistakes: readonly [name: string, rego: string][] = [
    ['unknown-field', 'deny contains "x" if {\n\tnot input.principal.clams.mfa\n\tinput.usr.id == "a"\n}\n'],
    [
      'forbidden-builtin',
      'deny contains "x" if {\n\thttp.send({"url": "http://a"}).status_code == 200\n\trand.intn("a", 3) == 1\n\topa.runtime().env.HOME\n}\n',
    ],
    ['unknown-builtin', 'deny contains "x" if startwith(input.target.name, "a")\n'],
    ['reserved-name', 'deny contains "x" if {\n\tgwtr.ok(1)\n}\n'],
    ['contract', 'deny := {"x"}\n'],
    ['syntax', 'deny contains "x" if {\n'],
    ['unused', 'deny contains "x" if {\n\ta := input.phase\n\tinput.target.name == "b"\n}\n'],
  ]
  for (const [name, rego] of mistakes) {
    it(`shows the place and the way out: ${name.replace('-', ' ')}`, async () => {
      const folder = await folders.make({
        'authz/a.rego': ALLOW,
        'authz/b.rego': `package gateway.authz\n\n${rego}`,
      })
      const { code, stdout, stderr } = await gateway(['policy', 'check', folder])
      expect(code).to.equal(1)
      expect(stderr).to.match(/error: \d errors? in /)
      expectGolden(`check-${name}`, stdout, folder)
    })
  }

  it('warns of what is true in lists only for want of arguments, and lets it pass', async () => {
    const rego =
      'deny contains "outside" if {\n\tinput.target.name == "read"\n\tnot input.arguments.confirm\n}\n'
    const folder = await folders.make({
      'authz/a.rego': ALLOW,
      'authz/b.rego': `package gateway.authz\n\n${rego}`,
    })
    const { code, stdout } = await gateway(['policy', 'check', folder])
    expect(code).to.equal(0)
    expectGolden('check-list-phase', stdout, folder)
    const json = JSON.parse((await gateway(['policy', 'check', folder, '--json'])).stdout)
    expect(json).to.have.length(1)
    expect(json[0]).to.deep.include({ id: 'P201', severity: 'warning', file: 'authz/b.rego', row: 5, col: 2 })
  })

  it('tells programs what is wrong, with id, place and way out', async () => {
    const folder = await folders.make({
      'a.rego': ALLOW,
      'b.rego': 'package b\n\nx if input.usr\n',
      'cases/a.yaml': 'cases: [{ nam: x }]\n',
    })
    const { code, stdout, stderr } = await gateway(['policy', 'check', folder, '--json'])
    expect(code).to.equal(1)
    expect(JSON.parse(stderr).code).to.equal('check_failed')
    expect(JSON.parse(stdout)).to.deep.equal([
      {
        ...{
          id: 'P101',
          title: 'unknown input field',
          severity: 'error',
          file: 'b.rego',
          row: 3,
          col: 6,
          endCol: 15,
        },
        ...{ code: 'rego_type_error', message: 'undefined ref: input.usr', line: 'x if input.usr' },
        hint: 'did you mean input.principal? fields of input: arguments, client, phase, principal, request, server, target, targets',
      },
    ])
  })

  it('finds mistakes of test rules and tables', async () => {
    const folder = await folders.make({
      'a.rego': ALLOW,
      'a_test.rego': 'package a_test\n\ntest_a if input.usr\n',
      'cases/a.yaml': 'cases: [{ nam: x }]\n',
    })
    const { code, stdout } = await gateway(['policy', 'check', folder])
    expect(code).to.equal(1)
    expectGolden('check-tests', stdout, folder)
  })

  it('warns of rules without effect and of lists that contradict calls, in the order of their places', async () => {
    const folder = await folders.make({
      'authz/a.rego': `${ALLOW}\ndenied contains "x" if input.target.name == "a"\n`,
      'authz/b.rego':
        'package gateway.authz\n\nallow contains "b" if input.phase == "list"\n\ndeny contains "hidden" if input.phase == "list"\n',
    })
    const { code, stdout, stderr } = await gateway(['policy', 'check', folder])
    expect([code, stderr.includes('error:')]).to.deep.equal([0, false])
    expectGolden('check-warnings', stdout, folder)
  })

  it('finds test files that change the policy', async () => {
    const folder = await folders.make({
      'a.rego': ALLOW,
      'a_test.rego': 'package gateway.authz\n\nallow contains "x" if 1 == 1\n\ntest_a if "x" in allow\n',
    })
    const { code, stdout, stderr } = await gateway(['policy', 'check', folder])
    expect([code, stdout.startsWith('P401 test rule')]).to.deep.equal([1, true])
    expect(stderr).to.include('What it means: gateway help P401')
  })

  describe('with configured upstreams', () => {
    const RULE = `${ALLOW}\ndeny contains "frozen" if input.target.name == "delete_repos"\n`

    async function configured(upstreams: string): Promise<readonly string[]> {
      const folder = await folders.make({
        'policies/a.rego': RULE,
        'gateway.yaml': `policies: ./policies\nupstreams: { ${upstreams} }\n`,
      })
      return ['policy', 'check', '--config', join(folder, 'gateway.yaml')]
    }

    it('warns of tools that none of them offers, unless it is told to ask nobody', async () => {
      const github = await startScriptedUpstream({
        tools: [{ name: 'delete_repo', inputSchema: { type: 'object' } }],
      })
      try {
        const command = await configured(`github: { url: "${github.url}" }`)
        const { code, stdout, stderr } = await gateway([...command, '--json'])
        expect(code, stderr).to.equal(0)
        expect(JSON.parse(stdout)).to.have.length(1)
        expect(JSON.parse(stdout)[0]).to.include({
          ...{ id: 'P205', severity: 'warning', row: 5, col: 48 },
          ...{ message: 'github offers no tool delete_repos', hint: 'did you mean delete_repo?' },
        })
        const asked = github.requests.length
        const offline = await gateway([...command, '--json', '--offline'])
        expect([offline.code, JSON.parse(offline.stdout)]).to.deep.equal([0, []])
        expect(github.requests.length).to.equal(asked)
      } finally {
        await github.close()
      }
    })

    it('says on stderr which one could not be asked, and takes nothing for missing then', async () => {
      const command = await configured('github: { url: "http://127.0.0.1:9/mcp" }')
      const { code, stdout, stderr } = await gateway(command)
      expect(code).to.equal(0)
      expect(stderr).to.match(/^github could not be asked, so its tools were not compared: .*ECONNREFUSED/m)
      expect(stdout).to.match(/^ok {2}/)
    })

    it('asks nobody about a folder that is named without a configuration', async () => {
      const folder = await folders.make({ 'a.rego': RULE })
      const { code, stdout, stderr } = await gateway(['policy', 'check', folder, '--json'])
      expect([code, JSON.parse(stdout), stderr]).to.deep.equal([0, [], ''])
    })
  })

  it('is exit code 1 for a folder without policies, and one that is not there', async () => {
    for (const folder of [await folders.make({ 'x.txt': '' }), '/nowhere/at/all']) {
      expect((await gateway(['policy', 'check', folder])).code).to.equal(1)
    }
  })

  it('is exit code 2 for a configuration that does not load', async () => {
    const { code } = await gateway(['policy', 'check', '--config', '/nowhere/gateway.yaml'])
    expect(code).to.equal(2)
  })
})
