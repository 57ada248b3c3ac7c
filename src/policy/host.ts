/**
 * The Wasm host: one instance of a metered policy module on imports of our own, loaded by the SDK's `LoadedPolicy`. It keeps
 * what `meter.ts` asks for (memory of a fixed size, fuel set before every call, stack pointer restored after every throw) and
 * turns every way to fail into a {@link PolicyFault}; the instance is correct afterwards.
 *
 * Synchronous, one evaluation at a time. Source: https://www.openpolicyagent.org/docs/wasm
 */
import * as sdkModule from '@open-policy-agent/opa-wasm'
import type { BuiltinContext } from './builtins/budget.ts'
import { callBuiltin } from './builtins/table.ts'
import type { EventBounds, KnownProbe, Probe } from './host-events.ts'
import { EventLog } from './host-events.ts'
import type { OpaExports } from './host-exports.ts'
import { abiMinorVersion, readExports } from './host-exports.ts'
import { abortFault, fuelFault, PolicyFault, toPolicyFault } from './host-fault.ts'
import { HeapText } from './host-heap.ts'
import {
  builtinName,
  compileModule,
  instantiateModule,
  readProbes,
  refuseUnknownBuiltins,
} from './host-module.ts'
import type { Recording } from './host-values.ts'
import { VALUE_AREA_BYTES, ValueReader } from './host-values.ts'
import type { WasmModule } from './host-wasm.ts'
import { wasmApi } from './host-wasm.ts'

/** Budgets of one host. */
export interface HostLimits {
  /** Fuel of one evaluation; 8 to 30 million are about one millisecond. */
  readonly fuel: number
  /** Fuel for reading the values of one evaluation's events. */
  readonly valueFuel: number
  /** Memory of an instance in pages of 64 KiB, besides what the policy's data take. */
  readonly memoryPages: number
  /** Upper bound of the memory when the data are large. */
  readonly maxMemoryPages: number
  /** Largest decision, in bytes of JSON. */
  readonly maxResultBytes: number
  readonly events: EventBounds
}

/** Defaults: at most about 50 ms of fuel, 130 KB of values' text, 16 MiB of memory. */
export const DEFAULT_HOST_LIMITS: HostLimits = {
  fuel: 400_000_000,
  valueFuel: 100_000_000,
  memoryPages: 256,
  maxMemoryPages: 8192,
  maxResultBytes: 262_144,
  events: { maxLogged: 2048, maxPerProbe: 64, maxEvents: 200_000 },
}

/** What to load. */
export interface HostOptions {
  /** The metered module. */
  readonly wasm: Uint8Array
  /** JSON text of the policy's data. */
  readonly dataText: string
  /** Whether the dictionary knows this id for this kind of probe. */
  readonly knowsProbe: (probe: Probe) => boolean
  /** Probes whose events are not logged; absent = all are. */
  readonly hidesProbe?: (probe: Probe) => boolean
  /** Told of every event, whether it is logged or not, for coverage; absent = nobody is, at no cost. */
  readonly onProbe?: ProbeListener | undefined
  readonly limits: HostLimits
}

/** Told of an event of an evaluation. */
export type ProbeListener = (probe: Probe) => void

/** One evaluation to be made. */
export interface HostRequest {
  /** Name of the entrypoint, such as `gateway/decision`. */
  readonly entrypoint: string
  /** The exact input, UTF-8 JSON; null = none, so `input` is undefined. */
  readonly input: Uint8Array<ArrayBuffer> | null
  /** The frozen clock, nanoseconds since the epoch. */
  readonly nowNs: bigint
  /** Whether events are logged. */
  readonly record: boolean
}

/** What came of an evaluation. */
export interface HostRun {
  /** The value of the entrypoint; undefined = Rego undefined, or there is a fault. */
  readonly result: unknown
  readonly fault: PolicyFault | null
  /** JSON text of `result` with the digits of its numbers. To be asked for before the instance evaluates again. */
  resultText(): string | undefined
  /** Fuel used. */
  readonly fuel: number
  /** Whether a builtin has read the clock, which is not part of the input. */
  readonly readClock: boolean
  /** The logged events with their values. Read from the instance once, at the latest before it evaluates again. */
  recording(): Recording
}

