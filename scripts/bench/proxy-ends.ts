/**
 * How soon streams end, for `proxy.ts`: thousands at once, because of a kill switch, a revoked key or a new policy, while
 * others call another upstream of the same gateway; and how soon an upstream hears that its client has left.
 */
import type { Socket } from 'node:net'
import { createConnection } from 'node:net'
import { Pool } from 'undici'
import { cpuOf } from './parts.ts'
import type { BenchRequest } from './proxy-calls.ts'
import { toolCall } from './proxy-calls.ts'
import type { StreamTarget } from './proxy-streams.ts'
import { bytesOf, openStreams } from './proxy-streams.ts'

/** A gateway with streams, and how to reach what else it serves. */
export interface EndsSubject extends StreamTarget {
  readonly pid: number
  /** Path of an upstream that nothing happens to, and the headers of a caller that nothing happens to. */
  readonly bystander: { readonly path: string; readonly headers: Readonly<Record<string, string>> }
}

/** What came of one change. Times in ms after it was made. */
export interface EndsResult {
  readonly ended: number
  readonly firstMs: number
  readonly lastMs: number
  /** CPU of the gateway until nothing was left to do, ms. */
  readonly cpuMs: number
  /** Of calls beside, while the streams ended and their rows were made; and before. */
  readonly beside: Latencies
  readonly before: Latencies
}

interface Latencies {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly maxMs: number
  readonly refused: number
}

const CALLERS = 4

/** Opens `count` streams, makes the change, and watches for `watchMs` what it does to them and to others. */
export async function endsAfter(
  subject: EndsSubject,
  requests: { readonly stream: BenchRequest; readonly call: BenchRequest },
  plan: { readonly count: number; readonly watchMs: number; readonly change: () => Promise<number> },
): Promise<EndsResult> {
  const open = await openStreams(subject, requests.stream, plan.count)
  await pause(2000)
  const before = await callBeside(subject, requests.call, pause(2000))
  const ends: number[] = []
  for (const socket of open.sockets) socket.once('close', () => ends.push(performance.now()))
  const cpu = cpuOf(subject.pid)
  const watching = pause(plan.watchMs)
  const beside = callBeside(subject, requests.call, watching)
  const from = await plan.change()
  await watching
  const result = {
    ended: ends.length,
    firstMs: (ends[0] ?? Number.NaN) - from,
    lastMs: (ends.at(-1) ?? Number.NaN) - from,
    cpuMs: (cpuOf(subject.pid) - cpu) / 1000,
    beside: await beside,
    before,
  }
  for (const socket of open.sockets) socket.destroy()
  await open.ended
  return result
}

/** Some callers, one call after the other, until `until` is over. */
async function callBeside(
  { port, bystander }: EndsSubject,
  { headers, body }: BenchRequest,
  until: Promise<unknown>,
): Promise<Latencies> {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: CALLERS, pipelining: 1 })
  const times: number[] = []
  let refused = 0
  let isOver = false
  const caller = async (): Promise<void> => {
    while (!isOver) {
      const sent = performance.now()
      const reply = await pool.request({
        ...{ method: 'POST', path: bystander.path, body },
        headers: { ...headers, ...bystander.headers },
      })
      await reply.body.dump()
      if (reply.statusCode !== 200) refused += 1
      times.push(performance.now() - sent)
      // Calls that come now and then, not a load: what is asked is how long each of them has to wait.
      await pause(5)
    }
  }
  const callers = Promise.all(Array.from({ length: CALLERS }, caller))
  await until
  isOver = true
  await callers
  await pool.close()
  return latencies(times, refused)
}

function latencies(times: readonly number[], refused = 0): Latencies {
  const sorted = [...times].sort((a, b) => a - b)
  const at = (share: number): number => sorted[Math.floor(sorted.length * share)] ?? Number.NaN
  return { p50Ms: at(0.5), p99Ms: at(0.99), maxMs: sorted.at(-1) ?? Number.NaN, refused }
}

