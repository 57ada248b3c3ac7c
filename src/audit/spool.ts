/**
 * The write-ahead file of one writer: whatever a call was promised stands here before the promise is given.
 *
 * Frames are appended to numbered files; many calls share a write and a sync. A file goes when all its rows are committed
 * and a newer one exists; begins that are still open are carried over, so files go in order. When the disk refuses (full,
 * read-only, a failing sync), the frames that are not known to be safe are kept, written again to a fresh file as soon as
 * one can be made, and meanwhile whoever asks is told.
 */
import type { SpoolFile, SpoolFs } from './spool-files.ts'
import { syncFolder, writeAll } from './spool-files.ts'
import type { NewFrame } from './spool-frame.ts'
import { allBytes, putFrame, sizeOf } from './spool-frame.ts'
import type { Place, Segment, SpoolReading } from './spool-segments.ts'
import { roomIn, Segments } from './spool-segments.ts'

/** Bounds of a spool. */
export interface SpoolLimits {
  /** Bytes of one file. */
  readonly segmentBytes: number
  /** How long a write may wait for its sync when nobody waits for it, ms. */
  readonly syncEveryMs: number
  /** Bytes that may be written and not synced; more waits. */
  readonly maxUnsyncedBytes: number
  readonly retryMinMs: number
  readonly retryMaxMs: number
}

/** The measured defaults. */
export const SPOOL_LIMITS: SpoolLimits = {
  segmentBytes: 4 * 1024 * 1024,
  syncEveryMs: 20,
  maxUnsyncedBytes: 16 * 1024 * 1024,
  retryMinMs: 50,
  retryMaxMs: 1000,
}

/** What a spool needs. */
export interface SpoolOptions {
  readonly fs: SpoolFs
  /** A folder of its own; asked when it is opened, when it exists and is locked. */
  readonly folder: () => string
  /** UUID of the writer whose rows it holds. */
  readonly writer: string
  readonly limits: SpoolLimits
  readonly nowMs: () => number
  /** Told when the disk begins to refuse (the error) and when it works again (null). Must not throw. */
  readonly onFailure: (error: unknown) => void
}

/** Frames that may wait for a write although their rows are committed. */
const MOST_IDLE = 256

/** Most bytes of a buffer that is used again: getting a fresh one costs more than filling it. */
const KEPT_BUFFER = 1024 * 1024

interface Pending {
  readonly frame: NewFrame
  readonly size: number
  /** null once the one who waits has been answered. */
  settle: ((error: unknown) => void) | null
  readonly until: 'written' | 'synced'
  placed: ((place: Place) => void) | null
}

/** An append and what becomes of it. */
export interface Append {
  readonly frame: NewFrame
  /** What `done` waits for. */
  readonly until: 'written' | 'synced'
  /** Called once, when the frame stands in a file: at once or, after a failure, later. */
  readonly onPlaced?: (place: Place) => void
}

/** One writer’s spool. Frames are on the disk in the order in which they were appended. */
export class Spool {
  readonly #options: SpoolOptions
  readonly #segments: Segments
  #active: { readonly segment: Segment; readonly file: SpoolFile } | null = null
  #pending: Pending[] = []
  /** On their way into a file. */
  #inFlight: readonly Pending[] = []
  /** Written, and not known to be on the disk. */
  #unsynced: Pending[] = []
  #unsyncedBytes = 0
  readonly #begun = new Map<string, NewFrame>()
  /** What is being written. One write at a time uses it. */
  #buffer = Buffer.alloc(0)
  #lastSeq = 0
  #committed = 0
  #failure: { readonly error: unknown } | null = null
  #writing: Promise<void> | null = null
  #syncing: Promise<void> | null = null
  #removing: Promise<void> = Promise.resolve()
  #syncTimer: NodeJS.Timeout | null = null
  #retryTimer: NodeJS.Timeout | null = null
  #trying: Promise<void> | null = null
  #isTurning = false
  #closed = false

  constructor(options: SpoolOptions) {
    this.#options = options
    this.#segments = new Segments(options.fs)
  }

  /** Makes the first file. Throws what the file system throws. */
  async open(): Promise<void> {
    await this.#openSegment()
  }

  /** Bytes on disk. */
  get bytes(): number {
    return this.#segments.bytes
  }

  get isFailing(): boolean {
    return this.#failure !== null
  }

  /** Frames in memory that no file holds yet. */
  get pendingFrames(): number {
    return this.#pending.length
  }

