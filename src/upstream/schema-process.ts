/**
 * A process for what a hostile schema may make slow or large: nobody but those who asked waits for it, and what it takes down
 * is itself (a thread that runs out of memory can take its process with it). One task at a time, upstreams in turn.
 */
import type { ChildProcess } from 'node:child_process'
import { fork } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { GatewayError } from '../errors.ts'
import type { SchemaResult, SchemaTask } from './schema-child.ts'

/** A process beside the gateway that compiles schemas and checks values. */
export interface SchemaProcess {
  /**
   * null = it was stopped, for want of time or memory.
   * @throws GatewayError `overloaded` when too much is waiting
   */
  run(upstream: string, task: SchemaTask): Promise<SchemaResult | null>
  close(): void
}

/** What it is made with. */
export interface SchemaProcessOptions {
  readonly clock: { monotonicMs(): number }
  /** How long one task may take. The child stops checks by itself long before. Default 3 s. */
  readonly taskMs?: number
}

const TASK_MS = 3000
const START_MS = 30_000
/** Without a task for this long it is ended: it starts in a fraction of a second. */
const IDLE_MS = 60_000
/** Tasks of one upstream that wait. */
const MAX_WAITING = 200
const MAX_WAIT_MS = 5000
const MAX_MEMORY_MIB = 128

/** The same program as source and as build output. */
const PROGRAM = fileURLToPath(
  new URL(`./schema-child${extname(fileURLToPath(import.meta.url))}`, import.meta.url),
)

interface Job {
  readonly task: SchemaTask
  readonly since: number
  settle(result: SchemaResult | null): void
  refuse(error: Error): void
}

/** Starts the process with the first task. */
export function createSchemaProcess(options: SchemaProcessOptions): SchemaProcess {
  return new OneProcess(options)
}

/** A class because the child calls back from many sides. */
class OneProcess implements SchemaProcess {
  readonly #options: SchemaProcessOptions
  /** By upstream, in the order in which it is their turn. */
  readonly #waiting = new Map<string, Job[]>()
  #child: ChildProcess | null = null
  #isReady = false
  #running: Job | null = null
  #timer: NodeJS.Timeout | null = null
  #isClosed = false

  constructor(options: SchemaProcessOptions) {
    this.#options = options
  }

  run(upstream: string, task: SchemaTask): Promise<SchemaResult | null> {
    const jobs = this.#waiting.get(upstream) ?? []
    if (this.#isClosed || jobs.length >= MAX_WAITING) return Promise.reject(overloaded())
    return new Promise((settle, refuse) => {
      jobs.push({ task, since: this.#options.clock.monotonicMs(), settle, refuse })
      this.#waiting.set(upstream, jobs)
      this.#next()
    })
  }

  close(): void {
    this.#isClosed = true
    this.#kill()
    this.#running?.refuse(overloaded())
    this.#running = null
    for (const job of [...this.#waiting.values()].flat()) job.refuse(overloaded())
    this.#waiting.clear()
  }

  #next(): void {
    if (this.#running !== null) return
    this.#running = this.#take()
    if (this.#running === null) {
      this.#rest()
      return
    }
    const child = this.#child ?? this.#start()
    // The gateway's process waits for answers, not for children.
    child.channel?.ref()
    if (this.#isReady) this.#send(child, this.#running)
    else this.#limit(START_MS)
  }

  /** The oldest task of the upstream whose turn it is. */
  #take(): Job | null {
    for (const [upstream, jobs] of this.#waiting) {
      const job = jobs.shift()
      this.#waiting.delete(upstream)
      if (jobs.length > 0) this.#waiting.set(upstream, jobs)
      if (job === undefined) continue
      if (this.#options.clock.monotonicMs() - job.since <= MAX_WAIT_MS) return job
      job.refuse(overloaded())
    }
    return null
  }

  #rest(): void {
    if (this.#child === null) return
    this.#child.channel?.unref()
    this.#limit(IDLE_MS)
    this.#timer?.unref()
  }

  #start(): ChildProcess {
    const child = fork(PROGRAM, {
      // Nothing of this process's environment: no secrets.
      env: {},
      execArgv: [...process.execArgv, `--max-old-space-size=${MAX_MEMORY_MIB}`],
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    })
    child.unref()
    this.#child = child
    child.on('message', (message) => {
      if (child !== this.#child) return
      if (message === 'ready') this.#onReady(child)
      else this.#finish(message as SchemaResult)
    })
    child.on('error', (error) => this.#onEnd(child, error))
    child.on('exit', () => this.#onEnd(child))
    return child
  }

  #onReady(child: ChildProcess): void {
    this.#isReady = true
    if (this.#running !== null) this.#send(child, this.#running)
  }

  #send(child: ChildProcess, { task }: Job): void {
    this.#limit(this.#options.taskMs ?? TASK_MS)
    // Whether it arrived is told by the answer, or by the end of the child.
    child.send(task, () => undefined)
  }

  #limit(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      if (this.#child !== null) this.#onEnd(this.#child)
    }, ms)
  }

  #finish(result: SchemaResult | null): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    const job = this.#running
    this.#running = null
    job?.settle(result)
    this.#next()
  }

  /** Out of memory, out of time, out of work, or never there. */
  #onEnd(child: ChildProcess, cause?: Error): void {
    if (child !== this.#child) return
    const wasReady = this.#isReady
    this.#kill()
    if (!wasReady) {
      this.#running?.refuse(new Error('the process for schemas cannot be started', { cause }))
      this.#running = null
    }
    this.#finish(null)
  }

  #kill(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#child?.kill('SIGKILL')
    this.#child = null
    this.#isReady = false
  }
}

function overloaded(): GatewayError {
  return new GatewayError('overloaded', { detail: 'too many arguments wait to be checked' })
}
