/** From an upstream's own list of tools to entries the gateway can decide on. Pure; nothing in the list is trusted. */
import { hash } from 'node:crypto'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { ToolEntry } from '../gateway/types.ts'
import { asObject } from '../json/object.ts'
import { canonicalJson, MAX_CANONICAL_DEPTH } from './canonical-json.ts'

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

/** How long others wait while a long list is worked on, ms. */
const TURN_MS = 5

/** As {@link toToolList}; a long list is worked on in turns with everybody else. */
export async function toToolListInTurns(listed: readonly unknown[]): Promise<ToolList> {
  const collected = new CollectedTools()
  let turnEndsAt = performance.now() + TURN_MS
  for (const value of listed) {
    collected.add(value)
    if (performance.now() < turnEndsAt) continue
    await nextTurn()
    turnEndsAt = performance.now() + TURN_MS
  }
  return collected.list()
}

/**
 * A name that stands for two tools is nobody's: which of them the upstream would run is not known, so neither is usable.
 * The same holds for tools without a name or an input schema.
 */
export function toToolList(listed: readonly unknown[]): ToolList {
  const collected = new CollectedTools()
  for (const value of listed) collected.add(value)
  return collected.list()
}

class CollectedTools {
  readonly #tools = new Map<string, ToolEntry>()
  readonly #rejected = new Map<string, string>()

  add(value: unknown): void {
    const tool = asObject(value)
    const name = tool?.['name']
    if (tool === null || typeof name !== 'string' || name === '' || name.length > MAX_NAME) {
      this.#rejected.set('', `a tool has no name of 1 to ${MAX_NAME} characters`)
    } else if (this.#tools.has(name) || this.#rejected.has(name)) {
      this.#tools.delete(name)
      this.#rejected.set(name, 'the name is listed twice')
    } else {
      const entry = toEntry(name, tool)
      if (entry === null)
        this.#rejected.set(name, `it has no input schema that nests less than ${MAX_CANONICAL_DEPTH} deep`)
      else this.#tools.set(name, entry)
    }
  }

  list(): ToolList {
    const reasons = [...this.#rejected].slice(0, MAX_REJECTED).map(([name, reason]) => ({ name, reason }))
    const names = new Set([...this.#tools.keys(), ...this.#rejected.keys()])
    return { names, tools: this.#tools, rejected: reasons }
  }
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
