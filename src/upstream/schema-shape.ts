/**
 * What a tool's input schema looks like before anything is compiled from it: the upstream wrote it, so it is measured first.
 * Compiling is quadratic in places, and code made from a schema with references can take exponential time.
 */

/** Bounds on what is compiled: about 0.1 s of work at the most. */
export const SCHEMA_BOUNDS = {
  maxBytes: 131_072,
  /** Whatever code is made for: objects, booleans, names in `dependentRequired`. */
  maxParts: 1000,
  /** Values of any kind, such as the names in a `required`. */
  maxValues: 10_000,
  maxDepth: 64,
  maxPatterns: 100,
  maxPatternLength: 1000,
} as const

/** What of a schema is known before it is compiled. */
export interface SchemaShape {
  /** Why it must not be compiled, in words for an operator; null when it may. */
  readonly problem: string | null
  /** Has `$ref` or its kin: how often a part is applied cannot be told from the schema's size. */
  readonly hasReferences: boolean
  readonly bytes: number
  /** Property names that the schema itself speaks of; safe to show to callers, who can list the tool. */
  readonly names: ReadonlySet<string>
}

interface Walk {
  parts: number
  values: number
  patterns: number
  hasReferences: boolean
  problem: string | null
  readonly names: Set<string>
}

const REFERENCES = ['$ref', '$recursiveRef']

/** `text` is the schema's JSON text. */
export function shapeOf(schema: object, text: string): SchemaShape {
  const walk: Walk = {
    parts: 0,
    values: 0,
    patterns: 0,
    hasReferences: false,
    problem: null,
    names: new Set(),
  }
  if (text.length > SCHEMA_BOUNDS.maxBytes) walk.problem = `it is larger than ${SCHEMA_BOUNDS.maxBytes} bytes`
  else visit(schema, walk, 0)
  const { problem, hasReferences, names } = walk
  return { problem, hasReferences, names, bytes: text.length }
}

/** Every object is looked at as if it were a schema, also where it is data (`enum`): counting too much is safe. */
function visit(value: unknown, walk: Walk, depth: number): void {
  if (walk.problem !== null) return
  const isObject = typeof value === 'object' && value !== null
  walk.values += 1
  if (typeof value === 'boolean' || (isObject && !Array.isArray(value))) walk.parts += 1
  walk.problem = excess(walk, depth)
  if (walk.problem !== null || !isObject) return
  if (Array.isArray(value)) for (const element of value) visit(element, walk, depth + 1)
  else visitObject(value as Readonly<Record<string, unknown>>, walk, depth)
}

function excess(walk: Walk, depth: number): string | null {
  const { maxParts, maxValues, maxDepth } = SCHEMA_BOUNDS
  if (depth > maxDepth) return `it nests deeper than ${maxDepth}`
  if (walk.parts > maxParts) return `it has more than ${maxParts} parts`
  return walk.values > maxValues ? `it has more than ${maxValues} values` : null
}

function visitObject(object: Readonly<Record<string, unknown>>, walk: Walk, depth: number): void {
  // An asynchronous validator returns a promise, which is true whatever it resolves to.
  if ('$async' in object) walk.problem = 'it uses $async'
  // ajv refuses values that such a schema allows.
  if (typeof object['$dynamicRef'] === 'string') walk.problem = 'it uses $dynamicRef'
  if (REFERENCES.some((name) => name in object)) walk.hasReferences = true
  if (typeof object['pattern'] === 'string') countPattern(object['pattern'], walk)
  for (const pattern of keysOf(object['patternProperties'])) countPattern(pattern, walk)
  for (const name of keysOf(object['properties'])) walk.names.add(name)
  const required = object['required']
  if (Array.isArray(required)) for (const name of required) if (typeof name === 'string') walk.names.add(name)
  for (const keyword of ['dependentRequired', 'dependencies']) walk.parts += namesIn(object[keyword])
  for (const member of Object.values(object)) visit(member, walk, depth + 1)
}

function countPattern(pattern: string, walk: Walk): void {
  walk.patterns += 1
  if (walk.patterns > SCHEMA_BOUNDS.maxPatterns)
    walk.problem = `it has more than ${SCHEMA_BOUNDS.maxPatterns} patterns`
  else if (pattern.length > SCHEMA_BOUNDS.maxPatternLength)
    walk.problem = `it has a pattern longer than ${SCHEMA_BOUNDS.maxPatternLength} characters`
}

/** Names in the lists of a keyword; code is made for each of them, unlike those of `required`. */
function namesIn(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0
  return Object.values(value).reduce<number>((sum, list) => sum + (Array.isArray(list) ? list.length : 0), 0)
}

function keysOf(value: unknown): string[] {
  return typeof value === 'object' && value !== null ? Object.keys(value) : []
}
