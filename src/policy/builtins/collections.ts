/**
 * `cast_*`, `object.subset`, `object.union_n`, `numbers.range_step` and `graph.reachable_paths`: OPA v1/topdown/casts.go, subset.go,
 * numbers.go and reachable.go.
 */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundElements, spend } from './budget.ts'
import { integer } from './number.ts'
import type { Builtin, BuiltinFamily } from './operands.ts'
import { anyOperand, arrayOperand, bigIntOperand, elementsOperand, objectOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet, typeName, valueKey } from './value.ts'

const NS_PER_ELEMENT = 600

/** A cast that only lets its own type through. */
function identityCast(type: string): Builtin {
  return (operands) => {
    const value = anyOperand(operands, 1)
    if (typeName(value) !== type) throw new BuiltinError(`operand 1 must be ${type}`)
    return value
  }
}

/** Keys of the elements; comparing keys is comparing values. */
function keysOf(values: readonly RegoValue[]): readonly string[] {
  return values.map(valueKey)
}

function isObjectSubset(superset: RegoObject, subset: RegoObject, context: BuiltinContext): boolean {
  spend(context, subset.size * NS_PER_ELEMENT)
  return subset.sorted().every(([key, wanted]) => {
    const found = superset.get(key)
    return found !== undefined && isSubset(found, wanted, context)
  })
}

/** Whether `subset` lies in `superset` the way members of objects are compared; equality covers all other types. */
function isSubset(superset: RegoValue, subset: RegoValue, context: BuiltinContext): boolean {
  if (superset instanceof RegoObject && subset instanceof RegoObject) {
    return isObjectSubset(superset, subset, context)
  }
  if (superset instanceof RegoSet && subset instanceof RegoSet) return isSetSubset(superset, subset, context)
  if (isArray(superset) && isArray(subset)) return isArraySubset(superset, subset, context)
  return valueKey(superset) === valueKey(subset)
}

function isSetSubset(superset: RegoSet, subset: RegoSet, context: BuiltinContext): boolean {
  spend(context, (superset.size + subset.size) * NS_PER_ELEMENT)
  return subset.sorted().every((element) => superset.has(element))
}

/** Whether `subset` is a contiguous part of `superset`. */
function isArraySubset(
  superset: readonly RegoValue[],
  subset: readonly RegoValue[],
  context: BuiltinContext,
): boolean {
  spend(context, (superset.length + subset.length) * NS_PER_ELEMENT)
  const texts = keysOf(superset)
  const wanted = keysOf(subset)
  for (let start = 0; start + wanted.length <= texts.length; start += 1) {
    let matched = 0
    while (matched < wanted.length && texts[start + matched] === wanted[matched]) matched += 1
    spend(context, (matched + 1) * 10)
    if (matched === wanted.length) return true
  }
  return false
}

function isArraySetSubset(superset: readonly RegoValue[], subset: RegoSet, context: BuiltinContext): boolean {
  spend(context, (superset.length + subset.size) * NS_PER_ELEMENT)
  // OPA counts occurrences, not distinct elements, and finds nothing in an empty array.
  let unmatched = subset.size
  return superset.some((element) => {
    if (subset.has(element)) unmatched -= 1
    return unmatched === 0
  })
}

function objectSubset(operands: readonly RegoValue[], context: BuiltinContext): boolean {
  const superset = anyOperand(operands, 1)
  const subset = anyOperand(operands, 2)
  if (isArray(superset) && subset instanceof RegoSet) return isArraySetSubset(superset, subset, context)
  if (typeName(superset) !== typeName(subset) || !isComposite(superset)) {
    throw new BuiltinError('both arguments object.subset must be of the same type or array and set')
  }
  return isSubset(superset, subset, context)
}

function isComposite(value: RegoValue): boolean {
  return isArray(value) || value instanceof RegoSet || value instanceof RegoObject
}

