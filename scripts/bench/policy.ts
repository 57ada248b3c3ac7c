/**
 * What policies cost: one evaluation plain, with events logged, with values read and with the trace's text, of the shipped policy
 * and of a large one; lists; what another upstream's package adds; and one decision against OPA's server on loopback.
 *
 *     npm run bench:policy [-- --opa FILE]         FILE: an `opa` that is built already
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Call, Target } from '../../src/gateway/types.ts'
import { toAskedCall } from '../../src/policy/asked-call.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../../src/policy/build.ts'
import type { Compiler } from '../../src/policy/compiler.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import type { PolicyRoom } from '../../src/policy/engine.ts'
import { createPolicyRoom } from '../../src/policy/engine.ts'
import type { HostRun, PolicyHost } from '../../src/policy/host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../src/policy/host.ts'
import { toPolicyInput } from '../../src/policy/input.ts'
import { createProjection, elementText, listReadsOf } from '../../src/policy/list-reads.ts'
import { meter } from '../../src/policy/meter.ts'
import { LISTED } from '../../src/policy/product-module.ts'
import { createTraceReader } from '../../src/policy/trace.ts'
import { DEFAULT_TRACE_BOUNDS } from '../../src/policy/trace-render.ts'
import { roundTrips } from './opa-server.ts'
import type { PolicySubject } from './policy-subjects.ts'
import { largePolicy, shippedPolicy } from './policy-subjects.ts'

const ROUNDS = 15
const WARM_ROUNDS = 3
const EVALUATIONS = 1000

/** One subject on three hosts: plain, instrumented, and the room that serves. */
interface Bench {
  readonly subject: PolicySubject
  readonly policy: CompiledPolicy
  readonly bare: PolicyHost
  readonly traced: PolicyHost
  readonly input: Uint8Array<ArrayBuffer>
}

async function prepare(subject: PolicySubject, compiler: Compiler): Promise<Bench> {
  const { sources, head, argumentsText } = subject
  const policy = await buildPolicy(sources, { compiler, cacheDir: null })
  const request = toBuildRequest(sources, await loadInputSchema())
  const plain = await compiler.build({ ...request, instrument: false })
  if (!plain.ok) throw new Error(`${subject.name} does not build`)
  const dataText = JSON.stringify(sources.data)
  const trace = createTraceReader(policy.dictionary, policy.data)
  const limits = DEFAULT_HOST_LIMITS
  const probes = { knowsProbe: trace.knows, hidesProbe: trace.hides }
  return {
    subject,
    policy,
    bare: await createHost({ wasm: meter(plain.wasm), dataText, knowsProbe: () => false, limits }),
    traced: await createHost({ wasm: policy.wasm, dataText, ...probes, limits }),
    input: new TextEncoder().encode(`${JSON.stringify(head).slice(0, -1)},"arguments":${argumentsText}}`),
  }
}

const decision = (host: PolicyHost, input: Uint8Array<ArrayBuffer>, record: boolean): HostRun =>
  host.evaluate({ entrypoint: 'gateway/decision', input, nowNs: 1n, record })

/**
 * A host reads the values of an evaluation at the latest before the next one. So the time of an evaluation with events alone
 * is taken up to the moment when it is over, and the values are read outside of it.
 */
function evaluations({ subject, policy, bare, traced, input }: Bench): void {
  const trace = createTraceReader(policy.dictionary, policy.data)
  const source = { headText: JSON.stringify(subject.head), argumentsText: subject.argumentsText }
  const run = decision(traced, input, true)
  const { events } = run.recording()
  console.log(`\n${subject.name}: ${events.length} events, ${allowed(run)}`)
  const logged = (read: boolean) => () => {
    const from = performance.now()
    const made = decision(traced, input, true)
    if (read) made.recording()
    const took = performance.now() - from
    made.recording()
    return took
  }
  const plain = () => {
    const from = performance.now()
    decision(bare, input, false)
    return performance.now() - from
  }
  const text = () => {
    const from = performance.now()
    trace.render(decision(traced, input, true).recording(), source, DEFAULT_TRACE_BOUNDS)
    return performance.now() - from
  }
  print(
    inTurns({
      plain,
      'events logged': logged(false),
      'values read': logged(true),
      'text of the trace': text,
    }),
  )
}

