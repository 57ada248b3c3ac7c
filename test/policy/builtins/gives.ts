import { expect } from 'chai'
import { it } from 'mocha'
import type { BuiltinContext } from '../../../src/policy/builtins/budget.ts'
import { callBuiltin } from '../../../src/policy/builtins/table.ts'
import { formatRegoValue, parseRegoValue } from '../../../src/policy/builtins/value-text.ts'

/** Operands and the result, as texts of Rego values; undefined = Rego undefined. */
export type Expectation = readonly [operands: readonly string[], result: string | undefined]

/** The clock of all builtin tests: 2023-11-14T22:13:20.123456789Z. */
export const NOW_NS = 1_700_000_000_123_456_789n

/** Fuel of an evaluation, as the engine has it by default. */
export const FUEL = 400_000_000

/** The budget of an evaluation is spent. */
export class Spent extends Error {}

/** A context that counts what is charged, and throws {@link Spent} when it is more than the budget. */
export function createContext(budget = FUEL): BuiltinContext & { readonly used: () => number } {
  let used = 0
  return {
    nowNs: NOW_NS,
    cache: new Map(),
    charge: (units) => {
      used += units
      if (used > budget) throw new Spent('spent')
    },
    used: () => used,
  }
}

/** One call in an evaluation of its own; the result in one spelling. */
export function call(name: string, ...operands: readonly string[]): string | undefined {
  const result = callBuiltin(name, operands, createContext())
  return result === undefined ? undefined : formatRegoValue(parseRegoValue(result))
}

/** A test that a builtin gives these results, which are those of OPA 1.22. */
export function itGives(title: string, name: string, expectations: readonly Expectation[]): void {
  it(title, () => {
    const results = expectations.map(([operands]) => [operands, call(name, ...operands)])
    expect(results).to.deep.equal(expectations)
  })
}
