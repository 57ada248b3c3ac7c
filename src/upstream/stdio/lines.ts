/** Splits what a process writes into lines, each within a bound. */
import { createByteBuffer } from '../byte-buffer.ts'

/** Bounds of lines, and who is told them. */
export interface LinesOptions {
  /** Bound on one line, without its line feed. */
  readonly maxBytes: number
  /** One line without its line feed. Empty ones are left out. */
  readonly onLine: (line: Buffer) => void
  /** A line over the bound, once it has ended: its first and last bytes. */
  readonly onOverlong: (head: Buffer, tail: Buffer) => void
}

/** Takes bytes and tells lines. */
export interface Lines {
  /** Takes the next bytes. Returns false when a line does not end. */
  push(chunk: Buffer): boolean
}

/** As much of an overlong line is kept at each end. */
const EDGE_BYTES = 256
/** A line that is longer than this many bounds has no end. */
const MAX_EXCESS = 4
const LF = 10

/** `push` never holds more than the bound in memory. */
export function createLines(options: LinesOptions): Lines {
  const { maxBytes } = options
  const pending = createByteBuffer()
  /** While a line is over the bound: what is left of it. */
  let excess: { head: Buffer; tail: Buffer; length: number } | null = null

  function keep(part: Buffer): boolean {
    if (excess === null && pending.length + part.length <= maxBytes) {
      if (part.length > 0) pending.push(part)
      return true
    }
    if (excess === null) {
      const start = pending.take()
      excess = { head: copyStart(start, part), tail: Buffer.alloc(0), length: start.length }
    }
    excess.tail = Buffer.concat([excess.tail, part.subarray(-EDGE_BYTES)]).subarray(-EDGE_BYTES)
    excess.length += part.length
    return excess.length <= maxBytes * MAX_EXCESS
  }

  function finish(): void {
    if (excess === null) {
      if (pending.length > 0) options.onLine(pending.take())
      return
    }
    const { head, tail } = excess
    excess = null
    options.onOverlong(head, tail)
  }

  return {
    push(chunk) {
      let from = 0
      for (let at = chunk.indexOf(LF); at !== -1; at = chunk.indexOf(LF, from)) {
        if (!keep(chunk.subarray(from, at))) return false
        finish()
        from = at + 1
      }
      return keep(chunk.subarray(from))
    },
  }
}

/** A copy: the parts lie in buffers much larger than they are. */
function copyStart(start: Buffer, next: Buffer): Buffer {
  const head = start.subarray(0, EDGE_BYTES)
  return Buffer.concat([head, next.subarray(0, EDGE_BYTES - head.length)])
}
