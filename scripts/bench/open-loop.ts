/**
 * An open loop of calls, as cheap as Node can: raw sockets, one call at a time on each, a new one when none is idle. What is
 * due is sent whether the last answers have come or not.
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
  /** Connections that are open before the first call, as clients keep them. More are made when all are busy. */
  readonly connections: number
  /** Called when the last call has been sent. */
  readonly onSent: () => void
}

export interface OpenLoopResult {
  readonly samples: readonly Sample[]
  /** Longest time that this process was late with a call. */
  readonly lateMs: number
  readonly connections: number
}

const TICK_MS = 1

/** Resolves when every call has been answered or given up. */
export async function openLoop(options: OpenLoopOptions): Promise<OpenLoopResult> {
  const bytes = requestBytes(options)
  const idle: Connection[] = []
  const all = new Set<Connection>()
  for (let at = 0; at < options.connections; at += 1) idle.push(new Connection(options.port, idle, all))
  await new Promise((resolve) => setTimeout(resolve, 500))
  const samples: Sample[] = []
  const total = Math.floor(options.rate * options.seconds)
  const from = performance.now()
  let lateMs = 0
  let left = total

  await new Promise<void>((resolve) => {
    const done = (status: number, dueAt: number): void => {
      samples.push({ status, ms: performance.now() - dueAt })
      left -= 1
      if (left === 0) resolve()
    }
    const send = (dueAt: number): void => {
      const connection = idle.pop() ?? new Connection(options.port, idle, all)
      connection.send(bytes, options.timeoutMs, (status) => done(status, dueAt))
    }
    let sent = 0
    const timer = setInterval(() => {
      const now = performance.now()
      for (; sent < total; sent += 1) {
        const dueAt = from + (sent / options.rate) * 1000
        if (dueAt > now) return
        lateMs = Math.max(lateMs, now - dueAt)
        send(dueAt)
      }
      clearInterval(timer)
      options.onSent()
    }, TICK_MS)
  })
  const connections = all.size
  for (const connection of all) connection.close()
  return { samples, lateMs, connections }
}

function requestBytes({ port, path, headers, body }: OpenLoopOptions): Buffer {
  const lines = Object.entries({ ...headers, 'content-length': String(Buffer.byteLength(body)) })
  const head = lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')
  return Buffer.from(`POST ${path} HTTP/1.1\r\nhost: 127.0.0.1:${port}\r\n${head}\r\n${body}`)
}

class Connection {
  readonly #socket: Socket
  #text = ''
  #settle: ((status: number) => void) | null = null
  #timer: NodeJS.Timeout | null = null

  constructor(port: number, idle: Connection[], all: Set<Connection>) {
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true })
    all.add(this)
    this.#socket.on('error', () => undefined)
    this.#socket.on('close', () => {
      const at = idle.indexOf(this)
      if (at >= 0) idle.splice(at, 1)
      all.delete(this)
      this.#end(0)
    })
    this.#socket.on('data', (chunk: Buffer) => {
      this.#text += chunk.toString('latin1')
      const status = wholeAnswer(this.#text)
      if (status === null) return
      const isLast = /^connection: close/im.test(this.#text)
      this.#text = ''
      this.#end(status)
      if (isLast) this.#socket.destroy()
      else idle.push(this)
    })
  }

  send(bytes: Buffer, timeoutMs: number, settle: (status: number) => void): void {
    this.#settle = settle
    this.#timer = setTimeout(() => this.#socket.destroy(), timeoutMs)
    this.#socket.write(bytes)
  }

  close(): void {
    this.#socket.destroy()
  }

  #end(status: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    const settle = this.#settle
    this.#settle = null
    settle?.(status)
  }
}

/** Status of an answer that is complete; every answer here has a Content-Length. */
function wholeAnswer(text: string): number | null {
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) return null
  const length = Number(/^content-length: (\d+)/im.exec(text)?.[1] ?? 0)
  return text.length >= end + 4 + length ? Number(text.slice(9, 12)) : null
}
