/** Verdicts on lists are those on each element, whatever else is listed, whoever asked before, and however often. */
import { expect } from 'chai'
import type { Target, TargetVerdict } from '../../src/gateway/types.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { loadInputSchema, toBuildRequest } from '../../src/policy/build.ts'
import type { JsonObject } from '../../src/policy/build-data.ts'
import { parseDecision } from '../../src/policy/decision.ts'
import type { PolicyRoom } from '../../src/policy/engine.ts'
import { createPolicyRoom, DEFAULT_POLICY_LIMITS } from '../../src/policy/engine.ts'
import type { PolicyHost } from '../../src/policy/host.ts'
import { createHost } from '../../src/policy/host.ts'
import { createListTracer } from '../../src/policy/list-trace.ts'
import { meter } from '../../src/policy/meter.ts'
import { LISTED } from '../../src/policy/product-module.ts'
import { createReloadableRoom } from '../../src/policy/reload-room.ts'
import { createTraceReader } from '../../src/policy/trace.ts'
import type { CallParts } from './engine-fixture.ts'
import { buildFixture, callOf, closeFixture, fixtureCompiler, roomOn } from './engine-fixture.ts'
import { createDraw, randomListing } from './fidelity/random-policy.ts'

const NOW = 1_700_000_000_123_456_789n
const SEEDS = 25

const tool = (name: string, annotations: object = {}): Target => ({
  kind: 'tool',
  name,
  annotations: annotations as Target['annotations'],
  schemaDigest: null,
})

/** Asking for it ends in an error, which denies whatever is asked in the same group. */
const poison = tool('poison')
const POISON = `
contradiction := input.target.annotations.x
contradiction := 1 if input.target.name == "poison"
contradiction := 2 if input.target.name == "poison"
deny contains "contradiction" if contradiction == 3
`

/** Whether `a`, listed before, is remembered: then what it is listed together with does not matter. */
async function isRemembered(
  room: PolicyRoom,
  parts: CallParts = {},
  a: Target = tool('a'),
): Promise<boolean> {
  const [verdict] = await room.visible(callOf(parts), [a, { ...poison, kind: a.kind }])
  return verdict?.deniedBy[0] !== 'policy-error'
}

async function roomWith(rules: string, limits = {}): Promise<PolicyRoom> {
  return await roomOn(await buildFixture(rules + POISON), limits)
}

