/**
 * CPU per call of the whole line and of its parts against a thin proxy, in one run, on the same box. Linux only, after
 * `npm run build`.
 *
 *     node --import=tsx/esm scripts/bench/line.ts
 */
import { execFile } from 'node:child_process'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import pg from 'pg'
import { stringify } from 'yaml'
import { createKey } from '../../src/auth/key-store.ts'
import { toConnectionUrl } from '../../src/db/connection.ts'
import { createTestDatabase, stopSharedServer } from '../../test/support/postgres.ts'
import type { LoadResult, Served } from './parts.ts'
import { CALL_BODY, CALL_HEADERS, cpuOf, load, median, serve } from './parts.ts'

const ROUNDS = 5
const CALLS = 4000
const CONNECTIONS = 32
const ALLOW = 'package gateway.authz\n\nallow contains "all"\n'

interface Subject {
  readonly name: string
  readonly served: Served
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  /** Its policies; null = none. */
  readonly policies: string | null
  /** Whether it keeps traces. */
  readonly audit: boolean
  readonly cpu: number[]
  readonly results: LoadResult[]
}

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const database = await createTestDatabase()
  const upstream = await serve('./upstream.ts')
  const subjects: Subject[] = []
  try {
    const { text: key } = await createKey(database.pool, benchKey(), Date.now())
    const secret = { GATEWAY_BENCH_SECRET: 'Vn5sQ2xk8Rz1Lw7Yc3Tb9Jh4Gd6Fm0PaSeUiOqXvKtB=' }
    const env = {
      ...secret,
      BENCH_URL: toConnectionUrl(database.runtime),
      BENCH_MIGRATE_URL: toConnectionUrl(database.owner),
    }
    const gateway = async (name: string, policies: string, audit: boolean): Promise<Subject> => {
      const file = await writeConfig(folder, name, policies, audit, upstream.port)
      const served = await serve('./gateway.mjs', [file], env)
      const headers = { ...CALL_HEADERS, authorization: `Bearer ${key}` }
      return { name, served, path: '/mcp/support', headers, policies, audit, cpu: [], results: [] }
    }
    const allowAll = join(folder, 'allow')
    await mkdir(join(allowAll, 'authz'), { recursive: true })
    await writeFile(join(allowAll, 'authz/all.rego'), ALLOW)
    subjects.push({
      name: 'thin proxy',
      served: await serve('./thin-proxy.mjs', [String(upstream.port)]),
      ...{ path: '/mcp', headers: CALL_HEADERS, policies: null, audit: false, cpu: [], results: [] },
    })
    subjects.push(await gateway('line, one-rule policy, no audit', allowAll, false))
    subjects.push(await gateway('line, shipped policy, no audit', resolve('policies'), false))
    subjects.push(await gateway('line, shipped policy, audit', resolve('policies'), true))
    await measure(subjects)
    report(subjects)
    await reportEvaluations(subjects)
    await reportStatements(subjects.at(-1) as Subject, database.owner)
    await reportLatency(subjects)
  } finally {
    for (const { served } of subjects) await served.stop()
    await upstream.stop()
    await database.drop()
    await stopSharedServer()
    await rm(folder, { recursive: true, force: true })
  }
}

function benchKey(): Parameters<typeof createKey>[1] {
  return {
    name: 'bench',
    kind: 'service',
    roles: ['developer'],
    tenant: 'acme',
    teams: [],
    scopes: [],
    claims: {},
    expiresAt: null,
  }
}

async function writeConfig(
  folder: string,
  name: string,
  policies: string,
  audit: boolean,
  port: number,
): Promise<string> {
  const file = join(folder, `${name.replace(/\W+/g, '-')}.yaml`)
  await writeFile(
    file,
    stringify({
      listen: '127.0.0.1:0',
      admin: { listen: 'off' },
      policies,
      database: { url: '${BENCH_URL}', migrate_url: '${BENCH_MIGRATE_URL}' },
      secret: '${GATEWAY_BENCH_SECRET}',
      audit: { enabled: audit, spool_dir: './spool' },
      upstreams: { support: { url: `http://127.0.0.1:${port}/mcp`, labels: { tenant: 'acme' } } },
    }),
  )
  return file
}

