/** Which values an expression read, and which of them were undefined: looked up in input, data and the variables' values. */
import type { Read } from './dictionary.ts'
import type { PreparedExpr } from './trace-dictionary.ts'
import type { Documents, DocumentValue } from './trace-documents.ts'
import type { LookupBudget, LookupDocument, Step } from './trace-lookup.ts'
import { createTextDocument } from './trace-lookup.ts'
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

/** JSON texts of the references of one expression. */
export interface Reads {
  readonly values: readonly (readonly [text: string, json: string])[]
  readonly missing: readonly string[]
}

/** Longest value of a variable that is looked into, in characters. */
const MAX_VALUE = 8192
const INTEGER = /^-?\d{1,15}$/

/** The references of an expression that failed, or that is negated. What cannot be known is left out. */
export function readsOf(expr: PreparedExpr, known: Bindings, world: World): Reads {
  const values: (readonly [string, string])[] = []
  const missing: string[] = []
  for (const read of expr.probe.reads) {
    const value = valueRead(read, expr, known, world)
    if (value === undefined) missing.push(read.text)
    else if (value !== null) values.push([read.text, value])
  }
  return { values, missing }
}

/** JSON text, undefined when it has no value, null when that is not known. */
function valueRead(read: Read, expr: PreparedExpr, known: Bindings, world: World): string | undefined | null {
  const bound = (name: string) => (expr.binds.has(name) ? null : (known.get(name) ?? null))
  const path: Step[] = []
  for (const segment of read.path) {
    const step = typeof segment === 'object' && segment !== null ? stepOf(bound(segment.var)) : segment
    if (step === null) return null
    path.push(step)
  }
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
  path: readonly Step[],
  budget: LookupBudget,
): string | undefined | null {
  if (document == null) return document
  const [element, ...more] = path
  if (element === undefined) return document.json
  if (!document.isSet) return createTextDocument(document.json, budget).at(path)
  if (more.length > 0) return null
  const text = JSON.stringify(element)
  return splitArray(document.json)?.includes(text) ? text : undefined
}

function inputAt(input: InputDocument | null, path: readonly Step[]): string | undefined | null {
  if (input === null) return null
  if (path[0] !== 'arguments') return input.head.at(path)
  return input.arguments === null ? undefined : input.arguments.at(path.slice(1))
}

/** A variable's value as a step of a path; only strings and integers can be looked up. */
function stepOf(rego: string | null): Step | null {
  if (rego === null) return null
  if (INTEGER.test(rego)) return Number(rego)
  return rego.startsWith('"') ? (JSON.parse(rego) as string) : null
}
