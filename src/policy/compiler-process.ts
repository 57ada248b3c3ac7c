/**
 * A child process that answers JSON lines: one request at a time, each bounded in time and in the size of its answer. It
 * is started when it is first needed and again after it died; it ends with its stdin, so it cannot outlive this process.
 */

import type { ChildProcessWithoutNullStreams } from 'node:child_process'
import { spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { dirname } from 'node:path'

/** What went wrong with the compiler itself, as opposed to what it finds wrong with a policy. */
export type CompilerFaultKind = 'timeout' | 'died' | 'answer' | 'closed'

/** The compiler could not answer. */
export class CompilerFault extends Error {
  readonly kind: CompilerFaultKind

  constructor(kind: CompilerFaultKind, message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'CompilerFault'
    this.kind = kind
  }
}

/** How to run the child and what it may take. */
export interface CompilerProcessOptions {
  readonly wasm: string
  readonly runner: string
  /** A request that takes longer ends the child. */
  readonly timeoutMs: number
  readonly maxAnswerBytes: number
  /** The child is ended when nothing was asked of it for this long; null = never. */
  readonly idleMs: number | null
  /** It is asked again and again: V8 optimises what is used much, which costs seconds first. Default false. */
  readonly lasting?: boolean
}

/** A compiler child. */
export interface CompilerProcess {
  /** Sends one line of JSON (it holds `"id":<id>`) and returns the parsed answer. Throws CompilerFault. */
  request(id: number, line: string, timeoutMs?: number): Promise<Readonly<Record<string, unknown>>>
  /** Ends the child. Requests that wait fail with `closed`. */
  close(): Promise<void>
}

/** The compiler is a huge program that runs for a moment: optimising it costs more than it gains. */
const NODE_FLAGS = ['--liftoff-only', '--wasm-lazy-validation', '--wasm-max-mem-pages=32768']
/** Functions are compiled when they are first called and optimised when they are hot: a build takes about half the time. */
const LASTING_FLAGS = [
  '--wasm-lazy-compilation',
  '--wasm-lazy-validation',
  '--wasm-tiering-budget=200000000',
  '--wasm-max-mem-pages=32768',
]

/** How much of the child's stderr an error shows. */
const STDERR_BYTES = 4096

/** Makes a compiler child; nothing is started yet. */
export function createCompilerProcess(options: CompilerProcessOptions): CompilerProcess {
  let child: Child | null = null
  let closed = false
  let tail: Promise<unknown> = Promise.resolve()
  let idle: NodeJS.Timeout | null = null

  async function ask(
    id: number,
    line: string,
    timeoutMs: number,
  ): Promise<Readonly<Record<string, unknown>>> {
    if (closed) throw new CompilerFault('closed', 'the Rego compiler was closed')
    if (idle !== null) clearTimeout(idle)
    if (child?.ended !== false) child = new Child(options)
    const current = child
    try {
      return await current.ask(id, line, timeoutMs)
    } finally {
      if (options.idleMs !== null && !closed) {
        idle = setTimeout(() => void current.end(), options.idleMs)
        idle.unref()
      }
    }
  }

  return {
    request(id, line, timeoutMs = options.timeoutMs) {
      const answer = tail.then(() => ask(id, line, timeoutMs))
      tail = answer.catch(() => undefined)
      return answer
    },
    async close() {
      closed = true
      if (idle !== null) clearTimeout(idle)
      await child?.end()
    },
  }
}

interface Waiting {
  readonly id: number
  resolve(answer: Readonly<Record<string, unknown>>): void
  reject(error: CompilerFault): void
  readonly timer: NodeJS.Timeout
}

/** One run of the child process. */
class Child {
  ended = false
  readonly #process: ChildProcessWithoutNullStreams
  readonly #options: CompilerProcessOptions
  readonly #gone: Promise<void>
  #waiting: Waiting | null = null
  #closing = false
  #stderr = ''

  constructor(options: CompilerProcessOptions) {
    this.#options = options
    this.#process = spawn(
      process.execPath,
      [
        ...(options.lasting === true ? LASTING_FLAGS : NODE_FLAGS),
        options.runner,
        options.wasm,
        String(process.pid),
      ],
      {
        // Nothing of this process's environment: no secrets, no NODE_OPTIONS.
        env: {},
        cwd: dirname(options.runner),
        stdio: ['pipe', 'pipe', 'pipe'],
        windowsHide: true,
      },
    )
    this.#gone = new Promise((resolve) => {
      this.#process.once('close', () => resolve())
      this.#process.once('error', () => resolve())
    })
    this.#listen()
    this.#hold(false)
  }

  ask(id: number, line: string, timeoutMs: number): Promise<Readonly<Record<string, unknown>>> {
    return new Promise((resolve, reject) => {
      const late = new CompilerFault('timeout', `the Rego compiler did not answer within ${timeoutMs} ms`)
      this.#waiting = { id, resolve, reject, timer: setTimeout(() => this.#stop(late), timeoutMs) }
      this.#hold(true)
      this.#process.stdin.write(`${line}\n`)
    })
  }

  async end(): Promise<void> {
    this.#closing = true
    this.#stop(closedFault())
    this.#hold(true) // whoever closes wants to see it gone
    await this.#gone
  }

  #listen(): void {
    const { stdin, stdout, stderr } = this.#process
    const lines = lineReader(this.#options.maxAnswerBytes)
    stdout.on('data', (chunk: Buffer) => {
      try {
        for (const line of lines(chunk)) this.#settle(parseAnswer(line, this.#waiting?.id))
      } catch (error) {
        this.#stop(toFault(error))
      }
    })
    stderr.on('data', (chunk: Buffer) => {
      this.#stderr = (this.#stderr + chunk.toString('utf8')).slice(-STDERR_BYTES)
    })
    stdin.on('error', () => undefined) // its death is told by `close`
    this.#process.once('error', (cause) =>
      this.#stop(new CompilerFault('died', `the Rego compiler did not start: ${cause.message}`, { cause })),
    )
    this.#process.once('close', (code, signal) => {
      this.ended = true
      const how = signal === null ? `with code ${code}` : `by ${signal}`
      const text = this.#stderr.trim()
      const died = new CompilerFault('died', `the Rego compiler ended ${how}${text && `: ${text}`}`)
      this.#settle(this.#closing ? closedFault() : died)
    })
  }

  #settle(outcome: Readonly<Record<string, unknown>> | CompilerFault): void {
    if (this.#waiting === null) return
    const { resolve, reject, timer } = this.#waiting
    this.#waiting = null
    clearTimeout(timer)
    this.#hold(false)
    if (outcome instanceof CompilerFault) reject(outcome)
    else resolve(outcome)
  }

  #stop(fault: CompilerFault): void {
    this.ended = true
    this.#process.kill('SIGKILL')
    this.#settle(fault)
  }

  /** Whether the child keeps this process alive: only while an answer is awaited. */
  #hold(alive: boolean): void {
    const { stdin, stdout, stderr } = this.#process
    for (const handle of [this.#process, stdin as Socket, stdout as Socket, stderr as Socket]) {
      if (alive) handle.ref()
      else handle.unref()
    }
  }
}

