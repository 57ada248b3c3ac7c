/**
 * What the way through the gateway costs against the direct way, in one run on one box: by payload, by JSON and stream, by
 * connections, in both eras; lists of 1,000 tools; what a call costs beside 1,000 tools, 100 upstreams and 4,000 open
 * streams; what idle streams cost; how soon streams end, thousands at once or when their client leaves. All stages on: key,
 * policy, limit, catalogue, audit. Linux only.
 *
 *     npm run bench:proxy              about five minutes
 *     npm run bench:proxy -- --short   less than half of that, rougher
 *     npm run bench:proxy -- --only=streams   one part: matrix, lists, flat, events, streams, ends, leaving
 */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { createKey, revokeKey } from '../../src/auth/key-store.ts'
import { kill } from '../../src/kill/store.ts'
import type { TestDatabase } from '../../test/support/postgres.ts'
import { createTestDatabase, stopSharedServer } from '../../test/support/postgres.ts'
import type { LoadResult, Served } from './parts.ts'
import { cpuOf, load, median, serve } from './parts.ts'
import type { BenchEra, BenchRequest } from './proxy-calls.ts'
import { listen, toolCall, toolsList } from './proxy-calls.ts'
import type { EndsSubject } from './proxy-ends.ts'
import { endsAfter, LEAVING, reportEnds, reportLeaving } from './proxy-ends.ts'
import type { OpenedStreams, StreamTarget } from './proxy-streams.ts'
import { closeStreams, eventDelays, memoryOf, openStreams } from './proxy-streams.ts'
import { BENCH_KEY, BENCH_SETTINGS, benchEnv } from './settings.ts'

const IS_SHORT = process.argv.includes('--short')
const ONLY = process.argv.find((argument) => argument.startsWith('--only='))?.slice(7) ?? null
const ROUNDS = IS_SHORT ? 3 : 5
const CALLS = IS_SHORT ? 150 : 600
const PAYLOADS = [
  { name: '1 KB', bytes: 1024, calls: CALLS },
  { name: '16 KB', bytes: 16_384, calls: CALLS },
  { name: '1 MB', bytes: 1 << 20, calls: CALLS / 10 },
]
const CONNECTIONS = [1, 16, 64]
const ERAS: readonly BenchEra[] = ['2025-11-25', '2026-07-28']
const STREAMS = [0, 1000, 2000, 4000]
const IDLE_MS = IS_SHORT ? 3000 : 10_000
const EVENTS = IS_SHORT ? 100 : 400
const ENDING = 3000
/** Long enough for all rows. */
const WATCH_MS = 9000
const LEAVERS = IS_SHORT ? 50 : 200

const POLICY = `package gateway.authz

allow contains "developer" if "developer" in input.principal.roles

limits contains {"name": "per-principal", "key": [input.principal.id], "limit": 1000000000, "window_s": 60} if {
	input.target.kind == "tool"
}
`

const ENDS_POLICY = 'policies-ends/authz/all.rego'
const NO_STREAMS = 'deny contains "no-streams" if input.request.method == "subscriptions/listen"\n'

interface Subject extends StreamTarget {
  readonly pid: number
}

interface Bench {
  readonly database: TestDatabase
  /** The upstream itself. */
  readonly direct: Subject
  /** A gateway with that upstream alone, and one where it is one of 100. */
  readonly alone: Subject
  readonly among: Subject
  /** In that second one: an upstream with 1,000 tools. */
  readonly crowded: Subject
  /** Holds what belongs to this run. */
  readonly folder: string
  /** Starts one with the upstreams `killed` and `kept`, and policies of its own at {@link ENDS_POLICY}. */
  ends(): Promise<EndsSubject>
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const database = await createTestDatabase()
  const served: Served[] = []
  try {
    const bench = await start(folder, database, served)
    await warmUp(bench)
    for (const [name, report] of Object.entries(PARTS))
      if (ONLY === null || ONLY === name) await report(bench)
  } finally {
    for (const one of served.reverse()) await one.stop()
    await database.drop()
    await stopSharedServer()
    await rm(folder, { recursive: true, force: true })
  }
}

