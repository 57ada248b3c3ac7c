/**
 * The door of the audit room. What a call is promised stands in the spool before the promise is given: a `begin` before
 * its upstream is asked, its row before its answer leaves; one drain carries rows to the database in the background.
 *
 * The modes differ in what is waited for: `batch` for the write, `durable` for the disk, `blocking` for the commit. What
 * cannot be recorded is refused, or with `on_failure: gap` let through and declared by a row of outcome `gap`.
 */
import { GatewayError } from '../errors.ts'
import type { AuditEvent, Call } from '../gateway/types.ts'
import { createAdopter } from './adopter.ts'
import type { Waiting } from './backlog.ts'
import type { Left } from './closing.ts'
import { closeParts } from './closing.ts'
import type { DeadLetters } from './dead-letters.ts'
import { createDeadLetters } from './dead-letters.ts'
import { Drain } from './drain.ts'
import type { Begun } from './event.ts'
import { beginRow, toAuditRow, toInterruptedRow } from './event.ts'
import type { GaugeParts } from './gauges.ts'
import { toCounters, toGauges } from './gauges.ts'
import { createHourly } from './hourly.ts'
import type { AuditCounters, AuditGauges, AuditLimits, AuditRoomOptions, AuditState } from './limits.ts'
import { AUDIT_LIMITS } from './limits.ts'
import { createMisses } from './misses.ts'
import type { AuditRow } from './row.ts'
import { gapRow, toBegun, withoutPayload } from './row.ts'
import type { RowRules } from './rules.ts'
import { toRowRules } from './rules.ts'
import { SPOOL_LIMITS, Spool } from './spool.ts'
import { SPOOL_FS } from './spool-files.ts'
import type { OwnFolder } from './spool-folder.ts'
import { openOwnFolder, toSpoolError } from './spool-folder.ts'
import { NO_ID } from './spool-frame.ts'
import { createSpoolWait, withDeadline } from './spool-wait.ts'
import type { Entry, Store } from './store.ts'
import { createStore, reasonOf } from './store.ts'

/** `Rooms['audit']` of the spine, and what `main.ts` needs around it. */
export interface AuditWriter {
  /**
   * Opens the spool, makes the days ahead and takes over what processes that have died left behind, now and from time to
   * time. A database that is down is no error. @throws UsageError `config` when the spool's folder cannot be used
   */
  start(): Promise<void>
  /** Before the upstream is asked. @throws GatewayError `audit_unavailable` when the call cannot be recorded */
  begin(call: Call): Promise<void>
  /** Resolves when the row is as safe as the mode asks. @throws GatewayError `audit_unavailable` when it is not (yet) */
  end(event: AuditEvent): Promise<void>
  state(): AuditState
  counters(): AuditCounters
  gauges(): AuditGauges
  /** Whether everything taken in so far, and all that was taken over, was committed within `deadlineMs`. */
  flush(deadlineMs: number): Promise<boolean>
  /**
   * Takes in nothing more, records calls still open as `interrupted`, flushes. Call it when the spine has drained.
   */
  close(): Promise<Left>
}

