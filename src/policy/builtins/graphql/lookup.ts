/** Looking names up in the lists of a document, and the types those names stand for. */
import type { BuiltinContext } from '../budget.ts'
import { BuiltinError, BuiltinLimitError, MAX_VALUE_DEPTH, spend } from '../budget.ts'
import type { Definition, Type } from './document.ts'

const NS_PER_LOOKUP = 60
const NS_PER_ELEMENT = 5

/** The first element of that name. Charged by the length of the list, which is the caller's to choose. */
export function named<T extends { readonly Name: string }>(
  list: readonly T[],
  name: string,
  context: BuiltinContext,
): T | undefined {
  spend(context, NS_PER_LOOKUP + NS_PER_ELEMENT * list.length)
  return list.find((element) => element.Name === name)
}

/** The innermost name of a type: `ID` of `[ID!]!`. */
export function typeName({ NamedType, Elem }: Type): string {
  return NamedType !== '' || Elem === null ? NamedType : typeName(Elem)
}

/** Whether a value of type `given` can stand where `expected` is asked for. */
export function isCompatible(given: Type, expected: Type): boolean {
  if (given.NamedType !== expected.NamedType) return false
  if (given.Elem !== null && (expected.Elem === null || !isCompatible(given.Elem, expected.Elem)))
    return false
  return given.NonNull || !expected.NonNull
}

/** Whether values can be written for the type. */
export function isInputType({ Kind }: Definition): boolean {
  return Kind === 'SCALAR' || Kind === 'ENUM' || Kind === 'INPUT_OBJECT'
}

/** Whether the type has no fields to select. */
export function isLeafType({ Kind }: Definition): boolean {
  return Kind === 'SCALAR' || Kind === 'ENUM'
}

/** Whether fragments can be on the type. */
export function isCompositeType({ Kind }: Definition): boolean {
  return Kind === 'OBJECT' || Kind === 'INTERFACE' || Kind === 'UNION'
}

/** Whether the names are all different. */
export function areUnique(names: readonly string[]): boolean {
  return new Set(names).size === names.length
}

/**
 * Fails when the condition does not hold.
 *
 * @throws {BuiltinError} saying what does not hold: the document is not valid
 */
export function ensure(condition: boolean, complaint: string): asserts condition {
  if (!condition) throw new BuiltinError(complaint)
}

/** Counts how deep a walk is, through fragments and types that refer to others: names make chains as long as a text. */
export class Descent {
  readonly #context: BuiltinContext
  #depth = 0

  constructor(context: BuiltinContext) {
    this.#context = context
  }

  /** Does work one level deeper, charged as one step. */
  into<T>(work: () => T): T {
    spend(this.#context, NS_PER_LOOKUP)
    this.#depth += 1
    if (this.#depth > MAX_VALUE_DEPTH) {
      throw new BuiltinLimitError('value_depth', `GraphQL definitions chained deeper than ${MAX_VALUE_DEPTH}`)
    }
    const result = work()
    this.#depth -= 1
    return result
  }
}
