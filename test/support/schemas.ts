/** Compiled schemas for every gateway and room of a test run: a thread that runs from sources takes long to start. */
import type { SchemaPlans } from '../../src/upstream/schema-plans.ts'
import { createSchemaPlans } from '../../src/upstream/schema-plans.ts'

let shared: SchemaPlans | null = null

/** Made for whoever asks first. */
export function sharedSchemas(): SchemaPlans {
  shared ??= createSchemaPlans({ monotonicMs: () => performance.now() })
  return shared
}

export async function closeSharedSchemas(): Promise<void> {
  await shared?.close()
}