/** Makes the room. Call `start`, once, before the first call. */
export function createAuditRoom(options: AuditRoomOptions): AuditWriter {
  const writer = new SpoolingWriter(options)
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

const MIN_FILES = 4

class SpoolingWriter {
  readonly #options: AuditRoomOptions
  readonly #limits: AuditLimits
  readonly #store: Store
  readonly #rules: RowRules
  readonly #spool: Spool
  readonly #drain: Drain
  readonly #dead: DeadLetters
  readonly #adopter: ReturnType<typeof createAdopter>
  readonly #misses: ReturnType<typeof createMisses>
  readonly #hourly: ReturnType<typeof createHourly>
  /** A disk that does not answer is down for those who come next, until it does. */
  readonly #wait: ReturnType<typeof createSpoolWait>
  readonly #open = new Map<string, { readonly call: Call; readonly begun: Begun }>()
  readonly #onPoolError = () => void this.#drain.ask().catch(() => undefined)
  #folder: OwnFolder | null = null
  #told: AuditState = 'up'
  #seq = 0
  #late = 0
  #lost = 0
  #stopped = false
  #isClosed = false

  constructor(options: AuditRoomOptions) {
    this.#options = options
    const limits = { ...AUDIT_LIMITS, ...options.limits }
    const { writerId: writer, log, newId } = options
    const { dir: root, maxBytes, fs = SPOOL_FS } = options.spool
    const nowMs = (): number => options.clock.nowMs()
    this.#limits = limits
    this.#rules = toRowRules(options)
    this.#dead = createDeadLetters({ fs, root, writer, maxBytes: limits.maxDeadBytes, log })
    this.#store = createStore({
      ...options,
      onRefused: (entry, sqlstate) => this.#dead.keep(entry, sqlstate),
    })
    this.#misses = createMisses({
      log,
      logEveryMs: limits.logEveryMs,
      // Should the process die before the row that declares them.
      note: (gap) => {
        if (this.#spool.isFailing || this.#wait.overdue > 0) return
        void this.#append('gap', NO_ID, 0, JSON.stringify(gap), 'written').catch(() => undefined)
      },
    })
    this.#spool = new Spool({
      ...{ fs, writer, nowMs },
      folder: () => {
        if (this.#folder === null) throw new Error('the audit room has not been started')
        return this.#folder.path
      },
      limits: {
        ...SPOOL_LIMITS,
        segmentBytes: Math.min(SPOOL_LIMITS.segmentBytes, Math.ceil(maxBytes / MIN_FILES)),
      },
      onFailure: (error) => this.#diskChanged(error),
    })
    this.#drain = new Drain({
      ...{ store: this.#store, spool: this.#spool, writer, limits, nowMs, log },
      isAwaited: options.mode === 'blocking',
      onDatabase: () => this.#tell(),
      onCommitted: (seq) => this.#committed(seq),
      onMissing: (gap) => {
        this.#lost += gap.count
        this.#accept(gapRow(newId(nowMs()), nowMs(), gap))
      },
    })
    this.#adopter = createAdopter({
      ...{ fs, root, pool: options.pool, store: this.#store, newId, nowMs, log },
      ...{ batchRows: limits.batchRows, batchLength: limits.batchLength, everyMs: limits.adoptEveryMs },
      retryMs: limits.retryMaxMs,
      folders: async () => (await this.#folder?.adopt()) ?? [],
    })
    this.#hourly = createHourly({
      ...{ store: this.#store, daysAhead: limits.daysAhead, nowMs, log },
      alsoHourly: () => this.#spool.turn(),
    })
    this.#wait = createSpoolWait({ deadlineMs: limits.endDeadlineMs, onChange: () => this.#tell() })
    // An idle connection that breaks is how one hears first that the server has gone.
    options.pool.on('error', this.#onPoolError)
  }

  async start(): Promise<void> {
    const { dir, fs = SPOOL_FS } = this.#options.spool
    const folder = await openOwnFolder(fs, dir, this.#options.writerId)
    this.#folder = folder
    await this.#spool.open().catch(async (cause: unknown) => {
      await folder.release()
      throw toSpoolError(dir, cause)
    })
    await this.#hourly.start()
    this.#adopter.start()
  }

  get state(): AuditState {
    if (this.#isClosed) return 'closed'
    return this.#trouble() === null ? 'up' : 'down'
  }

  async begin(call: Call): Promise<void> {
    if (this.#stopped) throw unavailable('the audit log is closed')
    if (this.#options.mode === 'blocking' && this.#denies) await this.#drain.confirm().catch(() => undefined)
    const trouble = this.#trouble() ?? this.#crowded()
    if (trouble !== null) {
      if (this.#denies) throw unavailable(trouble)
      return
    }
    const begun = beginRow(call, this.#rules)
    this.#open.set(call.id, { call, begun })
    const text = toBegun(begun.row)
    const until = this.#options.mode === 'batch' ? 'written' : 'synced'
    try {
      await this.#wait.wait(this.#append('begin', call.id, 0, text, until))
    } catch (thrown) {
      if (this.#denies) throw unavailable(`the spool cannot be written (${reasonOf(thrown)})`)
    }
    // While the upstream works there is time for it; the text is kept for the row.
    if (call.target?.kind === 'tool') setImmediate(() => call.evaluation?.traceText())
  }

  async end(event: AuditEvent): Promise<void> {
    const begun = this.#open.get(event.call.id)?.begun ?? null
    this.#open.delete(event.call.id)
    if (this.#stopped) throw unavailable('the audit log is closed')
    const crowded = begun === null ? this.#crowded() : null
    if (crowded !== null) {
      this.#misses.add(this.#options.clock.nowMs(), this.#spool.isFailing ? 'spool_failed' : 'spool_full')
      this.#tell()
      if (this.#denies) throw unavailable(crowded)
      return
    }
    const { waiting, spooled } = this.#accept(toAuditRow(event, this.#rules, begun))
    if (!this.#waitsForCommit) return await this.#whenSpooled(waiting, spooled)
    if (begun !== null || this.state === 'up') {
      spooled.catch(() => undefined)
      return await this.#whenCommitted(waiting)
    }
    // Nobody was promised anything; the row is kept all the same.
    await this.#wait.wait(spooled).catch(() => undefined)
    throw unavailable('the audit log is down; the row waits')
  }

  counters(): AuditCounters {
    return toCounters(this.#parts())
  }

  gauges(): AuditGauges {
    return toGauges(this.#parts())
  }

  async flush(deadlineMs: number): Promise<boolean> {
    const [own, others] = await Promise.all([
      this.#drain.flush(this.#seq, deadlineMs),
      withDeadline(this.#adopter.idle(), deadlineMs).then(
        () => true,
        () => false,
      ),
    ])
    return own && others
  }

  async close(): Promise<Left> {
    if (this.#stopped) return { waiting: this.#drain.backlog.rows, unwritten: 0 }
    const now = this.#options.clock.nowMs()
    const { pool } = this.#options
    for (const { call } of this.#open.values()) {
      this.#accept(toInterruptedRow(call, now, this.#rules)).spooled.catch(() => undefined)
    }
    this.#open.clear()
    this.#declareMisses()
    this.#stopped = true
    this.#hourly.stop()
    const adopted = this.#adopter.close()
    const isFlushed = await this.#drain.flush(this.#seq, this.#limits.closeDeadlineMs)
    this.#isClosed = true
    this.#drain.end()
    this.#tell()
    pool.off('error', this.#onPoolError)
    await adopted
    const left = await closeParts({
      ...{ store: this.#store, backlog: this.#drain.backlog, spool: this.#spool, folder: this.#folder },
      ...{ deadLetters: this.#dead, isFlushed, deadlineMs: this.#limits.closeDeadlineMs },
      ...{ refusal: unavailable('the audit log is closed'), log: this.#options.log },
    })
    this.#lost += left.unwritten
    return left
  }

  #parts(): GaugeParts {
    return {
      store: this.#store.counters,
      adopted: this.#adopter.counts,
      drained: this.#drain.counts,
      backlog: this.#drain.backlog,
      accepted: this.#seq,
      late: this.#late,
      missed: this.#misses.count,
      lost: this.#lost,
      open: this.#open.size,
      deadLetters: this.#dead.count,
      spoolBytes: this.#spool.bytes,
      spoolMaxBytes: this.#options.spool.maxBytes,
      isAccepting: this.state === 'up',
      nowMs: this.#options.clock.nowMs(),
    }
  }

  get #denies(): boolean {
    return this.#options.onFailure === 'deny'
  }

  /** Without a database `gap` goes on with what the spool promises. */
  get #waitsForCommit(): boolean {
    return this.#options.mode === 'blocking' && (this.#denies || this.#drain.isDatabaseUp)
  }

  /** Why calls cannot be recorded now; null when they can. */
  #trouble(): string | null {
    if (this.#spool.isFailing) return 'the spool cannot be written'
    if (this.#wait.overdue > 0) return 'the spool does not answer'
    if (this.#isFull) return 'the spool is full'
    const waitsForDatabase = this.#options.mode === 'blocking' && this.#denies
    return waitsForDatabase && !this.#drain.isDatabaseUp ? 'the database does not answer' : null
  }

  get #isFull(): boolean {
    return this.#spool.bytes >= this.#options.spool.maxBytes
  }

  /** Why a row that nobody was promised is not taken in; null when there is room. */
  #crowded(): string | null {
    if (this.#isFull) return 'the spool is full'
    const held = this.#spool.isFailing || this.#wait.overdue > 0 ? this.#drain.backlog.held.rows : 0
    return held + this.#open.size >= this.#limits.maxRows ? 'too many rows wait to be stored' : null
  }

  #append(
    kind: 'begin' | 'end' | 'gap',
    id: string,
    seq: number,
    text: string | Buffer,
    until: 'written' | 'synced',
    waiting?: Waiting,
  ): Promise<void> {
    const frame = { kind, id, seq, text, ms: this.#options.clock.nowMs() }
    return this.#spool.append({
      ...{ frame, until },
      onPlaced: (place) => {
        if (waiting === undefined) return
        waiting.place = place
        this.#drain.backlog.spill()
      },
    })
  }

  #accept(row: AuditRow): { readonly waiting: Waiting; readonly spooled: Promise<void> } {
    this.#seq += 1
    let entry = this.#store.entry(row, this.#seq)
    if (this.#drain.backlog.held.length + entry.bytes.length > this.#limits.maxLength) {
      entry = this.#store.entry(withoutPayload(row, { why: 'memory was short' }), this.#seq)
    }
    const { length } = entry.bytes
    const acceptedMs = this.#options.clock.nowMs()
    const waiting: Waiting = { entry, length, acceptedMs, place: null, settle: null, isCommitted: false }
    const until = this.#options.mode === 'durable' ? 'synced' : 'written'
    const spooled = this.#append('end', row.id, this.#seq, entry.bytes, until, waiting)
    this.#options.onRow?.(length)
    // While the spool is being written there is time for it.
    setImmediate(prepare, entry)
    this.#drain.add(waiting)
    return { waiting, spooled }
  }

  /** A row that the disk refuses may be taken by the database at once. */
  async #whenSpooled(waiting: Waiting, spooled: Promise<void>): Promise<void> {
    try {
      await this.#wait.wait(spooled)
      if (this.#isFull) this.#tell()
    } catch (thrown) {
      if (!this.#denies || waiting.isCommitted) return
      if (!this.#drain.isDatabaseUp) throw unavailable(`the spool cannot be written (${reasonOf(thrown)})`)
      await this.#whenCommitted(waiting)
    }
  }

  async #whenCommitted(waiting: Waiting): Promise<void> {
    try {
      await this.#drain.whenCommitted(waiting)
    } catch (thrown) {
      if (thrown instanceof GatewayError) throw thrown
      this.#late += 1
      if (this.#denies || waiting.place === null) throw unavailable('the row was not committed in time')
    }
  }

  #committed(seq: number): void {
    void this.#spool.committed(seq).then(() => {
      if (this.#spool.bytes < this.#options.spool.maxBytes * 0.9) this.#declareMisses()
      this.#tell()
    })
  }

  #diskChanged(error: unknown): void {
    const { log } = this.#options
    if (error === null) log.info({}, 'the audit spool can be written again')
    else log.error({ error: reasonOf(error) }, 'the audit spool cannot be written')
    this.#tell()
    if (error === null && !this.#isFull) this.#declareMisses()
  }

  #declareMisses(): void {
    if (this.#stopped) return
    const gap = this.#misses.take()
    if (gap === null) return
    const now = this.#options.clock.nowMs()
    this.#accept(gapRow(this.#options.newId(now), now, gap)).spooled.catch(() => undefined)
  }

  #tell(): void {
    const { state } = this
    if (state === this.#told) return
    this.#told = state
    this.#options.onState?.(state)
  }
}

function prepare(entry: Entry): void {
  try {
    entry.chained()
  } catch {
    // The store, which asks again, knows what to do about it.
  }
}

function unavailable(detail: string): GatewayError {
  return new GatewayError('audit_unavailable', { detail })
}
