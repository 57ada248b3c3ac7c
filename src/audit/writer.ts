/**
 * The door of the audit room, mode `blocking`: an answer leaves when its row is committed.
 *
 * Many calls share one statement: while one batch is on its way the next one gathers. When the database is down, rows wait
 * in bounded memory and are sent again until it is back; callers are told `audit_unavailable` meanwhile, and nothing new
 * is forwarded. What does not fit into memory (refused calls only) is counted, and declared by a row of outcome `gap`.
 */
import { GatewayError } from '../errors.ts'
import type { AuditEvent, Call } from '../gateway/types.ts'
import { toAuditRow, toInterruptedRow } from './event.ts'
import type { AuditCounters, AuditGauges, AuditLimits, AuditRoomOptions, AuditState } from './limits.ts'
import { AUDIT_LIMITS } from './limits.ts'
import type { AuditRow, Gap } from './row.ts'
import { gapRow, withoutPayload } from './row.ts'
import type { RowRules } from './rules.ts'
import { toRowRules } from './rules.ts'
import type { Entry, Store } from './store.ts'
import { createStore, reasonOf, sqlState } from './store.ts'

/** `Rooms['audit']` of the spine, and what `main.ts` needs around it. */
export interface AuditWriter {
  /** Makes the days ahead, and keeps making them. A database that is down is no error. */
  start(): Promise<void>
  /** Before the upstream is asked. @throws GatewayError `audit_unavailable` when the row could not be stored */
  begin(call: Call): Promise<void>
  /** Resolves when the row is committed. @throws GatewayError `audit_unavailable` when it is not (yet) */
  end(event: AuditEvent): Promise<void>
  state(): AuditState
  counters(): AuditCounters
  gauges(): AuditGauges
  /** Whether everything taken in so far was committed within `deadlineMs`. */
  flush(deadlineMs: number): Promise<boolean>
  /** Takes in nothing more, records calls still open as `interrupted`, flushes. Call it when the spine has drained. */
  close(): Promise<{ readonly unwritten: number }>
}

/** Makes the room. Call `start` before the first call. */
export function createAuditRoom(options: AuditRoomOptions): AuditWriter {
  const writer = new BlockingWriter(options)
  return {
    start: () => writer.start(),
    begin: (call) => writer.begin(call),
    end: (event) => writer.end(event),
    state: () => writer.state,
    counters: () => writer.counters(),
    gauges: () => writer.gauges(),
    flush: (deadlineMs) => writer.flush(deadlineMs),
    close: () => writer.close(),
  }
}

/** A row in memory, and who waits for it. */
interface Waiting {
  readonly entry: Entry
  readonly length: number
  readonly acceptedMs: number
  /** null once the caller has been answered. */
  settle: ((error: GatewayError | null) => void) | null
}

const HOUR_MS = 3_600_000

class BlockingWriter {
  state: AuditState = 'up'
  readonly #options: AuditRoomOptions
  readonly #limits: AuditLimits
  readonly #store: Store
  readonly #rules: RowRules
  readonly #open = new Map<string, Call>()
  readonly #onPoolError = () => void this.#confirm().catch(() => undefined)
  /** In order of `seq`. */
  #queue: Waiting[] = []
  #length = 0
  #seq = 0
  #committed = 0
  #retries = 0
  #late = 0
  #overflowed = 0
  #unwritten = 0
  #gap: Gap | null = null
  /** Who waits until everything up to a `seq` is committed. */
  #flushes: { readonly seq: number; readonly done: () => void }[] = []
  #pumping = false
  #stopped = false
  #wake: (() => void) | null = null
  #confirming: Promise<void> | null = null
  #heardMs = 0
  #downSinceMs = 0
  #loggedMs = Number.NEGATIVE_INFINITY
  #days: NodeJS.Timeout | null = null

