import { createHmac } from 'node:crypto'
import { expect } from 'chai'
import type { Call, Target } from '../../src/gateway/types.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import type { PolicyLimits, PolicyRoom } from '../../src/policy/engine.ts'
import { createPolicyRoom, DEFAULT_POLICY_LIMITS } from '../../src/policy/engine.ts'
import { buildFixture, callOf, closeFixture, roomOn, traceOf } from './engine-fixture.ts'

const POLICY = `allow contains "developer" if "developer" in input.principal.roles

allow contains "listed" if input.phase == "list"

deny contains "destructive" if input.target.annotations.destructiveHint

deny contains "big" if input.arguments.n == 9007199254740993

deny contains "dots" if contains(input.arguments.path, "..")

deny contains "late" if time.now_ns() > 1800000000000000000

deny contains "other-tenant" if input.arguments.tenant != input.principal.tenant

deny contains "joined" if {
	some i, j
	input.arguments.a[i].id == input.arguments.b[j].id
}

deny contains "sorted" if count(sort(input.arguments.s)) > 30000

deny contains "walked" if {
	walk(input.arguments.w, [_, leaf])
	leaf == "needle"
}

deny contains "range" if count(numbers.range(1, input.arguments.max)) > 5

deny contains "grouped" if {
	groups := {key: same | some x in input.arguments.g; key := x.k; same := [y | some y in input.arguments.g; y.k == key]}
	count(groups) > 100000
}

deny contains "conflict" if twice(input.arguments.c) == 3

twice(x) := 1 if x > 1

twice(x) := 2 if x > 2

limits contains {"name": "per-user", "key": [input.principal.id], "limit": input.arguments.limit, "window_s": 60, "cost": 1} if {
	input.arguments.limit
}

obligations contains {"kind": kind, "level": "metadata"} if kind := input.arguments.kind

allow contains input.arguments.reason if input.arguments.reason
`

const KEY = Buffer.from('key of the tests')
const args = (value: unknown) => callOf({ argumentsText: JSON.stringify(value) })
const ids = (count: number, from: number) =>
  Array.from({ length: count }, (_, index) => ({ id: `id-${index + from}` }))

function tool(name: string, annotations: Record<string, unknown> = {}): Target {
  return { kind: 'tool', name, annotations, schemaDigest: null }
}

