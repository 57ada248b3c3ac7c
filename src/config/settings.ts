/** What the schema says about each setting: path, type, default, whether it is a secret or a path on disk. */
import { readFileSync } from 'node:fs'

/** One JSON Schema node, as far as it is used here. */
export interface SchemaNode {
  readonly description?: string
  readonly type?: string | readonly string[]
  readonly default?: unknown
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly additionalProperties?: boolean | SchemaNode
  readonly items?: SchemaNode
  readonly enum?: readonly unknown[]
  readonly 'x-secret'?: boolean
  readonly 'x-path'?: boolean
}

/** A setting with a fixed path, so that a variable or flag can name it (upstreams are named by the user). */
export interface Setting {
  readonly path: readonly string[]
  readonly node: SchemaNode
}

/** The published schema of gateway.yaml. Stands beside `src` and `dist` alike. */
export const CONFIG_SCHEMA = JSON.parse(
  readFileSync(new URL('../../schemas/config.schema.json', import.meta.url), 'utf8'),
) as SchemaNode

/** All settings with a fixed path, in the order of the schema. */
export const SETTINGS: readonly Setting[] = collect(CONFIG_SCHEMA, [])

/** The variable that sets a setting: `GATEWAY_` and its path in upper snake case. */
export function variableOf(path: readonly string[]): string {
  return `GATEWAY_${path.join('_').toUpperCase()}`
}

/** The schema node at a path, looking through maps with free names and lists; null when the path leaves the schema. */
export function nodeAt(path: readonly (string | number)[]): SchemaNode | null {
  let node: SchemaNode | undefined = CONFIG_SCHEMA
  for (const step of path) {
    if (typeof step === 'number') node = node?.items
    else node = member(node, step)
    if (node === undefined) return null
  }
  return node
}

function member(node: SchemaNode | undefined, name: string): SchemaNode | undefined {
  if (node?.properties !== undefined && Object.hasOwn(node.properties, name)) return node.properties[name]
  return typeof node?.additionalProperties === 'object' ? node.additionalProperties : undefined
}

function collect(node: SchemaNode, path: readonly string[]): Setting[] {
  if (node.properties === undefined) {
    return typeof node.additionalProperties === 'object' ? [] : [{ path, node }]
  }
  return Object.entries(node.properties).flatMap(([name, inner]) => collect(inner, [...path, name]))
}
