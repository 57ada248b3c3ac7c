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
  let bytes = EMPTY
  let length = 0
  let owned = false

  function reserve(total: number): void {
    if (owned && total <= bytes.length) return
    const grown = Buffer.allocUnsafe(Math.max(total, owned ? bytes.length * 2 : total))
    bytes.copy(grown, 0, 0, length)
    bytes = grown
    owned = true
  }

  return {
    get length() {
      return length
    },
    push(chunk) {
      if (length === 0) {
        bytes = chunk
        owned = false
      } else {
        reserve(length + chunk.length)
        chunk.copy(bytes, length)
      }
      length += chunk.length
    },
    take() {
      const taken = bytes.subarray(0, length)
      bytes = EMPTY
      length = 0
      owned = false
      return taken
    },
  }
}