  constructor(options: AuditRoomOptions) {
    this.#options = options
    this.#limits = { ...AUDIT_LIMITS, ...options.limits }
    this.#store = createStore(options)
    this.#rules = toRowRules(options)
    // An idle connection that breaks is how one hears first that the server has gone.
    options.pool.on('error', this.#onPoolError)
  }

  async start(): Promise<void> {
    this.#days ??= setInterval(() => void this.#makeDays(), HOUR_MS).unref()
    await this.#makeDays()
  }

  async begin(call: Call): Promise<void> {
    this.#refuseUnlessUp()
    const silentMs = this.#options.clock.nowMs() - this.#heardMs
    if (!(silentMs >= 0 && silentMs <= this.#limits.confirmAfterMs)) await this.#confirm()
    this.#refuseUnlessUp()
    if (this.#isFull()) throw unavailable('too many rows wait to be stored')
    this.#open.set(call.id, call)
  }

  async end(event: AuditEvent): Promise<void> {
    const begun = this.#open.delete(event.call.id)
    if (this.#stopped) throw unavailable('the audit log is closed')
    if (!begun && this.#isFull()) {
      this.#overflow()
      throw unavailable('too many rows wait to be stored')
    }
    const waiting = this.#accept(toAuditRow(event, this.#rules))
    if (!begun && this.state !== 'up') throw unavailable(`the audit log is ${this.state}; the row waits`)
    await this.#committedInTime(waiting)
  }

  counters(): AuditCounters {
    return {
      ...this.#store.counters,
      accepted: this.#seq,
      retries: this.#retries,
      late: this.#late,
      overflowed: this.#overflowed,
      open: this.#open.size,
    }
  }

  gauges(): AuditGauges {
    const oldest = this.#queue[0]
    return {
      pendingRows: this.#queue.length,
      pendingBytes: this.#length,
      lagMs: oldest === undefined ? 0 : Math.max(0, this.#options.clock.nowMs() - oldest.acceptedMs),
      writtenRows: this.#committed,
      mendedRows: this.#store.counters.degraded,
      failedWrites: this.#retries,
      lostRows: this.#overflowed + this.#unwritten,
    }
  }

  async flush(deadlineMs: number): Promise<boolean> {
    if (this.#queue.length === 0) return true
    return await new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), deadlineMs)
      this.#flushes.push({
        seq: this.#seq,
        done: () => {
          clearTimeout(timer)
          resolve(true)
        },
      })
    })
  }

  async close(): Promise<{ readonly unwritten: number }> {
    if (this.#stopped) return { unwritten: this.#queue.length }
    const now = this.#options.clock.nowMs()
    for (const call of this.#open.values()) this.#accept(toInterruptedRow(call, now, this.#rules))
    this.#open.clear()
    this.#declareGap()
    this.#stopped = true
    if (this.#days !== null) clearInterval(this.#days)
    await this.#closeStore(await this.flush(this.#limits.closeDeadlineMs))
    this.#setState('closed')
    this.#wake?.()
    this.#options.pool.off('error', this.#onPoolError)
    const unwritten = this.#queue.length
    this.#unwritten = unwritten
    for (const waiting of this.#queue) waiting.settle?.(unavailable('the audit log is closed'))
    if (unwritten > 0) {
      const ids = this.#queue.slice(0, 50).map((waiting) => waiting.entry.row.id)
      this.#options.log.error({ unwritten, ids }, 'audit rows could not be written before the end')
    }
    return { unwritten }
  }

  async #closeStore(checkpoint: boolean): Promise<void> {
    try {
      await withDeadline(this.#store.close(checkpoint), this.#limits.closeDeadlineMs)
    } catch (thrown) {
      const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown) }
      this.#options.log.warn(fields, 'the last checkpoint of the audit log could not be made')
    }
  }

  #refuseUnlessUp(): void {
    if (this.state !== 'up') throw unavailable(`the audit log is ${this.state}`)
  }

  #isFull(): boolean {
    return this.#queue.length + this.#open.size >= this.#limits.maxRows
  }

  #accept(row: AuditRow): Waiting {
    this.#seq += 1
    let entry = this.#store.entry(row, this.#seq)
    if (this.#length + entry.record.length > this.#limits.maxLength) {
      entry = this.#store.entry(withoutPayload(row, { why: 'memory was short' }), this.#seq)
    }
    const acceptedMs = this.#options.clock.nowMs()
    const waiting: Waiting = { entry, length: entry.record.length, acceptedMs, settle: null }
    this.#queue.push(waiting)
    this.#length += waiting.length
    this.#options.onRow?.(Buffer.byteLength(entry.record))
    this.#pump()
    return waiting
  }

