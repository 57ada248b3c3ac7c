/**
 * What the gateway does with more than it can do: calls arrive at a fixed rate whether it answers or not (open loop), from
 * half of what it was measured to serve just before to five times as much. Times count from when a call was due. Linux only.
 *
 *     node --import=tsx/esm scripts/bench/overload.ts [seconds per load]
 */
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import pg from 'pg'
import { stringify } from 'yaml'
import { createKey } from '../../src/auth/key-store.ts'
import { toConnectionUrl } from '../../src/db/connection.ts'
import { createTestDatabase, stopSharedServer } from '../../test/support/postgres.ts'
import type { OpenLoopResult, Sample } from './open-loop.ts'
import { closedLoop, openLoop } from './open-loop.ts'
import type { Served } from './parts.ts'
import { CALL_BODY, CALL_HEADERS, cpuOf, serve } from './parts.ts'
import { BENCH_KEY, BENCH_SETTINGS, benchEnv } from './settings.ts'

const SECONDS = Math.min(8, Number(process.argv[2] ?? 3))
const WARM_CALLS = 1500
const CAPACITY_CALLS = 2500
const CONNECTIONS = 32
const LOADS = [0.5, 1, 2, 3, 5]
const CLIENT_TIMEOUT_MS = 5000
const CLIENT_CONNECTIONS = 2000
const RSS_EVERY_MS = 50
/** Between two loads: what was begun has ended, and memory may come back. */
const REST_MS = 1500

interface Curve extends OpenLoopResult {
  readonly factor: number
  readonly offered: number
  /** CPU seconds of the gateway per second while calls were sent. */
  readonly cpuShare: number
  /** Most while calls were sent. */
  readonly rssMib: number
  /** Mean wait for a turn of those that were let in. */
  readonly queueMs: number
  /** p99 of the delay of the event loop. */
  readonly lagMs: number
}

type Headers = Readonly<Record<string, string>>

/** A gateway under test, and how to ask it. */
interface Subject {
  readonly served: Served
  readonly headers: Headers
  readonly adminHeaders: Headers
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const database = await createTestDatabase()
  const upstream = await serve('./upstream.ts')
  let gateway: Served | null = null
  try {
    const { text: key } = await createKey(database.pool, BENCH_KEY, Date.now())
    const { text: adminKey } = await createKey(
      database.pool,
      { ...BENCH_KEY, scopes: ['gateway:admin'] },
      Date.now(),
    )
    const file = join(folder, 'gateway.yaml')
    await writeFile(file, configText(upstream.port))
    gateway = await serve('./gateway.mjs', [file], benchEnv(database))
    const subject: Subject = {
      served: gateway,
      headers: { ...CALL_HEADERS, authorization: `Bearer ${key}` },
      adminHeaders: { authorization: `Bearer ${adminKey}` },
    }
    await capacityOf(subject, WARM_CALLS)
    let sent = WARM_CALLS
    console.log(`capacity: what ${CONNECTIONS} callers get who wait for each answer\n${HEADER}`)
    for (const factor of LOADS) {
      const capacity = await capacityOf(subject, CAPACITY_CALLS)
      const curve = await offer(subject, factor, capacity * factor)
      sent += CAPACITY_CALLS + curve.samples.length
      print(curve, capacity)
    }
    console.log(`RSS after it: ${rssOf(gateway.pid).toFixed(0)} MiB`)
    await gateway.stop()
    gateway = null
    await reportRows(database.owner, sent)
  } finally {
    await gateway?.stop()
    await upstream.stop()
    await database.drop()
    await stopSharedServer()
    await rm(folder, { recursive: true, force: true })
  }
}

function configText(upstreamPort: number): string {
  return stringify({
    ...BENCH_SETTINGS,
    admin: { listen: '127.0.0.1:0' },
    policies: resolve('policies'),
    upstreams: { support: { url: `http://127.0.0.1:${upstreamPort}/mcp`, labels: { tenant: 'acme' } } },
  })
}

/** Calls served per second, by the same cheap callers that send more than that later. */
async function capacityOf({ served, headers }: Subject, calls: number): Promise<number> {
  const parts = { port: served.port, path: '/mcp/support', headers, body: CALL_BODY }
  return await closedLoop({ ...parts, timeoutMs: CLIENT_TIMEOUT_MS, connections: CONNECTIONS }, calls)
}

