/**
 * Metering: rewrites a compiled policy so that a deadline holds inside one expression.
 *
 * Every function entry and every loop header takes its own static instruction count from an exported global, `fuel`, and
 * traps when that falls below zero. Whoever calls into the module sets `fuel` before every call. The price of a piece of
 * code is the number of its instructions, so that what a budget buys differs little between kinds of work.
 *
 * Only the global, export and code sections change and no index moves, so names, elements, data and start stay valid. The
 * output depends on nothing but the input.
 *
 * What makes it hold (each of them checked here or in `host.ts`): fuel set before every call; memory of a fixed size,
 * because growing it costs time that no counter sees; the shadow stack pointer, exported here, restored after every throw;
 * host functions charged for by the host; and everything that this rewriter does not know refused.
 */
import { wasmApi } from './host-wasm.ts'
import { MeterError, ModuleReader, readInstruction, skipLocals } from './meter-decode.ts'

/** Changes with the output: part of the key of everything that caches metered modules. */
export const METER_VERSION = 1

/** Name of the exported mutable i32 that holds the remaining fuel. Below zero = the budget was spent. */
export const FUEL_EXPORT = 'fuel'

/** Name of the exported mutable i32 that is the C stack pointer; a throw leaves it where it was. */
export const STACK_POINTER_EXPORT = 'stack_pointer'

const HEADER = Uint8Array.of(0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00)
const SECTION = { custom: 0, import: 2, global: 6, export: 7, code: 10, data: 11 } as const
const LAST_SECTION = SECTION.data
const GLOBAL_KIND = 3
const I32 = 0x7f
const MUTABLE = 1
const OP = { block: 0x02, loop: 0x03, if: 0x04, end: 0x0b, i32Const: 0x41 } as const
/** `i32.const 2147483647`: a module that is called without fuel being set is bounded too. */
const MAX_FUEL = [OP.i32Const, 0xff, 0xff, 0xff, 0xff, 0x07]

interface Section {
  readonly id: number
  readonly start: number
  readonly end: number
}

interface Layout {
  readonly wasm: Uint8Array
  readonly sections: readonly Section[]
  /** Index of the new global. */
  readonly fuelIndex: number
  /** Index of the C stack pointer: by the linker's convention the first global that the module defines. */
  readonly stackPointerIndex: number
}

/**
 * Adds metering to a module that OPA's compiler has made.
 * @throws MeterError when the bytes are no valid module, are metered already, or use what the meter does not know
 */
export function meter(wasm: Uint8Array): Uint8Array<ArrayBuffer> {
  const layout = readLayout(wasm)
  const parts: Uint8Array[] = [HEADER]
  for (const section of layout.sections) {
    if (section.id === SECTION.global) parts.push(sectionOf(section.id, meteredGlobals(layout, section)))
    else if (section.id === SECTION.export) parts.push(sectionOf(section.id, meteredExports(layout, section)))
    else if (section.id === SECTION.code) parts.push(sectionOf(section.id, meteredCode(layout, section)))
    else parts.push(sectionOf(section.id, [wasm.subarray(section.start, section.end)]))
  }
  return concat(parts)
}

function readLayout(wasm: Uint8Array): Layout {
  if (wasm.length < HEADER.length || HEADER.some((byte, index) => wasm[index] !== byte)) {
    throw new MeterError('not a WebAssembly module of version 1', 0)
  }
  const sections = readSections(wasm)
  // The original, not the result: an instruction that names a global the module does not have would find `fuel` there.
  if (!wasmApi.validate(wasm)) throw new MeterError('not a valid WebAssembly module', wasm.length)
  const importedGlobals = countImportedGlobals(wasm, sections)
  const globals = find(wasm, sections, SECTION.global)
  const fuelIndex = importedGlobals + globals.u32()
  const stackTop = readStackTop(globals)
  refuseStackAboveData(wasm, sections, stackTop)
  find(wasm, sections, SECTION.export)
  find(wasm, sections, SECTION.code)
  return { wasm, sections, fuelIndex, stackPointerIndex: importedGlobals }
}

