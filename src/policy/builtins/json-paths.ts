/** `json.filter` and `json.remove`: OPA v1/topdown/json.go. Paths become a tree: null where one ends. */
import type { BuiltinContext } from './budget.ts'
import { BuiltinError, boundElements, spend } from './budget.ts'
import type { BuiltinFamily } from './operands.ts'
import { elementsOperand, objectOperand } from './operands.ts'
import type { RegoValue } from './value.ts'
import { isArray, RegoObject, RegoSet } from './value.ts'

const NS_PER_ELEMENT = 600

/** Steps of a JSON pointer (leading slashes do not matter), or the elements of an array. */
function pathOf(path: RegoValue): readonly RegoValue[] {
  if (isArray(path)) return path
  if (typeof path !== 'string') throw new BuiltinError('a path must be a string or an array')
  if (path === '') return []
  return path
    .replace(/^\/+/, '')
    .split('/')
    .map((step) => step.replaceAll('~1', '/').replaceAll('~0', '~'))
}

function treeOf(paths: readonly RegoValue[], context: BuiltinContext): RegoObject {
  const root = new RegoObject()
  for (const path of paths) {
    const steps = pathOf(path)
    boundElements(steps.length)
    spend(context, (steps.length + 1) * NS_PER_ELEMENT)
    addPath(root, steps)
  }
  return root
}

/** A path that ends above another one stands for it, too. */
function addPath(root: RegoObject, steps: readonly RegoValue[]): void {
  const last = steps.at(-1)
  if (last === undefined) return
  let node = root
  for (const step of steps.slice(0, -1)) {
    let child = node.get(step)
    if (child === undefined) {
      child = new RegoObject()
      node.set(step, child)
    }
    if (!(child instanceof RegoObject)) return
    node = child
  }
  node.set(last, null)
}

/** What the paths lead to. */
function filtered(value: RegoValue, tree: RegoValue, context: BuiltinContext): RegoValue {
  if (!(tree instanceof RegoObject)) return value
  spend(context, NS_PER_ELEMENT)
  if (isArray(value)) {
    return value.flatMap((element, at) => {
      const branch = tree.get(String(at))
      return branch === undefined ? [] : [filtered(element, branch, context)]
    })
  }
  if (value instanceof RegoSet) {
    const kept = [...value].filter((element) => tree.has(element))
    return new RegoSet(kept.map((element) => filtered(element, tree.get(element) ?? null, context)))
  }
  if (!(value instanceof RegoObject)) return value
  const kept = new RegoObject()
  for (const [key, member] of value) {
    const branch = tree.get(key)
    if (branch !== undefined) kept.set(key, filtered(member, branch, context))
  }
  return kept
}

/** What the paths do not lead to; undefined = nothing is left of it. */
function without(
  value: RegoValue,
  tree: RegoValue | undefined,
  context: BuiltinContext,
): RegoValue | undefined {
  if (tree === null) return undefined
  if (!(tree instanceof RegoObject)) return value
  spend(context, NS_PER_ELEMENT)
  const rest = (element: RegoValue, branch: RegoValue | undefined) => {
    const left = without(element, branch, context)
    return left === undefined ? [] : [left]
  }
  if (isArray(value)) return value.flatMap((element, at) => rest(element, tree.get(String(at))))
  if (value instanceof RegoSet) {
    return new RegoSet([...value].flatMap((element) => rest(element, tree.get(element))))
  }
  if (!(value instanceof RegoObject)) return value
  const kept = new RegoObject()
  for (const [key, member] of value) for (const left of rest(member, tree.get(key))) kept.set(key, left)
  return kept
}

/** The family, by Rego names. */
export const JSON_PATHS: BuiltinFamily = {
  'json.filter': (operands, context) =>
    filtered(objectOperand(operands, 1), treeOf(elementsOperand(operands, 2), context), context),
  'json.remove': (operands, context) =>
    without(objectOperand(operands, 1), treeOf(elementsOperand(operands, 2), context), context),
}