function closedFault(): CompilerFault {
  return new CompilerFault('closed', 'the Rego compiler was closed')
}

/** Cuts the child's output into lines; throws when a line grows beyond the bound. */
function lineReader(maxBytes: number): (chunk: Buffer) => string[] {
  let parts: Buffer[] = []
  let size = 0
  return (chunk) => {
    const lines: string[] = []
    let start = 0
    for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
      parts.push(chunk.subarray(start, end))
      lines.push(Buffer.concat(parts).toString('utf8'))
      parts = []
      size = 0
      start = end + 1
    }
    const rest = chunk.subarray(start)
    size += rest.length
    if (size > maxBytes)
      throw new CompilerFault('answer', `the Rego compiler's answer is larger than ${maxBytes} bytes`)
    if (rest.length > 0) parts.push(rest)
    return lines
  }
}

function parseAnswer(line: string, id: number | undefined): Readonly<Record<string, unknown>> {
  const answer: unknown = JSON.parse(line)
  if (typeof answer !== 'object' || answer === null || !('id' in answer) || answer.id !== id) {
    throw new CompilerFault('answer', 'the Rego compiler answered something else than was asked')
  }
  return answer as Readonly<Record<string, unknown>>
}

function toFault(error: unknown): CompilerFault {
  if (error instanceof CompilerFault) return error
  return new CompilerFault('answer', 'the Rego compiler did not answer with JSON', { cause: error })
}