describe('verdicts on lists', function () {
  this.timeout(240_000)
  after(closeFixture)

  describe('are remembered', () => {
    const READS_ROLES = 'allow contains "developer" if "developer" in input.principal.roles\n'

    it('for another call, and another principal who has the same roles', async () => {
      const room = await roomWith(READS_ROLES)
      expect(await isRemembered(room)).to.equal(false)
      await room.visible(callOf(), [tool('a')])
      expect(await isRemembered(room, { principal: { id: 'bob', tenant: 'other' } })).to.equal(true)
      expect(await isRemembered(room, { server: { name: 'other' } })).to.equal(true)
    })

    it('for nobody else, and for no other element', async () => {
      const room = await roomWith(READS_ROLES)
      await room.visible(callOf(), [tool('a')])
      expect(await isRemembered(room, { principal: { roles: [] } })).to.equal(false)
      expect(await isRemembered(room, {}, tool('a', { x: 0 }))).to.equal(false)
    })

    it('for an element that differs in nothing that the rules read', async () => {
      const room = await roomWith(READS_ROLES)
      await room.visible(callOf(), [tool('a')])
      expect(await isRemembered(room, {}, tool('a', { title: 'A' }))).to.equal(true)
      expect(await isRemembered(room, {}, { ...tool('a'), kind: 'prompt' })).to.equal(true)
      expect(await isRemembered(room, {}, { ...tool('a'), schemaDigest: 'sha256:1' })).to.equal(true)
    })

    for (const [what, rule] of [
      ['a kind or schema', 'input.target.kind == "tool"\n\tnot input.target.schema_digest'],
      ['the whole target', 'object.get(input.target, "kind", "") == "tool"'],
    ] as const) {
      it(`for no other element where rules read ${what}`, async () => {
        const room = await roomWith(`allow contains "x" if {\n\t${rule}\n}\n`)
        await room.visible(callOf(), [tool('a')])
        expect(await isRemembered(room)).to.equal(true)
        expect(await isRemembered(room, {}, { ...tool('a'), kind: 'prompt' })).to.equal(false)
        expect(await isRemembered(room, {}, { ...tool('a'), schemaDigest: 'sha256:1' })).to.equal(false)
      })
    }

    it('only until another policy is in force', async () => {
      const room = createReloadableRoom({ first: await roomWith(READS_ROLES), open: roomOn })
      await room.visible(callOf(), [tool('a')])
      await room.replace(await buildFixture(`allow contains "other" if true${POISON}`))
      expect(await isRemembered(room)).to.equal(false)
      expect(await room.visible(callOf(), [tool('a')])).to.have.deep.nested.property('[0].allowedBy', [
        'other',
      ])
    })

    for (const [what, rule] of [
      ['the clock', 'time.now_ns() > 0'],
      ['the time of the request', 'input.request.now_ns > 0'],
      ['the id of the request', 'input.request.id != ""'],
      ['what else is listed', 'count(input.targets) < 3'],
      ['all of the input', 'object.get(input, "phase", "") == "list"'],
    ] as const) {
      it(`unless a rule reads ${what}`, async () => {
        const room = await roomWith(`allow contains "x" if ${rule}`)
        const [verdict] = await room.visible(callOf(), [tool('a')])
        expect(verdict?.allow).to.equal(true)
        expect(await isRemembered(room)).to.equal(false)
      })
    }

    it('unless the clock is read for this element', async () => {
      const room = await roomWith(
        'allow contains "late" if {\n\tinput.target.annotations.late\n\ttime.now_ns() > 0\n}\n\nallow contains "any" if not input.target.annotations.late\n',
      )
      const [early, late] = [tool('a'), tool('b', { late: true })]
      await room.visible(callOf(), [early])
      await room.visible(callOf(), [late])
      expect([await isRemembered(room, {}, early), await isRemembered(room, {}, late)]).to.deep.equal([
        true,
        false,
      ])
    })

    it('but not when they were refused, and not once the room is closed', async () => {
      const room = await roomWith(READS_ROLES)
      await room.visible(callOf(), [tool('a'), poison])
      expect(await isRemembered(room)).to.equal(false)
      await room.visible(callOf(), [tool('a')])
      room.close()
      expect(await room.visible(callOf(), [tool('a')])).to.deep.equal([
        { name: 'a', allow: false, allowedBy: [], deniedBy: ['policy-error'] },
      ])
    })

    it('but never for an input that is too large to be asked about', async () => {
      const room = await roomWith(READS_ROLES, { maxInputBytes: 4096 })
      await room.visible(callOf(), [tool('a')])
      const large = { principal: { claims: { text: 'x'.repeat(4096) } } }
      expect(await room.visible(callOf(large), [tool('a')])).to.deep.equal([
        { name: 'a', allow: false, allowedBy: [], deniedBy: ['policy-budget'] },
      ])
    })

    it('in their order among those that have to be asked for', async () => {
      const room = await roomWith(`${READS_ROLES}\ndeny contains "odd" if input.target.annotations.odd\n`)
      const targets = Array.from({ length: 300 }, (_, n) => tool(`t${n}`, { odd: n % 2 === 1 }))
      await room.visible(
        callOf(),
        targets.filter((_, n) => n % 3 === 0),
      )
      const verdicts = await room.visible(callOf(), targets)
      expect(verdicts.map(({ name, allow }) => [name, allow])).to.deep.equal(
        targets.map(({ name }, n) => [name, n % 2 === 0]),
      )
    })
  })

  describe('on all targets at once', () => {
    const LIST_ONLY = 'allow contains "any" if input.target.name\n'

    it('are those of the other question where the first one ends in an error', async () => {
      // Nobody is asked about `broken` here, but whoever asks for all targets asks for it.
      const policy = await buildFixture(
        `${LIST_ONLY}broken := 1 if input.target.name\nbroken := 2 if input.target.name\ndeny contains "broken" if {\n\tinput.target.annotations.x\n\tbroken\n}\n`,
      )
      expect(policy.entrypoints).to.include(LISTED.as)
      const room = await roomOn(policy)
      expect(await room.visible(callOf(), [tool('a'), tool('b')])).to.deep.equal([
        { name: 'a', allow: true, allowedBy: ['any'], deniedBy: [] },
        { name: 'b', allow: true, allowedBy: ['any'], deniedBy: [] },
      ])
    })

    it('deny a group whose budget is spent, and judge the others', async () => {
      const policy = await buildFixture(
        `${LIST_ONLY}deny contains "sum" if {\n\tsome a in numbers.range(1, input.target.annotations.n)\n\tsome b in numbers.range(1, input.target.annotations.n)\n\ta + b < 0\n}\n`,
      )
      expect(policy.entrypoints).to.include(LISTED.as)
      const room = await roomOn(policy, { maxTargets: 2 })
      const targets = [tool('a', { n: 1 }), tool('b', { n: 100_000 }), tool('c', { n: 2 })]
      expect(await room.visible(callOf(), targets)).to.deep.equal([
        { name: 'a', allow: false, allowedBy: [], deniedBy: ['policy-budget'] },
        { name: 'b', allow: false, allowedBy: [], deniedBy: ['policy-budget'] },
        { name: 'c', allow: true, allowedBy: ['any'], deniedBy: [] },
      ])
    })

    it('are asked for with every event where somebody is told of events', async () => {
      const policy = await buildFixture(LIST_ONLY)
      let events = 0
      const room = await createPolicyRoom({
        policy,
        inputMacKey: Buffer.alloc(32),
        now: () => NOW,
        monotonicMs: () => 0,
        log: { warn() {}, error() {} },
        onProbe: () => {
          events += 1
        },
      })
      await room.visible(callOf(), [tool('a')])
      const first = events
      await room.visible(callOf(), [tool('a')])
      expect(first).to.be.greaterThan(0)
      expect(events).to.equal(2 * first)
    })
  })

  it('are those on each element alone where two rules call different things by one name', async () => {
    const rules = `allow contains "all" if input.phase
deny contains reason if {
	name = input.server.name
	reason = closed[_]
}
closed contains "closed" if {
	name = input.target.name
	name == "a"
}
`
    const policy = await compiled(rules, '', {})
    expect(policy?.entrypoints).to.include(LISTED.as)
    const room = await roomOn(policy as CompiledPolicy)
    const verdicts = await room.visible(callOf(), [tool('a'), tool('b')])
    expect(verdicts.map(({ deniedBy }) => deniedBy)).to.deep.equal([['closed'], []])
  })

  it('of random policies are those that asking for each element alone gives', async () => {
    let compared = 0
    let allowed = 0
    let atOnce = 0
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const { rules, annotations, claims } = randomListing(seed)
      const owners = randomListing(seed + 10_000).rules
      const data = { d: JSON.parse(claims[0] ?? '{}') as JsonObject }
      const policy = (await compiled(rules, owners, data)) ?? (await compiled(rules, '', data))
      if (policy === null) continue
      if (policy.entrypoints.includes(LISTED.as)) atOnce += 1
      const room = await roomOn(policy)
      const alone = await asker(policy)
      const draw = createDraw(seed)
      const targets = annotations.map((text, n) => {
        const kind = (['tool', 'prompt', 'tool', 'resource'] as const)[n % 4] ?? 'tool'
        return { ...tool(`t${n}`, JSON.parse(text) as object), kind }
      })
      for (let round = 0; round < 12; round += 1) {
        const claim = claims[round % claims.length] ?? '{}'
        const parts = { principal: { id: `p${round}`, claims: JSON.parse(claim) as Record<string, unknown> } }
        const listed = targets.filter(() => draw() < 0.6)
        const verdicts = await room.visible(callOf(parts), listed)
        const expected = listed.map((target) => alone(parts, target))
        const isWhole = expected.every((verdict) => verdict !== null)
        for (const [at, verdict] of verdicts.entries()) {
          // One element that cannot be judged denies all that are asked together with it.
          if (!isWhole && verdict.deniedBy[0]?.startsWith('policy-') === true) continue
          expect(verdict, `seed ${seed}: ${rules}`).to.deep.equal(expected[at])
          compared += 1
          if (verdict.allow) allowed += 1
        }
      }
    }
    expect(compared).to.be.greaterThan(SEEDS * 10)
    expect(allowed).to.be.greaterThan(compared / 20)
    expect(atOnce).to.be.greaterThan(SEEDS / 2)
  })
})

