/** The door of `policy check`: everything that can be said about a policies folder without running its tests. */
import type { CompiledPolicy } from '../build.ts'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../build.ts'
import { PolicyBuildError } from '../build-error.ts'
import type { PolicySources } from '../build-sources.ts'
import { CASES_FOLDER, loadPolicySources, readFolder } from '../build-sources.ts'
import type { BuildRequest, Compiler, PolicyError } from '../compiler.ts'
import { ownershipErrors } from '../ownership.ts'
import { buildRuleTests } from '../testing/rule-tests.ts'
import { readTables } from '../testing/table-reader.ts'
import { loadTableCheck } from '../testing/table-schema.ts'
import { loadTestFiles } from '../testing/test-files.ts'
import { lintListContradictions } from './list-contradiction.ts'
import { lintListPhase } from './list-phase.ts'
import { lintMasks } from './masks.ts'
import type { OfferedTools } from './offered-tools.ts'
import { lintOfferedTools } from './offered-tools.ts'
import { lintReasons } from './reasons.ts'
import { lintUpstreams } from './unknown-upstreams.ts'
import { lintUnreachable } from './unreachable.ts'

/** What a check needs. */
export interface CheckOptions {
  readonly folder: string
  readonly compiler: Compiler
  /** Folder of finished builds; null = none are kept. */
  readonly cacheDir: string | null
  /** The tools of the upstreams; null = what policies name is not compared with them. */
  readonly offered: OfferedTools | null
  /** Names of the configured upstreams; null = what policies name is not compared with them. */
  readonly upstreams: readonly string[] | null
}

/** Policies that can serve. */
export interface Checked {
  readonly policy: CompiledPolicy
  /** In the order of their files. */
  readonly warnings: readonly PolicyError[]
  /** Files that were looked at: Rego, tests and tables. */
  readonly files: number
}

/**
 * Builds the policies as `gateway serve` does and looks for what builds and is wrong nevertheless.
 * @throws PolicyBuildError when policies, test rules or tables are wrong
 */
export async function checkPolicies(options: CheckOptions): Promise<Checked> {
  const { folder, compiler, cacheDir } = options
  const sources = await loadPolicySources(folder)
  const inputSchema = await loadInputSchema()
  const policy = await buildPolicy(sources, { compiler, cacheDir, inputSchema })
  const tests = await loadTestFiles(folder)
  const tables = readTables(tests.tables, await loadTableCheck())
  const request = toBuildRequest(sources, inputSchema)
  const errors = [
    ...ownershipErrors(tests.rego),
    ...(await ruleErrors(tests.rego, request, sources, options)),
    ...tables.errors,
  ]
  if (errors.length > 0) throw new PolicyBuildError(errors)
  return {
    policy,
    warnings: (await lint(policy, request, options)).toSorted(byPlace),
    files: [sources.rego, tests.rego, tests.tables].flatMap((files) => Object.keys(files)).length,
  }
}

/** What is wrong with test files: as policies, and as tests of them. */
async function ruleErrors(
  tests: Readonly<Record<string, string>>,
  request: BuildRequest,
  { data }: PolicySources,
  { compiler, cacheDir }: CheckOptions,
): Promise<readonly PolicyError[]> {
  if (Object.keys(tests).length === 0) return []
  const built = await buildRuleTests({ compiler, cacheDir, request, data, tests })
  if (built !== null) return 'errors' in built ? built.errors : []
  const { instrument: _, ...checked } = request
  const result = await compiler.check({ ...checked, sources: { ...request.sources, ...tests } })
  return result.ok ? [] : result.errors
}

async function lint(
  { dictionary, sources, data }: CompiledPolicy,
  request: BuildRequest,
  { folder, compiler, offered, upstreams }: CheckOptions,
): Promise<readonly PolicyError[]> {
  const { instrument: _, ...asked } = request
  const read = await compiler.dependencies(asked)
  if (!read.ok) throw new PolicyBuildError(read.errors)
  const names = { dictionary, sources, data, dataFiles: await readDataFiles(folder) }
  return [
    ...lintMasks(dictionary, sources),
    ...lintReasons(dictionary, sources),
    ...lintListPhase(dictionary, sources),
    ...lintListContradictions(dictionary, sources),
    ...lintUnreachable(read.rules, sources),
    ...(offered === null ? [] : lintOfferedTools(names, offered)),
    ...(upstreams === null ? [] : lintUpstreams(names, upstreams)),
  ]
}

async function readDataFiles(folder: string): Promise<Readonly<Record<string, string>>> {
  const files = await readFolder(folder, {
    enters: (name) => name !== CASES_FOLDER,
    takes: (name) => /^data\.(json|ya?ml)$/.test(name),
  })
  return Object.fromEntries(files.map(({ name, text }) => [name, text]))
}

function byPlace(left: PolicyError, right: PolicyError): number {
  if (left.file !== right.file) return left.file < right.file ? -1 : 1
  return left.row - right.row || left.col - right.col
}
