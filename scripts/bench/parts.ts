/** Processes and loads that the benchmarks share. Everything stays on loopback, is bounded and stops by itself. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { Pool } from 'undici'

/** A child process that has told its port. */
export interface Served {
  readonly port: number
  /** 0 = none. */
  readonly adminPort: number
  readonly pid: number
  stop(): Promise<void>
}

/** Starts one of the programs beside this file; it prints `{"port": n}` (and `adminPort`) when it listens. */
export async function serve(
  program: string,
  args: readonly string[] = [],
  env: Record<string, string> = {},
): Promise<Served> {
  const file = fileURLToPath(new URL(program, import.meta.url))
  const loader = program.endsWith('.mjs') ? [] : ['--import=tsx/esm']
  const child = spawn(process.execPath, [...loader, file, ...args], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, ...env },
  })
  const ports = await portsOf(child)
  return {
    ...ports,
    pid: child.pid ?? 0,
    async stop() {
      const ended = new Promise((resolve) => child.once('exit', resolve))
      child.stdin?.end()
      child.kill('SIGTERM')
      await ended
    },
  }
}

function portsOf(child: ChildProcess): Promise<Pick<Served, 'port' | 'adminPort'>> {
  return new Promise((resolve, reject) => {
    let text = ''
    child.stdout?.on('data', (chunk: Buffer) => {
      text += chunk.toString()
      const match = /"port":\s*(\d+)(?:,"adminPort":(\d+))?/.exec(text)
      if (match !== null) resolve({ port: Number(match[1]), adminPort: Number(match[2] ?? 0) })
    })
    child.once('exit', (code) => reject(new Error(`a benchmark process ended with ${code}`)))
  })
}

/** CPU time a process has used so far, user and system, in microseconds (Linux). */
export function cpuOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? []
  const ticks = Number(fields[11]) + Number(fields[12])
  return (ticks * 1_000_000) / 100
}

export interface LoadResult {
  readonly calls: number
  readonly perSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Answers that were not 200. */
  readonly failed: number
}

/** One request of a load. */
export interface LoadRequest {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

export interface LoadOptions extends LoadRequest {
  readonly origin: string
  readonly path: string
  /** Makes the requests differ; absent = all are the same. */
  readonly request?: (number: number) => LoadRequest
  readonly calls: number
  readonly connections: number
}

/** A closed loop of `connections` callers. */
export async function load(options: LoadOptions): Promise<LoadResult> {
  const pool = new Pool(options.origin, { connections: options.connections, pipelining: 1 })
  const times: number[] = []
  let left = options.calls
  let failed = 0
  const from = performance.now()
  const caller = async (): Promise<void> => {
    while (left > 0) {
      left -= 1
      const { headers, body: sentBody } = options.request?.(left) ?? options
      const sent = performance.now()
      const { statusCode, body } = await pool.request({
        method: 'POST',
        path: options.path,
        headers,
        body: sentBody,
      })
      await body.dump()
      times.push(performance.now() - sent)
      if (statusCode !== 200) failed += 1
    }
  }
  await Promise.all(Array.from({ length: options.connections }, caller))
  const seconds = (performance.now() - from) / 1000
  await pool.close()
  times.sort((a, b) => a - b)
  const at = (share: number): number => times[Math.floor(times.length * share)] ?? 0
  return { calls: times.length, perSecond: times.length / seconds, p50Ms: at(0.5), p99Ms: at(0.99), failed }
}

/** The median of some numbers. */
export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0
}

/** A tools/call as small as most are, and the headers of 2026-07-28. */
export const CALL_BODY = JSON.stringify({
  jsonrpc: '2.0',
  id: 1,
  method: 'tools/call',
  params: {
    name: 'search_tickets',
    arguments: { query: 'refund for order 4711', status: 'open', limit: 20 },
    _meta: {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
    },
  },
})
export const CALL_HEADERS = {
  'content-type': 'application/json',
  accept: 'application/json, text/event-stream',
  'mcp-protocol-version': '2026-07-28',
  'mcp-method': 'tools/call',
  'mcp-name': 'search_tickets',
}
