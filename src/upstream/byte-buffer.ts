/** Collects the chunks of one body or event. */
export interface ByteBuffer {
  readonly length: number
  push(chunk: Buffer): void
  /** Everything pushed so far; empties the buffer. */
  take(): Buffer
}

const EMPTY: Buffer = Buffer.alloc(0)

/**
 * A list of chunks costs about 100 bytes a chunk, so a sender of single bytes could multiply its size in our memory: from
 * the second chunk on, everything is copied into one buffer that doubles. A single chunk, the usual case, is not copied.
 */
export function createByteBuffer(): ByteBuffer {
  return new GrowingBuffer()
}

class GrowingBuffer implements ByteBuffer {
  length = 0
  private bytes = EMPTY
  private owned = false

  push(chunk: Buffer): void {
    if (this.length === 0) {
      this.bytes = chunk
      this.owned = false
    } else {
      this.reserve(this.length + chunk.length)
      chunk.copy(this.bytes, this.length)
    }
    this.length += chunk.length
  }

  take(): Buffer {
    const { bytes, length } = this
    this.bytes = EMPTY
    this.length = 0
    this.owned = false
    return length === bytes.length ? bytes : bytes.subarray(0, length)
  }

  private reserve(total: number): void {
    if (this.owned && total <= this.bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(total, this.owned ? this.bytes.length * 2 : total))
    this.bytes.copy(grown, 0, 0, this.length)
    this.bytes = grown
    this.owned = true
  }
}
