/** From an upstream's own list of tools to entries the gateway can decide on. Pure; nothing in the list is trusted. */
import { hash } from 'node:crypto'
import type { ToolEntry } from '../gateway/types.ts'
import { canonicalJson, MAX_CANONICAL_DEPTH } from './canonical-json.ts'
import { asObject } from './response.ts'

/** What became of one reading of the list. */
export interface ToolList {
  /** Every name in it, usable or not. */
  readonly names: ReadonlySet<string>
  readonly tools: ReadonlyMap<string, ToolEntry>
  /** Names that were listed but cannot be used, with the reason; at most {@link MAX_REJECTED}. */
  readonly rejected: readonly { readonly name: string; readonly reason: string }[]
}

const MAX_REJECTED = 20
const MAX_NAME = 256
/** Hints are a handful of booleans and a title. More is dropped, and a tool without hints counts as destructive. */
const MAX_ANNOTATION_BYTES = 4096

/**
 * A name that stands for two tools is nobody's: which of them the upstream would run is not known, so neither is usable.
 * The same holds for tools without a name or an input schema.
 */
export function toToolList(listed: readonly unknown[]): ToolList {
  const tools = new Map<string, ToolEntry>()
  const rejected = new Map<string, string>()
  for (const value of listed) {
    const tool = asObject(value)
    const name = tool?.['name']
    if (tool === null || typeof name !== 'string' || name === '' || name.length > MAX_NAME) {
      rejected.set('', `a tool has no name of 1 to ${MAX_NAME} characters`)
    } else if (tools.has(name) || rejected.has(name)) {
      tools.delete(name)
      rejected.set(name, 'the name is listed twice')
    } else {
      const entry = toEntry(name, tool)
      if (entry === null)
        rejected.set(name, `it has no input schema that nests less than ${MAX_CANONICAL_DEPTH} deep`)
      else tools.set(name, entry)
    }
  }
  const reasons = [...rejected].slice(0, MAX_REJECTED).map(([name, reason]) => ({ name, reason }))
  return { names: new Set([...tools.keys(), ...rejected.keys()]), tools, rejected: reasons }
}

function toEntry(name: string, tool: Readonly<Record<string, unknown>>): ToolEntry | null {
  const inputSchema = asObject(tool['inputSchema'])
  if (inputSchema === null) return null
  const canonical = canonicalJson(inputSchema)
  if (canonical === null) return null
  return { name, annotations: annotationsOf(tool), inputSchema, schemaDigest: hash('sha256', canonical) }
}

function annotationsOf(tool: Readonly<Record<string, unknown>>): ToolEntry['annotations'] {
  const annotations = asObject(tool['annotations'])
  const text = annotations === null ? null : canonicalJson(annotations)
  return annotations === null || text === null || text.length > MAX_ANNOTATION_BYTES ? {} : annotations
}