/** A loaded policy. Never throws but for a broken contract of the caller. */
export interface PolicyHost {
  evaluate(request: HostRequest): HostRun
  /** Names of the module's entrypoints. */
  readonly entrypoints: readonly string[]
}

/** The parts of the SDK's `LoadedPolicy` in use. The ESM entry of 1.10 has it on its default export only. */
interface SdkPolicy {
  readonly entrypoints: Readonly<Record<string, number>>
  readonly dataAddr: number
  dataHeapPtr: number
  setData(data: ArrayBuffer): void
}
const { LoadedPolicy } = (
  sdkModule as unknown as {
    readonly default: {
      readonly LoadedPolicy: new (instance: unknown, memory: unknown, minor: number) => SdkPolicy
    }
  }
).default

const PAGE_BYTES = 65_536
/** The largest i32: loading is bounded too, though it is the operator's own data. */
const LOAD_FUEL = 0x7fffffff
const HEAP_PER_CHARACTER = 8
const MAX_OPERAND_BYTES = 1 << 20
const MAX_ABORT_BYTES = 1024
/** How the module writes the result set of an entrypoint. */
const RESULT_SET_HEAD = '[{"result":'
const RESULT_SET_TAIL = '}]'

/**
 * Compiles and instantiates a metered module and loads its data.
 * @throws PolicyFault when the module is none of ours, needs a builtin this host lacks, or the data do not fit
 */
export async function createHost(options: HostOptions): Promise<PolicyHost> {
  const module = await compileModule(options.wasm)
  const { limits } = options
  for (let pages = firstGuess(options); ; pages *= 2) {
    try {
      const host = new Host(module, options, pages)
      const missing = Math.ceil(host.dataBytes / PAGE_BYTES) + limits.memoryPages - pages
      return missing > limits.memoryPages / 4 ? new Host(module, options, pages + missing) : host
    } catch (thrown) {
      const fault = toPolicyFault(thrown)
      if (fault.kind !== 'memory' || pages * 2 > limits.maxMemoryPages) throw loadFault(fault, options)
    }
  }
}

/** Parsed, JSON takes about {@link HEAP_PER_CHARACTER} times its length; loading it again with more memory takes time. */
function firstGuess({ dataText, limits }: HostOptions): number {
  const dataPages = Math.ceil((dataText.length * HEAP_PER_CHARACTER) / PAGE_BYTES)
  const pages = limits.memoryPages + (dataPages > limits.memoryPages / 8 ? dataPages : 0)
  return Math.max(limits.memoryPages, Math.min(pages, limits.maxMemoryPages))
}

function loadFault(fault: PolicyFault, { dataText, limits }: HostOptions): PolicyFault {
  if (fault.kind === 'error') return fault
  const mebibytes = (limits.maxMemoryPages * PAGE_BYTES) >> 20
  const message = `the policy's data (${dataText.length} characters of JSON) are too large to load into ${mebibytes} MiB`
  return new PolicyFault(fault.kind, message, { cause: fault })
}

class Host implements PolicyHost {
  readonly entrypoints: readonly string[]
  private readonly limits: HostLimits
  private readonly exports: OpaExports
  private heap: HeapText
  private readonly builtins: readonly (string | undefined)[]
  private readonly events: EventLog
  private readonly probes: readonly (KnownProbe | undefined)[]
  private readonly values: ValueReader
  private readonly policy: SdkPolicy
  private readonly stackTop: number
  private context: BuiltinContext | null = null
  /** Where the last evaluation left its result. */
  private resultAddress = 0
  /** Reads the events of the last evaluation, which the next one overwrites. */
  private settle: (() => void) | null = null

