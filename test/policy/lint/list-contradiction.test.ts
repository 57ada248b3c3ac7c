import { expect } from 'chai'
import { lintListContradictions } from '../../../src/policy/lint/list-contradiction.ts'
import { buildFixture, closeFixture } from '../engine-fixture.ts'

const UNLISTED = 'what this allows to be called stands in no list'
const UNCALLED = 'what this shows in lists may not be called'
const OPEN = 'what this hides from lists may still be called by its name'

describe('the warning about rules that say one thing of lists and another of calls', function () {
  this.timeout(30_000)
  after(closeFixture)

  async function warnings(body: string): Promise<readonly (readonly [row: number, message: string])[]> {
    const policy = await buildFixture(body)
    return lintListContradictions(policy.dictionary, policy.sources).map(({ row, message }) => [row, message])
  }

  const REFUND =
    'allow contains "small" if {\n\tinput.target.name == "refund"\n\tinput.arguments.amount < 10\n}\n'
  const found: readonly [what: string, body: string, row: number, message: string][] = [
    ['an allow that needs arguments', REFUND, 3, UNLISTED],
    [
      'an allow that compares them behind a not',
      'allow contains "x" if not input.arguments.n > 10',
      3,
      UNLISTED,
    ],
    ['an allow for calls alone', 'allow contains "x" if input.phase == "call"', 3, UNLISTED],
    [
      'an allow that needs them in a helper',
      'small if input.arguments.n < 3\n\nallow contains "x" if small',
      5,
      UNLISTED,
    ],
    ['an allow for lists alone', 'allow contains "x" if input.phase == "list"', 3, UNCALLED],
    [
      'a deny for lists alone',
      'allow contains "a" if input.principal.id\n\ndeny contains "x" if input.phase == "list"',
      5,
      OPEN,
    ],
    [
      'an allow whose list twin is about another tool',
      `${REFUND}\nallow contains "other" if input.target.name in {"search", "read"}`,
      3,
      UNLISTED,
    ],
    [
      'an allow that needs arguments beside one for the upstream itself',
      `${REFUND}\nallow contains "protocol" if input.target.kind == "server"`,
      3,
      UNLISTED,
    ],
  ]
  for (const [what, body, row, message] of found) {
    it(`finds ${what}`, async () => {
      expect(await warnings(body)).to.deep.equal([[row, message]])
    })
  }

  const fine: readonly [what: string, body: string][] = [
    [
      'an allow that a twin lists',
      `${REFUND}\nallow contains "listed" if {\n\tinput.phase == "list"\n\tinput.target.name == "refund"\n}`,
    ],
    ['an allow that holds without arguments', 'allow contains "x" if not input.arguments.force'],
    [
      'an allow that a general rule may list',
      `${REFUND}\nallow contains "staff" if "staff" in input.principal.roles`,
    ],
    [
      'a deny about arguments',
      'allow contains "a" if input.principal.id\n\ndeny contains "x" if {\n\tinput.phase == "call"\n\tinput.arguments.n > 3\n}',
    ],
    [
      'a deny for lists beside one for calls',
      'deny contains "x" if input.phase == "list"\n\ndeny contains "y" if input.target.kind == "tool"',
    ],
    [
      'an allow of what is in no list',
      'allow contains "x" if {\n\tinput.target.kind in {"completion", "server"}\n\tinput.phase == "call"\n}',
    ],
    [
      'rules that decide nothing',
      'helper contains "x" if input.phase == "list"\n\nallow contains "a" if input.principal.id',
    ],
    ['a negated phase', 'deny contains "x" if not input.phase == "list"'],
  ]
  for (const [what, body] of fine) {
    it(`says nothing of ${what}`, async () => {
      expect(await warnings(body)).to.deep.equal([])
    })
  }
})
