/**
 * CPU per call of the whole line and of its parts against a thin proxy, in one run, on the same box. Linux only.
 *
 *     npm run build && node --import=tsx/esm scripts/bench/line.ts
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
import { BENCH_KEY, BENCH_SETTINGS, benchEnv } from './settings.ts'

const ROUNDS = 5
const CALLS = 4000
const CONNECTIONS = 32
const ALLOW = 'package gateway.authz\n\nallow contains "all"\n'

/** A call on it leaves about 30 events: rules, and expressions that held or failed. */
const THIRTY = `package gateway.authz

allow contains "member" if {
	some role in input.principal.roles
	role in {"developer", "operator"}
	input.server.labels.tenant == input.principal.tenant
	is_reading
}

is_reading if startswith(input.target.name, "search_")

is_reading if input.target.annotations.readOnlyHint == true

deny contains reason if {
	some reason, tools in {"no-shell": ["exec", "shell"], "no-mail": ["send_mail"]}
	input.target.name in tools
}

deny contains "another-tenant" if input.arguments.tenant != input.principal.tenant

deny contains "too-many" if input.arguments.limit > 100

deny contains "no-secrets" if contains(lower(input.arguments.query), "password")

deny contains "destructive" if {
	input.target.annotations.destructiveHint == true
	not input.principal.claims.mfa
}

limits contains {"name": "per-caller", "key": [input.principal.id], "limit": 1000000, "window_s": 60} if {
	input.phase == "call"
	input.principal.kind == "service"
}
`

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
    const { text: key } = await createKey(database.pool, BENCH_KEY, Date.now())
    const env = benchEnv(database)
    const gateway = async (name: string, policies: string, audit: boolean): Promise<Subject> => {
      const file = await writeConfig(folder, name, policies, audit, upstream.port)
      const served = await serve('./gateway.mjs', [file], env)
      const headers = { ...CALL_HEADERS, authorization: `Bearer ${key}` }
      return { name, served, path: '/mcp/support', headers, policies, audit, cpu: [], results: [] }
    }
    const allowAll = await writePolicy(join(folder, 'allow'), ALLOW)
    const thirty = await writePolicy(join(folder, 'thirty'), THIRTY)
    subjects.push({
      name: 'thin proxy',
      served: await serve('./thin-proxy.mjs', [String(upstream.port)]),
      ...{ path: '/mcp', headers: CALL_HEADERS, policies: null, audit: false, cpu: [], results: [] },
    })
    subjects.push(await gateway('line, one-rule policy, no audit', allowAll, false))
    subjects.push(await gateway('line, one-rule policy, audit', allowAll, true))
    subjects.push(await gateway('line, 30-event policy, no audit', thirty, false))
    subjects.push(await gateway('line, 30-event policy, audit', thirty, true))
    subjects.push(await gateway('line, shipped policy, no audit', resolve('policies'), false))
    subjects.push(await gateway('line, shipped policy, audit', resolve('policies'), true))
    await measure(subjects)
    report(subjects)
    await reportEvaluations(subjects)
    reportParts(subjects)
    await reportEvents(database.owner)
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

async function writePolicy(folder: string, text: string): Promise<string> {
  await mkdir(join(folder, 'authz'), { recursive: true })
  await writeFile(join(folder, 'authz/all.rego'), text)
  return folder
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
      ...BENCH_SETTINGS,
      policies,
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

/** What each part adds to the one before it. */
function reportParts(subjects: readonly Subject[]): void {
  const cpu = new Map(subjects.map((one) => [one.name, median(one.cpu)]))
  const of = (name: string): number => cpu.get(name) ?? Number.NaN
  const bare = of('line, one-rule policy, no audit')
  const row = of('line, one-rule policy, audit')
  console.log('parts, us per call')
  console.log(`  thin proxy                             ${of('thin proxy').toFixed(0).padStart(5)}`)
  console.log(`  all stages, evaluation of one rule     ${bare.toFixed(0).padStart(5)}`)
  console.log(`  a row whose trace is one rule          ${(row - bare).toFixed(0).padStart(5)}`)
  for (const name of ['30-event', 'shipped']) {
    const without = of(`line, ${name} policy, no audit`)
    const audit = of(`line, ${name} policy, audit`) - without
    console.log(`  evaluation, ${name.padEnd(26)} ${(without - bare).toFixed(0).padStart(5)}`)
    console.log(`  row with its trace, ${name.padEnd(18)} ${audit.toFixed(0).padStart(5)}`)
  }
}

/** How many events the stored traces hold, per policy. */
async function reportEvents(owner: Parameters<typeof toConnectionUrl>[0]): Promise<void> {
  const client = new pg.Client({ connectionString: toConnectionUrl(owner) })
  await client.connect()
  const { rows } = await client.query<{ events: number; bytes: number }>(
    `select distinct jsonb_array_length(jsonb_path_query_array(trace, '$.**{2 to last}.at'))::int as events,
       round(avg(length(trace::text)))::int as bytes
     from audit_events, lateral (select decision #> '{authz,trace}' as trace) as t
     where trace is not null group by 1 order by 1`,
  )
  await client.end()
  for (const { events, bytes } of rows) console.log(`stored traces of ${events} events: ${bytes} characters`)
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
