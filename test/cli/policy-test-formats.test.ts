import { readFile } from 'node:fs/promises'
import { join, relative } from 'node:path'
import { expect } from 'chai'
import type { SaxesTagNS } from 'saxes'
import { SaxesParser } from 'saxes'
import { createFolders } from '../policy/testing/folder.ts'
import { withEnvironment } from '../support/cli.ts'
import { gateway } from './policy-fixture.ts'

const POLICY = `package gateway.authz

allow contains "eng" if "eng" in input.principal.roles

deny contains "frozen" if {
	data.freeze.active
	input.target.name == "read"
}
`
const HOSTILE = '</failure>]]>&amp; "x" \u0007\u202e\ud800 %0A,::error::'
const TABLE = `fixtures:
  principals: { eng: { roles: [eng] }, ops: { roles: [ops] } }
  tools: { read: { server: s } }
cases:
  - { name: engineers read, principal: eng, tool: read, expect: { allow: true } }
  - { name: ops read, principal: ops, tool: read, expect: { allow: true } }
  - { name: later, principal: ops, tool: read, skip: "waits for <data>" }
  - { name: ${JSON.stringify(HOSTILE)}, principal: [eng], tool: read }
`
const RULES = `package p_test

import data.gateway.authz

test_frozen if "frozen" in authz.deny with data.freeze.active as true with input.target.name as "read"

todo_test_later if 1 == 2
`
const FILES = {
  'authz/p.rego': POLICY,
  'freeze/data.yaml': 'active: false\n',
  'cases/a b.yaml': TABLE,
  'authz/p_test.rego': RULES,
}
const GOOD = { ...FILES, 'cases/a b.yaml': TABLE.replace(/ {2}- \{ name: (?:ops|")[^\n]*\n/g, '') }
const BROKEN = { ...FILES, 'authz/q.rego': 'package gateway.authz\n\nx if input.usr == "<&>"\n' }

interface Element {
  readonly name: string
  readonly attributes: Readonly<Record<string, string>>
  readonly children: Element[]
  text: string
}

/** Parses strictly: what is not well-formed throws. */
function parseXml(text: string): Element {
  const root: Element = { name: '', attributes: {}, children: [], text: '' }
  const open = [root]
  const parser = new SaxesParser({ xmlns: true })
  parser.on('error', (error) => {
    throw error
  })
  parser.on('opentag', (tag: SaxesTagNS) => {
    const attributes = Object.fromEntries(
      Object.values(tag.attributes).map(({ name, value }) => [name, value]),
    )
    const element: Element = { name: tag.name, attributes, children: [], text: '' }
    open.at(-1)?.children.push(element)
    open.push(element)
  })
  parser.on('closetag', () => open.pop())
  parser.on('text', (part) => {
    const top = open.at(-1)
    if (top !== undefined) top.text += part
  })
  parser.write(text).close()
  const [first] = root.children
  if (first === undefined) throw new Error('no document')
  return first
}

describe('gateway policy test for CI and editors', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-formats-')
  after(() => folders.remove())
  const test = (folder: string, ...args: readonly string[]) => gateway(['policy', 'test', folder, ...args])

  describe('JUnit', () => {
    it('has a suite per file and a case per test, with why a test failed', async () => {
      const folder = await folders.make(FILES)
      const file = join(folder, 'reports/junit.xml')
      const { code, stdout } = await test(folder, '--junit', file)
      expect(code).to.equal(1)
      expect(stdout).to.include('FAIL')
      const suites = parseXml(await readFile(file, 'utf8'))
      expect(suites.name).to.equal('testsuites')
      expect(suites.attributes).to.include({ tests: '6', failures: '2', errors: '0', skipped: '2' })
      expect(suites.attributes['time']).to.match(/^\d+\.\d{6}$/)
      const path = (name: string) => relative(process.cwd(), join(folder, name))
      expect(suites.children.map(({ attributes }) => attributes['name'])).to.deep.equal([
        path('authz/p_test.rego'),
        path('cases/a b.yaml'),
      ])
      const [rules, cases] = suites.children
      expect(cases?.attributes).to.include({ tests: '4', failures: '2', skipped: '1' })
      expect(rules?.children.map(({ children }) => children.map(({ name }) => name))).to.deep.equal([
        [],
        ['skipped'],
      ])
      expect(rules?.children[1]?.children[0]?.attributes['message']).to.equal('todo')
      const [passed, failed, skipped, hostile] = cases?.children ?? []
      expect(passed?.children).to.deep.equal([])
      expect(failed?.attributes).to.include({ name: 'ops read [ops, read]', line: '6' })
      expect(failed?.children[0]?.attributes['message']).to.equal('expected  allow true')
      expect(failed?.children[0]?.text).to.include('authz/p.rego:3').and.include('why: line 3 is false here')
      expect(skipped?.children[0]?.attributes['message']).to.equal('waits for <data>')
      expect(hostile?.attributes['name']).to.equal(
        '</failure>]]>&amp; "x" \\u{0007}\\u{202e}\\u{d800} %0A,::error:: [eng, read]',
      )
    })

    it('goes to stdout with --format junit', async () => {
      const { code, stdout, stderr } = await test(await folders.make(GOOD), '--format', 'junit')
      expect(code, stderr).to.equal(0)
      expect(parseXml(stdout).attributes).to.include({ tests: '4', failures: '0', skipped: '2' })
    })

    it('holds the messages when the policies do not build', async () => {
      const { code, stdout } = await test(await folders.make(BROKEN), '--format', 'junit')
      expect(code).to.equal(1)
      const [suite] = parseXml(stdout).children
      expect(suite?.attributes).to.include({ name: 'build', errors: '1' })
      const error = suite?.children[0]?.children[0]
      expect([error?.name, error?.attributes['type']]).to.deep.equal(['error', 'P101'])
      expect(error?.text).to.include('x if input.usr == "<&>"')
    })

    it('that cannot be written is exit code 2', async () => {
      const folder = await folders.make(GOOD)
      const { code, stderr } = await test(folder, '--junit', join(folder, 'authz/p.rego/x.xml'))
      expect(code).to.equal(2)
      expect(stderr).to.match(/x\.xml cannot be written \((ENOTDIR|EEXIST)\)/)
    })
  })

  describe('SARIF', () => {
    interface Sarif {
      readonly version: string
      readonly $schema: string
      readonly runs: readonly {
        readonly tool: {
          readonly driver: { readonly name: string; readonly rules: readonly { id: string }[] }
        }
        readonly columnKind: string
        readonly results: readonly {
          readonly ruleId: string
          readonly ruleIndex: number
          readonly level: string
          readonly message: { readonly text: string }
          readonly locations: readonly {
            readonly physicalLocation: {
              readonly artifactLocation: { readonly uri: string }
              readonly region?: Readonly<Record<string, number>>
            }
          }[]
        }[]
      }[]
    }
    /** What the schema of SARIF 2.1.0 requires, and GitHub besides. */
    function parseSarif(text: string): Sarif['runs'][number] {
      const sarif = JSON.parse(text) as Sarif
      expect(sarif.version).to.equal('2.1.0')
      expect(sarif.$schema).to.match(/sarif-2\.1\.0\.json$/)
      const [run] = sarif.runs
      if (run === undefined) throw new Error('no run')
      expect(run.tool.driver.name).to.be.a('string').and.not.equal('')
      for (const { ruleId, ruleIndex, level, message, locations } of run.results) {
        expect(run.tool.driver.rules[ruleIndex]?.id).to.equal(ruleId)
        expect(['error', 'warning', 'note', 'none']).to.include(level)
        expect(message.text).to.be.a('string').and.not.equal('')
        for (const { physicalLocation } of locations) {
          expect(new URL(physicalLocation.artifactLocation.uri, 'file:///a/b/c/d/e/f/').protocol).to.equal(
            'file:',
          )
          expect(physicalLocation.artifactLocation.uri).to.match(/^[\w.~%/!'()*-]+$/)
          for (const value of Object.values(physicalLocation.region ?? {})) expect(value).to.be.at.least(1)
        }
      }
      return run
    }

    it('has a result for each failed test', async () => {
      const folder = await folders.make(FILES)
      const { code, stdout } = await test(folder, '--format', 'sarif')
      expect(code).to.equal(1)
      const { results } = parseSarif(stdout)
      expect(results.map(({ ruleId }) => ruleId)).to.deep.equal(['policy-test', 'policy-test'])
      expect(results[0]?.message.text).to.match(/^ops read \[ops, read\]\nexpected {2}allow true\n/)
      const location = results[0]?.locations[0]?.physicalLocation
      expect(location?.artifactLocation.uri).to.equal(
        `${relative(process.cwd(), folder)}/cases/a%20b.yaml`.replaceAll('\\', '/'),
      )
      expect(location?.region).to.deep.equal({ startLine: 6 })
    })

    it('has the messages when the policies do not build, and none when all is well', async () => {
      const broken = await test(await folders.make(BROKEN), '--format', 'sarif')
      expect(broken.code).to.equal(1)
      const [result] = parseSarif(broken.stdout).results
      expect(result).to.include({ ruleId: 'P101', level: 'error' })
      expect(result?.locations[0]?.physicalLocation.region).to.include({ startLine: 3 })
      const good = await test(await folders.make(GOOD), '--format', 'sarif')
      expect([good.code, parseSarif(good.stdout).results]).to.deep.equal([0, []])
    })
  })

  describe('GitHub', () => {
    it('gets an annotation per failed test, and no command from anywhere else', async () => {
      const folder = await folders.make({
        ...FILES,
        'cases/a b.yaml': TABLE.replace('name: ops read', 'name: "::set-output name=x::y"'),
      })
      const { code, stdout } = await test(folder, '--format', 'github')
      expect(code).to.equal(1)
      const lines = stdout.split('\n')
      const token = /^::stop-commands::([0-9a-f-]{36})$/.exec(lines[0] ?? '')?.[1]
      const end = lines.indexOf(`::${token}::`)
      expect(end).to.be.greaterThan(5)
      const commands = lines.slice(end + 1, -1)
      expect(commands).to.have.length(2)
      const path = `${relative(process.cwd(), folder)}/cases/a b.yaml`
      expect(commands[0]).to.match(
        new RegExp(
          `^::error file=${path.replaceAll('.', '\\.')},line=6,title=%3A%3Aset-output name=x%3A%3Ay \\[ops%2C read\\]::expected {2}allow true%0Agot`,
        ),
      )
      expect(commands[1]).to.include(' %250A%2C%3A%3Aerror%3A%3A [eng%2C read]::')
    })

    it('is recognised by itself, unless another format is asked for', async () => {
      const folder = await folders.make(BROKEN)
      await withEnvironment({ GITHUB_ACTIONS: 'true' }, async () => {
        const { code, stdout } = await test(folder)
        expect(code).to.equal(1)
        expect(stdout).to.match(
          /\n::error file=\S+authz\/q\.rego,line=3,col=\d+,endColumn=\d+,title=P101 unknown input field::undefined ref/,
        )
        expect((await test(folder, '--format', 'pretty')).stdout).to.not.include('::')
        expect(JSON.parse((await test(folder, '--json')).stdout)).to.be.an('array')
      })
    })
  })

  describe('coverage', () => {
    it('is told by file, with what is not covered and why', async () => {
      const { code, stdout } = await test(
        await folders.make({
          ...GOOD,
          'authz/p_test.rego': RULES.replace(/import.*\n/, '').replace(/test_frozen.*/, 'test_a if 1 == 1'),
        }),
        '--coverage',
      )
      expect(code).to.equal(0)
      const lines = stdout.split('\n').map((line) => line.trimEnd())
      const from = lines.findIndex((line) => line.includes('never reached'))
      expect(lines.slice(from, -1)).to.deep.equal([
        '                expressions   covered   never true   never reached',
        '  authz/p.rego            3         1            1               1    33.3 %',
        '  authz/p.rego:6                never true     data.freeze.active   (1 evaluation, false)',
        '  authz/p.rego:7                never reached  input.target.name == "read"   (line 6 never held)',
        '  reasons no test produced:',
        '    deny "frozen"  authz/p.rego:5',
        'coverage 33.3 % of 3 expressions',
      ])
    })

    it('below the threshold is exit code 1, after everything has been told', async () => {
      const folder = await folders.make({
        ...GOOD,
        'authz/p_test.rego': RULES.replace(' with input.target.name as "read"', ''),
      })
      const failed = await test(folder, '--coverage-threshold', '100', '--run', 'engineers')
      expect(failed.code).to.equal(1)
      expect(failed.stdout).to.include('coverage 33.3 % of 3 expressions: threshold 100 % missed')
      expect(failed.stderr).to.include('error: coverage 33.3 % is below the threshold of 100 %')
      const met = await test(await folders.make(GOOD), '--coverage-threshold', '100')
      expect([met.code, met.stdout.includes('threshold 100 % met')]).to.deep.equal([0, true])
      const asJson = await test(folder, '--coverage-threshold', '99.5', '--run', 'engineers', '--json')
      expect([asJson.code, JSON.parse(asJson.stderr).code]).to.deep.equal([1, 'check_failed'])
      expect(JSON.parse(asJson.stdout).coverage).to.deep.include({
        expressions: 3,
        covered: 1,
        percent: 33.33,
      })
      expect(JSON.parse(asJson.stdout).coverage.files[0].uncovered).to.deep.equal([
        {
          ...{ row: 6, col: 2, text: 'data.freeze.active', rule: 'data.gateway.authz.deny' },
          ...{ state: 'never_true', reached: 1 },
        },
        {
          ...{ row: 7, col: 2, text: 'input.target.name == "read"', rule: 'data.gateway.authz.deny' },
          ...{ state: 'never_reached', reached: 0, behind_row: 6 },
        },
      ])
    })

    it('is written for lcov: functions, branches in three states, lines', async () => {
      const folder = await folders.make(GOOD)
      const file = join(folder, 'coverage/policy.lcov')
      const { code } = await test(folder, '--lcov', file, '--run', 'engineers')
      expect(code).to.equal(0)
      const records = (await readFile(file, 'utf8')).trimEnd().split('\n')
      expect(records).to.deep.equal([
        'TN:',
        `SF:${relative(process.cwd(), folder)}/authz/p.rego`,
        'FN:3,data.gateway.authz.allow@3',
        'FN:5,data.gateway.authz.deny@5',
        'FNDA:1,data.gateway.authz.allow@3',
        'FNDA:1,data.gateway.authz.deny@5',
        'FNF:2',
        'FNH:2',
        'BRDA:3,0,0,1',
        'BRDA:6,1,0,0',
        'BRDA:7,2,0,-',
        'BRF:3',
        'BRH:1',
        'DA:3,1',
        'DA:6,0',
        'DA:7,0',
        'LF:3',
        'LH:1',
        'end_of_record',
      ])
    })
  })

  it('has a line for every test with --verbose', async () => {
    const { code, stdout } = await test(await folders.make(FILES), '-v')
    expect(code).to.equal(1)
    const lines = stdout.split('\n')
    expect(lines.filter((line) => /^ {8}(ok|FAIL|skipped|todo) +\d+ {2}/.test(line))).to.have.length(6)
    for (const line of lines) expect([...line].length, line).to.be.at.most(100)
    expect(stdout).to.match(/ {8}ok +5 {2}engineers read \[eng, read\] +\d+\.\d\d ms\n/)
    expect(stdout).to.match(/ {8}skipped +7 {2}later \[ops, read\]: waits for <data>\n/)
  })

  it('measures every test with --bench, once all have passed', async () => {
    const folder = await folders.make(GOOD)
    const pretty = await test(folder, '--bench')
    expect(pretty.code).to.equal(0)
    expect(pretty.stdout).to.match(
      /cases\/a b\.yaml:5 engineers read \[eng, read\] +\d+\.\d +\d+\.\d +\d+\.\d\d %\n/,
    )
    expect(pretty.stdout).to.match(/authz\/p_test\.rego:5 test_frozen +\d+\.\d +\d+\.\d +-\n/)
    const { benchmarks } = JSON.parse((await test(folder, '--bench', '--run', 'engineers', '--json')).stdout)
    expect(benchmarks).to.have.length(1)
    expect(benchmarks[0]).to.include({ file: 'cases/a b.yaml', row: 5, name: 'engineers read' })
    expect(benchmarks[0].runs).to.be.at.least(10)
    expect(benchmarks[0].fuel).to.be.greaterThan(1000)
    const failing = await test(await folders.make(FILES), '--bench')
    expect([failing.code, failing.stdout.includes('median')]).to.deep.equal([1, false])
  })

  it('fails a test that takes longer than --timeout', async () => {
    const folder = await folders.make({
      'authz/p.rego': `package gateway.authz

allow contains "slow" if count([1 | some a in numbers.range(1, 1500); some b in numbers.range(1, 1500); a == b]) > 0
`,
      'cases/a.yaml': `fixtures: { principals: { a: {} }, tools: { t: { server: s } } }
cases: [{ name: a, principal: a, tool: t, expect: { failure: policy_budget } }]
`,
    })
    const late = await test(folder, '--timeout', '1ms')
    expect(late.code).to.equal(1)
    expect(late.stdout).to.match(/it took \d+ ms, longer than --timeout allows \(1 ms\)/)
    expect((await test(folder, '--timeout', '1m')).code).to.equal(0)
  })

  it('asks the interpreter, too, with --engine both', async () => {
    const cases = `fixtures: { principals: { a: {} }, tools: { t: { server: s } } }
cases: [{ name: a, principal: a, tool: t, expect: { failure: policy_error } }]
`
    const policy = 'package gateway.authz\n\nallow contains "a" if count(base64.decode("/w==")) == 1\n'
    const folder = await folders.make({ 'authz/p.rego': policy, 'cases/a.yaml': cases })
    expect((await test(folder)).code).to.equal(0)
    const both = await test(folder, '--engine', 'both')
    expect(both.code).to.equal(1)
    expect(both.stdout).to.include('the engines differ: Wasm gives')
    expect((await test(await folders.make(GOOD), '--engine', 'both')).code).to.equal(0)
  })

  it('refuses what cannot be meant: exit code 2', async () => {
    const folder = await folders.make(GOOD)
    for (const args of [
      ['--format', 'xml'],
      ['--json', '--format', 'junit'],
      ['--coverage-threshold', '101'],
      ['--coverage-threshold', 'all'],
      ['--timeout', '0s'],
      ['--timeout', '5'],
      ['--timeout', '11m'],
      ['--engine', 'topdown'],
      ['--watch', '--update'],
      ['--watch', '--bench'],
      ['--watch', '--format', 'sarif'],
      ['--update', '--bench'],
      ['--update', '--format', 'junit'],
    ]) {
      const { code, stdout, stderr } = await test(folder, ...args)
      expect([code, stdout], `${args.join(' ')}: ${stderr}`).to.deep.equal([2, ''])
    }
  })
})