  constructor(module: WasmModule, options: HostOptions, pages: number) {
    this.limits = options.limits
    const memory = new wasmApi.Memory({ initial: pages, maximum: pages })
    this.heap = new HeapText(memory)
    const instance = instantiateModule(module, { memory, ...this.imports(options.onProbe) })
    // The module asks for its size by growing by nothing when it starts, which detaches every view made before.
    this.heap = new HeapText(memory)
    if (instance.exports['memory'] !== memory) {
      throw new PolicyFault('error', 'the policy module cannot be used: it has a memory of its own')
    }
    this.exports = readExports(instance)
    this.stackTop = this.exports.stackPointer.value
    const names = this.guard(LOAD_FUEL, () => this.readBuiltins())
    this.builtins = names
    refuseUnknownBuiltins(names)
    this.probes = readProbes(names, options)
    this.events = new EventLog(this.probes, options.limits.events)
    const minor = abiMinorVersion(instance)
    this.policy = this.guard(LOAD_FUEL, () => new LoadedPolicy(instance, memory, minor))
    this.entrypoints = Object.keys(this.policy.entrypoints)
    const data = new TextEncoder().encode(options.dataText)
    this.guard(LOAD_FUEL, () => this.policy.setData(exactBuffer(data)))
    const start = this.policy.dataHeapPtr >>> 0
    const area = { start, end: start + VALUE_AREA_BYTES, stackTop: this.stackTop }
    this.policy.dataHeapPtr = area.end
    this.values = new ValueReader(this.exports, this.heap, area)
  }

  /** Bytes below the heap of the evaluations. */
  get dataBytes(): number {
    return this.policy.dataHeapPtr
  }

  evaluate(request: HostRequest): HostRun {
    this.settle?.()
    this.events.start(request.record)
    let readClock = false
    this.context = {
      get nowNs() {
        readClock = true
        return request.nowNs
      },
      charge: (units) => this.charge(units),
      cache: new Map(),
    }
    let result: unknown
    let fault: PolicyFault | null = null
    try {
      result = this.guard(this.limits.fuel, () => this.resultOf(request))
    } catch (thrown) {
      fault = toPolicyFault(thrown)
    }
    this.context = null
    const fuel = this.limits.fuel - Math.max(0, this.exports.fuel.value)
    const single = singleResult(result)
    return {
      result: single,
      fault,
      fuel,
      readClock,
      resultText: single === undefined ? () => undefined : this.textAt(this.resultAddress),
      recording: this.recordOnce(),
    }
  }

  private textAt(address: number): () => string {
    return () => {
      const text = this.heap.readHead(address, this.limits.maxResultBytes)
      return text.slice(RESULT_SET_HEAD.length, -RESULT_SET_TAIL.length)
    }
  }

  private recordOnce(): () => Recording {
    let recording: Recording | null = null
    const read = () => {
      if (recording === null) {
        this.settle = null
        recording = this.values.record(this.events, this.limits.valueFuel)
      }
      return recording
    }
    this.settle = read
    return read
  }

  /**
   * Every call into the module goes through here.
   * @throws PolicyFault
   */
  private guard<T>(fuel: number, call: () => T): T {
    this.exports.fuel.value = fuel
    try {
      return call()
    } catch (thrown) {
      // A throw leaves the C stack where it was; without this an instance is dead after some thousand of them.
      this.exports.stackPointer.value = this.stackTop
      throw this.exports.fuel.value < 0 ? fuelFault(fuel, thrown) : toPolicyFault(thrown)
    }
  }

  /** Takes the cost of the host's own work from the evaluation's fuel. */
  private charge(units: number): void {
    const left = this.exports.fuel.value - Math.max(0, Math.ceil(units))
    this.exports.fuel.value = left >= 0 ? left : -1
    if (!(left >= 0)) throw fuelFault(this.limits.fuel)
  }

  private imports(onProbe: ProbeListener | undefined): Readonly<Record<string, unknown>> {
    const call = onProbe === undefined ? this.callBuiltin.bind(this) : this.telling(onProbe)
    return {
      opa_abort: (address: number) => {
        throw abortFault(this.heap.readHead(address >>> 0, MAX_ABORT_BYTES))
      },
      opa_println: () => {},
      opa_builtin0: (id: number) => call(id, 0, 0, 0, 0, 0),
      opa_builtin1: (id: number, _: number, a: number) => call(id, 1, a, 0, 0, 0),
      opa_builtin2: (id: number, _: number, a: number, b: number) => call(id, 2, a, b, 0, 0),
      opa_builtin3: (id: number, _: number, a: number, b: number, c: number) => call(id, 3, a, b, c, 0),
      opa_builtin4: (id: number, _: number, a: number, b: number, c: number, d: number) =>
        call(id, 4, a, b, c, d),
    }
  }

