/**
 * What the gateway does with more than it can do: calls arrive at a fixed rate whether it answers or not (open loop), at
 * half, once and three times what it was measured to serve. Times count from when a call was due. Linux only.
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
import { openLoop } from './open-loop.ts'
import type { LoadOptions, Served } from './parts.ts'
import { CALL_BODY, CALL_HEADERS, cpuOf, load, serve } from './parts.ts'

const SECONDS = Math.min(8, Number(process.argv[2] ?? 2.5))
const WARM_CALLS = 1500
const CAPACITY_CALLS = 2500
const CONNECTIONS = 32
const LOADS = [0.5, 1, 3]
/** What the gateway is told to hold. */
const MAX_DELAY_MS = 500
const CLIENT_TIMEOUT_MS = 5000
const CLIENT_CONNECTIONS = 2000

interface Curve extends OpenLoopResult {
  readonly offered: number
  /** CPU seconds of the gateway per second while calls were sent. */
  readonly cpuShare: number
  readonly rssMib: number
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const database = await createTestDatabase()
  const upstream = await serve('./upstream.ts')
  const gateways: Served[] = []
  try {
    const { text: key } = await createKey(database.pool, benchKey(), Date.now())
    const headers = { ...CALL_HEADERS, authorization: `Bearer ${key}` }
    const start = async (name: string, maxDelayMs: number | null): Promise<Served> => {
      const file = join(folder, `${name}.yaml`)
      await writeFile(file, configText(upstream.port, maxDelayMs))
      const served = await serve('./gateway.ts', [file], {
        GATEWAY_BENCH_SECRET: 'Vn5sQ2xk8Rz1Lw7Yc3Tb9Jh4Gd6Fm0PaSeUiOqXvKtB=',
        BENCH_URL: toConnectionUrl(database.runtime),
        BENCH_MIGRATE_URL: toConnectionUrl(database.owner),
      })
      gateways.push(served)
      return served
    }
    const gateway = await start('shedding', MAX_DELAY_MS)
    const capacity = await measureCapacity(gateway, headers)
    console.log(`serves ${capacity.toFixed(0)} calls/s (closed loop, ${CONNECTIONS} connections)`)
    console.log(`max_delay_ms: ${MAX_DELAY_MS}\n${HEADER}`)
    let sent = WARM_CALLS + CAPACITY_CALLS
    for (const factor of LOADS) {
      const curve = await offer(gateway, headers, capacity * factor)
      sent += curve.samples.length
      print(factor, curve)
    }
    await reportRows(database.owner, sent)
    await gateway.stop()
    gateways.pop()
    console.log('max_delay_ms: null (only max_in_flight refuses)')
    const patient = await start('patient', null)
    await load({ ...closedLoop(patient, headers), calls: WARM_CALLS })
    print(3, await offer(patient, headers, capacity * 3))
  } finally {
    for (const served of gateways) await served.stop()
    await upstream.stop()
    await database.drop()
    await stopSharedServer()
    await rm(folder, { recursive: true, force: true })
  }
}

function configText(upstreamPort: number, maxDelayMs: number | null): string {
  return stringify({
    listen: '127.0.0.1:0',
    admin: { listen: 'off' },
    policies: resolve('policies'),
    database: { url: '${BENCH_URL}', migrate_url: '${BENCH_MIGRATE_URL}' },
    secret: '${GATEWAY_BENCH_SECRET}',
    limits: { max_delay_ms: maxDelayMs },
    upstreams: { support: { url: `http://127.0.0.1:${upstreamPort}/mcp`, labels: { tenant: 'acme' } } },
  })
}

function benchKey(): Parameters<typeof createKey>[1] {
  const none = { teams: [], scopes: [], claims: {}, expiresAt: null }
  return { name: 'bench', kind: 'service', roles: ['developer'], tenant: 'acme', ...none }
}

type Headers = Readonly<Record<string, string>>

function closedLoop({ port }: Served, headers: Headers): Omit<LoadOptions, 'calls'> {
  const origin = `http://127.0.0.1:${port}`
  return { origin, path: '/mcp/support', headers, body: CALL_BODY, connections: CONNECTIONS }
}

async function measureCapacity(gateway: Served, headers: Headers): Promise<number> {
  const parts = closedLoop(gateway, headers)
  await load({ ...parts, calls: WARM_CALLS })
  const { perSecond, failed } = await load({ ...parts, calls: CAPACITY_CALLS })
  if (failed > 0) console.log(`${failed} of ${CAPACITY_CALLS} calls were refused while measuring`)
  return perSecond
}

/** Sends `rate` calls a second for some seconds, whatever comes back, and waits for the last answer. */
async function offer(gateway: Served, headers: Headers, rate: number): Promise<Curve> {
  const cpuBefore = cpuOf(gateway.pid)
  let cpuShare = 0
  let rssMib = 0
  const result = await openLoop({
    ...{ port: gateway.port, path: '/mcp/support', headers, body: CALL_BODY, rate, seconds: SECONDS },
    timeoutMs: CLIENT_TIMEOUT_MS,
    connections: CLIENT_CONNECTIONS,
    onSent() {
      cpuShare = (cpuOf(gateway.pid) - cpuBefore) / 1e6 / SECONDS
      rssMib = rssOf(gateway.pid)
    },
  })
  return { ...result, offered: rate, cpuShare, rssMib }
}

function rssOf(pid: number): number {
  const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
  return Number(kib ?? 0) / 1024
}

const HEADER =
  '  load  offered/s   served/s  p50 ms  p99 ms   refused/s  p50 ms  p99 ms   other   CPU   RSS MiB  most open  sent late ms'

function print(
  factor: number,
  { offered, samples, seconds, cpuShare, rssMib, lateMs, mostOpen }: Curve,
): void {
  const served = samples.filter(({ status }) => status === 200)
  const refused = samples.filter(({ status }) => status === 503)
  const other = samples.length - served.length - refused.length
  const at = (some: readonly Sample[], share: number): string => {
    const times = some.map(({ ms }) => ms).sort((a, b) => a - b)
    return (times[Math.floor(times.length * share)] ?? 0).toFixed(0).padStart(6)
  }
  const rate = (some: readonly Sample[]): string => (some.length / seconds).toFixed(0).padStart(9)
  console.log(
    `${`${factor}x`.padStart(6)}  ${offered.toFixed(0).padStart(9)}  ${rate(served)}  ${at(served, 0.5)}  ${at(served, 0.99)}` +
      `   ${rate(refused)}  ${at(refused, 0.5)}  ${at(refused, 0.99)}  ${String(other).padStart(6)}  ${cpuShare.toFixed(2)}  ${rssMib.toFixed(0).padStart(8)}  ${String(mostOpen).padStart(9)}  ${lateMs.toFixed(0).padStart(12)}`,
  )
}

/** Every attempt has its row, whatever became of it. */
async function reportRows(owner: Parameters<typeof toConnectionUrl>[0], sent: number): Promise<void> {
  const client = new pg.Client({ connectionString: toConnectionUrl(owner) })
  await client.connect()
  const { rows } = await client.query<{ outcome: string; n: number }>(
    'select outcome, count(*)::int as n from audit_events group by outcome order by n desc',
  )
  await client.end()
  const total = rows.reduce((sum, row) => sum + row.n, 0)
  console.log(`sent ${sent}, audit rows ${total}: ${rows.map((row) => `${row.outcome} ${row.n}`).join(', ')}`)
}

await main()
