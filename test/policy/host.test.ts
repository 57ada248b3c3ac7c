import { expect } from 'chai'
import fc from 'fast-check'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import type { HostLimits, HostOptions, PolicyHost } from '../../src/policy/host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../src/policy/host.ts'
import { PolicyFault } from '../../src/policy/host-fault.ts'
import { meter } from '../../src/policy/meter.ts'
import { buildFixture, buildUnmetered, closeFixture, fixtureCompiler } from './engine-fixture.ts'

const POLICY = `allow contains "ok" if input.phase == "call"

deny contains "joined" if {
	some i, j
	input.arguments.a[i].id == input.arguments.b[j].id
}

deny contains "sorted" if count(sort(input.arguments.s)) > 30000

deny contains "matched" if {
	some r in input.arguments.r
	regex.match(\`(a|a)*b\`, r)
}

deny contains "nested" if json.unmarshal(input.arguments.j) == "x"

deny contains "bytes" if hex.encode(base64.decode(input.arguments.b)) == "ff"

deny contains "encoded" if urlquery.encode(input.arguments.u) == "x"

deny contains concat("-", ["too", "long", input.arguments.long]) if input.arguments.long

deny contains "conflict" if twice(input.arguments.c) == 3

twice(x) := 1 if x > 1

twice(x) := 2 if x > 2
`

interface TestHost {
  readonly host: PolicyHost
  readonly limits: { -readonly [Name in keyof HostLimits]: HostLimits[Name] }
}

async function hostOf(policy: CompiledPolicy, options: Partial<HostOptions> = {}): Promise<TestHost> {
  const limits = { ...DEFAULT_HOST_LIMITS, ...options.limits }
  const known = { wasm: policy.wasm, dataText: '{}', knowsProbe: () => true }
  return { host: await createHost({ ...known, ...options, limits }), limits }
}

function evaluate({ host }: TestHost, args: string, entrypoint = 'gateway/decision') {
  const input = new TextEncoder().encode(`{"phase":"call","arguments":${args}}`)
  return host.evaluate({ entrypoint, input, nowNs: 1n, record: true })
}

async function faultOf(promise: Promise<unknown>): Promise<PolicyFault> {
  const thrown: unknown = await promise.then(
    () => null,
    (error: unknown) => error,
  )
  expect(thrown).to.be.instanceOf(PolicyFault)
  return thrown as PolicyFault
}

