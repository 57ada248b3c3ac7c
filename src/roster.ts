/** Something that can stand on one {@link Roster} at a time. */
export interface Listed {
  /** Where it stands; -1 = nowhere. Only the roster changes it. */
  place: number
}

/**
 * Who is there, where thousands come and go in a second. A Set would do, but each time it has filled up it leaves a table behind
 * that points to all it held and to the next table; once one of these is old, the collector of young objects takes whatever
 * hangs on them for alive, and calls that have long ended fill the heap until everything is looked through.
 */
export class Roster<T extends Listed> {
  readonly #entries: T[] = []

  get size(): number {
    return this.#entries.length
  }

  add(entry: T): void {
    if (this.has(entry)) return
    entry.place = this.#entries.length
    this.#entries.push(entry)
  }

  has(entry: T): boolean {
    return this.#entries[entry.place] === entry
  }

  /** Whether it was there. The last one takes its place. */
  delete(entry: T): boolean {
    if (!this.has(entry)) return false
    const last = this.#entries.pop() as T
    if (last !== entry) {
      this.#entries[entry.place] = last
      last.place = entry.place
    }
    entry.place = -1
    return true
  }

  /** A copy, to be walked through while they come and go. */
  all(): T[] {
    return [...this.#entries]
  }
}
