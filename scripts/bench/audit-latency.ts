/** What each mode adds to a call: whole gateways under an open loop at a fixed rate, one after the other in each round. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { createKey } from '../../src/auth/key-store.ts'
import type { TestDatabase } from '../../test/support/postgres.ts'
import type { AuditBenchOptions } from './audit.ts'
import { openLoop } from './open-loop.ts'
import type { Served } from './parts.ts'
import { CALL_BODY, CALL_HEADERS, cpuOf, median, serve } from './parts.ts'
import { BENCH_KEY, BENCH_SETTINGS, benchEnv } from './settings.ts'

const RATES = [200, 1000]
const MODES = ['off', 'batch', 'durable', 'blocking'] as const
const CONNECTIONS = 64

interface Subject {
  readonly mode: (typeof MODES)[number]
  readonly served: Served
  readonly p50: number[]
  readonly p99: number[]
  readonly cpu: number[]
  failed: number
}

export async function measureLatency(
  database: TestDatabase,
  { rounds, seconds }: AuditBenchOptions,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const upstream = await serve('./upstream.ts')
  const subjects: Subject[] = []
  try {
    const { text: key } = await createKey(database.pool, BENCH_KEY, Date.now())
    await mkdir(join(folder, 'policies'))
    await writeFile(join(folder, 'policies/all.rego'), 'package gateway.authz\n\nallow contains "all"\n')
    for (const mode of MODES) {
      const served = await serve(
        './gateway.mjs',
        [await writeConfig(folder, mode, upstream.port)],
        benchEnv(database),
      )
      subjects.push({ mode, served, p50: [], p99: [], cpu: [], failed: 0 })
    }
    for (const rate of RATES) await measureAt(rate, subjects, key, { rounds, seconds })
  } finally {
    for (const { served } of subjects) await served.stop()
    await upstream.stop()
    await rm(folder, { recursive: true, force: true })
  }
}

async function measureAt(
  rate: number,
  subjects: readonly Subject[],
  key: string,
  { rounds, seconds }: Pick<AuditBenchOptions, 'rounds' | 'seconds'>,
): Promise<void> {
  for (const subject of subjects) {
    for (const list of [subject.p50, subject.p99, subject.cpu]) list.length = 0
    subject.failed = 0
  }
  for (let round = 0; round <= rounds; round += 1) {
    for (const subject of subjects) await load(subject, key, rate, { seconds, isWarmUp: round === 0 })
  }
  const [off] = subjects
  console.log(
    `added to a call at ${rate}/s (open loop, median of ${rounds} rounds of ${seconds} s), ms; CPU of the gateway, us`,
  )
  for (const subject of subjects) {
    const { mode, p50, p99, cpu, failed } = subject
    const added = (own: readonly number[], base: readonly number[] = []): string =>
      `${median(own).toFixed(2).padStart(7)} (${(median(own) - median(base)).toFixed(2).padStart(6)} added)`
    console.log(
      `  ${mode.padEnd(9)} p50 ${added(p50, off?.p50)}   p99 ${added(p99, off?.p99)}   cpu ${median(cpu).toFixed(0).padStart(5)}${failed > 0 ? `   ${failed} calls failed` : ''}`,
    )
  }
}

async function load(
  subject: Subject,
  key: string,
  rate: number,
  { seconds, isWarmUp }: { readonly seconds: number; readonly isWarmUp: boolean },
): Promise<void> {
  const before = cpuOf(subject.served.pid)
  const { samples } = await openLoop({
    port: subject.served.port,
    path: '/mcp/support',
    headers: { ...CALL_HEADERS, authorization: `Bearer ${key}` },
    body: CALL_BODY,
    ...{ rate, seconds, timeoutMs: 5000, connections: CONNECTIONS, onSent: () => undefined },
  })
  if (isWarmUp) return
  const times = samples.map(({ ms }) => ms).sort((a, b) => a - b)
  subject.p50.push(times[Math.floor(times.length * 0.5)] ?? 0)
  subject.p99.push(times[Math.floor(times.length * 0.99)] ?? 0)
  subject.cpu.push((cpuOf(subject.served.pid) - before) / samples.length)
  subject.failed += samples.filter(({ status }) => status !== 200).length
}

async function writeConfig(folder: string, mode: Subject['mode'], port: number): Promise<string> {
  const file = join(folder, `${mode}.yaml`)
  await writeFile(
    file,
    stringify({
      ...BENCH_SETTINGS,
      audit: mode === 'off' ? { enabled: false } : { mode, spool_dir: './spool' },
      upstreams: { support: { url: `http://127.0.0.1:${port}/mcp` } },
    }),
  )
  return file
}
