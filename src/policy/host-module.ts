/** What the host has to know of a module before it runs: whether it is one of ours, and which of its builtins are probes. */
import { COMPILER_BUILTINS, HOST_BUILTINS } from './builtins/table.ts'
import type { KnownProbe, Probe } from './host-events.ts'
import { PolicyFault } from './host-fault.ts'
import type { WasmInstance, WasmMemory, WasmModule } from './host-wasm.ts'
import { wasmApi } from './host-wasm.ts'

/** What the compiler puts before a builtin that the module would have itself. */
const REROUTED = /^gwtr\./
const PROBE_NAME = /^gwtr\.(enter|ok|begin|leave)(\d{1,9})$/

/** Which probes the trace dictionary knows, and which are not logged. */
interface ProbeRules {
  readonly knowsProbe: (probe: Probe) => boolean
  readonly hidesProbe?: (probe: Probe) => boolean
}

/** The name of a builtin as policies know it; that of a probe, or of what only the compiler writes, as it is. */
export function builtinName(name: string): string {
  return PROBE_NAME.test(name) || COMPILER_BUILTINS.has(name) ? name : name.replace(REROUTED, '')
}

/** Compiles a metered module. Throws PolicyFault when it is none. */
export async function compileModule(wasm: Uint8Array): Promise<WasmModule> {
  try {
    return await wasmApi.compile(wasm)
  } catch (thrown) {
    throw new PolicyFault('error', `the policy module is not valid: ${String(thrown)}`, { cause: thrown })
  }
}

/** Instantiates it on the host's functions and memory. Throws PolicyFault: `memory` when that is too small, else `error`. */
export function instantiateModule(
  module: WasmModule,
  env: Readonly<Record<string, unknown>> & { readonly memory: WasmMemory },
): WasmInstance {
  try {
    return new wasmApi.Instance(module, { env })
  } catch (thrown) {
    const message = String(thrown)
    // The module says how much memory it needs at least; no other import can fail on its size.
    const kind = message.includes('memory import') ? 'memory' : 'error'
    throw new PolicyFault(kind, `the policy module cannot be loaded: ${message}`, { cause: thrown })
  }
}

/** Throws PolicyFault when the module calls what this host does not have. */
export function refuseUnknownBuiltins(names: readonly (string | undefined)[]): void {
  const unknown = names.filter(
    (name) =>
      name !== undefined &&
      ![HOST_BUILTINS, COMPILER_BUILTINS].some((known) => known.has(name)) &&
      !PROBE_NAME.test(name),
  )
  if (unknown.length === 0) return
  throw new PolicyFault(
    'error',
    `the policy module needs builtins that this host does not have: ${unknown.join(', ')}`,
  )
}

/** The probes among the module's builtins, by number. Throws PolicyFault when the dictionary is another module's. */
export function readProbes(
  names: readonly (string | undefined)[],
  { knowsProbe, hidesProbe }: ProbeRules,
): readonly (KnownProbe | undefined)[] {
  return Array.from(names, (name) => {
    const [, op, id] = PROBE_NAME.exec(name ?? '') ?? []
    if (op === undefined) return undefined
    const probe = { op, id: Number(id) } as Probe
    if (!knowsProbe(probe)) {
      throw new PolicyFault('error', `the trace dictionary does not belong to the module: no ${name}`)
    }
    return { ...probe, hidden: hidesProbe?.(probe) ?? false }
  })
}
