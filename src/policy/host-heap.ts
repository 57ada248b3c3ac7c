/** Reading text out of a module's linear memory. The memory never grows, so one view lasts as long as the instance. */
import { isUtf8 } from 'node:buffer'
import type { WasmMemory } from './host-wasm.ts'

/** Up to here a loop in JavaScript beats a call into Node's decoder. */
const SHORT = 40

/** Zero-terminated UTF-8 texts at addresses of one memory. Addresses are unsigned: convert with `>>> 0` first. */
export class HeapText {
  private readonly bytes: Buffer

  constructor(memory: WasmMemory) {
    this.bytes = Buffer.from(memory.buffer)
  }

  /** The text at `address`; what is no UTF-8 comes out as U+FFFD. Null when it is longer than `maxBytes`. */
  read(address: number, maxBytes: number): string | null {
    const short = this.readShort(address)
    if (short !== null) return short
    const end = this.bytes.indexOf(0, address)
    if (end < 0 || end - address > maxBytes) return null
    return this.bytes.toString('utf8', address, end)
  }

  /** Like {@link read}, cut off behind `maxBytes`. */
  readHead(address: number, maxBytes: number): string {
    const found = this.bytes.indexOf(0, address)
    const end = found < 0 ? this.bytes.length : found
    return this.bytes.toString('utf8', address, Math.min(end, address + maxBytes))
  }

  /** Whether the text at `address` is UTF-8. */
  isUtf8(address: number): boolean {
    return isUtf8(this.bytes.subarray(address, this.bytes.indexOf(0, address)))
  }

  /** Whether the memory has so many bytes at `address`. */
  fits(address: number, bytes: number): boolean {
    return address + bytes <= this.bytes.length
  }

  write(address: number, bytes: Uint8Array): void {
    this.bytes.set(bytes, address)
  }

  /** The text if it is short and plain ASCII, else null. */
  private readShort(address: number): string | null {
    const bytes = this.bytes
    let text = ''
    for (let at = address; at < address + SHORT; at += 1) {
      const byte = bytes[at]
      if (byte === 0) return text
      if (byte === undefined || byte >= 0x80) return null
      text += String.fromCharCode(byte)
    }
    return null
  }
}
