/** Spool -> database: one statement at a time, many rows in each, in order; again and again until the database takes them. */
import type { Spilled, Waiting } from './backlog.ts'
import { Backlog } from './backlog.ts'
import type { AuditLimits, AuditLog } from './limits.ts'
import type { Gap } from './row.ts'
import type { Spool } from './spool.ts'
import type { Place, SpoolReading } from './spool-segments.ts'
import { withDeadline } from './spool-wait.ts'
import type { Store } from './store.ts'
import { reasonOf, sqlState } from './store.ts'
import { takeBack } from './take-back.ts'

/** What a drain needs. Callbacks must not throw. */
export interface DrainOptions {
  readonly store: Store
  readonly spool: Spool
  readonly writer: string
  readonly limits: AuditLimits
  readonly nowMs: () => number
  readonly log: AuditLog
  /** Somebody waits for every row: nothing gathers. */
  readonly isAwaited: boolean
  /** The database has gone, or is back. */
  readonly onDatabase: (isUp: boolean) => void
  /** Everything up to `seq` is committed. */
  readonly onCommitted: (seq: number) => void
  /** Rows cannot be read back any more. */
  readonly onMissing: (gap: Gap) => void
}

/** Times a file of the spool is tried before what stands in it is given up. */
const READ_TRIES = 5

/** One for each room; it owns what waits. Rows leave in order of `seq`. */
export class Drain {
  isDatabaseUp = true
  readonly backlog: Backlog
  readonly #options: DrainOptions
  #committed = 0
  #retries = 0
  #readFailures = 0
  #pumping = false
  #ended = false
  #wake: (() => void) | null = null
  #confirming: Promise<void> | null = null
  #heardMs = 0
  #downSinceMs = 0
  /** Who waits until everything up to a `seq` is committed. */
  #flushes: { readonly seq: number; readonly done: () => void }[] = []

  constructor(options: DrainOptions) {
    this.#options = options
    this.backlog = new Backlog(options.limits)
  }