  #committedInTime(waiting: Waiting): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        waiting.settle = null
        this.#late += 1
        // The database neither takes rows nor says so: for those who come next it is down.
        this.#down(null)
        reject(unavailable('the row was not committed in time; it will be stored later'))
      }, this.#limits.endDeadlineMs)
      waiting.settle = (error) => {
        clearTimeout(timer)
        if (error === null) resolve()
        else reject(error)
      }
    })
  }

  /** Sends what waits, one statement at a time, for as long as there is anything to do. */
  #pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    // One turn of the event loop later, so that calls which end together share the statement.
    setImmediate(() => void this.#run())
  }

  async #run(): Promise<void> {
    let delayMs = this.#limits.retryMinMs
    while (this.state !== 'closed' && (this.#queue.length > 0 || this.state === 'down')) {
      try {
        await this.#sendBatch()
        delayMs = this.#limits.retryMinMs
        this.#up()
      } catch (thrown) {
        this.#retries += 1
        this.#down(thrown)
        await this.#pause(delayMs)
        delayMs = Math.min(delayMs * 2, this.#limits.retryMaxMs)
      }
    }
    this.#pumping = false
  }

  /** With nothing to send it only asks whether the database is back. */
  async #sendBatch(): Promise<void> {
    const batch = this.#nextBatch()
    if (batch.length === 0) return await this.#store.ping()
    const waitingOf = new Map(batch.map((waiting) => [waiting.entry, waiting]))
    await this.#store.store([...waitingOf.keys()], (entries) => {
      this.#up()
      const stored = new Set(entries.map((entry) => waitingOf.get(entry)))
      // Parts of a batch are stored in order, so this is nearly always the head of the queue.
      this.#queue = this.#queue.filter((waiting) => !stored.has(waiting))
      for (const waiting of stored) if (waiting !== undefined) this.#commit(waiting)
      this.#endFlushes()
    })
  }

  #nextBatch(): readonly Waiting[] {
    const { batchRows, batchLength } = this.#limits
    let length = 0
    let count = 0
    for (const waiting of this.#queue) {
      length += waiting.length
      if (count >= batchRows || (count > 0 && length > batchLength)) break
      count += 1
    }
    return this.#queue.slice(0, count)
  }

  #commit(waiting: Waiting): void {
    this.#committed += 1
    this.#length -= waiting.length
    this.#heardMs = this.#options.clock.nowMs()
    waiting.settle?.(null)
  }

  #endFlushes(): void {
    if (this.#flushes.length === 0) return
    const next = this.#queue[0]?.entry.seq ?? Number.POSITIVE_INFINITY
    const over = this.#flushes.filter((flush) => flush.seq < next)
    this.#flushes = this.#flushes.filter((flush) => flush.seq >= next)
    for (const flush of over) flush.done()
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

  /** Asks the database whether it is there; callers share the question. */
  #confirm(): Promise<void> {
    this.#confirming ??= this.#ask().finally(() => {
      this.#confirming = null
    })
    return this.#confirming
  }

  async #ask(): Promise<void> {
    try {
      await withDeadline(this.#store.ping(), this.#limits.endDeadlineMs)
      this.#heardMs = this.#options.clock.nowMs()
    } catch (thrown) {
      this.#down(thrown)
      throw unavailable('the database does not answer')
    }
  }

  #up(): void {
    this.#heardMs = this.#options.clock.nowMs()
    if (this.state === 'down' && !this.#stopped) {
      const downMs = this.#options.clock.nowMs() - this.#downSinceMs
      this.#setState('up')
      this.#options.log.info({ downMs, pending: this.#queue.length }, 'audit rows can be stored again')
    }
    if (this.#queue.length < this.#limits.maxRows / 2) this.#declareGap()
  }

  /** `thrown` null: no answer in time. */
  #down(thrown: unknown): void {
    if (this.state !== 'up') return
    this.#downSinceMs = this.#options.clock.nowMs()
    this.#setState('down')
    const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown), pending: this.#queue.length }
    this.#options.log.error(fields, 'audit rows cannot be stored: calls are refused until they can')
    this.#pump()
  }

  #setState(state: AuditState): void {
    this.state = state
    this.#options.onState?.(state)
  }

  #overflow(): void {
    const now = this.#options.clock.nowMs()
    this.#overflowed += 1
    this.#gap = {
      count: (this.#gap?.count ?? 0) + 1,
      fromMs: this.#gap?.fromMs ?? now,
      toMs: now,
    }
    if (now - this.#loggedMs < this.#limits.logEveryMs) return
    this.#loggedMs = now
    this.#options.log.error(
      { overflowed: this.#overflowed, pending: this.#queue.length },
      'rows of refused calls do not fit into memory; a gap will be declared',
    )
  }

  #declareGap(): void {
    if (this.#gap === null || this.#stopped) return
    const now = this.#options.clock.nowMs()
    this.#accept(gapRow(this.#options.newId(now), now, this.#gap))
    this.#gap = null
  }

  async #makeDays(): Promise<void> {
    try {
      await this.#store.createDays(this.#options.clock.nowMs(), this.#limits.daysAhead + 1)
    } catch (thrown) {
      // They are made on demand as well.
      const fields = { sqlstate: sqlState(thrown), error: reasonOf(thrown) }
      this.#options.log.warn(fields, 'the audit days ahead could not be made')
    }
  }
}

function unavailable(detail: string): GatewayError {
  return new GatewayError('audit_unavailable', { detail })
}

async function withDeadline(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), ms)
  })
  try {
    await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
