/**
 * One stdio server as a process: started in a group of its own, read and written line by line within bounds, and ended with
 * all that it started. Knows lines, not messages.
 */
import type { ChildProcessByStdio } from 'node:child_process'
import { spawn } from 'node:child_process'
import type { Readable, Writable } from 'node:stream'
import { setTimeout as delay } from 'node:timers/promises'
import type { GatewayError } from '../../errors.ts'
import { ConnectionFault } from '../exchange.ts'
import type { UpstreamLog } from '../upstream.ts'
import type { Guard } from './guard.ts'
import { createLines } from './lines.ts'
import { createStderrLog } from './stderr-log.ts'

/** What is started. All of it comes from configuration. */
export interface StdioCommand {
  readonly upstream: string
  /** Program and arguments; no shell reads them. */
  readonly command: readonly string[]
  /** The whole environment of the process. */
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  /** Values that no line of the log may show. */
  readonly secrets: readonly string[]
  /** Bound on one message of its standard output. */
  readonly maxMessageBytes: number
  /** Each step of ending it may take so long: end of input, then SIGTERM, then SIGKILL. */
  readonly graceMs: number
}

/** What a process is heard by. */
export interface ChildHooks {
  readonly onLine: (line: Buffer) => void
  /** A line over the bound: its first and last bytes. */
  readonly onOverlong: (head: Buffer, tail: Buffer) => void
  /** Called once, when it has ended or could not be started. */
  readonly onEnd: (reason: GatewayError) => void
}

/** What all processes have in common. */
export interface ChildSurroundings {
  readonly guard: Guard
  readonly log: UpstreamLog
  readonly clock: { monotonicMs(): number }
}

/** A running process. */
export interface StdioChild {
  readonly pid: number | null
  /** Writes one line. Throws `upstream_failed` when it has ended, or does not read. */
  send(line: string): void
  /** It is of no use any more: `onEnd` gets this reason. */
  fail(reason: GatewayError): void
  /** Ends it: end of input, SIGTERM, SIGKILL, also for what it started. Resolves when nothing of it is left. */
  close(): Promise<void>
}

/** Bytes that may wait for it to read. */
const MAX_UNREAD = 8 * 1024 * 1024
/** Time between two looks at what a process has left behind. */
const GROUP_POLL_MS = 50
/** Time for the last bytes of a process that has gone. */
const LAST_WORDS_MS = 250

/** Throws `upstream_failed`; most of what may go wrong comes as `onEnd`. */
export function startChild(
  command: StdioCommand,
  surroundings: ChildSurroundings,
  hooks: ChildHooks,
): StdioChild {
  try {
    return new RunningChild(command, surroundings, hooks)
  } catch (thrown) {
    // Most reasons come as an event; arguments that are too long, for one, do not.
    const { code, name } = thrown as NodeJS.ErrnoException
    throw startFault(code ?? name, thrown)
  }
}

type Process = ChildProcessByStdio<Writable, Readable, Readable>

/** A class because its parts (process, streams, guard) end in any order. */
class RunningChild implements StdioChild {
  readonly pid: number | null
  readonly #command: StdioCommand
  readonly #log: UpstreamLog
  readonly #hooks: ChildHooks
  readonly #process: Process
  readonly #unwatch: () => void
  /** Resolves when the process itself has gone; its group may have members left. */
  readonly #exited: Promise<void>
  /** Resolves when it cannot say anything any more. */
  readonly #silent: Promise<void>
  #ended = false
  #reason: GatewayError | null = null
  #closing: Promise<void> | null = null

