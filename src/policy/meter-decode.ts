/**
 * Reading the WebAssembly binary format, version 1 (https://www.w3.org/TR/wasm-core-1/#binary-format), as far as the meter
 * needs it: every length and index is checked against the bytes that are there, and whatever is not known is refused, for
 * an instruction that cannot be decoded is one that cannot be metered.
 */

/** The bytes are no module, or one that uses what the meter does not know. The message names the byte offset. */
export class MeterError extends Error {
  constructor(problem: string, offset: number) {
    super(`cannot meter the module: ${problem} at byte ${offset}`)
    this.name = 'MeterError'
  }
}

const DECODER = new TextDecoder('utf-8', { fatal: true })

/** A position in the bytes of a module; never reads at or behind `end`. */
export class ModuleReader {
  readonly bytes: Uint8Array
  readonly end: number
  pos: number

  constructor(bytes: Uint8Array, pos: number, end: number) {
    this.bytes = bytes
    this.pos = pos
    this.end = end
  }

  /** The error to throw when what stands here cannot be metered. */
  refuse(problem: string): MeterError {
    return new MeterError(problem, this.pos)
  }

  byte(): number {
    const value = this.pos < this.end ? this.bytes[this.pos] : undefined
    if (value === undefined) throw this.refuse('unexpected end')
    this.pos += 1
    return value
  }

  skip(count: number): void {
    if (count > this.end - this.pos) throw this.refuse('unexpected end')
    this.pos += count
  }

  /** An unsigned LEB128 number of at most 32 bits. */
  u32(): number {
    let result = 0
    for (let shift = 0; shift <= 28; shift += 7) {
      const byte = this.byte()
      if (shift === 28 && byte > 0x0f) break
      result |= (byte & 0x7f) << shift
      if (byte < 0x80) return result >>> 0
    }
    throw this.refuse('number too large')
  }

  /** A signed LEB128 number of at most 32 bits. */
  i32(): number {
    let result = 0
    for (let shift = 0; shift <= 28; shift += 7) {
      const byte = this.byte()
      result |= (byte & 0x7f) << shift
      if (byte < 0x80) return shift < 28 && byte & 0x40 ? result | (-1 << (shift + 7)) : result
    }
    throw this.refuse('number too long')
  }

  /** Skips a signed LEB128 number of at most `maxBytes` bytes and returns its last byte. */
  skipSigned(maxBytes: number): number {
    for (let read = 0; read < maxBytes; read += 1) {
      const byte = this.byte()
      if (byte < 0x80) return byte
    }
    throw this.refuse('number too long')
  }

  name(): string {
    const length = this.u32()
    const from = this.pos
    this.skip(length)
    try {
      return DECODER.decode(this.bytes.subarray(from, this.pos))
    } catch (error) {
      throw this.refuse(`a name that is not UTF-8 (${String(error)})`)
    }
  }

  /** Minimum and maximum of a memory or table. */
  skipLimits(): void {
    const flags = this.byte()
    if (flags > 1) throw this.refuse(`unknown kind of memory or table 0x${flags.toString(16)}`)
    this.u32()
    if (flags === 1) this.u32()
  }
}

/** What follows an opcode. `prefix` = a second opcode. */
type Operands =
  | 'none'
  | 'index'
  | 'call_indirect'
  | 'memory'
  | 'block'
  | 'table'
  | 'zero'
  | 'i32'
  | 'i64'
  | 'f32'
  | 'f64'
  | 'prefix'

/** Opcodes of WebAssembly 1.0 and the sign extension operators (0xc0..0xc4); no reference types, no bulk memory, no SIMD. */
const RANGES: readonly (readonly [from: number, to: number, operands: Operands])[] = [
  [0x00, 0x01, 'none'], // unreachable, nop
  [0x02, 0x04, 'block'], // block, loop, if
  [0x05, 0x05, 'none'], // else
  [0x0b, 0x0b, 'none'], // end
  [0x0c, 0x0d, 'index'], // br, br_if
  [0x0e, 0x0e, 'table'], // br_table
  [0x0f, 0x0f, 'none'], // return
  [0x10, 0x10, 'index'], // call
  [0x11, 0x11, 'call_indirect'],
  [0x1a, 0x1b, 'none'], // drop, select
  [0x20, 0x24, 'index'], // local.*, global.*
  [0x28, 0x3e, 'memory'], // loads and stores
  [0x3f, 0x40, 'zero'], // memory.size, memory.grow
  [0x41, 0x41, 'i32'],
  [0x42, 0x42, 'i64'],
  [0x43, 0x43, 'f32'],
  [0x44, 0x44, 'f64'],
  [0x45, 0xc4, 'none'], // comparisons, arithmetic, conversions
  [0xfc, 0xfc, 'prefix'],
]

const OPERANDS: readonly (Operands | undefined)[] = Array.from(
  { length: 256 },
  (_, opcode) => RANGES.find(([from, to]) => opcode >= from && opcode <= to)?.[2],
)

/** Behind the prefix 0xfc only the saturating truncations are known; the bulk memory instructions start at 8. */
const LAST_TRUNCATION = 7

/**
 * Reads one instruction with its operands and returns its opcode.
 * @throws MeterError when it is not known
 */
export function readInstruction(reader: ModuleReader): number {
  const opcode = reader.byte()
  const operands = OPERANDS[opcode]
  if (operands === undefined) throw reader.refuse(`unknown opcode 0x${opcode.toString(16)}`)
  skipOperands(reader, operands)
  return opcode
}

function skipOperands(reader: ModuleReader, operands: Operands): void {
  switch (operands) {
    case 'none':
      return
    case 'index':
      reader.u32()
      return
    case 'call_indirect':
      reader.u32()
      skipZero(reader)
      return
    case 'memory':
      if (reader.u32() > 3) throw reader.refuse('unknown memory operand')
      reader.u32()
      return
    case 'block':
      skipBlockType(reader)
      return
    case 'table':
      for (let targets = reader.u32() + 1; targets > 0; targets -= 1) reader.u32()
      return
    case 'zero':
      skipZero(reader)
      return
    case 'i32':
      reader.skipSigned(5)
      return
    case 'i64':
      reader.skipSigned(10)
      return
    case 'f32':
      reader.skip(4)
      return
    case 'f64':
      reader.skip(8)
      return
    case 'prefix':
      if (reader.u32() > LAST_TRUNCATION) throw reader.refuse('unknown opcode behind 0xfc')
      return
    default:
      operands satisfies never
  }
}

function skipZero(reader: ModuleReader): void {
  if (reader.byte() !== 0) throw reader.refuse('more than one memory or table')
}

/** Empty, one number type, or the index of a function type (non-negative). */
function skipBlockType(reader: ModuleReader): void {
  const first = reader.bytes[reader.pos]
  const isSimple = first === 0x40 || (first !== undefined && first >= 0x7c && first <= 0x7f)
  if (isSimple) reader.skip(1)
  else if (reader.skipSigned(5) & 0x40) throw reader.refuse('unknown block type')
}

/** Skips the declarations of a function's local variables. */
export function skipLocals(reader: ModuleReader): void {
  for (let groups = reader.u32(); groups > 0; groups -= 1) {
    reader.u32()
    const type = reader.byte()
    if (type < 0x7c || type > 0x7f)
      throw reader.refuse(`unknown type of a local variable 0x${type.toString(16)}`)
  }
}
