/**
 * What a builtin may cost, and how it ends: with a value, as undefined ({@link BuiltinError}), or by refusing the
 * whole evaluation ({@link BuiltinLimitError}, or whatever `charge` throws).
 */

/** What one evaluation lends to the builtins it calls. */
export interface BuiltinContext {
  /** The frozen clock of the decision, nanoseconds since 1970. */
  readonly nowNs: bigint
  /**
   * Takes from the evaluation's budget and throws when it is spent. One unit is one metered Wasm instruction,
   * of which this machine class executes about {@link UNITS_PER_NS} in a nanosecond.
   */
  charge(units: number): void
  /** Lives as long as the evaluation; keys are prefixed with the builtin's name. */
  readonly cache: Map<string, unknown>
}

/** Units of fuel per nanosecond of work: 400 M units are meant to last about 50 ms. */
export const UNITS_PER_NS = 8

/** Longest text (UTF-16 units) a builtin may return, and longest string it may build on the way. */
export const MAX_RESULT_CHARS = 1_048_576

/** Most elements a builtin may put into a collection it makes. */
export const MAX_RESULT_ELEMENTS = 65_536

/** Deepest nesting of a value that builtins take or return. */
export const MAX_VALUE_DEPTH = 512

/** Charges for work that takes about this many nanoseconds. Call it before the work. */
export function spend(context: BuiltinContext, nanoseconds: number): void {
  context.charge(Math.ceil(nanoseconds * UNITS_PER_NS))
}

/** The builtin has no result for these operands: Rego undefined. The message is OPA's kind of operand error. */
export class BuiltinError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'BuiltinError'
  }
}

/** Which bound of a builtin was hit. */
export type BuiltinLimit = 'result_size' | 'value_depth' | 'pattern_size' | 'number_size' | 'binary_text'

/**
 * A bound was hit, so the evaluation must end and deny: undefined would let a `not` succeed where OPA has a value.
 * `binary_text` means that a string would hold bytes that are no UTF-8, which the Wasm border cannot carry.
 */
export class BuiltinLimitError extends Error {
  readonly limit: BuiltinLimit
  constructor(limit: BuiltinLimit, message: string) {
    super(message)
    this.name = 'BuiltinLimitError'
    this.limit = limit
  }
}

/** Refuses to build a string of `chars` UTF-16 units when it is over {@link MAX_RESULT_CHARS}. */
export function boundText(chars: number): void {
  if (chars > MAX_RESULT_CHARS) {
    throw new BuiltinLimitError('result_size', `builtin result over ${MAX_RESULT_CHARS} characters`)
  }
}

/** Refuses to build a collection of `count` elements when it is over {@link MAX_RESULT_ELEMENTS}. */
export function boundElements(count: number): void {
  if (count > MAX_RESULT_ELEMENTS) {
    throw new BuiltinLimitError('result_size', `builtin result over ${MAX_RESULT_ELEMENTS} elements`)
  }
}
