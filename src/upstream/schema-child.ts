/** The program that compiles schemas and checks values, one after the other. Started by `schema-process.ts`. */
import { LRUCache } from 'lru-cache'
import type { SchemaCode } from './schema-code.ts'
import type { SchemaValidator } from './schema-validator.ts'
import { createSchemaValidator } from './schema-validator.ts'

/** What is asked. Schemas and values come as JSON text. */
export interface SchemaTask {
  readonly digest: string
  readonly schema: string
  /** null = only compile. */
  readonly value: string | null
}

/** What became of it. */
export interface SchemaResult {
  readonly problem: string | null
  readonly isPassing: boolean
  readonly code: SchemaCode | null
  /** What is wrong with the value; empty when there is none, or when the schema has a problem. */
  readonly found: readonly string[]
}

const MAX_VALIDATORS = 200
const clock = { monotonicMs: () => performance.now() }
const validators = new LRUCache<string, SchemaValidator>({ max: MAX_VALIDATORS })

function work({ digest, schema, value }: SchemaTask): SchemaResult {
  const known = validators.get(digest)
  const validator = known ?? createSchemaValidator(JSON.parse(schema), clock)
  if (known === undefined && !validator.isPassing) validators.set(digest, validator)
  const { problem, isPassing, code } = validator
  const found = value === null ? [] : validator.check(JSON.parse(value), value.length)
  return { problem, isPassing, code: value === null ? code : null, found }
}

// A terminal tells its whole group to stop; this one goes when the gateway has gone.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => undefined)
process.on('disconnect', () => process.exit())
process.on('message', (task: SchemaTask) => process.send?.(work(task)))
process.send?.('ready')
