/** How arguments are checked against a schema: here, or in a process of its own, where it is compiled. */
import { LRUCache } from 'lru-cache'
import type { LoadedSchema } from './schema-code.ts'
import { hasAtMost, loadSchema } from './schema-code.ts'
import type { SchemaProcess } from './schema-process.ts'
import { createSchemaProcess } from './schema-process.ts'
import { TOO_COMPLEX } from './schema-runtime.ts'
import { SCHEMA_BOUNDS } from './schema-shape.ts'

/** A schema by its digest: what two tools share is compiled once. */
export interface SchemaRef {
  readonly schemaDigest: string
  readonly inputSchema: unknown
}

/** How the schemas of tools are checked, by digest. */
export interface SchemaPlans {
  /** Why the schema cannot be used; null when it can. */
  problemOf(upstream: string, schema: SchemaRef): Promise<string | null>
  /** Whether the value is known to be valid, at once; else {@link check} says what is the matter. */
  isSureOf(schema: SchemaRef, value: unknown, text: string): boolean
  /**
   * What is wrong with the value: JSON pointers and keywords; empty when it is valid or the schema cannot be used.
   * @throws GatewayError `overloaded`
   */
  check(upstream: string, schema: SchemaRef, value: unknown, text: string): Promise<readonly string[]>
  close(): void
}

interface Plan {
  readonly problem: string | null
  /** Monotonic ms after which the problem is looked at anew; Infinity = it is the schema's own. */
  readonly until: number
  /** null = values are checked in the other process. */
  readonly loaded: LoadedSchema | null
}

const MAX_PLANS = 10_000
/** Characters of code that are loaded at the same time. */
const MAX_CODE = 32 * 1024 * 1024
/** Schemas like most: they compile in some hundredths of a second, whatever they say, and do not wait for others. */
const SMALL = { characters: 16_384, values: 300, patterns: 5 } as const
/** Where the machine may have been the problem. */
const RETRY_MS = 60_000

/** Makes it; nothing is compiled yet. */
export function createSchemaPlans(clock: { monotonicMs(): number }): SchemaPlans {
  const quick = createSchemaProcess({ clock })
  const slow = createSchemaProcess({ clock })
  const plans = new LRUCache<string, Plan>({
    max: MAX_PLANS,
    maxSize: MAX_CODE,
    sizeCalculation: ({ loaded }) => loaded?.size ?? 1,
  })
  const making = new Map<string, Promise<Plan>>()

  function planOf(upstream: string, schema: SchemaRef): Plan | Promise<Plan> {
    const { schemaDigest } = schema
    const known = plans.get(schemaDigest)
    if (known !== undefined && clock.monotonicMs() < known.until) return known
    const waiting = making.get(schemaDigest)
    if (waiting !== undefined) return waiting
    const made = make(upstream, schema)
      .then((plan) => {
        plans.set(schemaDigest, plan)
        return plan
      })
      .finally(() => making.delete(schemaDigest))
    making.set(schemaDigest, made)
    return made
  }

  async function make(upstream: string, { schemaDigest, inputSchema }: SchemaRef): Promise<Plan> {
    const schema = JSON.stringify(inputSchema)
    if (schema.length > SCHEMA_BOUNDS.maxBytes)
      return unusable(`it is larger than ${SCHEMA_BOUNDS.maxBytes} bytes`)
    const process: SchemaProcess = isSmall(inputSchema, schema) ? quick : slow
    const result = await process.run(upstream, { digest: schemaDigest, schema, value: null })
    if (result === null) return unusable('it takes too much to compile', clock.monotonicMs() + RETRY_MS)
    const { problem, isPassing, code } = result
    if (problem !== null)
      return unusable(problem, isPassing ? clock.monotonicMs() + RETRY_MS : Number.POSITIVE_INFINITY)
    const loaded = code === null ? null : loadSchema(code)
    return { problem: null, until: Number.POSITIVE_INFINITY, loaded }
  }

  return {
    problemOf: async (upstream, schema) => (await planOf(upstream, schema)).problem,
    isSureOf: ({ schemaDigest }, value, text) =>
      plans.get(schemaDigest)?.loaded?.check(value, text.length)?.length === 0,
    async check(upstream, schema, value, text) {
      const plan = await planOf(upstream, schema)
      if (plan.problem !== null) return []
      const found = plan.loaded?.check(value, text.length) ?? null
      if (found !== null) return found
      const { schemaDigest: digest, inputSchema } = schema
      const task = { digest, schema: JSON.stringify(inputSchema), value: text }
      return (await slow.run(upstream, task))?.found ?? TOO_COMPLEX
    },
    close: () => {
      quick.close()
      slow.close()
    },
  }
}

function isSmall(schema: unknown, text: string): boolean {
  if (text.length > SMALL.characters || !hasAtMost(schema, SMALL.values)) return false
  return text.split('"pattern').length - 1 <= SMALL.patterns
}

function unusable(problem: string, until = Number.POSITIVE_INFINITY): Plan {
  return { problem, until, loaded: null }
}