function allowed({ result }: HostRun): string {
  return (result as { readonly allow?: unknown }).allow === true ? 'allowed' : 'denied'
}

/**
 * Microseconds of one run, of the fastest round: subjects take turns, and what else the machine does can only make them slower.
 * Each returns the milliseconds it took.
 */
function inTurns(
  subjects: Readonly<Record<string, () => number>>,
  times = EVALUATIONS,
): ReadonlyMap<string, number> {
  const rounds = new Map(Object.keys(subjects).map((name) => [name, [] as number[]]))
  for (let round = 0; round < ROUNDS + WARM_ROUNDS; round += 1) {
    for (const [name, run] of Object.entries(subjects)) {
      let total = 0
      for (let n = 0; n < times; n += 1) total += run()
      if (round >= WARM_ROUNDS) rounds.get(name)?.push((total * 1000) / times)
    }
  }
  return new Map([...rounds].map(([name, values]) => [name, Math.min(...values)]))
}

/** The first one is what the others are compared with. */
function print(us: ReadonlyMap<string, number>): void {
  const [base = 1] = us.values()
  for (const [name, value] of us)
    console.log(`  ${name.padEnd(36)} ${value.toFixed(1).padStart(9)} us   ${(value / base).toFixed(2)}x`)
}

const TOOLS_LISTED = 1000
const LIST_ROUNDS = 200

/**
 * 1,000 targets in one evaluation against one decision, as a host makes them; and the whole list as the gateway judges it, for
 * the first caller and for the next one who looks the same to the rules, against a decision as the gateway makes it.
 */
async function lists({ subject, policy, traced, input }: Bench): Promise<void> {
  const { kind, name: _, annotations } = subject.head.target
  const targets = Array.from({ length: TOOLS_LISTED }, (_one, index) => {
    return { kind, annotations, schemaDigest: null, ...subject.listed(index) } satisfies Target
  })
  const call = callOf(subject)
  const projection = createProjection(listReadsOf(traced))
  const elements = targets.map((one) => elementText(one.name, projection(one)))
  const { bytes: list } = toPolicyInput(
    call,
    { phase: 'list', kind, elements },
    { nowNs: 1n, maxBytes: Number.POSITIVE_INFINITY },
  )
  const evaluation = () => {
    const from = performance.now()
    const run = traced.evaluate({ entrypoint: LISTED.as, input: list, nowNs: 1n, record: false })
    if (run.fault !== null) throw run.fault
    return performance.now() - from
  }
  const single = () => {
    const from = performance.now()
    decision(traced, input, true).recording()
    return performance.now() - from
  }
  console.log(`\n${subject.name}: ${TOOLS_LISTED} tools in one evaluation`)
  await ratioOf(['a decision, values read', single], [`${TOOLS_LISTED} tools`, evaluation])

  const room = await roomOn(policy)
  const decide = () => {
    const from = performance.now()
    room.decide(call)
    return performance.now() - from
  }
  const visible = (asked: Call) => async () => {
    const from = performance.now()
    await room.visible(asked, targets)
    return performance.now() - from
  }
  let strangers = 0
  const stranger = () => {
    const { principal } = call
    if (principal === null) throw new Error('a call without a principal')
    strangers += 1
    const roles = [...principal.roles, `stranger-${strangers}`]
    return visible({ ...call, principal: { ...principal, roles } })()
  }
  console.log(`\n${subject.name}: a list of ${TOOLS_LISTED} tools in the gateway`)
  await ratioOf(['a decision', decide], [`${TOOLS_LISTED} tools, for the first time`, stranger])
  await ratioOf(['a decision', decide], [`${TOOLS_LISTED} tools, again`, visible(call)])
}

