import { expect } from 'chai'
import type { Target } from '../../../src/gateway/types.ts'
import { lintListPhase } from '../../../src/policy/lint/list-phase.ts'
import { buildFixture, callOf, closeFixture, roomOn } from '../engine-fixture.ts'

describe('the warning about rules that are true without arguments', function () {
  this.timeout(30_000)
  after(closeFixture)

  /** Warnings as `row expression`. */
  async function warnings(
    body: string,
    files: Readonly<Record<string, string>> = {},
  ): Promise<readonly string[]> {
    const policy = await buildFixture(body, {}, files)
    return lintListPhase(policy.dictionary, policy.sources).map(
      ({ file, row, line }) => `${file}:${row} ${line?.trim()}`,
    )
  }

  const trapped: readonly [what: string, body: string, expr: string, files?: Record<string, string>][] = [
    [
      'a not',
      'allow contains "x" if not input.arguments.path',
      'allow contains "x" if not input.arguments.path',
    ],
    [
      'a not of an equality',
      'allow contains "x" if not input.principal.id == input.arguments["owner"]',
      'allow contains "x" if not input.principal.id == input.arguments["owner"]',
    ],
    [
      'a not of an argument that another rule names',
      'key := "x"\n\ndeny contains "x" if not input.arguments[key] == lower(input.principal.id)',
      'deny contains "x" if not input.arguments[key] == lower(input.principal.id)',
    ],
    [
      'a not of an equality with a rule that needs them',
      'safe if input.arguments.a == 1\n\ndeny contains "x" if not safe == true',
      'deny contains "x" if not safe == true',
    ],
    [
      'a not in a deny',
      'deny contains "x" if {\n\tinput.target.name == "t"\n\tnot input.arguments.confirm\n}',
      'not input.arguments.confirm',
    ],
    [
      'a not of a rule that needs them',
      'safe if input.arguments.a == 1\n\ndeny contains "x" if not safe',
      'deny contains "x" if not safe',
    ],
    [
      'a not of a function that reads them',
      'has(name) if input.arguments[name]\n\ndeny contains "x" if not has("a")',
      'deny contains "x" if not has("a")',
    ],
    [
      'a not of a rule that is false by default',
      'default safe := false\n\nsafe if input.arguments.a == 1\n\ndeny contains "x" if not safe',
      'deny contains "x" if not safe',
    ],
    [
      'a comparison with that default',
      'default safe := false\n\nsafe if input.arguments.a == 1\n\ndeny contains "x" if safe == false',
      'deny contains "x" if safe == false',
    ],
    [
      'a count of nothing',
      'allow contains "x" if count([a | some a in input.arguments.list; a == 1]) == 0',
      'allow contains "x" if count([a | some a in input.arguments.list; a == 1]) == 0',
    ],
    [
      'a set that nothing can be in',
      'violations contains a if some a in input.arguments.list\n\nallow contains "x" if count(violations) == 0',
      'allow contains "x" if count(violations) == 0',
    ],
    [
      'a not with a body',
      'import future.keywords.not\n\ndeny contains "x" if {\n\tnot {\n\t\tsome a in input.arguments.list\n\t\ta == 1\n\t}\n}',
      'not {',
    ],
    [
      'a rule that an allow uses',
      'fine if not input.arguments.bad\n\nallow contains "x" if fine',
      'fine if not input.arguments.bad',
    ],
    [
      'a not of a rule of another package',
      'import data.lib\n\ndeny contains "x" if not lib.safe',
      'deny contains "x" if not lib.safe',
      { 'lib/l.rego': 'package lib\n\nsafe if input.arguments.a == 1\n' },
    ],
    [
      'a not of a guarded rule',
      'safe if {\n\tinput.phase == "call"\n\tinput.arguments.a == 1\n}\n\ndeny contains "x" if not safe',
      'deny contains "x" if not safe',
    ],
  ]
  for (const [what, body, expr, files] of trapped) {
    it(`is given for ${what}`, async () => {
      expect((await warnings(body, files)).map((line) => line.replace(/^\S+ /, ''))).to.deep.equal([expr])
    })
  }

  /** What a builtin or a function is given is looked up before its `not`: without it the expression is undefined. */
  const undefinedWithout: readonly string[] = [
    'startswith(input.arguments.path, "..")',
    'lower(input.arguments.x) == "a"',
    'input.arguments.x != 1',
    'input.arguments.x <= 1',
    'input.arguments.x + 1 == 2',
    '"a" in input.arguments.list',
    'good(input.arguments.x)',
    'input.arguments[input.arguments.key]',
    'input.arguments.x == {input.arguments.y}',
    'safe in {true}',
    'good(safe)',
  ]
  for (const expr of undefinedWithout) {
    it(`is not given for not ${expr}, which says nothing of a list`, async () => {
      const rules = 'good(x) if is_number(x)\n\nsafe if input.arguments.a == 1\n\n'
      const policy = await buildFixture(`${rules}allow contains "x"\n\ndeny contains "y" if not ${expr}`)
      expect(lintListPhase(policy.dictionary, policy.sources)).to.deep.equal([])
      const room = await roomOn(policy)
      const [verdict] = await room.visible(callOf(), [callOf().target as Target])
      expect([verdict?.allow, room.decide(callOf()).deniedBy]).to.deep.equal([true, []])
      room.close()
    })
  }

  it('is given for what holds in lists indeed', async () => {
    for (const [what, body, , files] of trapped) {
      const room = await roomOn(await buildFixture(body, {}, files))
      const [verdict] = await room.visible(callOf(), [{ ...(callOf().target as Target), name: 't' }])
      expect([...(verdict?.allowedBy ?? []), ...(verdict?.deniedBy ?? [])], what).to.deep.equal(['x'])
      room.close()
    }
  })

  const safe: readonly [what: string, body: string][] = [
    ['a rule for calls', 'deny contains "x" if {\n\tinput.phase == "call"\n\tnot input.arguments.ok\n}'],
    [
      'a rule that is not for lists',
      'deny contains "x" if {\n\tinput.phase != "list"\n\tnot input.arguments.ok\n}',
    ],
    [
      'a rule whose guard has a name',
      'calling if input.phase == "call"\n\ndeny contains "x" if {\n\tcalling\n\tnot input.arguments.ok\n}',
    ],
    [
      'a rule whose guard is a not',
      'listing if input.phase == "list"\n\ndeny contains "x" if {\n\tnot listing\n\tnot input.arguments.ok\n}',
    ],
    [
      'a rule that needs arguments elsewhere',
      'deny contains "x" if {\n\tsome name, path in input.arguments\n\tnot startswith(path, name)\n\tnot input.arguments.ok\n}',
    ],
    [
      'an assignment that needs them',
      'deny contains "x" if {\n\tpath := input.arguments.path\n\tnot startswith(path, "/")\n}',
    ],
    ['what needs them to hold', 'deny contains "x" if input.arguments.path == "a"'],
    [
      'a helper that only guarded rules use',
      'fine if not input.arguments.bad\n\ndeny contains "x" if {\n\tinput.phase == "call"\n\tfine\n}',
    ],
    [
      'what decides nothing',
      'fine if not input.arguments.bad\n\nallow contains "x" if input.target.name == "a"',
    ],
    ['a not of something else', 'deny contains "x" if not input.principal.claims.mfa'],
    [
      'a rule with another way to hold',
      'safe if input.arguments.a == 1\n\nsafe if input.target.name == "a"\n\ndeny contains "x" if not safe',
    ],
    [
      'a default that is true',
      'default safe := true\n\nsafe := false if input.arguments.a == 1\n\ndeny contains "x" if not safe',
    ],
    [
      'a set that other things are in',
      'violations contains 1 if input.target.name == "a"\n\nviolations contains 2 if input.arguments.a\n\nallow contains "x" if count(violations) == 0',
    ],
    ['a count of something', 'allow contains "x" if count([a | some a in input.arguments.list; a == 1]) > 0'],
    ['a helper for lists alone', 'calling if input.phase == "call"\n\ndeny contains "x" if not calling'],
  ]
  for (const [what, body] of safe) {
    it(`is not given for ${what}`, async () => expect(await warnings(body)).to.deep.equal([]))
  }

  it('says which line needs the arguments, and what to add where', async () => {
    const policy = await buildFixture(
      'safe if input.arguments.a == 1\n\ndeny contains "x" if {\n\tinput.target.name == "t"\n\tnot safe\n}',
    )
    expect(lintListPhase(policy.dictionary, policy.sources)).to.deep.equal([
      {
        ...{ file: 'authz/policy.rego', row: 7, col: 2, endCol: 10, code: 'list_phase', line: '\tnot safe' },
        message: 'a list has no arguments, so this holds for every target of a list',
        hint: 'add input.phase == "call" to the rule deny (authz/policy.rego:5); authz/policy.rego:3 needs the arguments: input.arguments.a == 1',
      },
    ])
  })
})