function readSections(wasm: Uint8Array): readonly Section[] {
  const reader = new ModuleReader(wasm, HEADER.length, wasm.length)
  const sections: Section[] = []
  let last = 0
  while (reader.pos < reader.end) {
    const id = reader.byte()
    if (id > LAST_SECTION) throw reader.refuse(`unknown section ${id}`)
    if (id !== SECTION.custom && id <= last) throw reader.refuse(`section ${id} out of order`)
    if (id !== SECTION.custom) last = id
    const size = reader.u32()
    const start = reader.pos
    reader.skip(size)
    sections.push({ id, start, end: start + size })
  }
  return sections
}

function find(wasm: Uint8Array, sections: readonly Section[], id: number): ModuleReader {
  const section = sections.find((candidate) => candidate.id === id)
  if (section === undefined) throw new MeterError(`no section ${id}`, wasm.length)
  return new ModuleReader(wasm, section.start, section.end)
}

function countImportedGlobals(wasm: Uint8Array, sections: readonly Section[]): number {
  if (!sections.some((section) => section.id === SECTION.import)) return 0
  const reader = find(wasm, sections, SECTION.import)
  let globals = 0
  for (let imports = reader.u32(); imports > 0; imports -= 1) {
    reader.name()
    reader.name()
    const kind = reader.byte()
    if (kind === 0) reader.u32()
    else if (kind === 1 && reader.byte() === 0x70) reader.skipLimits()
    else if (kind === 2) reader.skipLimits()
    else if (kind === GLOBAL_KIND) {
      reader.skip(2)
      globals += 1
    } else throw reader.refuse(`unknown kind of import ${kind}`)
  }
  return globals
}

/** Reads the first global, which must be the stack pointer, and returns the address it starts at. */
function readStackTop(globals: ModuleReader): number {
  const isMutableI32 = globals.byte() === I32 && globals.byte() === MUTABLE
  if (!isMutableI32 || globals.byte() !== OP.i32Const) throw globals.refuse('no C stack pointer')
  return globals.i32()
}

/** The C stack grows down from its top: only when no data lies below does its overflow trap instead of overwriting data. */
function refuseStackAboveData(wasm: Uint8Array, sections: readonly Section[], stackTop: number): void {
  if (!sections.some((section) => section.id === SECTION.data)) return
  const reader = find(wasm, sections, SECTION.data)
  for (let segments = reader.u32(); segments > 0; segments -= 1) {
    if (reader.u32() !== 0 || reader.byte() !== OP.i32Const)
      throw reader.refuse('unknown kind of data segment')
    const address = reader.i32()
    if (address < stackTop) throw reader.refuse('the C stack lies above the data')
    if (reader.byte() !== OP.end) throw reader.refuse('unknown address of a data segment')
    reader.skip(reader.u32())
  }
}

function meteredGlobals({ wasm, fuelIndex, stackPointerIndex }: Layout, section: Section): Uint8Array[] {
  const reader = new ModuleReader(wasm, section.start, section.end)
  reader.u32()
  const fuel = Uint8Array.of(I32, MUTABLE, ...MAX_FUEL, OP.end)
  return [leb(fuelIndex - stackPointerIndex + 1), wasm.subarray(reader.pos, section.end), fuel]
}

function meteredExports({ wasm, fuelIndex, stackPointerIndex }: Layout, section: Section): Uint8Array[] {
  const reader = new ModuleReader(wasm, section.start, section.end)
  const count = reader.u32()
  const from = reader.pos
  for (let left = count; left > 0; left -= 1) {
    const name = reader.name()
    if (name === FUEL_EXPORT || name === STACK_POINTER_EXPORT)
      throw reader.refuse(`"${name}" is exported already`)
    reader.skip(1)
    reader.u32()
  }
  return [
    leb(count + 2),
    wasm.subarray(from, section.end),
    globalExport(FUEL_EXPORT, fuelIndex),
    globalExport(STACK_POINTER_EXPORT, stackPointerIndex),
  ]
}

