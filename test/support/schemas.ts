/** Compiled schemas for every gateway and room of a test run: a process that runs from sources takes long to start. */
import type { SchemaPlans } from '../../src/upstream/schema-plans.ts'
import { createSchemaPlans } from '../../src/upstream/schema-plans.ts'

let shared: SchemaPlans | null = null

/** Made for whoever asks first. */
export function sharedSchemas(): SchemaPlans {
  shared ??= createSchemaPlans({ monotonicMs: () => performance.now() })
  return shared
}

export function closeSharedSchemas(): void {
  shared?.close()
}
