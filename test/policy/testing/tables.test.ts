import { expect } from 'chai'
import type { PolicyError } from '../../../src/policy/compiler.ts'
import { DEFAULT_NOW_NS } from '../../../src/policy/testing/table.ts'
import type { ReadTables } from '../../../src/policy/testing/table-reader.ts'
import { readTables } from '../../../src/policy/testing/table-reader.ts'
import type { TableCheck } from '../../../src/policy/testing/table-schema.ts'
import { loadTableCheck } from '../../../src/policy/testing/table-schema.ts'

const FIXTURES = `fixtures:
  principals:
    eng: { roles: [engineer], claims: { mfa: false } }
    ops: { id: olga, kind: service, tenant: acme, teams: [t], scopes: [s] }
  tools:
    delete_repo: { server: github, annotations: { destructiveHint: true } }
    read_repo: { server: github, name: read, schema_digest: "${'a'.repeat(64)}" }
`

describe('test tables', () => {
  let check: TableCheck
  before(async () => {
    check = await loadTableCheck()
  })

  const read = (tables: Readonly<Record<string, string>>): ReadTables => readTables(tables, check)
  const table = (cases: string, head = ''): ReadTables =>
    read({ 'cases/fixtures.yaml': FIXTURES, 'cases/a.yaml': `${head}cases:\n${cases}` })
  /** One case in flow style, its mistakes as `row:col message = hint`. */
  const mistakes = (cases: string, head = ''): readonly string[] => table(cases, head).errors.map(told)
  const told = ({ row, col, message, hint }: PolicyError) =>
    `${row}:${col} ${message}${hint === null ? '' : ` = ${hint}`}`
  const only = (cases: string, head = '') => {
    const { cases: read, errors } = table(cases, head)
    expect(errors).to.deep.equal([])
    expect(read).to.have.length(1)
    return read[0]!
  }

  describe('say', () => {
    it('who calls what with which arguments, at a fixed time', () => {
      const test = only(
        '  - { name: n, principal: ops, tool: read_repo, arguments: { id: 9007199254740993, f: 1.50 } }',
      )
      expect(test.name).to.equal('n')
      expect(test.labels).to.deep.equal(['ops', 'read_repo'])
      expect(test.nowNs).to.equal(DEFAULT_NOW_NS)
      expect(test.facts).to.deep.include({
        principal: {
          ...{
            id: 'olga',
            kind: 'service',
            roles: [],
            tenant: 'acme',
            teams: ['t'],
            scopes: ['s'],
            claims: {},
          },
          ...{ authMethod: 'api_key', apiKeyId: null },
        },
        server: { name: 'github', labels: {} },
        target: { kind: 'tool', name: 'read', annotations: {}, schemaDigest: 'a'.repeat(64) },
        argumentsText: '{"id":9007199254740993,"f":1.50}',
        client: null,
      })
      expect(test.facts.request.method).to.equal('tools/call')
    })

    it('options once for all cases, groups and single cases', () => {
      const { cases, errors } = table(
        `  - name: outer
    principal: ops
    cases:
      - { name: a }
      - { name: b, now: "2026-02-01T00:00:00.000000001+01:00", tool: delete_repo }
  - { name: c, request: { ip: 192.0.2.1, session: s, protocol_version: "2025-06-18" }, client: { name: x, version: "1" } }
`,
        'now: 2026-01-02T03:04:05Z\nprincipal: eng\ntool: read_repo\n',
      )
      expect(errors).to.deep.equal([])
      expect(cases.map(({ name, labels, nowNs }) => [name, ...labels, nowNs])).to.deep.equal([
        ['outer: a', 'ops', 'read_repo', 1_767_323_045_000_000_000n],
        ['outer: b', 'ops', 'delete_repo', 1_769_900_400_000_000_001n],
        ['c', 'eng', 'read_repo', 1_767_323_045_000_000_000n],
      ])
      expect(cases[2]!.facts.request).to.deep.include({
        ip: '192.0.2.1',
        session: 's',
        protocolVersion: '2025-06-18',
      })
      expect(cases[2]!.facts.client).to.deep.equal({ name: 'x', version: '1' })
    })

    it('a target instead of an inherited tool, and the other way round', () => {
      const { cases, errors } = table(
        `  - { name: a, method: resources/read, target: "X://b/../c" }
  - { name: b, cases: [{ name: c, tool: read_repo }], method: ping }
`,
        'principal: eng\nserver: github\ntool: delete_repo\n',
      )
      expect(errors).to.deep.equal([])
      expect(
        cases.map(({ facts }) => [facts.request.method, facts.target?.kind, facts.target?.name]),
      ).to.deep.equal([
        ['resources/read', 'resource', 'x://b/c'],
        ['tools/call', 'tool', 'read'],
      ])
      // What the policy judges is normalised, what the client sent is not.
      expect(cases[0]!.facts.argumentsText).to.equal('{"uri":"X://b/../c"}')
    })

    it('one test for each combination', () => {
      const { cases } = table(
        '  - { name: m, principal: [eng, ops], tool: [delete_repo, read_repo], server: [a, b] }\n',
      )
      expect(cases.map(({ labels }) => labels.join(' '))).to.deep.equal([
        'eng delete_repo a',
        'eng delete_repo b',
        'eng read_repo a',
        'eng read_repo b',
        'ops delete_repo a',
        'ops delete_repo b',
        'ops read_repo a',
        'ops read_repo b',
      ])
    })

    it('what is expected of which combination; of all others that they are denied', () => {
      const { cases, errors } = table(`  - name: m
    principal: [eng, ops]
    tool: [delete_repo, read_repo]
    expect:
      - { principal: eng, allowed_by: [b, a] }
      - { principal: ops, tool: [read_repo], denied_by: [] }
`)
      expect(errors).to.deep.equal([])
      expect(
        cases.map(({ expect: { allow, allowedBy, deniedBy } }) => [allow, allowedBy, deniedBy]),
      ).to.deep.equal([
        [true, ['a', 'b'], null],
        [true, ['a', 'b'], null],
        [false, null, null],
        [false, null, []],
      ])
    })

    it('that a test waits for something', () => {
      expect(
        only('  - { name: n, principal: eng, tool: read_repo, skip: "billing: no data yet" }').skip,
      ).to.equal('billing: no data yet')
    })

    it('where each part of the input was written', () => {
      const { origins } = only('  - { name: n, principal: eng, tool: read_repo, arguments: { a: 1 } }')
      const places = origins.map(({ input, document, path, label }) => {
        const { file, row } = document.placeOf(path)
        return `${input.join('.')} ${file}:${row} ${label}`
      })
      expect(places).to.deep.equal([
        'principal cases/fixtures.yaml:3 fixtures.principals.eng',
        'target cases/fixtures.yaml:7 fixtures.tools.read_repo',
        'arguments cases/a.yaml:2 arguments',
      ])
    })
  })

  describe('know the methods of the gateway', () => {
    const subject = (text: string) => {
      const { facts } = only(`  - { name: n, principal: eng, server: s, ${text} }`)
      return [facts.request.method, facts.target?.kind, facts.target?.name, facts.argumentsText]
    }
    const table: readonly [text: string, ...subject: (string | null)[]][] = [
      ['method: initialize', 'initialize', 'server', 's', null],
      ['method: GET', 'GET', 'server', 's', null],
      ['method: notifications/cancelled', 'notifications/cancelled', 'server', 's', null],
      ['target: { kind: prompt, name: p }', 'prompts/get', 'prompt', 'p', '{}'],
      [
        'method: resources/subscribe, target: "a:b"',
        'resources/subscribe',
        'resource',
        'a:b',
        '{"uri":"a:b"}',
      ],
      ['target: { kind: task, name: t }', 'tasks/get', 'task', 't', null],
      [
        'method: completion/complete, target: p',
        'completion/complete',
        'completion',
        'p',
        '{"ref":{"type":"ref/prompt","name":"p"}}',
      ],
      [
        'method: completion/complete, target: "a://{b}"',
        'completion/complete',
        'completion',
        'a://{b}',
        '{"ref":{"type":"ref/resource","uri":"a://{b}"}}',
      ],
      [
        'method: sampling/createMessage',
        'sampling/createMessage',
        'server_request',
        'sampling/createMessage',
        '{}',
      ],
      [
        'method: response, target: { kind: server_request, name: roots/list }',
        'response',
        'server_request',
        'roots/list',
        null,
      ],
      ['phase: list, tool: read_repo', 'tools/list', 'tool', 'read', null],
      [
        'phase: list, method: resources/templates/list, target: "a://{b}"',
        'resources/templates/list',
        'resource_template',
        'a://{b}',
        null,
      ],
      [
        'phase: list, method: subscriptions/listen, target: "a:b"',
        'subscriptions/listen',
        'resource',
        'a:b',
        null,
      ],
    ]
    for (const [text, ...expected] of table) {
      it(text, () => expect(subject(text)).to.deep.equal(expected))
    }
  })

  describe('tell every mistake with its place and the nearest name', () => {
    const table: readonly [what: string, cases: string, ...expected: string[]][] = [
      [
        'an unknown key',
        '  - { name: n, principle: eng }',
        '2:16 unknown key principle = did you mean principal? keys of cases[0]: name, now, phase, principal, tool, server, method, target, arguments, request, client, skip, expect, cases',
      ],
      [
        'a wrong word',
        '  - { name: n, phase: calls }',
        '2:23 cases[0].phase must be one of: call, list = did you mean call?',
      ],
      [
        'a wrong type',
        '  - { name: n, expect: { allow: "no" } }',
        '2:33 cases[0].expect.allow must be true or false',
      ],
      [
        'a reason that is none',
        '  - { name: n, expect: { denied_by: [No_Mfa] } }',
        '2:38 cases[0].expect.denied_by[0] is not valid = a reason is a word of lower-case letters, digits and hyphens, such as other-tenant',
      ],
      ['a missing name', '  - { principal: eng }', '2:5 cases[0] has no name'],
      [
        'a name that is used twice',
        '  - { name: n, principal: eng, tool: read_repo }\n  - { name: n, principal: eng, tool: read_repo }',
        '3:13 there is a case of this name already = names tell tests apart',
      ],
      [
        'an empty expectation',
        '  - { name: n, principal: eng, tool: read_repo, expect: {} }',
        '2:57 cases[0].expect is empty',
      ],
      [
        'an unknown principal',
        '  - { name: n, principal: [eng, opz], tool: read_repo }',
        '2:33 there is no opz in fixtures.principals = did you mean ops? principals: eng, ops',
      ],
      [
        'an unknown tool',
        '  - { name: n, principal: eng, tool: red_repo }',
        '2:38 there is no red_repo in fixtures.tools = did you mean read_repo? tools: delete_repo, read_repo',
      ],
      [
        'nobody who calls',
        '  - { name: n, tool: read_repo }',
        '2:5 nobody is calling = give principal: the name of a fixture',
      ],
      [
        'nothing that is called',
        '  - { name: n, principal: eng }',
        '2:5 nothing is called = give tool, target or method',
      ],
      [
        'no upstream',
        '  - { name: n, principal: eng, method: ping }',
        '2:5 the upstream is missing = give server, here or in the fixture of the tool',
      ],
      [
        'tool and target',
        '  - { name: n, principal: eng, tool: read_repo, target: x }',
        '2:49 tool and target exclude each other',
      ],
      [
        'an unknown method',
        '  - { name: n, principal: eng, server: s, method: resource/read }',
        '2:51 unknown method resource/read = did you mean resources/read?',
      ],
      [
        'a method without its target',
        '  - { name: n, principal: eng, server: s, method: prompts/get }',
        '2:51 prompts/get needs a target = give the name of the prompt',
      ],
      [
        'a target the method cannot have',
        '  - { name: n, principal: eng, server: s, method: ping, target: x }',
        '2:51 ping is about the server itself = leave out target',
      ],
      [
        'a kind the method does not use',
        '  - { name: n, principal: eng, server: s, method: prompts/get, target: { kind: resource, name: x } }',
        '2:51 prompts/get uses a prompt, not a resource',
      ],
      [
        'arguments in a list',
        '  - { name: n, principal: eng, tool: read_repo, phase: list, arguments: {} }',
        '2:73 in phase list there are no arguments = leave them out',
      ],
      [
        'an infinite argument',
        '  - { name: n, principal: eng, tool: read_repo, arguments: { a: .inf } }',
        '2:60 the arguments hold a value that JSON does not have',
      ],
      [
        'a day that does not exist',
        '  - { name: n, principal: eng, tool: read_repo, now: 2026-02-30T00:00:00Z }',
        '2:54 2026-02-30T00:00:00Z is no moment = there is no such day or hour',
      ],
      [
        'an expectation of nothing',
        '  - { name: n, principal: eng, tool: read_repo, expect: [{ principal: ops, allow: true }] }',
        '2:58 the case has no ops = the case has: eng',
      ],
      [
        'an expectation with a misspelt tool',
        '  - { name: n, principal: eng, tool: read_repo, expect: [{ tool: red_repo, allow: true }] }',
        '2:58 the case has no red_repo = did you mean read_repo? the case has: read_repo',
      ],
      [
        'two expectations of the same',
        '  - { name: n, principal: eng, tool: read_repo, expect: [{ allow: true }, { tool: read_repo, allow: false }] }',
        '2:75 eng, read_repo: another expectation is for this combination, too = it stands in line 2',
      ],
      [
        'a group that expects something',
        '  - { name: n, expect: { allow: true }, cases: [{ name: m }] }',
        '2:24 a group expects nothing itself = move it to its cases',
      ],
    ]
    for (const [what, cases, ...expected] of table) {
      it(what, () => expect(mistakes(cases).slice(0, expected.length)).to.deep.equal(expected))
    }

    it('a mask that no decision can hold', () => {
      const hint =
        'write masks as policies do: a path such as /arguments/ssn, or an object with op, path and value'
      const roots = '/arguments, /result, /client, /principal/claims, /target/annotations'
      expect(
        mistakes(
          '  - { name: n, principal: eng, tool: read_repo, expect: { mask: [/result, /request/id] } }',
        ),
      ).to.deep.equal([`2:75 mask[1] path must begin with ${roots} = ${hint}`])
      expect(
        mistakes(
          '  - { name: n, principal: eng, tool: read_repo, expect: { mask: [{ op: hide, path: /result }] } }',
        ),
      ).to.deep.equal(['2:72 cases[0].expect.mask[0].op must be one of: remove, upsert'])
    })

    it('a server that the fixtures do not have, when they have any', () => {
      const fixtures = 'fixtures: { servers: { github: { labels: { env: prod } } } }\n'
      expect(
        mistakes('  - { name: n, principal: eng, tool: read_repo, server: githup }\n', fixtures),
      ).to.deep.equal(['3:57 there is no githup in fixtures.servers = did you mean github? servers: github'])
      expect(only('  - { name: n, principal: eng, tool: read_repo }\n', fixtures).facts.server).to.deep.equal(
        {
          name: 'github',
          labels: { env: 'prod' },
        },
      )
    })

    it('a fixture that the folder shares already', () => {
      expect(
        mistakes(
          '  - { name: n, principal: eng, tool: read_repo }\n',
          'fixtures: { principals: { eng: {} } }\n',
        ),
      ).to.deep.equal(['1:27 principals has a eng already = it stands at cases/fixtures.yaml:3'])
    })

    it('a table without cases', () => {
      expect(read({ 'cases/a.yaml': 'now: 2026-01-01T00:00:00Z\n' }).errors.map(told)).to.deep.equal([
        '1:1 the table has no cases = fixtures that several tables share stand in fixtures.yaml',
      ])
    })

    it('what is no YAML, and keys that stand twice', () => {
      const { errors } = read({
        'cases/a.yaml': 'cases: [\n',
        'cases/b.yaml': 'cases:\n  - name: a\n    name: b\n',
      })
      expect(errors.map(({ file, row, code, message }) => [file, row, code, message])).to.deep.equal([
        [
          'cases/a.yaml',
          2,
          'yaml_error',
          'Flow sequence in block collection must be sufficiently indented and end with a ]',
        ],
        ['cases/b.yaml', 3, 'yaml_error', 'Map keys must be unique'],
      ])
    })

    it('aliases that expand without end', () => {
      const bomb = Array.from(
        { length: 12 },
        (_, at) => `a${at}: &a${at} [${Array(10).fill(at === 0 ? 'x' : `*a${at - 1}`)}]`,
      )
      const [error] = read({ 'cases/a.yaml': bomb.join('\n') }).errors
      expect(error?.message).to.include('Excessive alias count')
    })

    it('a matrix that nobody can have meant', () => {
      const many = Array.from({ length: 110 }, (_, at) => `s${at}`).join(', ')
      expect(
        mistakes(
          `  - { name: n, principal: [${Array(110).fill('eng')}], tool: read_repo, server: [${many}] }\n`,
        ),
      ).to.deep.equal(['2:5 the case makes more than 10000 tests = split it'])
    })
  })

  it('take YAML aliases for what they stand for', () => {
    const { cases, errors } =
      table(`  - { name: a, principal: eng, tool: &t read_repo, arguments: &a { x: [1, 2.0] } }
  - { name: b, principal: eng, tool: *t, arguments: { y: *a } }
`)
    expect(errors).to.deep.equal([])
    expect(cases[1]!.facts.argumentsText).to.equal('{"y":{"x":[1,2.0]}}')
    expect(cases[1]!.labels).to.deep.equal(['eng', 'read_repo'])
  })

  it('share the fixtures of their own folder only', () => {
    const { errors } = read({
      'a/cases/fixtures.yaml': FIXTURES,
      'b/cases/t.yaml': 'cases: [{ name: n, principal: eng, tool: read_repo }]',
    })
    expect(errors.map(told)).to.deep.equal([
      '1:31 there is no eng in fixtures.principals = add it to fixtures.principals',
    ])
  })
})
