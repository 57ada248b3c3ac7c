/**
 * A thread for what a hostile schema may make slow: nobody but those who asked waits for it. One task at a time, upstreams in
 * turn; a task that does not come back costs the thread its life, and nothing else.
 */
import { Worker } from 'node:worker_threads'
import { GatewayError } from '../errors.ts'
import type { SchemaResult, SchemaTask } from './schema-worker.ts'

export interface SchemaThread {
  /**
   * null = it was stopped, for want of time or memory.
   * @throws GatewayError `overloaded` when too much is waiting
   */
  run(upstream: string, task: SchemaTask): Promise<SchemaResult | null>
  close(): Promise<void>
}

export interface SchemaThreadOptions {
  readonly clock: { monotonicMs(): number }
  /** How long one task may take. The worker stops checks by itself long before. Default 3 s. */
  readonly taskMs?: number
}

const TASK_MS = 3000
const START_MS = 30_000
/** Tasks of one upstream that wait. */
const MAX_WAITING = 200
const MAX_WAIT_MS = 5000
const MEMORY = { maxOldGenerationSizeMb: 128, maxYoungGenerationSizeMb: 32 }

/** The same program as source and as build output. Node 20 does not pass the loader of sources on to threads. */
const PROGRAM = import.meta.url.endsWith('.ts')
  ? toProgram(`
      const { register } = await import('${import.meta.resolve('tsx/esm/api')}')
      register()
      await import('${new URL('./schema-worker.ts', import.meta.url)}')`)
  : new URL('./schema-worker.js', import.meta.url)

function toProgram(text: string): URL {
  return new URL(`data:text/javascript,${encodeURIComponent(text)}`)
}

interface Job {
  readonly task: SchemaTask
  readonly since: number
  settle(result: SchemaResult | null): void
  refuse(error: Error): void
}

/** Starts the thread with the first task. */
export function createSchemaThread(options: SchemaThreadOptions): SchemaThread {
  return new OneThread(options)
}

/** A class because the worker calls back from many sides. */
class OneThread implements SchemaThread {
  readonly #options: SchemaThreadOptions
  /** By upstream, in the order in which it is their turn. */
  readonly #waiting = new Map<string, Job[]>()
  #worker: Worker | null = null
  #isReady = false
  #running: Job | null = null
  #timer: NodeJS.Timeout | null = null
  #isClosed = false

  constructor(options: SchemaThreadOptions) {
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

  async close(): Promise<void> {
    this.#isClosed = true
    const worker = this.#forgetWorker()
    this.#running?.refuse(overloaded())
    this.#running = null
    for (const job of [...this.#waiting.values()].flat()) job.refuse(overloaded())
    this.#waiting.clear()
    await worker?.terminate()
  }

  #next(): void {
    if (this.#running !== null) return
    this.#running = this.#take()
    if (this.#running === null) {
      this.#worker?.unref()
      return
    }
    const worker = this.#worker ?? this.#start()
    // A process waits for answers, not for threads.
    worker.ref()
    if (this.#isReady) this.#send(worker, this.#running)
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

  #start(): Worker {
    // Nothing of this process's environment: no secrets.
    const worker = new Worker(PROGRAM, { env: {}, resourceLimits: MEMORY })
    this.#worker = worker
    worker.on('message', (message: 'ready' | SchemaResult) => {
      if (worker !== this.#worker) return
      if (message === 'ready') this.#onReady(worker)
      else this.#finish(message)
    })
    worker.on('error', (cause) => this.#onEnd(worker, cause))
    worker.on('exit', () => this.#onEnd(worker))
    return worker
  }

  #onReady(worker: Worker): void {
    this.#isReady = true
    if (this.#running !== null) this.#send(worker, this.#running)
  }

  #send(worker: Worker, { task }: Job): void {
    this.#limit(this.#options.taskMs ?? TASK_MS)
    worker.postMessage(task)
  }

  #limit(ms: number): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = setTimeout(() => {
      const worker = this.#worker
      if (worker !== null) this.#onEnd(worker)
    }, ms)
  }

  #finish(result: SchemaResult | null): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    const job = this.#running
    this.#running = null
    job?.settle(result)
    this.#next()
  }

  /** Out of memory, out of time, or never there. */
  #onEnd(worker: Worker, cause?: unknown): void {
    if (worker !== this.#worker) return
    const wasReady = this.#isReady
    void this.#forgetWorker()?.terminate()
    if (wasReady) {
      this.#finish(null)
      return
    }
    this.#running?.refuse(new Error('the thread for schemas cannot be started', { cause }))
    this.#running = null
    this.#next()
  }

  #forgetWorker(): Worker | null {
    if (this.#timer !== null) clearTimeout(this.#timer)
    const worker = this.#worker
    this.#worker = null
    this.#isReady = false
    return worker
  }
}

function overloaded(): GatewayError {
  return new GatewayError('overloaded', { detail: 'too many arguments wait to be checked' })
}
