/**
 * What must not change with size: CPU of a call with 1,000 keys and 1,000 tools against one of each, paired in one run; and the
 * memory of the gateway over many calls. 1 = memory grew. Linux only, after `npm run build`.
 *
 *     node --import=tsx/esm scripts/bench/scale.ts [CALLS]      default 1,000,000: about eight minutes
 */
import { readFileSync } from 'node:fs'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { createKey } from '../../src/auth/key-store.ts'
import { createTestDatabase, stopSharedServer } from '../../test/support/postgres.ts'
import type { LoadRequest, Served } from './parts.ts'
import { CALL_BODY, CALL_HEADERS, cpuOf, load, median, serve } from './parts.ts'
import { BENCH_KEY, BENCH_SETTINGS, benchEnv } from './settings.ts'

const KEYS = 1000
const TOOLS = 1000
const ROUNDS = 5
const CALLS_PER_ROUND = 4000
const CONNECTIONS = 32
const REPORTS = 10
/** Growth of the process that is no leak, in bytes: memory rises and falls with the collector, so the lowest of each half count. */
const ALLOWED_GROWTH = 32 << 20

async function main(calls: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const database = await createTestDatabase()
  const upstream = await serve('./upstream.ts', [String(TOOLS)])
  let gateway: Served | null = null
  try {
    const keys: string[] = []
    for (let at = 0; at < KEYS; at += 1)
      keys.push((await createKey(database.pool, { ...BENCH_KEY, name: `bench-${at}` }, Date.now())).text)
    const file = await writeConfig(folder, upstream.port)
    gateway = await serve('./gateway.mjs', [file], benchEnv(database))
    const few = (): LoadRequest => requestOf(keys[0] ?? '', 0)
    const many = (at: number): LoadRequest => requestOf(keys[at % KEYS] ?? '', (at * 7) % TOOLS)
    await compare(gateway, few, many)
    await watchMemory(gateway, many, calls)
  } finally {
    await gateway?.stop()
    await upstream.stop()
    await database.drop()
    await stopSharedServer()
    await rm(folder, { recursive: true, force: true })
  }
}

async function writeConfig(folder: string, port: number): Promise<string> {
  await mkdir(join(folder, 'policies/authz'), { recursive: true })
  await writeFile(join(folder, 'policies/authz/all.rego'), 'package gateway.authz\n\nallow contains "all"\n')
  const file = join(folder, 'gateway.yaml')
  await writeFile(
    file,
    stringify({
      ...BENCH_SETTINGS,
      audit: { enabled: false },
      upstreams: { support: { url: `http://127.0.0.1:${port}/mcp`, labels: { tenant: 'acme' } } },
    }),
  )
  return file
}

/** Tool 0 is that of the other benchmarks. */
function requestOf(key: string, tool: number): LoadRequest {
  const name = tool === 0 ? 'search_tickets' : `tool_${tool}`
  return {
    headers: { ...CALL_HEADERS, 'mcp-name': name, authorization: `Bearer ${key}` },
    body: CALL_BODY.replace('search_tickets', name),
  }
}

async function run(gateway: Served, request: (at: number) => LoadRequest, calls: number): Promise<number> {
  const before = cpuOf(gateway.pid)
  const { failed } = await load({
    ...{ origin: `http://127.0.0.1:${gateway.port}`, path: '/mcp/support', ...request(0), request },
    ...{ calls, connections: CONNECTIONS },
  })
  if (failed > 0) throw new Error(`${failed} of ${calls} calls failed`)
  return (cpuOf(gateway.pid) - before) / calls
}

async function compare(
  gateway: Served,
  few: () => LoadRequest,
  many: (at: number) => LoadRequest,
): Promise<void> {
  const cpu = { few: [] as number[], many: [] as number[] }
  for (const request of [few, many]) await run(gateway, request, CALLS_PER_ROUND)
  for (let round = 0; round < ROUNDS; round += 1) {
    cpu.few.push(await run(gateway, few, CALLS_PER_ROUND))
    cpu.many.push(await run(gateway, many, CALLS_PER_ROUND))
  }
  const [one, all] = [median(cpu.few), median(cpu.many)]
  console.log(`CPU per call, one key and tool                ${one.toFixed(0).padStart(5)} us`)
  console.log(
    `CPU per call, ${KEYS} keys and ${TOOLS} tools, in turn   ${all.toFixed(0).padStart(5)} us   ${(all / one).toFixed(2)}x`,
  )
}

async function watchMemory(
  gateway: Served,
  request: (at: number) => LoadRequest,
  calls: number,
): Promise<void> {
  const resident: number[] = []
  const part = Math.ceil(calls / REPORTS)
  for (let done = part; done <= part * REPORTS; done += part) {
    await run(gateway, request, part)
    const bytes = residentBytes(gateway.pid)
    resident.push(bytes)
    console.log(`${done} calls: ${bytes >> 20} MiB resident`)
  }
  const half = REPORTS / 2
  const growth = Math.min(...resident.slice(half)) - Math.min(...resident.slice(0, half))
  if (growth > ALLOWED_GROWTH) process.exitCode = 1
}

/** What of a process is in memory (Linux). */
function residentBytes(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

await main(Number(process.argv[2] ?? 1_000_000))