/** Prints what one decision and a list cost, and what 100 elements cost in decisions: of each the fastest single run. */
async function ratioOf(
  [one, decide]: readonly [string, () => number],
  [all, list]: readonly [string, () => number | Promise<number>],
): Promise<void> {
  let [decision, listed] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY]
  for (let round = 0; round < LIST_ROUNDS; round += 1) {
    for (let n = 0; n < 20; n += 1) decision = Math.min(decision, decide() * 1000)
    listed = Math.min(listed, (await list()) * 1000)
  }
  print(
    new Map([
      [one, decision],
      [all, listed],
    ]),
  )
  console.log(
    `  100 tools cost as much as ${(listed / (TOOLS_LISTED / 100) / decision).toFixed(1)} decisions`,
  )
}

/** What it costs that upstreams have packages of their own, for a call to one that has none. */
async function owners(subject: PolicySubject, compiler: Compiler): Promise<void> {
  const withServers = (count: number): PolicySubject => {
    const files = Array.from({ length: count }, (_, index): [string, string] => [
      `server/s${index}/p.rego`,
      `package gateway.server.s${index}\n\ndeny contains "closed" if input.target.name == "x"\n`,
    ])
    const { rego, data } = subject.sources
    return { ...subject, sources: { rego: { ...rego, ...Object.fromEntries(files) }, data } }
  }
  const subjects: [string, () => number][] = []
  for (const count of [0, 1, 10, 100]) {
    const { traced, input } = await prepare(withServers(count), compiler)
    subjects.push([
      `${count} upstreams with a package`,
      () => {
        const from = performance.now()
        decision(traced, input, true).recording()
        return performance.now() - from
      },
    ])
  }
  console.log(`\n${subject.name}: packages of other upstreams`)
  print(inTurns(Object.fromEntries(subjects)))
}

/** One decision, as the gateway makes it and as OPA's server answers it. */
async function sidecar({ subject, policy }: Bench): Promise<void> {
  const opa = process.argv.indexOf('--opa')
  const answers = await roundTrips({
    binary: opa < 0 ? null : (process.argv[opa + 1] ?? null),
    sources: policy.sources,
    data: policy.data,
    input: { ...subject.head, arguments: JSON.parse(subject.argumentsText) as unknown },
    rounds: 5,
    times: 400,
  })
  console.log(`\n${subject.name}: against OPA's server on loopback, one connection`)
  if ('skipped' in answers) {
    console.log(`  skipped: ${answers.skipped}`)
    return
  }
  const room = await roomOn(policy)
  const call = callOf(subject)
  const decide = () => {
    const from = performance.now()
    room.decide(call)
    return performance.now() - from
  }
  const decideAndTrace = () => {
    const from = performance.now()
    room.decide(call).traceText()
    return performance.now() - from
  }
  print(
    new Map([
      ...inTurns({ 'in the gateway': decide, 'in the gateway, with its trace': decideAndTrace }, 200),
      ["OPA's server", answers.medianUs],
    ]),
  )
}

function roomOn(policy: CompiledPolicy): Promise<PolicyRoom> {
  return createPolicyRoom({
    policy,
    inputMacKey: Buffer.alloc(32),
    now: () => 1n,
    monotonicMs: () => performance.now(),
    log: { warn: () => undefined, error: () => undefined },
  })
}

function callOf({ head, argumentsText }: PolicySubject): Call {
  const { request, principal, server, target } = head
  return toAskedCall({
    request: { id: request.id, method: request.method, protocolVersion: null, ip: request.ip, session: null },
    principal: {
      ...principal,
      kind: 'user',
      authMethod: 'api_key',
      apiKeyId: null,
    },
    server,
    target: {
      kind: 'tool',
      name: target.name,
      annotations: target.annotations,
      schemaDigest: null,
    } satisfies Target,
    argumentsText,
    client: null,
  })
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(folder) })
  try {
    const shipped = await prepare(await shippedPolicy(), compiler)
    const large = await prepare(largePolicy(), compiler)
    for (const bench of [shipped, large]) evaluations(bench)
    for (const bench of [shipped, large]) await lists(bench)
    await owners(shipped.subject, compiler)
    await sidecar(shipped)
  } finally {
    await compiler.close()
    await rm(folder, { recursive: true, force: true })
  }
}

await main()