function rangeStep(operands: readonly RegoValue[], context: BuiltinContext): readonly RegoValue[] {
  const from = bigIntOperand(operands, 1)
  const to = bigIntOperand(operands, 2)
  const step = bigIntOperand(operands, 3)
  if (step <= 0n) throw new BuiltinError('numbers.range_step: step must be a positive integer')
  const count = Number((to < from ? from - to : to - from) / step) + 1
  boundElements(count)
  spend(context, count * NS_PER_ELEMENT)
  const signed = to < from ? -step : step
  return Array.from({ length: count }, (_, at) => integer(from + signed * BigInt(at)))
}

/** Objects merged from left to right, members that are objects as well; anything else is replaced. */
function merged(a: RegoValue, b: RegoValue, context: BuiltinContext): RegoValue {
  if (!(a instanceof RegoObject) || !(b instanceof RegoObject)) return b
  spend(context, (a.size + b.size) * NS_PER_ELEMENT)
  const result = new RegoObject(a)
  for (const [key, member] of b) {
    const own = a.get(key)
    result.set(key, own === undefined ? member : merged(own, member, context))
  }
  return result
}

function unionAll(operands: readonly RegoValue[], context: BuiltinContext): RegoValue {
  return arrayOperand(operands, 1).reduce((union, object) => {
    if (!(object instanceof RegoObject)) throw new BuiltinError('operand 1 must be an array of objects')
    return merged(union, object, context)
  }, new RegoObject())
}

/** Walks all simple paths from the roots, as OPA does; their number can be exponential, so each step is charged. */
class PathFinder {
  readonly paths = new RegoSet()
  readonly #graph: RegoObject
  readonly #context: BuiltinContext

  constructor(graph: RegoObject, context: BuiltinContext) {
    this.#graph = graph
    this.#context = context
  }

  /** Paths that start at `root`; none when the graph has no such node. */
  addFrom(root: RegoValue): void {
    const edges = this.#graph.get(root)
    if (edges === undefined) return
    const neighbours = neighboursOf(edges)
    if (neighbours.length === 0) this.#add([root])
    for (const neighbour of neighbours) this.#walk(neighbour, [root], new Set([valueKey(root)]))
  }

  #walk(node: RegoValue, path: readonly RegoValue[], reached: ReadonlySet<string>): void {
    const edges = this.#graph.get(node)
    // A node that the graph does not have ends the path before it.
    if (edges === undefined) {
      this.#add(path)
      return
    }
    const longer = [...path, node]
    const neighbours = neighboursOf(edges)
    if (neighbours.length === 0) this.#add(longer)
    const seen = new Set(reached).add(valueKey(node))
    spend(this.#context, (seen.size + neighbours.length) * NS_PER_ELEMENT)
    for (const neighbour of neighbours) {
      if (seen.has(valueKey(neighbour))) this.#add(longer)
      else this.#walk(neighbour, longer, seen)
    }
  }

  #add(path: readonly RegoValue[]): void {
    spend(this.#context, path.length * NS_PER_ELEMENT)
    boundElements(this.paths.size + 1)
    this.paths.add(path)
  }
}

function neighboursOf(edges: RegoValue): readonly RegoValue[] {
  if (isArray(edges)) return edges
  return edges instanceof RegoSet ? edges.sorted() : []
}

/** The family, by Rego names. */
export const COLLECTIONS: BuiltinFamily = {
  cast_array: (operands) => elementsOperand(operands, 1),
  cast_boolean: identityCast('boolean'),
  cast_null: identityCast('null'),
  cast_object: identityCast('object'),
  cast_set: (operands) => new RegoSet(elementsOperand(operands, 1)),
  cast_string: identityCast('string'),
  'graph.reachable_paths': (operands, context) => {
    const finder = new PathFinder(objectOperand(operands, 1), context)
    for (const root of elementsOperand(operands, 2)) finder.addFrom(root)
    return finder.paths
  },
  'numbers.range_step': rangeStep,
  'object.subset': objectSubset,
  'object.union_n': unionAll,
}
