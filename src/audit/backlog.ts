/**
 * Rows that are not committed yet, in order of `seq`: some in memory, the others on disk only.
 *
 *     head (memory) | spilled (only in the spool) | tail (memory, not in the spool yet)
 *
 * While the database keeps up everything is head. When it does not, rows leave memory as soon as the spool has them and
 * are read back, in order, when their turn comes: memory stays flat however long it takes.
 */
import type { GatewayError } from '../errors.ts'
import type { Place } from './spool-segments.ts'
import type { Entry } from './store.ts'

/** A row on its way to the database, and who waits for it. */
export interface Waiting {
  readonly entry: Entry
  readonly length: number
  readonly acceptedMs: number
  /** Where it stands in the spool; null until it does. */
  place: Place | null
  isCommitted: boolean
  /** Called when it is committed or given up; null when nobody waits for that. */
  settle: ((error: GatewayError | null) => void) | null
}

/** A run of rows that only the spool holds. */
export interface Spilled {
  readonly count: number
  /** Where the first of them stands, or something before it. */
  readonly place: Place
  /** Number of the first. */
  readonly seq: number
  /** When the first was accepted, ms since the epoch. */
  readonly sinceMs: number
}

/** See the head of this file. Not for concurrent use. */
export class Backlog {
  /** Bounds of `head`. */
  readonly #limits: { readonly liveRows: number; readonly liveLength: number }
  #head: Waiting[] = []
  #tail: Waiting[] = []
  #spilled: Spilled | null = null
  #headLength = 0
  #spilledLength = 0
  #tailLength = 0

  constructor(limits: { readonly liveRows: number; readonly liveLength: number }) {
    this.#limits = limits
  }

  get rows(): number {
    return this.#head.length + (this.#spilled?.count ?? 0) + this.#tail.length
  }

  /** Characters of all rows. */
  get length(): number {
    return this.#headLength + this.#spilledLength + this.#tailLength
  }

  /** Rows and characters in memory. */
  get held(): { readonly rows: number; readonly length: number } {
    return { rows: this.#head.length + this.#tail.length, length: this.#headLength + this.#tailLength }
  }

  get first(): { readonly seq: number; readonly sinceMs: number } | null {
    const [head] = this.#head
    if (head !== undefined) return { seq: head.entry.seq, sinceMs: head.acceptedMs }
    if (this.#spilled !== null) return this.#spilled
    const [tail] = this.#tail
    return tail === undefined ? null : { seq: tail.entry.seq, sinceMs: tail.acceptedMs }
  }

  /** Rows that must be read back before anything behind them can be sent; null when the next rows are in memory. */
  get toRead(): Spilled | null {
    return this.#head.length === 0 ? this.#spilled : null
  }

  /** Rows in memory, those that would be lost with the process first asked for their place. */
  inMemory(): readonly Waiting[] {
    return [...this.#head, ...this.#tail]
  }

  add(waiting: Waiting): void {
    const isLive =
      this.#spilled === null &&
      this.#tail.length === 0 &&
      this.#head.length < this.#limits.liveRows &&
      this.#headLength + waiting.length <= this.#limits.liveLength
    if (isLive || this.rows === 0) {
      this.#head.push(waiting)
      this.#headLength += waiting.length
      return
    }
    this.#tail.push(waiting)
    this.#tailLength += waiting.length
    this.spill()
  }

  /** Rows of the tail that stand in the spool leave memory, unless somebody waits for their commit. */
  spill(): void {
    for (let first = this.#tail[0]; first !== undefined && first.place !== null && first.settle === null; ) {
      const { place, entry, acceptedMs } = first
      this.#spilled =
        this.#spilled === null
          ? { count: 1, place, seq: entry.seq, sinceMs: acceptedMs }
          : { ...this.#spilled, count: this.#spilled.count + 1 }
      this.#tail.shift()
      this.#tailLength -= first.length
      this.#spilledLength += first.length
      first = this.#tail[0]
    }
  }

  /** The next rows to send: at most so many, and so many characters unless one alone has more. */
  next(rows: number, length: number): readonly Waiting[] {
    if (this.#head.length === 0 && this.#spilled === null) this.#raiseTail()
    let sum = 0
    let count = 0
    for (const waiting of this.#head) {
      sum += waiting.length
      if (count >= rows || (count > 0 && sum > length)) break
      count += 1
    }
    return this.#head.slice(0, count)
  }

  /** Rows read back from the spool: they are the next. What is still only there, maybe more by now, begins at `rest`. */
  raise(rows: readonly Waiting[], rest: Omit<Spilled, 'count'>): void {
    this.#head.push(...rows)
    for (const { length } of rows) {
      this.#headLength += length
      this.#spilledLength -= length
    }
    const endSeq = this.#spilled === null ? rest.seq : this.#spilled.seq + this.#spilled.count
    this.#spilled = endSeq > rest.seq ? { ...rest, count: endSeq - rest.seq } : null
    if (this.#spilled === null) this.#spilledLength = 0
  }

  /** These are committed. */
  remove(stored: ReadonlySet<Waiting>): void {
    this.#head = this.#head.filter((waiting) => {
      if (!stored.has(waiting)) return true
      this.#headLength -= waiting.length
      return false
    })
  }

  #raiseTail(): void {
    this.#head = this.#tail
    this.#headLength = this.#tailLength
    this.#tail = []
    this.#tailLength = 0
  }
}
