/**
 * What limits cost: three limits per call against one, and against the stock limiter of `rate-limiter-flexible` with its
 * three statements in parallel. All on one PostgreSQL in one run, in turns, so that the ratios mean something on any
 * machine. About 25 s: `node --import=tsx/esm scripts/bench/rate.ts`.
 */
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import pg from 'pg'
import { RateLimiterPostgres } from 'rate-limiter-flexible'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createPools, guardPool } from '../../src/db/pools.ts'
import { createLimiter } from '../../src/rate/room.ts'

const CONCURRENCY = 50
const ROUNDS = 3
const ROUND_MS = 1300
/** Nobody is refused: a refusal costs less. */
const LIMIT = 1_000_000_000
const WINDOW_S = 3600
const [PRINCIPALS, TOOLS, TENANTS] = [1000, 50, 5]

interface Contestant {
  readonly name: string
  call(): Promise<unknown>
  /** Statements sent so far. */
  statements(): number
}

interface Sample {
  readonly perSecond: number
  readonly cpuUs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly statementsPerCall: number
}

const folder = await mkdtemp('/tmp/gateway-bench-')
// Run by root, the server is another user's and has to get there.
await chmod(folder, 0o711)
const server = await startEmbeddedPostgres({ dataHome: join(folder, 'pg'), path: process.env['PATH'] ?? '' })
await migrate({ owner: server.owner, runtime: server.runtime })
const pools = createPools({ runtime: server.runtime, onIdleError: () => undefined })
const stockPools = [openStockPool('on'), openStockPool('off')] as const
const limiter = createLimiter({
  pool: pools.limits,
  clock: { nowMs: Date.now, monotonicMs: () => performance.now() },
  log: { info: () => undefined, warn: console.error, error: console.error },
})

const ours = (count: number): Contestant => ({
  name: count === 1 ? 'this limiter, one limit' : `this limiter, ${count} limits`,
  call: () => limiter.charge(keys().slice(0, count).map(toLimit)),
  statements: () => limiter.state().statements,
})
const contestants: readonly Contestant[] = [
  ours(3),
  ours(1),
  await stock('stock library, 3 in parallel, sync off', stockPools[1], 'stock_off'),
  await stock('stock library, 3 in parallel, as it comes', stockPools[0], 'stock_on'),
]

const samples = new Map<Contestant, Sample[]>(contestants.map((contestant) => [contestant, []]))
for (const contestant of contestants) await measure(contestant, CONCURRENCY, 200)
for (let round = 0; round < ROUNDS; round += 1) {
  for (const contestant of contestants) {
    samples.get(contestant)?.push(await measure(contestant, CONCURRENCY, ROUND_MS))
  }
}
report(`closed loop, ${CONCURRENCY} callers, medians of ${ROUNDS} rounds`, (contestant) =>
  median(samples.get(contestant) ?? []),
)
const single = new Map<Contestant, Sample>()
for (const contestant of contestants) single.set(contestant, await measure(contestant, 1, ROUND_MS / 2))
report('one caller', (contestant) => single.get(contestant) as Sample)

await limiter.close()
await Promise.all([pools.close(), ...stockPools.map((pool) => pool.end())])
await server.stop()
await rm(folder, { recursive: true, force: true })

/** Principal with tool, principal, tenant: as an organisation would limit. */
function keys(): readonly (readonly string[])[] {
  const principal = `principal-${Math.floor(Math.random() * PRINCIPALS)}`
  const tool = `tool-${Math.floor(Math.random() * TOOLS)}`
  return [[principal, tool], [principal], [`tenant-${Math.floor(Math.random() * TENANTS)}`]]
}

function toLimit(key: readonly string[], at: number) {
  return { name: `limit-${at}`, key, limit: LIMIT, window_s: WINDOW_S }
}

function openStockPool(synchronousCommit: 'on' | 'off'): pg.Pool {
  const options = `-c synchronous_commit=${synchronousCommit}`
  const pool = new pg.Pool({ ...server.owner, max: 10, options })
  guardPool(pool, () => undefined)
  return pool
}

async function stock(name: string, pool: pg.Pool, tableName: string): Promise<Contestant> {
  let statements = 0
  const limiters = await new Promise<RateLimiterPostgres>((resolve, reject) => {
    const settings = { storeClient: pool, storeType: 'pool', tableName, points: LIMIT, duration: WINDOW_S }
    const made: RateLimiterPostgres = new RateLimiterPostgres(settings, (error?: Error) =>
      error ? reject(error) : setImmediate(() => resolve(made)),
    )
  })
  return {
    name,
    statements: () => statements,
    call() {
      statements += 3
      return Promise.all(keys().map((key, at) => limiters.consume(`${at}:${key.join(':')}`)))
    },
  }
}

async function measure(contestant: Contestant, callers: number, ms: number): Promise<Sample> {
  const waits: number[] = []
  const before = contestant.statements()
  const cpu = process.cpuUsage()
  const from = performance.now()
  const until = from + ms
  await Promise.all(
    Array.from({ length: callers }, async () => {
      for (let now = performance.now(); now < until; ) {
        await contestant.call()
        const after = performance.now()
        waits.push(after - now)
        now = after
      }
    }),
  )
  const seconds = (performance.now() - from) / 1000
  const { user, system } = process.cpuUsage(cpu)
  waits.sort((a, b) => a - b)
  return {
    perSecond: waits.length / seconds,
    cpuUs: (user + system) / waits.length,
    p50Ms: waits[Math.floor(waits.length * 0.5)] ?? 0,
    p99Ms: waits[Math.floor(waits.length * 0.99)] ?? 0,
    statementsPerCall: (contestant.statements() - before) / waits.length,
  }
}

function median(rounds: readonly Sample[]): Sample {
  const sorted = [...rounds].sort((a, b) => a.perSecond - b.perSecond)
  return sorted[Math.floor(sorted.length / 2)] as Sample
}

function report(title: string, sampleOf: (contestant: Contestant) => Sample): void {
  const reference = sampleOf(contestants[0] as Contestant)
  console.log(`\n${title}`)
  console.table(
    contestants.map((contestant) => {
      const sample = sampleOf(contestant)
      return {
        what: contestant.name,
        'calls/s': Math.round(sample.perSecond),
        'gateway CPU us/call': round(sample.cpuUs, 1),
        'p50 ms': round(sample.p50Ms, 2),
        'p99 ms': round(sample.p99Ms, 2),
        'statements/call': round(sample.statementsPerCall, 3),
        'speed of first : this': round(reference.perSecond / sample.perSecond, 2),
        'CPU of this : first': round(sample.cpuUs / reference.cpuUs, 2),
      }
    }),
  )
}

function round(value: number, digits: number): number {
  return Number(value.toFixed(digits))
}
