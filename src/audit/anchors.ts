/**
 * Checkpoints on their way out of the database: to files, the log, HTTP endpoints. Whoever owns the database and cuts a
 * chain together with its checkpoints is found by comparing with these. Nothing ever waits for an anchor: each has a
 * bounded queue of its own, and what cannot be delivered is tried again until newer ones push it out.
 */
import { appendFile } from 'node:fs/promises'
import { toAnchorLine } from './anchor-file.ts'
import type { AuditLog } from './limits.ts'
import type { Checkpoint } from './signing.ts'

/** Where checkpoints go. */
export type AnchorTarget =
  | { readonly kind: 'file'; readonly file: string }
  | { readonly kind: 'log' }
  | { readonly kind: 'url'; readonly url: string }

/** What {@link createAnchors} needs. */
export interface AnchorOptions {
  readonly targets: readonly AnchorTarget[]
  readonly log: AuditLog
  /** Waits before an attempt is repeated, ms. */
  readonly retryMinMs?: number
  readonly retryMaxMs?: number
  /** How long one delivery may take, ms. */
  readonly deadlineMs?: number
  /** Checkpoints that wait for one target. */
  readonly maxWaiting?: number
}

/** All targets together. */
export interface AnchorSet {
  /** Hands a checkpoint to every target. Neither throws nor waits. */
  record(checkpoint: Checkpoint): void
  /** Gives the targets a last moment for what waits. */
  close(): Promise<void>
}

const RETRY_MIN_MS = 1000
const RETRY_MAX_MS = 60_000
const DEADLINE_MS = 5000
const MAX_WAITING = 1000

/** Opens nothing yet. */
export function createAnchors(options: AnchorOptions): AnchorSet {
  const couriers = options.targets.map((target) => new Courier(target, options))
  return {
    record(checkpoint) {
      const line = toAnchorLine(checkpoint)
      for (const courier of couriers) courier.push(line)
    },
    async close() {
      await Promise.all(couriers.map((courier) => courier.close()))
    },
  }
}

class Courier {
  readonly #target: AnchorTarget
  readonly #options: AnchorOptions
  readonly #deadlineMs: number
  #waiting: string[] = []
  #running: Promise<void> | null = null
  #closing = false
  #isFailing = false
  #wake: (() => void) | null = null

  constructor(target: AnchorTarget, options: AnchorOptions) {
    this.#target = target
    this.#options = options
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
  }

  push(line: string): void {
    if (this.#waiting.length >= (this.#options.maxWaiting ?? MAX_WAITING)) this.#waiting.shift()
    this.#waiting.push(line)
    this.#running ??= this.#run().finally(() => {
      this.#running = null
    })
  }

  async close(): Promise<void> {
    this.#closing = true
    this.#wake?.()
    await this.#running
    if (this.#waiting.length > 0) {
      const fields = { ...this.#named(), undelivered: this.#waiting.length }
      this.#options.log.error(fields, 'checkpoints of the audit log could not be anchored before the end')
    }
  }

  async #run(): Promise<void> {
    let delayMs = this.#options.retryMinMs ?? RETRY_MIN_MS
    for (let line = this.#waiting[0]; line !== undefined; line = this.#waiting[0]) {
      try {
        await this.#deliver(line)
        if (this.#waiting[0] === line) this.#waiting.shift()
        this.#tell(null)
        delayMs = this.#options.retryMinMs ?? RETRY_MIN_MS
      } catch (thrown) {
        this.#tell(thrown)
        if (this.#closing) return
        await this.#pause(delayMs)
        delayMs = Math.min(delayMs * 2, this.#options.retryMaxMs ?? RETRY_MAX_MS)
      }
    }
  }

  async #deliver(line: string): Promise<void> {
    const target = this.#target
    switch (target.kind) {
      case 'file':
        await appendFile(target.file, `${line}\n`, { mode: 0o600 })
        return
      case 'log':
        this.#options.log.info(JSON.parse(line) as object, 'checkpoint of the audit log')
        return
      case 'url':
        await post(target.url, line, this.#deadlineMs)
        return
      default:
        target satisfies never
    }
  }

  /** Once when it begins to fail, once when it works again. */
  #tell(thrown: unknown): void {
    if (this.#isFailing === (thrown !== null)) return
    this.#isFailing = thrown !== null
    if (thrown === null) {
      this.#options.log.info(this.#named(), 'checkpoints of the audit log are anchored again')
      return
    }
    const fields = { ...this.#named(), error: codeOf(thrown) }
    this.#options.log.warn(fields, 'checkpoints of the audit log cannot be anchored; they wait')
  }

  /** Of an address only its host: the rest may be a secret. */
  #named(): object {
    const target = this.#target
    if (target.kind === 'url') return { anchor: new URL(target.url).host }
    return { anchor: target.kind === 'file' ? target.file : 'log' }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms).unref()
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

async function post(url: string, line: string, deadlineMs: number): Promise<void> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: line,
    redirect: 'error',
    signal: AbortSignal.timeout(deadlineMs),
  })
  // Nothing in the answer is of interest, and it may be endless.
  await response.body?.cancel()
  if (!response.ok) throw Object.assign(new Error('refused'), { code: `HTTP ${response.status}` })
}

/** Code or class: texts of errors may quote an address. */
function codeOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return typeof thrown
  const { code } = thrown as Error & { code?: unknown }
  if (typeof code === 'string') return code
  return thrown.cause instanceof Error ? codeOf(thrown.cause) : thrown.name
}