  private telling(onProbe: ProbeListener): Host['callBuiltin'] {
    return (id, ...given) => {
      const result = this.callBuiltin(id, ...given)
      const probe = this.probes[id]
      if (probe !== undefined) onProbe(probe)
      return result
    }
  }

  private callBuiltin(id: number, count: number, a: number, b: number, c: number, d: number): number {
    if (!this.events.isProbe(id)) return this.callHostBuiltin(id, [a, b, c, d].slice(0, count))
    this.events.add(id, count, a, b, c, d)
    return 0
  }

  private callHostBuiltin(id: number, addresses: readonly number[]): number {
    const name = this.builtins[id]
    if (name === undefined || this.context === null) throw new PolicyFault('error', `unknown builtin ${id}`)
    const result = callBuiltin(
      name,
      addresses.map((address) => this.dump(address)),
      this.context,
    )
    return result === undefined ? 0 : this.parse(result)
  }

  private dump(value: number): string {
    const address = this.exports.opa_value_dump(value) >>> 0
    const text = this.heap.read(address, MAX_OPERAND_BYTES)
    if (text === null) {
      throw new PolicyFault('size', `an operand of a builtin is larger than ${MAX_OPERAND_BYTES} bytes`)
    }
    // A string of other bytes (base64.decode makes them) would be another string here: no answer is better than a wrong one.
    if (text.includes('\ufffd') && !this.heap.isUtf8(address)) {
      throw new PolicyFault('error', 'an operand of a builtin is a string that is not UTF-8')
    }
    this.exports.opa_free(address)
    return text
  }

  private parse(text: string): number {
    const bytes = new TextEncoder().encode(text)
    const address = this.exports.opa_malloc(bytes.length) >>> 0
    this.heap.write(address, bytes)
    const value = this.exports.opa_value_parse(address, bytes.length)
    this.exports.opa_free(address)
    if (value === 0) throw new PolicyFault('error', 'a builtin returned a value that the module cannot read')
    return value
  }

  /**
   * What the SDK's `evaluate` does by ABI 1.2, in the one place where the result's size is looked at before it is parsed; the
   * SDK looks for its end byte by byte and makes a decoder for each.
   */
  private resultOf({ entrypoint, input }: HostRequest): unknown {
    const { entrypoints, dataAddr, dataHeapPtr } = this.policy
    const id = entrypoints[entrypoint]
    if (id === undefined) throw new PolicyFault('error', `the policy module has no entrypoint ${entrypoint}`)
    const length = input?.byteLength ?? 0
    if (!this.heap.fits(dataHeapPtr, length)) throw new PolicyFault('memory', 'the input does not fit')
    if (input !== null) this.heap.write(dataHeapPtr, input)
    const at = input === null ? 0 : dataHeapPtr
    const address = this.exports.opa_eval(0, id, dataAddr, at, length, dataHeapPtr + length, 0) >>> 0
    const { maxResultBytes } = this.limits
    const text = this.heap.read(address, maxResultBytes)
    if (text === null) throw new PolicyFault('size', `the decision is larger than ${maxResultBytes} bytes`)
    this.resultAddress = address
    return JSON.parse(text)
  }

  /** Builtin number -> name. */
  private readBuiltins(): readonly (string | undefined)[] {
    const text = this.heap.readHead(
      this.exports.opa_json_dump(this.exports.builtins()) >>> 0,
      MAX_OPERAND_BYTES,
    )
    const names: string[] = []
    for (const [name, id] of Object.entries(JSON.parse(text) as Record<string, number>)) {
      names[id] = builtinName(name)
    }
    return names
  }
}

/** The SDK takes the whole ArrayBuffer as the text, so a view of a larger one has to be copied. */
function exactBuffer(bytes: Uint8Array<ArrayBuffer>): ArrayBuffer {
  return bytes.byteLength === bytes.buffer.byteLength ? bytes.buffer : bytes.slice().buffer
}

/** The result set of an entrypoint has one element or, when it is undefined, none. */
function singleResult(resultSet: unknown): unknown {
  if (!Array.isArray(resultSet) || resultSet.length !== 1) return undefined
  return (resultSet[0] as { readonly result?: unknown }).result
}
