/** The files of one spool, oldest first, and how much they hold. */
import { join } from 'node:path'
import type { SpoolFs } from './spool-files.ts'
import { readPart, segmentName } from './spool-files.ts'
import type { PlacedFrame } from './spool-frame.ts'
import { readFrames } from './spool-frame.ts'

/** One file. */
export interface Segment {
  readonly number: number
  readonly path: string
  bytes: number
  /** Of these, what it began with: the begins that were open. */
  carriedBytes: number
  /** Number of the last row in it; 0 when it holds none. */
  lastSeq: number
}

/** Where a frame stands. */
export interface Place {
  readonly segment: number
  readonly offset: number
}

/** Frames read, and where to go on. */
export interface SpoolReading {
  readonly frames: readonly PlacedFrame[]
  readonly next: Place
}

/**
 * Bytes that may still be added. A file holds at least as much of its own as it has carried over: thousands of open streams
 * fill a whole file, and each write would begin another one and carry them over again.
 */
export function roomIn({ bytes, carriedBytes }: Segment, segmentBytes: number): number {
  return Math.max(segmentBytes - bytes, 2 * carriedBytes - bytes)
}

/** In the order in which they were made. */
export class Segments {
  readonly #fs: SpoolFs
  #list: Segment[] = []
  #bytes = 0
  #lastNumber = 0

  constructor(fs: SpoolFs) {
    this.#fs = fs
  }

  get bytes(): number {
    return this.#bytes
  }

  /** The next one; it counts when it is added. Numbers are never used twice. */
  next(folder: string): Segment {
    this.#lastNumber += 1
    const number = this.#lastNumber
    return { number, path: join(folder, segmentName(number)), bytes: 0, carriedBytes: 0, lastSeq: 0 }
  }

  add(segment: Segment): void {
    this.#list.push(segment)
    this.#bytes += segment.bytes
  }

  grow(segment: Segment, bytes: number): void {
    segment.bytes += bytes
    this.#bytes += bytes
  }

  /** Takes one out whose file has been removed by whoever made it. */
  forget(segment: Segment): void {
    this.#list = this.#list.filter((one) => one !== segment)
    this.#bytes -= segment.bytes
  }

  /** Removes the files, in order, in which no row is behind `seq`; all but `except`. Whether nothing stood in the way. */
  async remove(seq: number, except: Segment | null): Promise<boolean> {
    for (const segment of [...this.#list]) {
      if (segment === except) continue
      if (segment.lastSeq > seq) return false
      try {
        await this.#fs.rm(segment.path, { force: true })
      } catch {
        return false
      }
      this.forget(segment)
    }
    return true
  }

  /** The frames from `place` on, at most those of one file; null at the end of what is written. */
  async read(place: Place): Promise<SpoolReading | null> {
    for (const segment of this.#list) {
      const offset = segment.number === place.segment ? place.offset : 0
      const length = segment.bytes - offset
      if (segment.number < place.segment || length === 0) continue
      const bytes = await readPart(this.#fs, segment.path, offset, length)
      const frames = readFrames(bytes).frames.map((frame) => ({
        ...frame,
        start: frame.start + offset,
        end: frame.end + offset,
      }))
      return { frames, next: { segment: segment.number, offset: offset + length } }
    }
    return null
  }
}