async function run(one: Subject, calls: number, connections: number): Promise<LoadResult> {
  const result = await load({
    origin: `http://127.0.0.1:${one.served.port}`,
    path: one.path,
    headers: one.headers,
    body: CALL_BODY,
    calls,
    connections,
  })
  if (result.failed > 0) throw new Error(`${one.name}: ${result.failed} of ${calls} calls failed`)
  return result
}

async function measure(subjects: readonly Subject[]): Promise<void> {
  for (const one of subjects) await run(one, CALLS, CONNECTIONS)
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const one of subjects) {
      const before = cpuOf(one.served.pid)
      one.results.push(await run(one, CALLS, CONNECTIONS))
      one.cpu.push((cpuOf(one.served.pid) - before) / CALLS)
    }
  }
}

function report(subjects: readonly Subject[]): void {
  const base = median(subjects[0]?.cpu ?? [])
  console.log(
    `gateway process CPU per tools/call, median of ${ROUNDS} rounds of ${CALLS} calls, ${CONNECTIONS} connections`,
  )
  for (const one of subjects) {
    const cpu = median(one.cpu)
    const rate = median(one.results.map((result) => result.perSecond))
    console.log(
      `${one.name.padEnd(36)} ${cpu.toFixed(0).padStart(5)} us   ${(cpu / base).toFixed(2)}x   ${rate.toFixed(0).padStart(6)}/s`,
    )
  }
}

/** The line with evaluation and trace taken out: what they cost is measured alone, and subtracted. */
async function reportEvaluations(subjects: readonly Subject[]): Promise<void> {
  const base = median(subjects[0]?.cpu ?? [])
  console.log('deciding taken out: CPU of one decision, and of its trace where a row keeps it')
  for (const { name, policies, audit, cpu } of subjects) {
    if (policies === null) continue
    const program = fileURLToPath(new URL('./evaluation.mjs', import.meta.url))
    const { stdout } = await promisify(execFile)(process.execPath, [program, policies])
    const { decision, traced } = JSON.parse(stdout) as { decision: number; traced: number }
    const deciding = audit ? traced : decision
    const rest = median(cpu) - deciding
    console.log(
      `${name.padEnd(36)} ${rest.toFixed(0).padStart(5)} us   ${(rest / base).toFixed(2)}x   of deciding ${deciding.toFixed(0)} us`,
    )
  }
}

/** Transactions of the audit writer per call, from the server's own counters. */
async function reportStatements(one: Subject, owner: Parameters<typeof toConnectionUrl>[0]): Promise<void> {
  const client = new pg.Client({ connectionString: toConnectionUrl(owner) })
  await client.connect()
  const commits = async (): Promise<number> => {
    await new Promise((resolve) => setTimeout(resolve, 1500))
    const { rows } = await client.query(
      'select (xact_commit + xact_rollback)::int as n from pg_stat_database where datname = current_database()',
    )
    return Number(rows[0]?.n)
  }
  const before = await commits()
  await run(one, CALLS, CONNECTIONS)
  const after = await commits()
  await client.end()
  console.log(`SQL statements per call under load: ${((after - before) / CALLS).toFixed(3)}`)
}

async function reportLatency(subjects: readonly Subject[]): Promise<void> {
  console.log('one connection, p50 / p99 ms')
  for (const one of subjects) {
    const { p50Ms, p99Ms } = await run(one, 1000, 1)
    console.log(`${one.name.padEnd(36)} ${p50Ms.toFixed(2)} / ${p99Ms.toFixed(2)}`)
  }
}

await main()