function globalExport(name: string, index: number): Uint8Array {
  return concat([leb(name.length), new TextEncoder().encode(name), Uint8Array.of(GLOBAL_KIND), leb(index)])
}

function meteredCode({ wasm, fuelIndex }: Layout, section: Section): Uint8Array[] {
  const reader = new ModuleReader(wasm, section.start, section.end)
  const count = reader.u32()
  const charge = chargeCode(fuelIndex)
  const parts = [leb(count)]
  for (let left = count; left > 0; left -= 1) {
    const size = reader.u32()
    const start = reader.pos
    reader.skip(size)
    const sites = readSites(new ModuleReader(wasm, start, start + size))
    const body = insertCharges(wasm.subarray(start, start + size), start, sites, charge)
    parts.push(leb(body.length), body)
  }
  if (reader.pos !== reader.end) throw reader.refuse('bytes behind the last function')
  return parts
}

/** A place where fuel is charged: the start of a function's code or of a loop's body, and the instructions it stands for. */
interface Site {
  readonly pos: number
  instructions: number
}

/** Reads one function. An instruction counts for the innermost loop around it, or for the function. */
function readSites(reader: ModuleReader): readonly Site[] {
  skipLocals(reader)
  const body: Site = { pos: reader.pos, instructions: 0 }
  const sites = [body]
  const open = [body]
  for (let current: Site | undefined = body; current !== undefined; current = open.at(-1)) {
    const opcode = readInstruction(reader)
    current.instructions += 1
    if (opcode === OP.loop) {
      const loop = { pos: reader.pos, instructions: 0 }
      sites.push(loop)
      open.push(loop)
    } else if (opcode === OP.block || opcode === OP.if) open.push(current)
    else if (opcode === OP.end) open.pop()
  }
  if (reader.pos !== reader.end) throw reader.refuse('code behind the end of a function')
  return sites
}

function insertCharges(
  body: Uint8Array,
  start: number,
  sites: readonly Site[],
  charge: (units: number) => Uint8Array,
): Uint8Array {
  const parts: Uint8Array[] = []
  let from = 0
  for (const site of sites) {
    const at = site.pos - start
    parts.push(body.subarray(from, at), charge(site.instructions))
    from = at
  }
  parts.push(body.subarray(from))
  return concat(parts)
}

/** `fuel = fuel - units; if (fuel < 0) unreachable`. */
function chargeCode(fuelIndex: number): (units: number) => Uint8Array {
  const fuel = leb(fuelIndex)
  const known = new Map<number, Uint8Array>()
  return (units) => {
    const made = known.get(units)
    if (made !== undefined) return made
    const code = Uint8Array.of(
      ...[0x23, ...fuel], // global.get
      ...[OP.i32Const, ...signedLeb(units)],
      ...[0x6b, 0x24, ...fuel], // i32.sub, global.set
      ...[0x23, ...fuel, OP.i32Const, 0x00, 0x48], // global.get, 0, i32.lt_s
      ...[OP.if, 0x40, 0x00, OP.end], // if, no result: unreachable
    )
    known.set(units, code)
    return code
  }
}

function sectionOf(id: number, body: readonly Uint8Array[]): Uint8Array {
  return concat([Uint8Array.of(id), leb(lengthOf(body)), ...body])
}

function leb(value: number): Uint8Array {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x7f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  return Uint8Array.from([...bytes, rest])
}

/** LEB128 of a non-negative number as a signed one: the top bit of the last byte must stay clear. */
function signedLeb(value: number): number[] {
  const bytes: number[] = []
  let rest = value
  while (rest > 0x3f) {
    bytes.push((rest & 0x7f) | 0x80)
    rest >>>= 7
  }
  return [...bytes, rest]
}

function lengthOf(parts: readonly Uint8Array[]): number {
  return parts.reduce((sum, part) => sum + part.length, 0)
}

function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const whole = new Uint8Array(lengthOf(parts))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}
