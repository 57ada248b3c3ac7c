/** How an evaluation ends without a result: a budget that was spent, or a fault of the policy or module. */
import { BuiltinLimitError } from './builtins/budget.ts'
import { wasmApi } from './host-wasm.ts'

/**
 * `error`: the evaluation itself went wrong. All others are budgets: it cost more than allowed of fuel, memory, nesting,
 * trace events, or of the size of a single value.
 */
export type FaultKind = 'error' | 'fuel' | 'memory' | 'depth' | 'events' | 'size'

/** Why an evaluation has no result. The message is for the operator and the audit row. */
export class PolicyFault extends Error {
  readonly kind: FaultKind

  constructor(kind: FaultKind, message: string, options?: { cause?: unknown }) {
    super(message, options)
    this.name = 'PolicyFault'
    this.kind = kind
  }
}

/** What OPA's runtime aborts with when its heap is full. */
const OUT_OF_MEMORY = 'opa_malloc: failed'

/** What the policy or OPA's runtime gave up with. `message` names file, row and column when it is a conflict of rules. */
export function abortFault(message: string): PolicyFault {
  if (message === OUT_OF_MEMORY) return new PolicyFault('memory', 'the evaluation used up its memory')
  return new PolicyFault('error', `the policy was aborted: ${message}`)
}

/** The fuel is spent. `units` is the budget the evaluation had. */
export function fuelFault(units: number, cause?: unknown): PolicyFault {
  return new PolicyFault('fuel', `the evaluation used up its budget of ${units} units of fuel`, { cause })
}

/**
 * Turns whatever a call into the module has thrown into a {@link PolicyFault}: our own faults, traps, stack overflows,
 * and the bare strings of the SDK.
 */
export function toPolicyFault(thrown: unknown): PolicyFault {
  if (thrown instanceof PolicyFault) return thrown
  if (thrown instanceof BuiltinLimitError) return limitFault(thrown)
  if (thrown instanceof RangeError) {
    return new PolicyFault('depth', 'the evaluation nests too deep or needs too much memory', {
      cause: thrown,
    })
  }
  if (thrown instanceof wasmApi.RuntimeError) return trapFault(thrown)
  if (thrown instanceof Error) {
    return new PolicyFault('error', `the evaluation failed: ${thrown.name}: ${thrown.message}`, {
      cause: thrown,
    })
  }
  return new PolicyFault('error', `the evaluation failed: ${String(thrown)}`)
}

function limitFault(limit: BuiltinLimitError): PolicyFault {
  const kind = limit.limit === 'value_depth' ? 'depth' : limit.limit === 'binary_text' ? 'error' : 'size'
  return new PolicyFault(kind, limit.message, { cause: limit })
}

/** The C stack lies at the bottom of the memory (see `meter.ts`), so running out of it is an access out of bounds. */
function trapFault(trap: Error): PolicyFault {
  if (trap.message.includes('out of bounds')) {
    return new PolicyFault('depth', 'the evaluation nests too deep', { cause: trap })
  }
  return new PolicyFault('error', `the module trapped: ${trap.message}`, { cause: trap })
}
