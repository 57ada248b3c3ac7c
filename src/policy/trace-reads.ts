/** Which values an expression read, and which of them were undefined: looked up in input, data and the variables' values. */
import type { Read } from './dictionary.ts'
import type { PreparedExpr } from './trace-dictionary.ts'
import type { Documents, DocumentValue } from './trace-documents.ts'
import type { LookupBudget, LookupDocument, Path, Step } from './trace-lookup.ts'
import { createTextDocument, toPath } from './trace-lookup.ts'
import { isJson, splitArray } from './trace-value.ts'

/** Values of variables as Rego text; null = too large to have been read. */
export type Bindings = Map<string, string | null>

/** The documents as the expression sees them; null = replaced by `with`, so not known. */
export interface World {
  readonly input: InputDocument | null
  readonly data: LookupDocument | null
  /** What rules came to; null = not known, under a `with`. */
  readonly rules: Documents | null
  readonly budget: LookupBudget
}

/** The input in two parts, so that large arguments do not stand in the way of the rest. */
export interface InputDocument {
  readonly head: LookupDocument
  readonly arguments: LookupDocument | null
}

/** What the references of one expression stand for. */
export interface Reads {
  /** JSON text of each reference; undefined when it has no value, null when that is not known. */
  readonly values: readonly (string | undefined | null)[]
  /** Those without a value. */
  readonly missing: readonly string[]
}

/** Longest value of a variable that is looked into, in characters. */
const MAX_VALUE = 8192
const INTEGER = /^-?\d{1,15}$/

/** The references of an expression that failed, or that is negated. What cannot be known is left out. */
export function readsOf(expr: PreparedExpr, known: Bindings, world: World): Reads {
  const values = expr.probe.reads.map((read, index) => valueRead(read, expr, index, known, world))
  const missing = expr.probe.reads.flatMap(({ text }, index) => (values[index] === undefined ? [text] : []))
  return { values, missing }
}

/** JSON text, undefined when it has no value, null when that is not known. */
function valueRead(
  read: Read,
  expr: PreparedExpr,
  index: number,
  known: Bindings,
  world: World,
): string | undefined | null {
  const bound = (name: string) => (expr.binds.has(name) ? null : (known.get(name) ?? null))
  const path = expr.paths[index] ?? boundPath(read, bound)
  if (path === null) return null
  if (read.root === 'input') return inputAt(world.input, path)
  if (read.root === 'data') return world.data === null ? null : world.data.at(path)
  if ('rule' in read.root) {
    return world.rules === null ? null : inDocument(world.rules(read.root), path, world.budget)
  }
  const value = bound(read.root.var)
  if (value === null || value.length > MAX_VALUE || !isJson(value)) return null
  return createTextDocument(value, world.budget).at(path)
}

function inDocument(
  document: DocumentValue | undefined | null,
  path: Path,
  budget: LookupBudget,
): string | undefined | null {
  if (document == null) return document
  const [element, ...more] = path.steps
  if (element === undefined) return document.json
  if (!document.isSet) return createTextDocument(document.json, budget).at(path)
  if (more.length > 0) return null
  const text = JSON.stringify(element)
  return splitArray(document.json)?.includes(text) ? text : undefined
}

/** The path with the values of its variables; null when it is not known. */
function boundPath(read: Read, bound: (name: string) => string | null): Path | null {
  const steps: Step[] = []
  for (const segment of read.path) {
    const step = typeof segment === 'object' && segment !== null ? stepOf(bound(segment.var)) : segment
    if (step === null) return null
    steps.push(step)
  }
  return toPath(steps)
}

function inputAt(input: InputDocument | null, path: Path): string | undefined | null {
  if (input === null) return null
  const { steps, key } = path
  if (steps[0] !== 'arguments') return input.head.at(path)
  return input.arguments === null ? undefined : input.arguments.at({ steps: steps.slice(1), key })
}

/** A variable's value as a step of a path; only strings and integers can be looked up. */
function stepOf(rego: string | null): Step | null {
  if (rego === null) return null
  if (INTEGER.test(rego)) return Number(rego)
  return rego.startsWith('"') ? (JSON.parse(rego) as string) : null
}