async function start(folder: string, database: TestDatabase, served: Served[]): Promise<Bench> {
  const { text: key } = await createKey(database.pool, BENCH_KEY, Date.now())
  await mkdir(join(folder, 'policies/authz'), { recursive: true })
  await writeFile(join(folder, 'policies/authz/all.rego'), POLICY)
  const upstream = await serve('./proxy-upstream.ts')
  served.push(upstream)
  const url = `http://127.0.0.1:${upstream.port}/mcp`
  const others = Array.from({ length: 98 }, (_, n): [string, object] => [`other-${n}`, { url }])
  const crowded = { one: { url }, crowded: { url: `${url}?tools=1000` }, ...Object.fromEntries(others) }
  const gateway = async (name: string, upstreams: object, policies = './policies'): Promise<Served> => {
    const file = join(folder, `${name}.yaml`)
    const audit = { spool_dir: `./spool-${name}` }
    await writeFile(file, stringify({ ...BENCH_SETTINGS, policies, audit, upstreams }))
    const one = await serve('./gateway.mjs', [file], benchEnv(database))
    served.push(one)
    return one
  }
  const headers = { authorization: `Bearer ${key}` }
  const subject = ({ port, pid }: Served, path: string): Subject => ({ port, pid, path, headers })
  const alone = await gateway('alone', { one: { url } })
  const among = await gateway('among', crowded)
  return {
    ...{ database, folder },
    direct: { ...subject(upstream, '/mcp'), headers: {} },
    alone: subject(alone, '/mcp/one'),
    among: subject(among, '/mcp/one'),
    crowded: subject(among, '/mcp/crowded'),
    async ends() {
      await mkdir(join(folder, 'policies-ends/authz'), { recursive: true })
      await writeFile(join(folder, ENDS_POLICY), POLICY)
      const one = await gateway('ends', { killed: { url }, kept: { url } }, './policies-ends')
      const bystander = { path: '/mcp/kept', headers }
      return { port: one.port, pid: one.pid, path: '/mcp/kept', headers, bystander }
    },
  }
}

interface Measured extends LoadResult {
  /** CPU of the subject's process per call, us. */
  readonly cpuUs: number
}

async function measure(
  subject: Subject,
  request: BenchRequest,
  calls: number,
  connections: number,
): Promise<Measured> {
  const before = cpuOf(subject.pid)
  const result = await load({
    origin: `http://127.0.0.1:${subject.port}`,
    path: subject.path,
    headers: { ...request.headers, ...subject.headers },
    body: request.body,
    calls,
    connections,
  })
  if (result.failed > 0) throw new Error(`${subject.path}: ${result.failed} of ${calls} calls failed`)
  return { ...result, cpuUs: (cpuOf(subject.pid) - before) / result.calls }
}

async function warmUp({ direct, alone, among, crowded }: Bench): Promise<void> {
  for (const subject of [direct, alone, among, crowded]) {
    for (const era of ERAS) {
      for (const sse of [false, true]) await measure(subject, toolCall(era, { bytes: 1024, sse }), 500, 16)
    }
  }
}

async function reportMatrix({ direct, alone }: Bench): Promise<void> {
  console.log('through the gateway against direct: p50 ms (ratio), gateway CPU us per call')
  for (const { name, bytes, calls } of PAYLOADS) {
    for (const sse of [false, true]) {
      for (const connections of CONNECTIONS) {
        const cells: string[] = []
        for (const era of ERAS) {
          const request = toolCall(era, { bytes, sse })
          const plain = await measure(direct, request, calls, connections)
          const through = await measure(alone, request, calls, connections)
          const ratio = (through.p50Ms / plain.p50Ms).toFixed(1)
          cells.push(
            `${era}  ${plain.p50Ms.toFixed(2).padStart(7)} -> ${through.p50Ms.toFixed(2).padStart(7)} (${ratio.padStart(4)}x) ${through.cpuUs.toFixed(0).padStart(6)} us`,
          )
        }
        const what = `${name.padEnd(6)}${sse ? 'stream' : 'JSON  '} ${String(connections).padStart(3)} conn.`
        console.log(`${what}   ${cells.join('   ')}`)
      }
    }
  }
}

async function reportLists({ direct, crowded }: Bench): Promise<void> {
  const calls = IS_SHORT ? 10 : 50
  const request = toolsList('2026-07-28')
  const plain = await measure({ ...direct, path: '/mcp?tools=1000' }, request, calls, 1)
  const through = await measure(crowded, request, calls, 1)
  const ratio = (through.p50Ms / plain.p50Ms).toFixed(1)
  console.log(
    `\ntools/list of 1,000 tools, each judged: ${plain.p50Ms.toFixed(1)} -> ${through.p50Ms.toFixed(1)} ms (${ratio}x), ${(through.cpuUs / 1000).toFixed(1)} ms CPU`,
  )
}

/** Each is measured in turn, round after round, so that what the box does meanwhile meets all of them. */
async function reportFlatness({ alone, among, crowded }: Bench): Promise<void> {
  const subjects = { 'one upstream, one tool': alone, '100 upstreams': among, '1,000 tools': crowded }
  const cpus = await inRounds(subjects)
  console.log('\nCPU of one call (1 KB, JSON, 16 connections)')
  reportCpus(cpus)
}

async function inRounds(
  subjects: Readonly<Record<string, Subject>>,
): Promise<Map<string, readonly number[]>> {
  const request = toolCall('2026-07-28', { bytes: 1024 })
  const cpus = new Map(Object.keys(subjects).map((name) => [name, [] as number[]]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, subject] of Object.entries(subjects))
      cpus.get(name)?.push((await measure(subject, request, CALLS * 2, 16)).cpuUs)
  }
  return cpus
}