describe('policy room', function () {
  this.timeout(60_000)
  let policy: CompiledPolicy
  let room: PolicyRoom

  before(async () => {
    policy = await buildFixture(POLICY)
    room = await roomOn(policy)
  })
  after(closeFixture)

  function expectCorrect(on = room) {
    const next = on.decide(callOf())
    expect(next).to.deep.include({ allow: true, allowedBy: ['developer'], deniedBy: [], failure: null })
  }

  it('allows with the reasons, and tells what was evaluated', () => {
    const evaluation = room.decide(callOf())
    expect(evaluation).to.deep.include({
      allow: true,
      allowedBy: ['developer'],
      deniedBy: [],
      limits: [],
      obligations: [],
    })
    expect(evaluation.policy).to.deep.equal({
      ...{ revision: policy.revision, digest: policy.digest, opa: policy.opa },
      entrypoint: 'gateway/decision',
    })
    expect(evaluation.nowNs).to.equal('1700000000123456789')
    expect(evaluation.fuel).to.be.greaterThan(1000)
    expect(evaluation.evalUs).to.be.greaterThan(0)
    expect(room.revision).to.deep.equal({ revision: policy.revision, digest: policy.digest, opa: policy.opa })
  })

  it('denies when nothing allows', () => {
    expect(room.decide(callOf({ principal: { roles: [] } }))).to.include({ allow: false, failure: null })
  })

  it('denies when something denies, whatever allows', () => {
    const evaluation = room.decide(callOf({ target: { annotations: { destructiveHint: true } } }))
    expect(evaluation).to.deep.include({
      allow: false,
      allowedBy: ['developer'],
      deniedBy: ['destructive'],
      failure: null,
    })
    const trace = traceOf(evaluation)
    const denying = trace.rules.filter((rule) => rule.rule.endsWith('.deny') && rule.outcome === 'defined')
    expect(denying).to.deep.include.members([
      { ...denying[0], value: ['destructive'], at: 'authz/policy.rego:7' },
    ])
  })

  it('says what it was asked without the arguments, and a digest of all of it', () => {
    const evaluation = room.decide(args({ path: 'secret' }))
    expect(evaluation.inputText).not.to.contain('secret')
    const text = `${evaluation.inputText.slice(0, -1)},"arguments":{"path":"secret"}}`
    expect(evaluation.inputMac).to.equal(createHmac('sha256', KEY).update(text).digest('hex'))
  })

  it('compares integers beyond 2^53 exactly', () => {
    expect(room.decide(callOf({ argumentsText: '{"n":9007199254740993}' })).deniedBy).to.deep.equal(['big'])
    expect(room.decide(callOf({ argumentsText: '{"n":9007199254740992}' })).deniedBy).to.deep.equal([])
  })

  it('denies integers that would be rounded', () => {
    const evaluation = room.decide(callOf({ argumentsText: '{"n":9223372036854775808}' }))
    expect(evaluation.failure).to.include({ kind: 'policy_error' })
    expect(evaluation.failure?.message).to.contain('9223372036854775808')
    expect(traceOf(evaluation).rules).to.deep.equal([])
  })

  it('lets nothing hide behind a lone surrogate', () => {
    const hidden = callOf({ argumentsText: '{"path":"\\ud800\\u002e."}' })
    expect(room.decide(hidden).deniedBy).to.deep.equal(['dots'])
  })

  it('evaluates NUL bytes and names that mean something to JavaScript', () => {
    const evaluation = room.decide(
      callOf({ argumentsText: '{"path":"a\\u0000..","__proto__":{"n":1},"constructor":2}' }),
    )
    expect(evaluation.deniedBy).to.deep.equal(['dots'])
    const nul = room.decide(callOf({ argumentsText: '{"path":"a\\u0000b"}' }))
    expect(nul.traceText()).to.contain('"input.arguments.path": "a\\u0000b"')
  })

  it('evaluates at the frozen clock', async () => {
    const late = await createPolicyRoom({
      policy,
      inputMacKey: KEY,
      now: () => 1_900_000_000_000_000_000n,
      monotonicMs: () => 0,
      log: { warn() {}, error() {} },
    })
    expect(late.decide(callOf()).deniedBy).to.deep.equal(['late'])
  })

  it('returns limits and obligations that are well formed', () => {
    const evaluation = room.decide(args({ limit: 30, kind: 'audit_payload' }))
    expect(evaluation.limits).to.deep.equal([
      { name: 'per-user', key: ['alice'], limit: 30, window_s: 60, cost: 1 },
    ])
    expect(evaluation.obligations).to.deep.equal([{ kind: 'audit_payload', level: 'metadata' }])
  })

  for (const [what, value] of [
    ['an unknown obligation', { kind: 'shred' }],
    ['a limit out of bounds', { limit: 1.5 }],
    ['a reason that carries a value', { reason: 'token gwk_1_secret' }],
  ] as const) {
    it(`denies ${what} as malformed`, () => {
      const evaluation = room.decide(args(value))
      expect(evaluation).to.deep.include({ allow: false, allowedBy: [], limits: [], obligations: [] })
      expect(evaluation.failure).to.include({ kind: 'policy_malformed' })
      expect(evaluation.failure?.message).not.to.contain('gwk_')
      expect(traceOf(evaluation).rules).not.to.deep.equal([])
    })
  }

  it('denies a policy that contradicts itself, with the trace up to there', () => {
    const evaluation = room.decide(args({ c: 5 }))
    expect(evaluation).to.deep.include({ allow: false, allowedBy: [] })
    expect(evaluation.failure).to.deep.equal({
      kind: 'policy_error',
      message: 'the policy was aborted: authz/policy.rego:40:1: var assignment conflict',
    })
    const last = traceOf(evaluation).rules.at(-1)
    expect(last).to.include({ outcome: 'aborted' })
    expect(last?.steps.at(-1)).to.deep.include({
      ok: false,
      aborted: true,
      reads: { 'input.arguments.c': 5 },
    })
    expectCorrect()
  })

  describe('within its budgets', () => {
    const hostile: readonly (readonly [string, () => Call])[] = [
      ['a quadratic join on the largest input', () => args({ a: ids(6000, 0), b: ids(6000, 9000) })],
      ['numbers.range(1, 1e9)', () => args({ max: 1_000_000_000 })],
      [
        'walk on 10 KB of brackets',
        () => callOf({ argumentsText: `{"w":${'['.repeat(5000)}${']'.repeat(5000)}}` }),
      ],
      [
        'walk on 120 KB of brackets',
        () => callOf({ argumentsText: `{"w":${'['.repeat(60_000)}${']'.repeat(60_000)}}` }),
      ],
      [
        'sort of 20,000 numbers',
        () => args({ s: Array.from({ length: 20_000 }, (_, n) => (n * 7919) % 20_011) }),
      ],
      ['grouping 2,000 objects', () => args({ g: Array.from({ length: 2000 }, (_, k) => ({ k })) })],
      ['an input over the bound', () => args({ path: 'x'.repeat(300_000) })],
    ]
    for (const [what, call] of hostile) {
      it(`denies ${what}, and decides the next call correctly`, () => {
        const evaluation = room.decide(call())
        expect(evaluation).to.deep.include({ allow: false, allowedBy: [], deniedBy: [] })
        expect(evaluation.failure).to.include({ kind: 'policy_budget' })
        expect(evaluation.fuel).to.be.at.most(DEFAULT_POLICY_LIMITS.fuel)
        expectCorrect()
        const trace = traceOf(evaluation)
        const wasEvaluated = evaluation.fuel > 0 && trace.rules.length > 0
        if (wasEvaluated) expect(trace.rules.at(-1)?.outcome).to.equal('aborted')
        expectCorrect()
      })
    }

    it('keeps the trace of what was evaluated before the budget was spent', () => {
      const trace = traceOf(
        room.decide(args({ path: 'x', s: Array.from({ length: 20_000 }, (_, n) => (n * 7919) % 20_011) })),
      )
      expect(trace.rules[0]).to.deep.include({ outcome: 'defined', value: ['developer'] })
      expect(trace.rules.at(-1)?.steps.at(-1)).to.include({
        aborted: true,
        expr: 'count(sort(input.arguments.s)) > 30000',
      })
    })

    it('decides correctly after 5,000 denials', async () => {
      const small = await roomOn(policy, { fuel: 900_000 })
      expectCorrect(small)
      const call = args({ s: Array.from({ length: 100 }, (_, n) => (n * 37) % 101) })
      for (let count = 0; count < 5000; count += 1) {
        if (small.decide(call).failure?.kind !== 'policy_budget') expect.fail(`not stopped at ${count}`)
      }
      expectCorrect(small)
    })
  })

  describe('never throws', () => {
    it('on a call that has not been read', () => {
      const evaluation = room.decide({ ...callOf(), message: null })
      expect(evaluation).to.deep.include({ allow: false, inputText: '{}' })
      expect(evaluation.failure).to.include({ kind: 'policy_error' })
      expect(evaluation.traceText()).to.equal('{"v": 1, "rules": [], "dropped": 0, "truncated": false}')
    })

    it('when it is closed', async () => {
      const closed = await roomOn(policy)
      closed.close()
      expect(closed.decide(callOf()).failure).to.include({ kind: 'policy_error' })
      expect(await closed.visible(callOf(), [tool('a')])).to.deep.equal([
        { name: 'a', allow: false, allowedBy: [], deniedBy: ['policy-error'] },
      ])
    })
  })

  describe('on lists', () => {
    it('gives one verdict per target, in their order', async () => {
      const targets = [tool('b'), tool('rm', { destructiveHint: true }), tool('a')]
      expect(await room.visible(callOf(), targets)).to.deep.equal([
        { name: 'b', allow: true, allowedBy: ['developer', 'listed'], deniedBy: [] },
        { name: 'rm', allow: false, allowedBy: ['developer', 'listed'], deniedBy: ['destructive'] },
        { name: 'a', allow: true, allowedBy: ['developer', 'listed'], deniedBy: [] },
      ])
      expect(await room.visible(callOf(), [])).to.deep.equal([])
    })

    it('keeps names as they are, whatever they hold', async () => {
      const names = ['__proto__', 'x\u0000', 'x\ud800', '']
      expect(
        (
          await room.visible(
            callOf(),
            names.map((name) => tool(name)),
          )
        ).map(({ name }) => name),
      ).to.deep.equal(names)
    })

    it('of 1,000 targets leaves room for other calls in between', async () => {
      const targets = Array.from({ length: 1000 }, (_, index) =>
        tool(`t${index}`, { destructiveHint: index % 3 === 0 }),
      )
      let between = 0
      let done = false
      const tick = () => {
        between += 1
        expectCorrect()
        if (!done) setImmediate(tick)
      }
      setImmediate(tick)
      const verdicts = await room.visible(callOf(), targets)
      done = true
      expect(verdicts.map(({ allow }) => allow)).to.deep.equal(targets.map((_, index) => index % 3 !== 0))
      expect(between).to.be.at.least(3)
    })

    it('denies all targets of a group that cannot be judged, and judges the others', async () => {
      const limits: Partial<PolicyLimits> = { maxInputBytes: 4096 }
      const small = await roomOn(policy, limits)
      const targets = [tool('a'), tool('b', { text: 'x'.repeat(5000) }), tool('c')]
      expect(await small.visible(callOf(), targets)).to.deep.equal([
        { name: 'a', allow: true, allowedBy: ['developer', 'listed'], deniedBy: [] },
        { name: 'b', allow: false, allowedBy: [], deniedBy: ['policy-budget'] },
        { name: 'c', allow: true, allowedBy: ['developer', 'listed'], deniedBy: [] },
      ])
    })
  })
})