describe('policy host', function () {
  this.timeout(60_000)
  let policy: CompiledPolicy
  let shared: TestHost

  before(async () => {
    policy = await buildFixture(POLICY)
    shared = await hostOf(policy)
  })
  after(closeFixture)

  const plainResult = () => evaluate(shared, '{}').result

  it('evaluates an entrypoint', () => {
    expect(plainResult()).to.deep.include({ allow: true, allowed_by: ['ok'], denied_by: [] })
    expect(evaluate(shared, '{}').fuel).to.be.greaterThan(10_000).and.lessThan(2_000_000)
  })

  it('answers an unknown entrypoint with a fault', () => {
    expect(evaluate(shared, '{}', 'gateway/other').fault).to.include({ kind: 'error' })
  })

  it('gives no answer rather than a wrong one when a builtin gets bytes that are no text', () => {
    expect(evaluate(shared, '{"b":"/w=="}').fault).to.include({ kind: 'error' })
    expect(evaluate(shared, '{"b":"77+9"}').fault, 'U+FFFD itself is text').to.equal(null)
  })

  it('needs the same fuel for the same input', () => {
    const used = evaluate(shared, '{"a":[{"id":1}],"b":[{"id":1}]}').fuel
    for (let again = 0; again < 20; again += 1) {
      expect(evaluate(shared, '{"a":[{"id":1}],"b":[{"id":1}]}').fuel).to.be.closeTo(used, 200)
    }
  })

  describe('refuses to load', () => {
    it('what is no module', async () => {
      const fault = await faultOf(hostOf({ ...policy, wasm: Uint8Array.of(1, 2, 3) }))
      expect(fault).to.include({ kind: 'error' })
    })

    it('a module that is not metered', async () => {
      const wasm = await buildUnmetered(POLICY, true)
      expect((await faultOf(hostOf({ ...policy, wasm }))).message).to.contain('does not export fuel')
    })

    it('a module with a memory of its own', async () => {
      const own = Uint8Array.from([
        0, 97, 115, 109, 1, 0, 0, 0, 5, 3, 1, 0, 1, 7, 10, 1, 6, 109, 101, 109, 111, 114, 121, 2, 0,
      ])
      expect((await faultOf(hostOf({ ...policy, wasm: own }))).message).to.contain('a memory of its own')
    })

    it('a module whose probes are not in the dictionary', async () => {
      const fault = await faultOf(hostOf(policy, { knowsProbe: ({ id }) => id < 3 }))
      expect(fault.message).to.match(/the trace dictionary does not belong to the module: no gwtr\.\w+\d/)
    })

    it('a module that needs a builtin it does not have', async () => {
      const built = await (await fixtureCompiler()).build({
        sources: {
          'a.rego': 'package gateway\n\ndecision := http.send({"method": "get", "url": input.url}).body',
        },
        entrypoints: ['gateway/decision'],
        instrument: false,
      })
      if (!built.ok) throw new Error(JSON.stringify(built.errors))
      const fault = await faultOf(hostOf({ ...policy, wasm: meter(built.wasm) }))
      expect(fault.message).to.contain('http.send')
    })

    it('data that do not fit', async () => {
      const dataText = JSON.stringify({ list: Array.from({ length: 100_000 }, (_, id) => ({ id })) })
      const limits = { ...DEFAULT_HOST_LIMITS, memoryPages: 64, maxMemoryPages: 128 }
      const fault = await faultOf(hostOf(policy, { dataText, limits }))
      expect(fault).to.include({ kind: 'memory' })
      expect(fault.message).to.contain('too large to load into 8 MiB')
    })

    it('data that are no JSON', async () => {
      expect(await faultOf(hostOf(policy, { dataText: '{"a":' }))).to.include({ kind: 'error' })
    })
  })

  it('takes more memory at load when the data are large', async () => {
    const users = Object.fromEntries(
      Array.from({ length: 100_000 }, (_, id) => [`user-${id}`, { id, ok: true }]),
    )
    const large = await buildFixture('allow contains "ok" if data.users[input.arguments.user].ok')
    const loaded = await hostOf(large, { dataText: JSON.stringify({ users }) })
    expect(evaluate(loaded, '{"user":"user-99999"}').result).to.deep.include({ allow: true })
    expect(evaluate(loaded, '{"user":"user-x"}').result).to.deep.include({ allow: false })
  })

  const ids = (count: number, from: number) =>
    Array.from({ length: count }, (_, index) => ({ id: `id-${index + from}` }))
  const hostile: readonly (readonly [string, unknown, string])[] = [
    ['a quadratic join', { a: ids(5000, 0), b: ids(5000, 9000) }, 'fuel'],
    [
      'a sort of 20,000 numbers',
      { s: Array.from({ length: 20_000 }, (_, n) => (n * 7919) % 20_011) },
      'fuel',
    ],
    ['text nested 60,000 deep', { j: '['.repeat(60_000) + ']'.repeat(60_000) }, 'depth'],
    ['a host builtin on much text', { u: 'ä'.repeat(120_000) }, 'fuel'],
    ['two values of one function', { c: 3 }, 'error'],
    ['a decision that is too large', { long: 'x'.repeat(150_000) }, 'size'],
  ]
  for (const [what, args, kind] of hostile) {
    it(`stops at ${what} and is correct right after`, async () => {
      const limits =
        kind === 'size' ? { ...DEFAULT_HOST_LIMITS, maxResultBytes: 100_000 } : DEFAULT_HOST_LIMITS
      const small = kind === 'size' ? await hostOf(policy, { limits }) : shared
      const expected = plainResult()
      const run = evaluate(small, JSON.stringify(args))
      expect(run.fault?.kind, run.fault?.message).to.equal(kind)
      expect(run.result).to.equal(undefined)
      expect(run.fuel).to.be.at.most(DEFAULT_HOST_LIMITS.fuel)
      expect(run.recording().events.length).to.be.greaterThan(0)
      expect(evaluate(small, '{}').result).to.deep.equal(expected)
    })
  }

  it('stops at memory and reads the values of what was evaluated', async () => {
    const eats = await buildFixture(
      'allow contains "x" if {\n\tname := input.arguments.name\n\tcount(numbers.range(1, input.arguments.n)) > 5\n\tname != ""\n}',
    )
    const run = evaluate(await hostOf(eats), '{"name":"before","n":1000000000}')
    expect(run.fault).to.include({ kind: 'memory' })
    expect(run.recording().events.flatMap((event) => event.values)).to.include('"before"')
  })

  it('is correct after being stopped at any point', async () => {
    const used = await hostOf(policy)
    const args = JSON.stringify({ a: ids(5, 0), b: ids(5, 3), s: [3, 1, 2], r: ['aab'], j: '[1]', u: 'ü' })
    const { fuel, result } = evaluate(used, args)
    fc.assert(
      fc.property(fc.integer({ min: 0, max: fuel - 1000 }), (budget) => {
        used.limits.fuel = budget
        expect(evaluate(used, args).fault).to.include({ kind: 'fuel' })
        used.limits.fuel = DEFAULT_HOST_LIMITS.fuel
        const next = evaluate(used, args)
        expect(next.result).to.deep.equal(result)
        expect(next.recording().events.length).to.be.greaterThan(10)
      }),
      { numRuns: 200 },
    )
  })

  it('is correct after 5,000 evaluations that were stopped', async () => {
    const used = await hostOf(policy)
    const args = JSON.stringify({ u: 'x', c: 3 })
    const { fuel } = evaluate(used, '{}')
    for (let count = 0; count < 5000; count += 1) {
      used.limits.fuel = count % 2 === 0 ? Math.floor(fuel / 2) : DEFAULT_HOST_LIMITS.fuel
      expect(evaluate(used, args).fault).not.to.equal(null)
    }
    used.limits.fuel = DEFAULT_HOST_LIMITS.fuel
    expect(evaluate(used, '{}').result).to.deep.equal(plainResult())
  })

  describe('recording', () => {
    it('is read before the instance evaluates again', () => {
      const first = evaluate(shared, '{"c":1}')
      evaluate(shared, '{"c":2}')
      const values = first.recording().events.flatMap((event) => event.values)
      expect(values).to.include('1').and.not.to.include('2')
      expect(first.recording()).to.equal(first.recording())
    })

    it('leaves out values that are too large, and keeps the others', async () => {
      const binds = await buildFixture(
        'allow contains "x" if {\n\tlarge := input.arguments.large\n\tsmall := input.arguments.small\n\tlarge != small\n}',
      )
      const run = evaluate(await hostOf(binds), JSON.stringify({ large: 'x'.repeat(100_000), small: 'y' }))
      const values = run.recording().events.flatMap((event) => event.values)
      expect(values).to.include(null).and.to.include('"y"')
    })

    it('costs no more than its own fuel', async () => {
      const limits = { ...DEFAULT_HOST_LIMITS, valueFuel: 0 }
      const run = evaluate(await hostOf(policy, { limits }), '{"c":1}')
      expect(run.fault).to.equal(null)
      expect(run.recording().events.flatMap((event) => event.values)).to.satisfy((values: unknown[]) =>
        values.every((value) => value === null),
      )
    })
  })
})