function reportCpus(cpus: ReadonlyMap<string, readonly number[]>): void {
  const base = median([...cpus.values()][0] ?? [])
  for (const [name, values] of cpus) {
    const cpu = median(values)
    console.log(`${name.padEnd(30)} ${cpu.toFixed(0).padStart(5)} us   ${(cpu / base).toFixed(2)}x`)
  }
}

async function reportEvents({ direct, alone }: Bench): Promise<void> {
  const request = toolCall('2026-07-28', { events: EVENTS })
  console.log('\nfrom an event leaving the upstream to its arrival, p50 / p99 ms')
  for (const [name, subject] of [
    ['direct', direct],
    ['through the gateway', alone],
  ] as const) {
    const delays = (await eventDelays(subject, request)).sort((a, b) => a - b)
    const at = (share: number): string => (delays[Math.floor(delays.length * share)] ?? 0).toFixed(2)
    console.log(`${name.padEnd(30)} ${at(0.5)} / ${at(0.99)}   (${delays.length} events)`)
  }
}

async function reportStreams({ alone, among }: Bench): Promise<void> {
  console.log('\nidle streams on one process: memory, CPU of one core while nothing happens, CPU of one call')
  const open: OpenedStreams[] = []
  let count = 0
  let base = 0
  for (const wanted of STREAMS) {
    open.push(await openStreams(alone, listen(), wanted - count))
    count = wanted
    // What opening them left behind is not what they cost.
    await pause(2000)
    const before = cpuOf(alone.pid)
    await pause(IDLE_MS)
    const share = (cpuOf(alone.pid) - before) / (IDLE_MS * 1000)
    const memory = memoryOf(alone.pid)
    if (count === 0) base = memory
    const each = count === 0 ? '' : `${((memory - base) / count / 1024).toFixed(1)} KB each`
    console.log(
      `${String(count).padStart(5)} streams   ${(memory / (1 << 20)).toFixed(0).padStart(5)} MB  ${each.padEnd(13)} ${(share * 100).toFixed(2).padStart(6)} %`,
    )
    // The other gateway has no streams: it tells what the box is like meanwhile.
    const rounds = await inRounds({ [`beside ${count} streams`]: alone, 'on a process without': among })
    reportCpus(rounds)
  }
  for (const streams of open) await closeStreams(streams)
}

/** Thousands of streams meet one change; then a policy that changes nothing for them. */
async function reportEndings({ database, folder, ends }: Bench): Promise<void> {
  const subject = await ends()
  const requests = { stream: listen(), call: toolCall('2026-07-28', { bytes: 1024 }) }
  await measure({ ...subject, ...subject.bystander }, requests.call, 500, 4)
  console.log(
    `\n${ENDING} open streams when one change comes: first and last end; calls to another upstream before and beside, p50 / p99 / max`,
  )
  const report = async (name: string, target: EndsSubject, change: () => Promise<unknown>): Promise<void> => {
    const made = async (): Promise<number> => {
      await change()
      return performance.now()
    }
    reportEnds(name, await endsAfter(target, requests, { count: ENDING, watchMs: WATCH_MS, change: made }))
  }
  const target = { kind: 'server', name: 'killed' } as const
  await report('a kill switch', { ...subject, path: '/mcp/killed' }, () =>
    kill(database.pool, { target, reason: 'benchmark', forMs: null, actor: 'bench' }),
  )
  const { key, text } = await createKey(database.pool, { ...BENCH_KEY, name: 'leaving' }, Date.now())
  const leaving = { ...subject, headers: { authorization: `Bearer ${text}` } }
  await report('a revoked key', leaving, () => revokeKey(database.pool, key.id))
  const rules = join(folder, ENDS_POLICY)
  await report('a policy that keeps them', subject, () => writeFile(rules, `${POLICY}\n# anew\n`))
  await report('a policy that ends them', subject, () => writeFile(rules, `${POLICY}${NO_STREAMS}`))
}

async function reportLeavers({ alone, direct }: Bench): Promise<void> {
  console.log('\nfrom a client leaving to its upstream hearing of it, p50 / p99 / max')
  const plan = { count: LEAVERS, together: 10, ways: LEAVING }
  console.log('direct')
  // Node's own server tells nobody of a pipelined request whose turn has not come.
  await reportLeaving(direct, direct, { ...plan, ways: LEAVING.filter((way) => way !== 'had pipelined') })
  console.log('through the gateway')
  await reportLeaving(alone, direct, plan)
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

const PARTS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  matrix: reportMatrix,
  lists: reportLists,
  flat: reportFlatness,
  events: reportEvents,
  streams: reportStreams,
  ends: reportEndings,
  leaving: reportLeavers,
}

await main()
