/** Round trips to OPA's own server (`opa run --server`) on loopback, built from the module that the compiler is pinned to. */
import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Pool } from 'undici'
import { median } from './parts.ts'

/** What is asked, and how often. */
export interface RoundTripOptions {
  /** An `opa` that is built already; null = it is built. */
  readonly binary: string | null
  readonly sources: Readonly<Record<string, string>>
  readonly data: unknown
  readonly input: unknown
  readonly rounds: number
  readonly times: number
}

const MODULE = 'github.com/open-policy-agent/opa'

/** Median of a round trip in microseconds, or why there is none. */
export async function roundTrips(
  options: RoundTripOptions,
): Promise<{ readonly medianUs: number } | { readonly skipped: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-opa-'))
  try {
    const built = options.binary ?? (await build(folder))
    if (typeof built !== 'string') return built
    return { medianUs: await measure(built, folder, options) }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function build(folder: string): Promise<string | { readonly skipped: string }> {
  const goMod = await readFile(new URL('../../compiler/go.mod', import.meta.url), 'utf8')
  const version = new RegExp(`${MODULE} (v[^\\s]+)`).exec(goMod)?.[1] ?? ''
  await writeFile(join(folder, 'go.mod'), `module bench\n\ngo 1.26\n\nrequire ${MODULE} ${version}\n`)
  try {
    await promisify(execFile)('go', ['build', '-mod=mod', '-o', join(folder, 'opa'), MODULE], { cwd: folder })
    return join(folder, 'opa')
  } catch (error) {
    const [first = ''] = String(error).split('\n')
    return { skipped: `OPA ${version} cannot be built here: ${first}` }
  }
}

async function measure(binary: string, folder: string, options: RoundTripOptions): Promise<number> {
  const policies = join(folder, 'policies')
  for (const [name, text] of Object.entries(options.sources)) {
    const file = join(policies, name.replace(/[<>]/g, ''))
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  }
  await writeFile(join(policies, 'data.json'), JSON.stringify(options.data))
  const port = await freePort()
  const args = ['run', '--server', '--addr', `127.0.0.1:${port}`, '--log-level', 'error', policies]
  const server = spawn(binary, [...args, '--disable-telemetry'], { stdio: 'ignore' })
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: 1 })
  try {
    await untilServing(pool, server)
    return await timed(pool, options)
  } finally {
    await pool.destroy()
    if (server.exitCode === null) {
      server.kill('SIGTERM')
      await once(server, 'exit')
    }
  }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  return typeof address === 'object' && address !== null ? address.port : 0
}

async function untilServing(pool: Pool, server: ChildProcess): Promise<void> {
  for (let attempt = 0; attempt < 200; attempt += 1) {
    if (server.exitCode !== null) throw new Error(`opa ended with ${server.exitCode}`)
    const answer = await pool.request({ method: 'GET', path: '/health' }).catch(() => null)
    await answer?.body.dump()
    if (answer?.statusCode === 200) return
    await setTimeout(50)
  }
  throw new Error('opa does not serve')
}

async function timed(pool: Pool, { input, rounds, times }: RoundTripOptions): Promise<number> {
  const body = JSON.stringify({ input })
  const headers = { 'content-type': 'application/json' }
  const medians: number[] = []
  for (let round = 0; round < rounds; round += 1) {
    const took: number[] = []
    for (let n = 0; n < times; n += 1) {
      const from = performance.now()
      const answer = await pool.request({ method: 'POST', path: '/v1/data/gateway/decision', headers, body })
      const { result } = (await answer.body.json()) as { readonly result?: { readonly allow?: unknown } }
      took.push((performance.now() - from) * 1000)
      if (result?.allow !== true) throw new Error('opa does not allow the call')
    }
    medians.push(median(took))
  }
  return median(medians)
}
