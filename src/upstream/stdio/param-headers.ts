/**
 * `Mcp-Param-*` headers repeat arguments that a tool's schema marks with `x-mcp-header` (2026-07-28
 * `basic/transports/streamable-http`): whoever stands in front of the server may go by them, so they must say what the body
 * says. An HTTP server checks that itself; a stdio server never sees them.
 */
import { GatewayError } from '../../errors.ts'
import { decodeNameHeader } from '../../gateway/federation/names.ts'
import type { Call, ToolEntry } from '../../gateway/types.ts'
import { asObject } from '../../json/object.ts'

interface MarkedArgument {
  readonly path: readonly string[]
  readonly header: string
  readonly isNumber: boolean
}

/** Objects in objects, and marks in one schema: more are not looked at, and no client sends that many headers. */
const MAX_DEPTH = 16
const MAX_MARKED = 100
const DECIMAL = /^-?\d+(\.\d+)?$/

/** By schema; a schema is replaced with its catalogue. */
const known = new WeakMap<object, readonly MarkedArgument[]>()

/** @throws GatewayError `header_mismatch` when an argument of the call is not repeated as it should be */
export function requireParamHeaders({ head, message }: Call, { inputSchema }: ToolEntry): void {
  const schema = asObject(inputSchema)
  if (schema === null) return
  for (const { path, header, isNumber } of markedIn(schema)) {
    const said = textOf(valueAt(message?.params['arguments'], path))
    if (said === null) continue
    const value = head.headers[header]
    const repeated = typeof value === 'string' ? decodeNameHeader(value) : null
    const isSame =
      isNumber && DECIMAL.test(repeated ?? '') ? Number(repeated) === Number(said) : repeated === said
    if (isSame) continue
    throw new GatewayError('header_mismatch', {
      message: `Header ${header} does not match the body`,
      detail: `${header} does not repeat arguments.${path.join('.')}`.slice(0, 256),
    })
  }
}

function markedIn(schema: Readonly<Record<string, unknown>>): readonly MarkedArgument[] {
  const found = known.get(schema)
  if (found !== undefined) return found
  const marked: MarkedArgument[] = []
  collect(schema, [], marked)
  known.set(schema, marked)
  return marked
}

function collect(
  schema: Readonly<Record<string, unknown>>,
  path: readonly string[],
  into: MarkedArgument[],
): void {
  if (path.length > MAX_DEPTH) return
  for (const [name, value] of Object.entries(asObject(schema['properties']) ?? {})) {
    const property = asObject(value)
    if (property === null || into.length >= MAX_MARKED) continue
    const own = [...path, name]
    const mark = property['x-mcp-header']
    const isNumber = property['type'] === 'integer' || property['type'] === 'number'
    if (typeof mark === 'string' && mark !== '')
      into.push({ path: own, header: `mcp-param-${mark.toLowerCase()}`, isNumber })
    collect(property, own, into)
  }
}

function valueAt(root: unknown, path: readonly string[]): unknown {
  let value = root
  for (const name of path) {
    const object = asObject(value)
    value = object !== null && Object.hasOwn(object, name) ? object[name] : undefined
  }
  return value
}

/** As it stands in a header; null = it is not repeated: absent, null, no primitive, or a number that has lost digits. */
function textOf(value: unknown): string | null {
  if (typeof value === 'string' || typeof value === 'boolean') return String(value)
  if (typeof value !== 'number') return null
  return Number.isSafeInteger(value) || !Number.isInteger(value) ? String(value) : null
}
