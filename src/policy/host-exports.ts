/** What a metered policy module exports (https://www.openpolicyagent.org/docs/wasm, ABI 1.2 and later), checked once. */
import { PolicyFault } from './host-fault.ts'
import type { WasmGlobal, WasmInstance } from './host-wasm.ts'
import { FUEL_EXPORT, STACK_POINTER_EXPORT } from './meter.ts'

/** The exports the host uses. Addresses come back signed: take them `>>> 0`. */
export interface OpaExports {
  readonly builtins: () => number
  readonly opa_eval: (
    reserved: number,
    entrypoint: number,
    data: number,
    input: number,
    inputLength: number,
    heap: number,
    format: number,
  ) => number
  readonly opa_free: (address: number) => void
  readonly opa_heap_ptr_set: (address: number) => void
  readonly opa_json_dump: (value: number) => number
  readonly opa_malloc: (bytes: number) => number
  readonly opa_value_dump: (value: number) => number
  readonly opa_value_parse: (text: number, bytes: number) => number
  readonly fuel: WasmGlobal
  readonly stackPointer: WasmGlobal
}

const FUNCTIONS = [
  'builtins',
  'entrypoints',
  'opa_eval',
  'opa_free',
  'opa_heap_ptr_get',
  'opa_heap_ptr_set',
  'opa_json_dump',
  'opa_json_parse',
  'opa_malloc',
  'opa_value_dump',
  'opa_value_parse',
]

const ABI_VERSION = 1
const OLDEST_MINOR_VERSION = 2

/**
 * Checks that the module is a policy, metered, of an ABI the host speaks.
 * @throws PolicyFault `error`
 */
export function readExports(instance: WasmInstance): OpaExports {
  for (const name of FUNCTIONS) {
    if (typeof instance.exports[name] !== 'function') throw refused(`it does not export ${name}`)
  }
  const abi = globalOf(instance, 'opa_wasm_abi_version').value
  const minor = abiMinorVersion(instance)
  if (abi !== ABI_VERSION || minor < OLDEST_MINOR_VERSION) throw refused(`its ABI is ${abi}.${minor}`)
  return {
    ...(instance.exports as unknown as OpaExports),
    fuel: globalOf(instance, FUEL_EXPORT),
    stackPointer: globalOf(instance, STACK_POINTER_EXPORT),
  }
}

/** The second part of the ABI version; the SDK wants to know it. */
export function abiMinorVersion(instance: WasmInstance): number {
  return globalOf(instance, 'opa_wasm_abi_minor_version').value
}

function globalOf(instance: WasmInstance, name: string): WasmGlobal {
  const value = instance.exports[name]
  if (typeof value !== 'object' || value === null || !('value' in value))
    throw refused(`it does not export ${name}`)
  return value as WasmGlobal
}

function refused(problem: string): PolicyFault {
  return new PolicyFault(
    'error',
    `the policy module cannot be used: ${problem}; build it again with this version`,
  )
}
