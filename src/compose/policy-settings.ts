/** What the configuration says about building and evaluating policies. Commands load it, so it loads nothing that serves. */
import { dirname, join } from 'node:path'
import type { Config } from '../config/types.ts'
import type { PolicyLimits } from '../policy/engine.ts'
import { DEFAULT_POLICY_LIMITS } from '../policy/engine.ts'
import { DEFAULT_TRACE_BOUNDS } from '../policy/trace-render.ts'

const PAGES_PER_MIB = 16

/** Where finished builds and the unpacked compiler are kept: beside the configuration. */
export function cacheFolder(config: Config): string {
  return join(dirname(config.file), '.gateway', 'cache')
}

/** The configured budgets of an evaluation. */
export function policyLimits({ limits }: Config): PolicyLimits {
  return {
    ...DEFAULT_POLICY_LIMITS,
    fuel: limits.policyFuel,
    memoryPages: limits.policyMemoryMib * PAGES_PER_MIB,
    maxInputBytes: limits.maxInputBytes,
    trace: { ...DEFAULT_TRACE_BOUNDS, maxBytes: limits.maxTraceBytes, maxEvents: limits.maxTraceEvents },
  }
}
