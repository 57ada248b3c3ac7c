/** Streams of `proxy.ts` as their clients see them. */
import { readFileSync } from 'node:fs'
import type { Socket } from 'node:net'
import { connect } from 'node:net'
import type { BenchRequest } from './proxy-calls.ts'

export interface StreamTarget {
  readonly port: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

/** Open streams, with everything that was received thrown away. */
export interface OpenedStreams {
  readonly sockets: readonly Socket[]
  /** Resolves when the other side has ended them all. */
  readonly ended: Promise<unknown>
}

const AT_ONCE = 32

/** Opens streams, a few at a time; each counts as open once its head has come. */
export async function openStreams(
  target: StreamTarget,
  request: BenchRequest,
  count: number,
): Promise<OpenedStreams> {
  const sockets: Socket[] = []
  const ended: Promise<void>[] = []
  const openOne = async (): Promise<void> => {
    const socket = connect(target.port, '127.0.0.1')
    socket.on('error', () => undefined)
    ended.push(new Promise((resolve) => socket.once('close', () => resolve())))
    // The end of the connection is the end of the stream.
    socket.write(bytesOf(target, request, 'close'))
    const head = await new Promise<string>((resolve, reject) => {
      socket.once('data', (chunk) => resolve(chunk.toString('latin1')))
      socket.once('close', () => reject(new Error('a stream was closed before it had begun')))
    })
    if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`a stream was refused: ${head.slice(0, 300)}`)
    sockets.push(socket.resume())
  }
  let left = count
  const opener = async (): Promise<void> => {
    while (left > 0) {
      left -= 1
      await openOne()
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, opener))
  return { sockets, ended: Promise.all(ended) }
}

/** Closes streams from the client's side. */
export async function closeStreams({ sockets, ended }: OpenedStreams): Promise<void> {
  for (const socket of sockets) socket.destroy()
  await ended
}

/** A request as it goes over the wire. */
export function bytesOf(
  { port, path, headers }: StreamTarget,
  request: BenchRequest,
  connection: 'close' | 'keep-alive',
): string {
  const length = String(Buffer.byteLength(request.body))
  const fields = { ...request.headers, ...headers, connection, 'content-length': length }
  const lines = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`)
  return `POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${lines.join('')}\r\n${request.body}`
}

/** From the sending of each event to its arrival here, ms, in order; the events say when they were sent. */
export async function eventDelays(target: StreamTarget, request: BenchRequest): Promise<number[]> {
  const response = await fetch(`http://127.0.0.1:${target.port}${target.path}`, {
    method: 'POST',
    headers: { ...request.headers, ...target.headers },
    body: request.body,
  })
  const delays: number[] = []
  for await (const chunk of response.body ?? []) {
    const now = performance.timeOrigin + performance.now()
    for (const [, sentAt] of Buffer.from(chunk)
      .toString()
      .matchAll(/"progress":([\d.]+)/g))
      delays.push(now - Number(sentAt))
  }
  return delays
}

/** Resident memory of a process, bytes (Linux). */
export function memoryOf(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}