/** Sends `rate` calls a second for some seconds, whatever comes back, waits for the last answer, and rests. */
async function offer(subject: Subject, factor: number, rate: number): Promise<Curve> {
  const { pid, port } = subject.served
  const before = await readMetrics(subject)
  const cpuBefore = cpuOf(pid)
  let cpuShare = 0
  let rssMib = 0
  const watch = setInterval(() => {
    rssMib = Math.max(rssMib, rssOf(pid))
  }, RSS_EVERY_MS)
  const result = await openLoop({
    ...{ port, path: '/mcp/support', headers: subject.headers, body: CALL_BODY, rate, seconds: SECONDS },
    timeoutMs: CLIENT_TIMEOUT_MS,
    connections: CLIENT_CONNECTIONS,
    onSent() {
      cpuShare = (cpuOf(pid) - cpuBefore) / 1e6 / SECONDS
    },
  })
  clearInterval(watch)
  const after = await readMetrics(subject)
  await new Promise((done) => setTimeout(done, REST_MS))
  const turns = after.queueCount - before.queueCount
  const queueMs = ((after.queueSeconds - before.queueSeconds) / Math.max(1, turns)) * 1000
  return { ...result, factor, offered: rate, cpuShare, rssMib, queueMs, lagMs: after.lagSeconds * 1000 }
}

interface Metrics {
  readonly queueSeconds: number
  readonly queueCount: number
  /** p99 since the metrics were last read. */
  readonly lagSeconds: number
}

async function readMetrics({ served, adminHeaders }: Subject): Promise<Metrics> {
  const answer = await fetch(`http://127.0.0.1:${served.adminPort}/metrics`, { headers: adminHeaders })
  const text = await answer.text()
  const sampleOf = (name: string): number => Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1])
  return {
    queueSeconds: sampleOf('gateway_queue_seconds_sum'),
    queueCount: sampleOf('gateway_queue_seconds_count'),
    lagSeconds: sampleOf('nodejs_eventloop_lag_p99_seconds'),
  }
}

function rssOf(pid: number): number {
  const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kib ?? 0) / 1024
}

const HEADER =
  '  load  capacity/s  offered/s  served/s  goodput  p50 ms  p99 ms  refused/s  p50 ms  p99 ms  other  queue ms  loop p99 ms   CPU  RSS MiB  sent late ms'

function print(curve: Curve, capacity: number): void {
  const { factor, offered, samples, seconds, cpuShare, rssMib, queueMs, lagMs, lateMs } = curve
  const served = samples.filter(({ status }) => status === 200)
  const refused = samples.filter(({ status }) => status === 503)
  const other = samples.length - served.length - refused.length
  const at = (some: readonly Sample[], share: number): string => {
    const times = some.map(({ ms }) => ms).sort((a, b) => a - b)
    return (times[Math.floor(times.length * share)] ?? 0).toFixed(0)
  }
  const goodput = `${((served.length / seconds / capacity) * 100).toFixed(0)} %`
  const columns: readonly (readonly [text: string | number, width: number])[] = [
    ...[[`${factor}x`, 6] as const, [capacity.toFixed(0), 12] as const, [offered.toFixed(0), 11] as const],
    ...[[(served.length / seconds).toFixed(0), 10] as const, [goodput, 9] as const],
    ...[[at(served, 0.5), 8] as const, [at(served, 0.99), 8] as const],
    ...[[(refused.length / seconds).toFixed(0), 11] as const, [at(refused, 0.5), 8] as const],
    ...[[at(refused, 0.99), 8] as const, [other, 7] as const, [queueMs.toFixed(0), 10] as const],
    ...[[lagMs.toFixed(0), 13] as const, [cpuShare.toFixed(2), 6] as const],
    ...[[rssMib.toFixed(0), 9] as const, [lateMs.toFixed(0), 14] as const],
  ]
  console.log(columns.map(([text, width]) => String(text).padStart(width)).join(''))
}

/** Every attempt is in the record, whatever became of it: by a row of its own or counted in one. */
async function reportRows(owner: Parameters<typeof toConnectionUrl>[0], sent: number): Promise<void> {
  const client = new pg.Client({ connectionString: toConnectionUrl(owner) })
  await client.connect()
  const { rows } = await client.query<{ outcome: string; rows: number; attempts: number }>(
    `select outcome, count(*)::int as rows, sum(coalesce((decision->'counted'->>'count')::int, 1))::int as attempts
     from audit_events group by outcome order by attempts desc`,
  )
  await client.end()
  const total = rows.reduce((sum, row) => sum + row.attempts, 0)
  const list = rows.map((row) => `${row.outcome} ${row.attempts} in ${row.rows} rows`).join(', ')
  console.log(`sent ${sent}, recorded ${total}: ${list}`)
}

await main()