  /**
   * Appends a frame. Rejects when it could not be made safe now; it is kept all the same and written when the disk works
   * again, so its number is not lost.
   */
  append({ frame, until, onPlaced }: Append): Promise<void> {
    return new Promise((resolve, reject) => {
      const settle = (error: unknown): void => (error === null ? resolve() : reject(error))
      const pending: Pending = { frame, size: sizeOf(frame), settle, until, placed: onPlaced ?? null }
      this.#pending.push(pending)
      if (this.#failure !== null) this.#answer(pending, this.#failure.error)
      else this.#write()
    })
  }

  /** All rows up to `seq` are committed: files that hold nothing else go. Resolves when they have gone; never rejects. */
  committed(seq: number): Promise<void> {
    this.#committed = Math.max(this.#committed, seq)
    if (this.#failure !== null || this.#pending.length > MOST_IDLE) this.#dropCommitted()
    this.#removing = this.#removing.then(() => this.#removeCommitted())
    return this.#removing
  }

  /** Begins a new file when the present one holds rows, so that what is committed does not lie about for ever. */
  turn(): void {
    if (this.#active === null || this.#active.segment.lastSeq === 0) return
    this.#isTurning = true
    this.#write()
  }

  /** The frames from `place` on, at most those of one file; null at the end of what is written. Throws what the disk says. */
  read(place: Place): Promise<SpoolReading | null> {
    return this.#segments.read(place)
  }

  /** Syncs and closes; removes the files when every row is committed and no begin is open. Whether they are gone. */
  async close(): Promise<boolean> {
    this.#closed = true
    await this.#writing
    // Only now: the last write has set one more.
    for (const timer of [this.#syncTimer, this.#retryTimer]) if (timer !== null) clearTimeout(timer)
    await this.#syncing
    await this.#trying
    if (this.#failure === null)
      await this.#active?.file.datasync().catch((error: unknown) => this.#fail(error))
    await this.#active?.file.close().catch(() => undefined)
    this.#active = null
    await this.#removing
    if (this.#begun.size > 0 || this.#pending.length > 0) return false
    return await this.#segments.remove(this.#committed, null)
  }

  #answer(pending: Pending, error: unknown): void {
    pending.settle?.(error)
    pending.settle = null
  }

  #write(): void {
    if (this.#writing !== null || this.#closed) return
    // One turn of the event loop later, so that calls that come together share the write.
    this.#writing = new Promise<void>((resolve) => setImmediate(resolve))
      .then(() => this.#writeAll())
      .catch((error: unknown) => this.#fail(error))
      .finally(() => {
        this.#writing = null
        if ((this.#pending.length > 0 || this.#isTurning) && this.#failure === null) this.#write()
      })
  }

  async #writeAll(): Promise<void> {
    if (this.#isTurning && this.#failure === null) await this.#rotate()
    this.#isTurning = false
    while (this.#pending.length > 0 && this.#failure === null) {
      if (this.#unsyncedBytes > this.#options.limits.maxUnsyncedBytes) await this.#sync()
      await this.#writeSome()
      this.#scheduleSync()
    }
  }

  /** Writes what waits, as far as one file holds it. */
  async #writeSome(): Promise<void> {
    const { segmentBytes } = this.#options.limits
    if (this.#active !== null && roomIn(this.#active.segment, segmentBytes) <= 0) await this.#rotate()
    const active = this.#active
    if (active === null) {
      // A sync has failed in the meantime; else nobody has opened it.
      if (this.#failure === null) throw new Error('the spool is not open')
      return
    }
    const room = roomIn(active.segment, segmentBytes)
    let length = 0
    let count = 0
    for (const { size } of this.#pending) {
      if (count > 0 && length + size > room) break
      length += size
      count += 1
    }
    const batch = this.#pending.splice(0, count)
    this.#inFlight = batch
    await writeAll(active.file, this.#encode(batch, length), active.segment.bytes)
    // A failure of a sync in the meantime has taken the file away, and all of these to the next one.
    if (this.#active !== active) return
    this.#inFlight = []
    for (const pending of batch) this.#place(active.segment, pending)
  }

  #encode(batch: readonly Pending[], length: number): Buffer {
    const buffer = this.#buffer.length >= length ? this.#buffer : Buffer.allocUnsafeSlow(length)
    if (length <= KEPT_BUFFER) this.#buffer = buffer
    let at = 0
    for (const { frame, size } of batch) {
      putFrame(buffer, at, frame, size)
      at += size
    }
    return buffer.subarray(0, at)
  }

  #place(segment: Segment, pending: Pending): void {
    const { frame, size } = pending
    const place = { segment: segment.number, offset: segment.bytes }
    this.#segments.grow(segment, size)
    if (frame.kind === 'begin') this.#begun.set(frame.id, frame)
    if (frame.kind === 'end') {
      this.#begun.delete(frame.id)
      segment.lastSeq = frame.seq
      this.#lastSeq = Math.max(this.#lastSeq, frame.seq)
    }
    this.#unsynced.push(pending)
    this.#unsyncedBytes += size
    if (pending.until === 'written') this.#answer(pending, null)
    pending.placed?.(place)
    pending.placed = null
  }

  #scheduleSync(): void {
    if (this.#syncing !== null || this.#unsynced.length === 0) return
    if (this.#unsynced.some(({ settle }) => settle !== null)) {
      void this.#sync()
      return
    }
    this.#syncTimer ??= setTimeout(() => void this.#sync(), this.#options.limits.syncEveryMs)
  }

  /** Never rejects: a failure is the spool's. Callers share a sync that is under way. */
  #sync(): Promise<void> {
    if (this.#syncTimer !== null) clearTimeout(this.#syncTimer)
    this.#syncTimer = null
    this.#syncing ??= this.#syncOnce().finally(() => {
      this.#syncing = null
      if (this.#failure === null && !this.#closed) this.#scheduleSync()
    })
    return this.#syncing
  }

  async #syncOnce(): Promise<void> {
    const active = this.#active
    const group = this.#unsynced.slice()
    if (active === null || group.length === 0) return
    try {
      await active.file.datasync()
    } catch (error) {
      if (this.#active === active) this.#fail(error)
      return
    }
    if (this.#active !== active) return
    this.#synced(group)
  }

  #synced(group: readonly Pending[]): void {
    this.#unsynced.splice(0, group.length)
    for (const pending of group) {
      this.#unsyncedBytes -= pending.size
      this.#answer(pending, null)
    }
  }

  async #rotate(): Promise<void> {
    const old = this.#active
    while (this.#unsynced.length > 0 && this.#failure === null) await this.#sync()
    if (this.#failure !== null) return
    await this.#openSegment()
    await old?.file.close().catch(() => undefined)
    this.#removing = this.#removing.then(() => this.#removeCommitted())
  }

  /** Makes the next file: its head, then every begin that is still open. */
  async #openSegment(): Promise<void> {
    const { fs, writer, nowMs } = this.#options
    const folder = this.#options.folder()
    const segment = this.#segments.next(folder)
    const { path } = segment
    const file = await fs.open(path, 'wx', 0o600)
    try {
      const head: NewFrame = { kind: 'head', seq: this.#lastSeq, ms: nowMs(), id: writer, text: '{"v":1}' }
      const bytes = allBytes([head, ...this.#begun.values()])
      await writeAll(file, bytes, 0)
      await file.datasync()
      await syncFolder(fs, folder)
      segment.bytes = bytes.length
      segment.carriedBytes = bytes.length
      this.#segments.add(segment)
      this.#active = { segment, file }
    } catch (error) {
      await file.close().catch(() => undefined)
      await fs.rm(path, { force: true }).catch(() => undefined)
      throw error
    }
  }

  /** Nothing that is not known to be on the disk may be thought safe any more. */
  #fail(error: unknown): void {
    const active = this.#active
    this.#active = null
    this.#pending = [...this.#unsynced, ...this.#inFlight, ...this.#pending]
    this.#unsynced = []
    this.#inFlight = []
    this.#unsyncedBytes = 0
    for (const pending of this.#pending) this.#answer(pending, error)
    if (active !== null) {
      // What a torn write has left behind its last frame would only look like damage.
      const { segment, file } = active
      void file
        .truncate(segment.bytes)
        .catch(() => undefined)
        .then(() => file.close())
        .catch(() => undefined)
    }
    if (this.#failure !== null) return
    this.#failure = { error }
    this.#options.onFailure(error)
    this.#retry(this.#options.limits.retryMinMs)
  }

  #retry(delayMs: number): void {
    if (this.#closed) return
    this.#retryTimer = setTimeout(() => {
      this.#trying = this.#tryAgain().catch(() =>
        this.#retry(Math.min(delayMs * 2, this.#options.limits.retryMaxMs)),
      )
    }, delayMs)
    this.#retryTimer.unref()
  }

  /** A fresh file that takes all that was not safe shows that the disk works again. */
  async #tryAgain(): Promise<void> {
    await this.#writing
    await this.#openSegment()
    const active = this.#active
    if (active === null) return
    const group = this.#pending.splice(0)
    try {
      const bytes = allBytes(group.map(({ frame }) => frame))
      await writeAll(active.file, bytes, active.segment.bytes)
      await active.file.datasync()
    } catch (error) {
      this.#pending.unshift(...group)
      this.#active = null
      this.#segments.forget(active.segment)
      await active.file.close().catch(() => undefined)
      await this.#options.fs.rm(active.segment.path, { force: true }).catch(() => undefined)
      throw error
    }
    for (const pending of group) this.#place(active.segment, pending)
    this.#synced(group)
    this.#failure = null
    this.#options.onFailure(null)
    if (this.#pending.length > 0) this.#write()
  }

  async #removeCommitted(): Promise<void> {
    // While the spool fails, the begins that are open stand in the last file only.
    if (this.#active !== null) await this.#segments.remove(this.#committed, this.#active.segment)
  }

  /** Frames that no file needs any more: their rows are committed. A disk that refuses must not fill the memory with them. */
  #dropCommitted(): void {
    const isDone = ({ kind, seq }: Pending['frame']): boolean => kind === 'end' && seq <= this.#committed
    const done = new Set(this.#pending.flatMap(({ frame }) => (isDone(frame) ? [frame.id] : [])))
    if (done.size === 0) return
    const isNeeded = ({ frame }: Pending): boolean => frame.kind === 'gap' || !done.has(frame.id)
    for (const pending of this.#pending) if (!isNeeded(pending)) this.#answer(pending, null)
    this.#pending = this.#pending.filter(isNeeded)
    for (const id of done) this.#begun.delete(id)
  }
}