/** Null when the rules are refused. */
async function compiled(rules: string, owners: string, data: JsonObject): Promise<CompiledPolicy | null> {
  const rego = {
    'authz/policy.rego': `package gateway.authz\n\n${rules}`,
    ...(owners !== '' && { 'server/files/policy.rego': `package gateway.server.files\n\n${owners}` }),
  }
  const request = toBuildRequest({ rego, data }, await loadInputSchema())
  const built = await (await fixtureCompiler()).build({ ...request, lenient: true })
  if (!built.ok || built.dictionary === null) return null
  const { dictionary, opa, entrypoints } = built
  const names = { revision: '', digest: '', sources: request.sources, data }
  return { wasm: meter(built.wasm), dictionary, opa, entrypoints, ...names }
}

/** Asks for one element with the traced decision; null = there is none. */
async function asker(policy: CompiledPolicy) {
  const reader = createTraceReader(policy.dictionary, policy.data)
  const host: PolicyHost = await createHost({
    wasm: policy.wasm,
    dataText: JSON.stringify(policy.data),
    knowsProbe: reader.knows,
    limits: DEFAULT_POLICY_LIMITS,
  })
  const tracer = createListTracer(policy, DEFAULT_POLICY_LIMITS)
  return (parts: CallParts, target: Target): TargetVerdict | null => {
    const input = new TextEncoder().encode(tracer.inputText(callOf(parts), target, NOW))
    const { result, fault } = host.evaluate({
      entrypoint: 'gateway/decision',
      input,
      nowNs: NOW,
      record: true,
    })
    if (fault !== null) return null
    const { allow, allowedBy, deniedBy } = parseDecision(result)
    return { name: target.name, allow, allowedBy, deniedBy }
  }
}
