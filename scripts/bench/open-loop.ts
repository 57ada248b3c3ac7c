/**
 * An open loop of calls, as cheap as Node can: raw sockets that stay open, one call at a time on each, as agents do. What is
 * due is sent whether earlier answers have come or not; when every connection is busy it waits here, and its time counts.
 */
import type { Socket } from 'node:net'
import { connect } from 'node:net'

/** What came of one call. `status` 0 = no answer. */
export interface Sample {
  readonly status: number
  /** From when it was due to the last byte of the answer. */
  readonly ms: number
}

export interface OpenLoopOptions {
  readonly port: number
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
  /** Calls per second. */
  readonly rate: number
  readonly seconds: number
  readonly timeoutMs: number
  /** All are open before the first call. */
  readonly connections: number
  /** Called when the last call has been sent. */
  readonly onSent: () => void
}

export interface OpenLoopResult {
  readonly samples: readonly Sample[]
  /** From the first call to the last answer. */
  readonly seconds: number
  /** Longest time that this process was late with a call. */
  readonly lateMs: number
  /** Most calls that were under way or waited for a connection. */
  readonly mostOpen: number
}

const TICK_MS = 1

/** Resolves when every call has been answered or given up. */
export async function openLoop(options: OpenLoopOptions): Promise<OpenLoopResult> {
  const bytes = requestBytes(options)
  const idle = await introduceAll(options)
  const waiting: number[] = []
  const samples: Sample[] = []
  const total = Math.floor(options.rate * options.seconds)
  let lateMs = 0
  let open = 0
  let mostOpen = 0
  let finished: () => void = () => undefined
  const allAnswered = new Promise<void>((resolve) => {
    finished = resolve
  })

  const send = (connection: Connection, dueAt: number): void => {
    connection.send(bytes, options.timeoutMs, (status, next) => {
      samples.push({ status, ms: performance.now() - dueAt })
      open -= 1
      const due = waiting.shift()
      if (due === undefined) idle.push(next)
      else send(next, due)
      if (samples.length === total) finished()
    })
  }
  const begin = (dueAt: number): void => {
    open += 1
    mostOpen = Math.max(mostOpen, open)
    const connection = idle.pop()
    if (connection === undefined) waiting.push(dueAt)
    else send(connection, dueAt)
  }

  const from = performance.now()
  let sent = 0
  const timer = setInterval(() => {
    const now = performance.now()
    for (; sent < total; sent += 1) {
      const dueAt = from + (sent / options.rate) * 1000
      if (dueAt > now) return
      lateMs = Math.max(lateMs, now - dueAt)
      begin(dueAt)
    }
    clearInterval(timer)
    options.onSent()
  }, TICK_MS)
  await allAnswered
  const seconds = (performance.now() - from) / 1000
  for (const connection of idle) connection.close()
  return { samples, seconds, lateMs, mostOpen }
}

/** Calls served per second when each of `connections` callers waits for its answer. */
export async function closedLoop(
  options: Omit<OpenLoopOptions, 'rate' | 'seconds' | 'onSent'>,
  calls: number,
): Promise<number> {
  const bytes = requestBytes(options)
  const idle = await introduceAll(options)
  let left = calls
  let served = 0
  const from = performance.now()
  await Promise.all(
    idle.map(async (first) => {
      let connection = first
      while (left > 0) {
        left -= 1
        const { status, next } = await connection.call(bytes, options.timeoutMs)
        connection = next
        if (status === 200) served += 1
      }
      connection.close()
    }),
  )
  return (served * 1000) / (performance.now() - from)
}

async function introduceAll(
  options: Pick<OpenLoopOptions, 'port' | 'timeoutMs' | 'connections'>,
): Promise<Connection[]> {
  const all: Connection[] = []
  for (let at = 0; at < options.connections; at += 1) all.push(await introduced(options))
  return all
}

/** A connection that has been accepted: it got an answer, to a request that is nobody's attempt. */
async function introduced({
  port,
  timeoutMs,
}: Pick<OpenLoopOptions, 'port' | 'timeoutMs'>): Promise<Connection> {
  const bytes = Buffer.from(`GET / HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n\r\n`)
  return (await new Connection(port).call(bytes, timeoutMs)).next
}

function requestBytes({
  port,
  path,
  headers,
  body,
}: Pick<OpenLoopOptions, 'port' | 'path' | 'headers' | 'body'>): Buffer {
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(body)) })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return Buffer.from(`POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${head}\r\n${body}`)
}

/** Told the status, and the connection for the next call: this one, or a new one when it has ended. */
type Settle = (status: number, next: Connection) => void

class Connection {
  readonly #port: number
  readonly #socket: Socket
  #text = ''
  #settle: Settle | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(port: number) {
    this.#port = port
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true })
    this.#socket.on('error', () => undefined)
    this.#socket.on('close', () => this.#end(0, true))
    this.#socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1')
      const status = wholeAnswer(this.#text)
      if (status === null) return
      const isLast = /^connection: close/im.test(this.#text)
      this.#text = ''
      this.#end(status, isLast)
      if (isLast) this.#socket.destroy()
    })
  }

  send(bytes: Buffer, timeoutMs: number, settle: Settle): void {
    this.#settle = settle
    this.#timer = setTimeout(() => this.#socket.destroy(), timeoutMs)
    this.#socket.write(bytes)
  }

  call(bytes: Buffer, timeoutMs: number): Promise<{ readonly status: number; readonly next: Connection }> {
    return new Promise((resolve) => this.send(bytes, timeoutMs, (status, next) => resolve({ status, next })))
  }

  close(): void {
    this.#socket.destroy()
  }

  #end(status: number, isLast: boolean): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    const settle = this.#settle
    this.#settle = null
    settle?.(status, isLast ? new Connection(this.#port) : this)
  }
}

/** Status of an answer that is complete; every answer here has a Content-Length. */
function wholeAnswer(text: string): number | null {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return null
  const length = Number(/^content-length: (\d+)/im.exec(text)?.[1] ?? 0)
  return text.length >= end + 4 + length ? Number(text.slice(9, 12)) : null
}
