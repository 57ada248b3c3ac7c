import { randomBytes } from 'node:crypto'

const POOL_BYTES = 4096

/**
 * Makes row ids: UUID version 7 (RFC 9562 §5.7), rising within one process. The first 48 bits are the millisecond given,
 * so a row's partition follows from its id.
 */
export function createRowIds(): (ms: number) => string {
  let lastMs = -1
  let counter = 0
  // One call of the system's generator serves many ids: it costs more than all the rest.
  let pool = Buffer.alloc(0)
  let used = 0
  return (ms) => {
    if (used === pool.length) {
      pool = randomBytes(POOL_BYTES)
      used = 0
    }
    const bytes = pool.subarray(used, used + 16)
    used += 16
    // 12 bits of counter after the millisecond keep ids of one millisecond in order; a full counter falls back to chance.
    counter = ms === lastMs ? (counter + 1) & 0xfff : bytes.readUInt16BE(6) & 0x7ff
    lastMs = ms
    bytes.writeUIntBE(ms, 0, 6)
    bytes.writeUInt16BE(0x7000 | counter, 6)
    bytes.writeUInt8(0x80 | (bytes.readUInt8(8) & 0x3f), 8)
    const hex = bytes.toString('hex')
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-${hex.slice(12, 16)}-${hex.slice(16, 20)}-${hex.slice(20)}`
  }
}
