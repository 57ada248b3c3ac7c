import { expect } from 'chai'
import fc from 'fast-check'
import { toStoredText } from '../../src/json/stored-text.ts'
import type { PolicyRoom } from '../../src/policy/engine.ts'
import { DEFAULT_POLICY_LIMITS } from '../../src/policy/engine.ts'
import type { CallParts, RuleView, StepView, TraceView } from './engine-fixture.ts'
import { buildFixture, callOf, closeFixture, outline, roomOn, traceOf } from './engine-fixture.ts'

async function traced(
  policy: string,
  parts: CallParts = {},
  files: Record<string, string> = {},
): Promise<readonly string[]> {
  const room = await roomOn(await buildFixture(policy, { teams: { red: ['ann'] } }, files))
  return outline(traceOf(room.decide(callOf(parts))).rules)
}

function lines(text: string): readonly string[] {
  return text
    .trim()
    .split('\n')
    .map((line) => line.replace(/^\t*\|/, ''))
}

describe('trace', function () {
  this.timeout(60_000)
  after(closeFixture)

  it('shows the rules of the author in the order of evaluation, and none of the product', async () => {
    const room = await roomOn(
      await buildFixture(
        '# METADATA\n# title: Everybody may read\nallow contains "reader" if input.target.name == "read_file"\n\ndeny contains "never" if false\n',
      ),
    )
    const trace = traceOf(room.decide(callOf()))
    expect(trace).to.deep.equal({
      v: 1,
      truncated: false,
      dropped: 0,
      rules: [
        {
          rule: 'data.gateway.authz.allow',
          at: 'authz/policy.rego:5',
          title: 'Everybody may read',
          outcome: 'defined',
          value: ['reader'],
          steps: [
            { at: 'authz/policy.rego:5', expr: 'input.target.name == "read_file"', ok: true, vars: {} },
          ],
        },
        {
          rule: 'data.gateway.authz.deny',
          at: 'authz/policy.rego:7',
          outcome: 'undefined',
          steps: [{ at: 'authz/policy.rego:7', expr: 'false', ok: false, vars: {}, reads: {} }],
        },
      ],
    })
  })

  it('names what was read and what was missing where an expression failed and at every not', async () => {
    const trace = await traced(
      `deny contains "a" if {
	input.target.annotations.destructiveHint
	not input.principal.claims.mfa
}

deny contains "b" if not input.server.labels.env == "test"

deny contains "c" if input.principal.id in data.teams.red

deny contains "d" if data.teams.blue == input.principal.tenant`,
      { target: { annotations: { destructiveHint: true } } },
    )
    expect(trace).to.deep.equal(
      lines(`
		|deny defined ["a"]
		|  ok input.target.annotations.destructiveHint
		|  ok not input.principal.claims.mfa missing input.principal.claims.mfa
		|deny undefined
		|  FAIL not input.server.labels.env == "test" reads input.server.labels.env="test"
		|deny undefined
		|  FAIL input.principal.id in data.teams.red reads data.teams.red=["ann"] input.principal.id="alice"
		|deny undefined
		|  FAIL data.teams.blue == input.principal.tenant reads input.principal.tenant="acme" missing data.teams.blue`),
    )
  })

  it('names the failing expression for each binding', async () => {
    const trace = await traced(
      `deny contains x.name if {
	some x in input.arguments.xs
	x.size > 2
	not allowed(x.name)
}

allowed(name) if startswith(name, "ok-")`,
      {
        argumentsText:
          '{"xs":[{"name":"a","size":1},{"name":"ok-b","size":3},{"name":"c","size":4},{"name":"d"}]}',
      },
    )
    expect(trace).to.deep.equal(
      lines(`
		|deny defined ["c"]
		|  ok some x in input.arguments.xs x={"name":"a","size":1}
		|  FAIL x.size > 2 x={"name":"a","size":1} reads x.size=1
		|  ok some x in input.arguments.xs x={"name":"ok-b","size":3}
		|  ok x.size > 2 x={"name":"ok-b","size":3}
		|  FAIL not allowed(x.name) x={"name":"ok-b","size":3} reads x.name="ok-b"
		|    > allowed(name="ok-b") defined true
		|    >   ok startswith(name, "ok-") name="ok-b"
		|  ok some x in input.arguments.xs x={"name":"c","size":4}
		|  ok x.size > 2 x={"name":"c","size":4}
		|  ok not allowed(x.name) x={"name":"c","size":4} reads x.name="c"
		|    > allowed(name="c") undefined
		|    >   FAIL startswith(name, "ok-") name="c"
		|  ok some x in input.arguments.xs x={"name":"d"}
		|  FAIL x.size > 2 x={"name":"d"} missing x.size`),
    )
  })

  it('does not show values of an earlier binding on a later failure', async () => {
    const trace = await traced(
      `deny contains "x" if {
	some i in [1, 2]
	y := input.arguments.ys[i - 1]
	y > 5
}`,
      { argumentsText: '{"ys":[3]}' },
    )
    expect(trace).to.deep.equal(
      lines(`
		|deny undefined
		|  ok some i in [1, 2] i=1
		|  ok y := input.arguments.ys[i - 1] i=1 y=3
		|  FAIL y > 5 y=3
		|  ok some i in [1, 2] i=2
		|  FAIL y := input.arguments.ys[i - 1] i=2`),
    )
  })

  it('follows else chains and leaves default values to what uses them', async () => {
    const trace = await traced(`default level := "none"

level := "high" if {
	input.principal.id == "root"
} else := "mid" if {
	"developer" in input.principal.roles
} else := "low"

deny contains "level" if level == "high"

default quiet := false

quiet if input.principal.id == "nobody"

allow contains "loud" if not quiet`)
    expect(trace).to.deep.equal(
      lines(`
		|allow defined ["loud"]
		|  ok not quiet reads data.gateway.authz.quiet=false
		|    > quiet undefined
		|    >   FAIL input.principal.id == "nobody" reads input.principal.id="alice"
		|deny undefined
		|  FAIL level == "high" reads data.gateway.authz.level="mid"
		|    > level undefined
		|    >   FAIL input.principal.id == "root" reads input.principal.id="alice"
		|    > level defined "mid"
		|    >   ok "developer" in input.principal.roles`),
    )
  })

  it('shows what the rules came to that a failing expression names', async () => {
    const trace = await traced(
      `level := {"name": "low", "ports": [80]} if input.phase == "call"

default owner := "nobody"

owner := "eve" if input.principal.id == "eve"

tools contains input.target.name

absent if input.arguments.never

deny contains "a" if level.name == "high"

deny contains "b" if level.ports[0] == 443

deny contains "c" if "write_file" in tools

deny contains "d" if tools.write_file

deny contains "e" if owner == "bob"

deny contains "f" if absent

deny contains "g" if level.ports[input.arguments.at]`,
      { argumentsText: '{"at":5}' },
    )
    expect(trace.filter((line) => /^ {2}FAIL/.test(line))).to.deep.equal([
      '  FAIL level.name == "high" reads data.gateway.authz.level.name="low"',
      '  FAIL level.ports[0] == 443 reads data.gateway.authz.level.ports[0]=80',
      '  FAIL "write_file" in tools reads data.gateway.authz.tools=["read_file"]',
      '  FAIL tools.write_file missing data.gateway.authz.tools.write_file',
      '  FAIL owner == "bob" reads data.gateway.authz.owner="nobody"',
      '  FAIL absent missing data.gateway.authz.absent',
      '  FAIL level.ports[input.arguments.at] reads input.arguments.at=5',
    ])
  })

  it('shows functions with their arguments, also more than four', async () => {
    const trace = await traced(`six(a, b, c, d, e, f) := g if {
	g := ((((a + b) + c) + d) + e) + f
}

deny contains "six" if six(1, 2, 3, 4, 5, 6) > 21`)
    expect(trace).to.deep.equal(
      lines(`
		|deny undefined
		|  FAIL six(1, 2, 3, 4, 5, 6) > 21
		|    > six(a=1 b=2 c=3 d=4 e=5 f=6) defined 21
		|    >   ok g := ((((a + b) + c) + d) + e) + f a=1 b=2 c=3 d=4 e=5 f=6 g=21`),
    )
  })

  it('shows partial objects and heads that need the body', async () => {
    const trace = await traced(`owner[name] := team if {
	some team, names in data.teams
	some name in names
}

deny contains "owned" if owner.ann == "blue"`)
    expect(trace).to.deep.equal(
      lines(`
		|deny undefined
		|  FAIL owner.ann == "blue" reads data.gateway.authz.owner.ann="red"
		|    > owner[name] defined ["ann","red"]
		|    >   ok some team, names in data.teams team="red" names=["ann"]
		|    >   ok some name in names name="ann" names=["ann"]`),
    )
  })

  it('shows a head that is undefined', async () => {
    expect(await traced('deny contains input.arguments.reason if input.phase == "call"')).to.deep.equal(
      lines(`
		|deny undefined
		|  ok input.phase == "call"
		|  FAIL deny contains input.arguments.reason`),
    )
  })

  it('shows the bodies of every, not, comprehensions', async () => {
    const trace = await traced(
      `deny contains "every" if {
	every x in input.arguments.xs { x > 1 }
}

deny contains "compr" if {
	big := {x | some x in input.arguments.xs; x > 1}
	count(big) > 5
}`,
      { argumentsText: '{"xs":[2,1]}' },
    )
    expect(trace).to.deep.equal(
      lines(`
		|deny undefined
		|  FAIL every x in input.arguments.xs { x > 1 } reads input.arguments.xs=[2,1]
		|    . ok x > 1 x=2
		|    . FAIL x > 1 x=1
		|deny undefined
		|  ok big := {x | some x in input.arguments.xs; x > 1} big=[2]
		|    . ok some x in input.arguments.xs x=2
		|    . ok x > 1 x=2
		|    . ok some x in input.arguments.xs x=1
		|    . FAIL x > 1 x=1
		|  FAIL count(big) > 5 big=[2]`),
    )
  })

  it('does not claim to know what was read under with', async () => {
    const trace = await traced(`deny contains "x" if blocked with input.principal as {"id": "bob"}

blocked if input.principal.id == "eve"`)
    expect(trace).to.deep.equal(
      lines(`
		|deny undefined
		|  FAIL blocked with input.principal as {"id": "bob"}
		|    > blocked undefined
		|    >   FAIL input.principal.id == "eve"`),
    )
  })

  it('marks what was going on when the evaluation was aborted', async () => {
    const trace = await traced(
      `deny contains "first" if input.arguments.n == 0

deny contains "conflict" if twice(input.arguments.n) == 3

twice(x) := 1 if x > 1

twice(x) := 2 if x > 2`,
      { argumentsText: '{"n":5}' },
    )
    expect(trace).to.deep.equal(
      lines(`
		|deny undefined
		|  FAIL input.arguments.n == 0 reads input.arguments.n=5
		|deny aborted
		|  ABORT twice(input.arguments.n) == 3 reads input.arguments.n=5
		|    > twice(x=5) defined 1
		|    >   ok x > 1 x=5
		|    > twice(x=5) defined 2
		|    >   ok x > 2 x=5`),
    )
  })

  it('shows numbers with all their digits, and hostile keys and strings as they are', async () => {
    const trace = await traced(
      `deny contains "x" if {
	n := input.arguments.n
	p := input.arguments.__proto__
	s := input.arguments.s
	n == p.constructor
	s != n
}`,
      { argumentsText: '{"n":9007199254740993,"__proto__":{"constructor":1},"s":"a\\u0000\\ud800b\\u202e"}' },
    )
    expect(trace.slice(1)).to.deep.equal([
      '  ok n := input.arguments.n n=9007199254740992', // the test's own JSON.parse
      '  ok p := input.arguments.__proto__ p={"constructor":1}',
      '  ok s := input.arguments.s s="a\\u0000\ufffdb\u202e"',
      '  FAIL n == p.constructor n=9007199254740992 p={"constructor":1} reads p.constructor=1',
    ])
    const room = await roomOn(await buildFixture('deny contains "x" if input.arguments.n == 1'))
    const text = room.decide(callOf({ argumentsText: '{"n":9007199254740993}' })).traceText()
    expect(text).to.contain('"input.arguments.n": 9007199254740993')
  })

  describe('that is too large', () => {
    const POLICY = `allow contains "ok" if input.phase == "call"

deny contains "needle" if {
	some x in input.arguments.xs
	not startswith(x, "hay")
	endswith(x, "!")
}

deny contains "slow" if {
	some i, x in input.arguments.xs
	some y in input.arguments.xs
	i > 100000
	x == y
}

deny contains "last" if input.principal.id == "nobody"
`
    let room: PolicyRoom
    let tight: PolicyRoom

    before(async () => {
      const policy = await buildFixture(POLICY)
      room = await roomOn(policy)
      tight = await roomOn(policy, { trace: { maxBytes: 3000, maxEvents: 30 } })
    })

    const hay = Array.from({ length: 300 }, (_, index) => `hay-${index}`)
    const argumentsText = JSON.stringify({ xs: [...hay.slice(0, 200), 'needle!', ...hay.slice(200)] })

    it('keeps within its bounds and says how much is missing', () => {
      const text = room.decide(callOf({ argumentsText })).traceText()
      const trace = JSON.parse(text) as TraceView
      expect(Buffer.byteLength(text)).to.be.at.most(DEFAULT_POLICY_LIMITS.trace.maxBytes)
      expect(count(trace.rules)).to.be.at.most(DEFAULT_POLICY_LIMITS.trace.maxEvents)
      expect(trace.truncated).to.equal(true)
      expect(trace.dropped).to.be.greaterThan(90_000)
    })

    for (const name of ['default', 'tight'] as const) {
      it(`keeps the denying rule, the solution and the failing expressions (${name} bounds)`, () => {
        const text = (name === 'tight' ? tight : room).decide(callOf({ argumentsText })).traceText()
        const { rules } = JSON.parse(text) as TraceView
        expect(rules.map((rule) => rule.outcome)).to.deep.equal([
          'defined',
          'defined',
          'undefined',
          'undefined',
        ])
        const found = rules[1]?.steps.filter((step) => step.vars['x'] === 'needle!')
        expect(found?.map((step) => step.expr)).to.include.members([
          'not startswith(x, "hay")',
          'endswith(x, "!")',
        ])
        expect(rules[1]?.steps.some((step) => !step.ok)).to.equal(true)
        expect(rules[3]?.steps).to.have.lengthOf(1)
      })
    }

    it('never claims that something failed where events were left out', () => {
      const { rules } = JSON.parse(room.decide(callOf({ argumentsText })).traceText()) as TraceView
      for (const step of rules[1]?.steps ?? []) {
        if (!step.ok && step.expr.startsWith('not')) expect(step.vars['x']).to.match(/^hay/)
        if (!step.ok && step.expr.startsWith('endswith')) expect(step.vars['x']).not.to.equal('needle!')
      }
    })

    it('cuts long values and says so', () => {
      const long = `start ${'word '.repeat(2000)}end`
      const text = room.decide(callOf({ argumentsText: JSON.stringify({ xs: [long] }) })).traceText()
      const { rules } = JSON.parse(text) as TraceView
      const shown = rules[1]?.steps[0]?.vars['x'] as string
      expect(shown.length).to.be.lessThan(2200)
      expect(shown).to.match(/^start word .* characters left out .* end$/)
    })

    it('is valid JSON within any bound', () => {
      const evaluate = callOf({ argumentsText })
      for (const maxBytes of [64, 100, 500, 1000, 2000, 5000, 20_000]) {
        for (const maxEvents of [0, 1, 5, 50]) {
          const limits = { trace: { maxBytes, maxEvents } }
          ;(tight as unknown as { limits: object }).limits = { ...DEFAULT_POLICY_LIMITS, ...limits }
          const text = tight.decide(evaluate).traceText()
          expect(count((JSON.parse(text) as TraceView).rules)).to.be.at.most(maxEvents)
          expect(Buffer.byteLength(text)).to.be.at.most(maxBytes)
          expect(text).to.equal(toStoredText(text))
        }
      }
    })

    it('comes in the form in which it is stored, whatever callers send', () => {
      fc.assert(
        fc.property(fc.dictionary(fc.string({ unit: 'binary' }), fc.jsonValue()), (xs) => {
          const evaluated = room.decide(callOf({ argumentsText: JSON.stringify({ xs: Object.entries(xs) }) }))
          expect(traceOf(evaluated).v).to.equal(1)
        }),
        { numRuns: 50 },
      )
    })
  })
})

function count(rules: readonly RuleView[]): number {
  const steps = (list: readonly StepView[] = []): number =>
    list.reduce((sum, step) => sum + 1 + steps(step.steps) + count(step.rules ?? []), 0)
  return rules.reduce((sum, rule) => sum + 1 + steps(rule.steps) + count(rule.rules ?? []), 0)
}