  /** Rows committed, and how often a batch had to be sent again or the database asked again. */
  get counts(): { readonly committed: number; readonly retries: number } {
    return { committed: this.#committed, retries: this.#retries }
  }

  add(waiting: Waiting): void {
    this.backlog.add(waiting)
    this.#pump()
  }

  /** Whether everything up to `seq` was committed within `deadlineMs`. */
  async flush(seq: number, deadlineMs: number): Promise<boolean> {
    if (this.backlog.rows === 0) return true
    return await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), deadlineMs)
      this.#flushes.push({
        seq,
        done: () => {
          clearTimeout(timer)
          resolve(true)
        },
      })
      if (this.isDatabaseUp) this.#wake?.()
    })
  }

  /** Resolves when the row is committed. Rejects when that takes too long: for those who come next the database is down. */
  whenCommitted(waiting: Waiting): Promise<void> {
    if (waiting.isCommitted) return Promise.resolve()
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.settle = null
        this.backlog.spill()
        this.down(null)
        reject(new Error('not committed in time'))
      }, this.#options.limits.endDeadlineMs)
      waiting.settle = (error) => {
        clearTimeout(timer)
        if (error === null) resolve()
        else reject(error)
      }
    })
  }

  /** Sends nothing more. */
  end(): void {
    this.#ended = true
    this.#wake?.()
  }

  /** Asks the database unless it has been heard of lately; callers share the question. Rejects when it does not answer. */
  async confirm(): Promise<void> {
    const silentMs = this.#options.nowMs() - this.#heardMs
    if (silentMs >= 0 && silentMs <= this.#options.limits.confirmAfterMs) return
    await this.ask()
  }

  /** As {@link confirm}, but always. */
  ask(): Promise<void> {
    this.#confirming ??= this.#ask().finally(() => {
      this.#confirming = null
    })
    return this.#confirming
  }

  /** It did not do something in time, or (`thrown`) said that it could not. */
  down(thrown: unknown): void {
    if (!this.isDatabaseUp || this.#ended) return
    this.isDatabaseUp = false
    this.#downSinceMs = this.#options.nowMs()
    const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown), pending: this.backlog.rows }
    const kept = this.#options.isAwaited ? 'calls are refused until they can' : 'they wait in the spool'
    this.#options.log.error(fields, `audit rows cannot be stored: ${kept}`)
    this.#options.onDatabase(false)
    this.#pump()
  }

  #up(): void {
    this.#heardMs = this.#options.nowMs()
    if (this.isDatabaseUp) return
    this.isDatabaseUp = true
    const downMs = this.#options.nowMs() - this.#downSinceMs
    this.#options.log.info({ downMs, pending: this.backlog.rows }, 'audit rows can be stored again')
    this.#options.onDatabase(true)
  }

  async #ask(): Promise<void> {
    try {
      await withDeadline(this.#options.store.ping(), this.#options.limits.endDeadlineMs)
      this.#heardMs = this.#options.nowMs()
    } catch (thrown) {
      this.down(thrown)
      throw thrown
    }
  }

  #pump(): void {
    if (this.#pumping || this.#ended) return
    this.#pumping = true
    // One turn of the event loop later, so that calls which end together share the statement.
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    const { limits, isAwaited } = this.#options
    let delayMs = limits.retryMinMs
    while (!this.#ended && (this.backlog.rows > 0 || !this.isDatabaseUp)) {
      try {
        if (!isAwaited && this.isDatabaseUp && this.backlog.rows < limits.batchRows) await this.#gather()
        await this.#sendBatch()
        delayMs = limits.retryMinMs
        this.#up()
      } catch (thrown) {
        this.#retries += 1
        this.down(thrown)
        await this.#pause(delayMs)
        delayMs = Math.min(delayMs * 2, limits.retryMaxMs)
      }
    }
    this.#pumping = false
  }

  async #gather(): Promise<void> {
    if (this.#flushes.length === 0) await this.#pause(this.#options.limits.gatherMs)
  }

  /** With nothing to send it only asks whether the database is back. */
  async #sendBatch(): Promise<void> {
    const spilled = this.backlog.toRead
    if (spilled !== null) await this.#readBack(spilled)
    const { batchRows, batchLength } = this.#options.limits
    const batch = this.backlog.next(batchRows, batchLength)
    if (batch.length === 0) return await this.#options.store.ping()
    const waitingOf = new Map(batch.map((waiting) => [waiting.entry, waiting]))
    await this.#options.store.store([...waitingOf.keys()], (entries) => {
      this.#up()
      this.#commit(new Set(entries.flatMap((entry) => waitingOf.get(entry) ?? [])))
    })
  }

  #commit(stored: ReadonlySet<Waiting>): void {
    this.backlog.remove(stored)
    this.#committed += stored.size
    for (const waiting of stored) {
      waiting.isCommitted = true
      waiting.settle?.(null)
      waiting.settle = null
    }
    const next = this.backlog.first?.seq ?? Number.POSITIVE_INFINITY
    // Parts of a batch are stored in order.
    this.#options.onCommitted(Math.max(...[...stored].map(({ entry }) => entry.seq)))
    if (this.#flushes.length === 0) return
    const over = this.#flushes.filter((flush) => flush.seq < next)
    this.#flushes = this.#flushes.filter((flush) => flush.seq >= next)
    for (const flush of over) flush.done()
  }

  /** The next rows that only the spool holds come into memory. */
  async #readBack(spilled: Spilled): Promise<void> {
    const read = await this.#readFrames(spilled.place)
    const { limits, writer, nowMs } = this.#options
    const { rows, rest, missing } = takeBack(spilled, read, { ...limits, writer, nowMs: nowMs() })
    this.backlog.raise(rows, rest)
    for (const gap of missing) this.#options.onMissing(gap)
  }

  /** null when there is nothing behind `place`. What cannot be read, however often one tries, is passed over. */
  async #readFrames(place: Place): Promise<SpoolReading | null> {
    for (;;) {
      try {
        const read = await this.#options.spool.read(place)
        this.#readFailures = 0
        return read
      } catch (thrown) {
        this.#readFailures += 1
        this.#options.log.error({ error: reasonOf(thrown) }, 'the audit spool cannot be read')
        if (this.#readFailures < READ_TRIES) await this.#pause(this.#options.limits.retryMinMs)
        else return { frames: [], next: { segment: place.segment + 1, offset: 0 } }
      }
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}
