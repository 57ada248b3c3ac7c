/** The door of `policy check`: everything that can be said about a policies folder without running its tests. */
import type { CompiledPolicy } from '../build.ts'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../build.ts'
import { PolicyBuildError } from '../build-error.ts'
import { loadPolicySources } from '../build-sources.ts'
import type { Compiler, PolicyError } from '../compiler.ts'
import { ownershipErrors } from '../ownership.ts'
import { readTables } from '../testing/table-reader.ts'
import { loadTableCheck } from '../testing/table-schema.ts'
import { loadTestFiles } from '../testing/test-files.ts'
import { lintListPhase } from './list-phase.ts'
import { lintMasks } from './masks.ts'

/** What a check needs. */
export interface CheckOptions {
  readonly folder: string
  readonly compiler: Compiler
  /** Folder of finished builds; null = none are kept. */
  readonly cacheDir: string | null
}

/** Policies that can serve. */
export interface Checked {
  readonly policy: CompiledPolicy
  readonly warnings: readonly PolicyError[]
  /** Files that were looked at: Rego, tests and tables. */
  readonly files: number
}

/**
 * Builds the policies as `gateway serve` does and looks for what builds and is wrong nevertheless.
 * @throws PolicyBuildError when policies, test rules or tables are wrong
 */
export async function checkPolicies({ folder, compiler, cacheDir }: CheckOptions): Promise<Checked> {
  const sources = await loadPolicySources(folder)
  const inputSchema = await loadInputSchema()
  const policy = await buildPolicy(sources, { compiler, cacheDir, inputSchema })
  const tests = await loadTestFiles(folder)
  const tables = readTables(tests.tables, await loadTableCheck())
  const request = toBuildRequest(sources, inputSchema)
  const names = Object.keys(tests.rego)
  const result =
    names.length === 0
      ? ({ ok: true } as const)
      : await compiler.check({ ...request, sources: { ...request.sources, ...tests.rego } })
  const errors = [...ownershipErrors(tests.rego), ...(result.ok ? [] : result.errors), ...tables.errors]
  if (errors.length > 0) throw new PolicyBuildError(errors)
  return {
    policy,
    warnings: [
      ...lintMasks(policy.dictionary, policy.sources),
      ...lintListPhase(policy.dictionary, policy.sources),
    ],
    files: Object.keys(sources.rego).length + names.length + Object.keys(tests.tables).length,
  }
}