  constructor(command: StdioCommand, { guard, log, clock }: ChildSurroundings, hooks: ChildHooks) {
    this.#command = command
    this.#log = log
    this.#hooks = hooks
    const [program = '', ...args] = command.command
    const { cwd, env, upstream, secrets } = command
    this.#process = spawn(program, args, { cwd, env, detached: true, stdio: ['pipe', 'pipe', 'pipe'] })
    this.pid = this.#process.pid ?? null
    this.#exited = this.#watchEnd()
    this.#silent = new Promise((resolve) => this.#process.stdout.once('close', resolve))
    this.#unwatch = this.#guarded(guard)
    const lines = createLines({
      maxBytes: command.maxMessageBytes,
      onLine: (line) => this.#ended || hooks.onLine(line),
      onOverlong: (head, tail) => this.#ended || hooks.onOverlong(head, tail),
    })
    // Its input may break at any time; that it has ended is what counts.
    this.#process.stdin.on('error', () => undefined)
    inTurns(this.#process.stdout, (chunk) => {
      if (this.#ended || lines.push(chunk)) return
      this.fail(fault(`it wrote a line of more than ${command.maxMessageBytes} bytes without an end`))
    })
    inTurns(this.#process.stderr, createStderrLog({ upstream, pid: this.pid ?? 0, secrets, log, clock }))
    if (this.pid !== null) log.info({ upstream, pid: this.pid }, 'a stdio server was started')
  }

  send(line: string): void {
    const { stdin } = this.#process
    if (this.#ended || !stdin.writable) throw fault('it has ended')
    if (stdin.writableLength > MAX_UNREAD) throw fault('it does not read its standard input')
    stdin.write(`${line}\n`)
  }

  fail(reason: GatewayError): void {
    this.#reason ??= reason
    this.#end(reason)
    void this.close()
  }

  close(): Promise<void> {
    this.#closing ??= this.#close()
    return this.#closing
  }

  /** Without the guard's eye on it, it must not run. */
  #guarded(guard: Guard): () => void {
    try {
      if (this.pid !== null) return guard.watch(this.pid)
    } catch (thrown) {
      setImmediate(() => this.fail(fault('nobody would end it if the gateway were killed', thrown)))
    }
    return () => undefined
  }

  #watchEnd(): Promise<void> {
    return new Promise((resolve) => {
      this.#process.on('error', (error: NodeJS.ErrnoException) => {
        if (this.pid !== null) return
        resolve()
        this.fail(startFault(error.code ?? error.name, error))
      })
      this.#process.on('exit', (code, signal) => {
        if (this.#closing === null) this.#reason ??= fault(`it ended (${signal ?? `exit code ${code}`})`)
        resolve()
        void this.close()
      })
    })
  }

  #end(reason: GatewayError): void {
    if (this.#ended) return
    this.#ended = true
    const fields = { upstream: this.#command.upstream, pid: this.pid }
    if (this.#reason === null) this.#log.info(fields, 'a stdio server was ended')
    else this.#log.warn({ ...fields, reason: reason.detail }, 'a stdio server has ended')
    this.#hooks.onEnd(reason)
  }

  async #close(): Promise<void> {
    const { stdin, stdout, stderr } = this.#process
    const { graceMs } = this.#command
    stdin.end()
    if (this.pid !== null) {
      await within(graceMs, this.#exited)
      this.#signal('SIGTERM')
      if (!(await within(graceMs, this.#exited))) this.#signal('SIGKILL')
      await this.#exited
      // What it said last may still be in the pipe, or somebody else may hold it open.
      await within(LAST_WORDS_MS, this.#silent)
    }
    this.#end(this.#reason ?? fault('it was ended'))
    if (!(await this.#groupGone(graceMs))) this.#signal('SIGKILL')
    this.#unwatch()
    for (const stream of [stdin, stdout, stderr]) stream.destroy()
  }

  /** Whether the process and all that stayed in its group have gone; waits for it. */
  async #groupGone(ms: number): Promise<boolean> {
    for (let waited = 0; waited < ms && this.#signal(0); waited += GROUP_POLL_MS) await delay(GROUP_POLL_MS)
    return !this.#signal(0)
  }

  /** False when there is nobody left. The number stays the group's as long as it has a member. */
  #signal(signal: NodeJS.Signals | 0): boolean {
    try {
      if (this.pid !== null) process.kill(-this.pid, signal)
      return this.pid !== null
    } catch {
      return false
    }
  }
}

/** False when the time was over first. */
async function within(ms: number, done: Promise<void>): Promise<boolean> {
  const waiting = new AbortController()
  const timeout = delay(ms, false, { signal: waiting.signal }).catch(() => false)
  const isDone = await Promise.race([done.then(() => true), timeout])
  waiting.abort()
  return isDone
}

/** After each chunk everybody else has a turn: one process that floods does not keep the others waiting. */
function inTurns(stream: Readable, take: (chunk: Buffer) => void): void {
  stream.on('data', (chunk: Buffer) => {
    take(chunk)
    stream.pause()
    setImmediate(() => stream.resume())
  })
  stream.on('error', () => undefined)
}

/** The process is at fault, and with it the whole upstream. */
export function fault(detail: string, cause?: unknown): GatewayError {
  return new ConnectionFault('upstream_failed', { detail, ...(cause === undefined ? {} : { cause }) })
}

/** The process never ran. */
export class StartFault extends ConnectionFault {}

function startFault(code: string, cause: unknown): StartFault {
  const detail = `it could not be started (${code}): see command and cwd`
  return new StartFault('upstream_failed', { detail, cause })
}
