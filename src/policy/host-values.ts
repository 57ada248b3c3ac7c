/**
 * Reading the values of logged events once the evaluation is over. It runs in the same module and is metered like it: a
 * value may be as large as the input, and there may be many.
 *
 * The module writes each text into a scratch area below the heap of the evaluation, so values stay as they are and it
 * works after an evaluation that died for want of memory, too. The fuel for one value bounds how much of the area its
 * text can take.
 */
import type { EventLog, EventOp } from './host-events.ts'
import type { OpaExports } from './host-exports.ts'
import type { HeapText } from './host-heap.ts'

/** One event with its values as Rego text; null = the value was too large to be read. */
export interface RecordedEvent {
  readonly op: EventOp
  readonly id: number
  readonly gap: boolean
  readonly values: readonly (string | null)[]
}

/** What an evaluation told through its probes. */
export interface Recording {
  readonly events: readonly RecordedEvent[]
  /** Events that happened and are not here. */
  readonly dropped: number
  /** Events were left out behind the last one. */
  readonly endsInGap: boolean
}

/** Where texts may be written, and what is constant. */
export interface ValueArea {
  readonly start: number
  readonly end: number
  /** Top of the C stack, to be restored after a throw. Values above it and below `start` never change. */
  readonly stackTop: number
}

/** Bytes that {@link ValueArea} must have; what {@link FUEL_PER_VALUE} can write lies far below. */
export const VALUE_AREA_BYTES = 1 << 20
/** Enough for about 26 KB of text: each byte written takes about 750 units. About one millisecond. */
const FUEL_PER_VALUE = 20_000_000
const MAX_VALUE_BYTES = 65_536
/** Texts up to this length fit the writer's first buffer, which takes {@link FIRST_BUFFER_BYTES}. */
const SHORT_TEXT = 1000
const FIRST_BUFFER_BYTES = 1100
const MAX_CONSTANTS = 4096

const NO_VALUES: readonly never[] = []

/** Reads the values of one instance. */
export class ValueReader {
  private readonly exports: OpaExports
  private readonly heap: HeapText
  private readonly area: ValueArea
  /** Texts of values that never change: constants of the module, loaded data. */
  private readonly constants = new Map<number, string>()
  private left = 0
  /** Bytes of the area in use; over its end = not known. */
  private taken = 0

  constructor(exports: OpaExports, heap: HeapText, area: ValueArea) {
    this.exports = exports
    this.heap = heap
    this.area = area
  }

  /** Reads all values of the log, each address once. `fuel` bounds the whole; what it does not reach is null. */
  record(log: EventLog, fuel: number): Recording {
    this.left = fuel
    this.taken = VALUE_AREA_BYTES
    const known = new Map<number, string | null>()
    // First what tells whether a rule was defined: should the fuel run out, that is known.
    for (let index = 0; index < log.length; index += 1) {
      if (log.probeAt(index)?.op === 'leave') this.once(known, log.addressAt(index, 0))
    }
    const events: RecordedEvent[] = []
    for (let index = 0; index < log.length; index += 1) {
      const probe = log.probeAt(index)
      if (probe === undefined) continue
      const values = this.valuesOf(log, index, known)
      events.push({ op: probe.op, id: probe.id, gap: log.gapAt(index), values })
    }
    return { events, dropped: log.dropped, endsInGap: log.endsInGap }
  }

  private valuesOf(log: EventLog, index: number, known: Map<number, string | null>): RecordedEvent['values'] {
    const count = log.valuesAt(index)
    if (count === 0) return NO_VALUES
    const values: (string | null)[] = []
    for (let value = 0; value < count; value += 1) values.push(this.once(known, log.addressAt(index, value)))
    return values
  }

  private once(known: Map<number, string | null>, address: number): string | null {
    const seen = this.constants.get(address) ?? known.get(address)
    if (seen !== undefined) return seen
    const text = this.dump(address)
    const isConstant = address > this.area.stackTop && address < this.area.start
    if (isConstant && text !== null && text.length <= SHORT_TEXT && this.constants.size < MAX_CONSTANTS) {
      this.constants.set(address, text)
    } else known.set(address, text)
    return text
  }

  private dump(address: number): string | null {
    if (this.left <= 0) return null
    const { exports } = this
    const fuel = Math.min(this.left, FUEL_PER_VALUE)
    exports.fuel.value = fuel
    try {
      if (this.taken + FIRST_BUFFER_BYTES > VALUE_AREA_BYTES / 2) this.clear()
      const at = exports.opa_value_dump(address) >>> 0
      const text = this.heap.read(at, MAX_VALUE_BYTES)
      this.account(at, text)
      return text
    } catch {
      // Too large, or the fuel for all is spent. What has been written is not known: start the area again.
      exports.stackPointer.value = this.area.stackTop
      this.taken = VALUE_AREA_BYTES
      return null
    } finally {
      this.left -= fuel - Math.max(0, exports.fuel.value)
    }
  }

  private clear(): void {
    this.exports.opa_heap_ptr_set(this.area.start)
    this.taken = 0
  }

  private account(at: number, text: string | null): void {
    const isShort = text !== null && text.length <= SHORT_TEXT
    this.taken = isShort ? this.taken + FIRST_BUFFER_BYTES : VALUE_AREA_BYTES
    const end = at + (text?.length ?? MAX_VALUE_BYTES)
    if (at < this.area.start || end >= this.area.end) this.left = 0 // it may have been written over a value: stop
  }
}