/** One line for each change: how soon the streams ended, and what it did to calls beside. */
export function reportEnds(
  change: string,
  { ended, firstMs, lastMs, cpuMs, beside, before }: EndsResult,
): void {
  const when = ended === 0 ? 'none ended' : `ended after ${firstMs.toFixed(0)} .. ${lastMs.toFixed(0)} ms`
  const calls = (of: Latencies): string =>
    [of.p50Ms, of.p99Ms, of.maxMs].map((value) => value.toFixed(1)).join(' / ')
  console.log(
    `${change.padEnd(30)} ${when.padEnd(28)} ${cpuMs.toFixed(0).padStart(5)} ms CPU   calls ${calls(before)} -> ${calls(beside)} ms, ${beside.refused} refused`,
  )
}

/** How a client leaves. */
export const LEAVING = ['closes', 'resets', 'half-closes', 'had pipelined'] as const
/** One of {@link LEAVING}. */
export type Leaving = (typeof LEAVING)[number]

/** From a client's leaving to its upstream hearing of it, by answer and by the way they leave; `together` at a time. */
export async function reportLeaving(
  target: StreamTarget,
  upstream: { readonly port: number },
  plan: { readonly count: number; readonly together: number; readonly ways: readonly Leaving[] },
): Promise<void> {
  for (const sse of [false, true]) {
    const request = toolCall('2026-07-28', { hang: true, sse })
    for (const how of plan.ways) {
      const { p50Ms, p99Ms, maxMs } = await leavingDelays(target, request, { ...plan, how }, upstream)
      const name = `${sse ? 'stream' : 'JSON'}, client ${how}`
      console.log(
        `${name.padEnd(40)} ${[p50Ms, p99Ms, maxMs].map((value) => value.toFixed(1)).join(' / ')} ms   (${plan.count})`,
      )
    }
  }
}

async function leavingDelays(
  target: StreamTarget,
  request: BenchRequest,
  plan: { readonly count: number; readonly together: number; readonly how: Leaving },
  upstream: { readonly port: number },
): Promise<Latencies> {
  const delays: number[] = []
  const perClient = plan.how === 'had pipelined' ? 2 : 1
  for (let done = 0; done < plan.count; done += plan.together) {
    const clients = Array.from({ length: plan.together }, () => connectAndSend(target, request, plan.how))
    const sockets = await Promise.all(clients)
    const requests = plan.together * perClient
    await until(async () => (await askUpstream(upstream, '/open'))[0] === requests)
    const from = performance.timeOrigin + performance.now()
    for (const socket of sockets) leave(socket, plan.how)
    const left: number[] = []
    await until(async () => left.push(...(await askUpstream(upstream, '/left'))) >= requests)
    delays.push(...left.map((at) => at - from))
  }
  return latencies(delays)
}

/** What the upstream of the benchmark says of requests that it lets hang: see `proxy-upstream.ts`. */
async function askUpstream({ port }: { readonly port: number }, path: string): Promise<number[]> {
  return (await (await fetch(`http://127.0.0.1:${port}${path}`)).json()) as number[]
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 20_000
  while (!(await isSo())) {
    if (performance.now() > deadline) throw new Error('the upstream has not heard of what its clients did')
    await pause(5)
  }
}

async function connectAndSend(target: StreamTarget, request: BenchRequest, how: Leaving): Promise<Socket> {
  const socket = createConnection({ port: target.port, host: '127.0.0.1', allowHalfOpen: true })
  socket.on('error', () => undefined)
  await new Promise((resolve) => socket.once('connect', resolve))
  const bytes = bytesOf(target, request, 'keep-alive')
  socket.write(how === 'had pipelined' ? bytes + bytes : bytes)
  return socket.resume()
}

function leave(socket: Socket, how: Leaving): void {
  if (how === 'resets') socket.resetAndDestroy()
  else if (how === 'half-closes') socket.end()
  else socket.destroy()
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
