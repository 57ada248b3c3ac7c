/** The door of the policy tests: a policies folder -> what came of its tests. */
import type { CompiledPolicy } from '../build.ts'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../build.ts'
import { PolicyBuildError } from '../build-error.ts'
import { loadPolicySources, readFolder } from '../build-sources.ts'
import type { Compiler } from '../compiler.ts'
import type { PolicyLimits } from '../engine.ts'
import { ownershipErrors } from '../ownership.ts'
import { runCases } from './case-run.ts'
import { createDataPlaces } from './data-files.ts'
import type { TestReport, TestResult } from './report.ts'
import type { RuleTests } from './rule-tests.ts'
import { buildRuleTests } from './rule-tests.ts'
import type { TestCase } from './table.ts'
import type { ReadTables } from './table-reader.ts'
import { readTables } from './table-reader.ts'
import { loadTableCheck } from './table-schema.ts'
import type { TestFiles } from './test-files.ts'
import { loadTestFiles } from './test-files.ts'

/** What a run of the tests needs. */
export interface TestRunOptions {
  /** The policies folder. */
  readonly folder: string
  readonly compiler: Compiler
  /** Folder of finished builds; null = none are kept. */
  readonly cacheDir: string | null
  /** Budgets of the serving module. */
  readonly limits: PolicyLimits
  readonly monotonicMs: () => number
  /** Which tests: those whose {@link testId} it matches; null = all. */
  readonly filter: RegExp | null
}

/** What `--run` is compared with: `cases/tools.yaml:12 a name [eng, delete_repo]`. */
export function testId({ place, name, labels }: Pick<TestResult, 'place' | 'name' | 'labels'>): string {
  return `${place.file}:${place.row} ${name}${labels.length === 0 ? '' : ` [${labels.join(', ')}]`}`
}

/** The policies and tests of a folder, built. */
interface Built {
  readonly policy: CompiledPolicy
  readonly ruleTests: RuleTests | null
  readonly tables: ReadTables
  readonly files: TestFiles
}

/**
 * Builds the policies as `gateway serve` does, and runs their tests.
 * @throws PolicyBuildError when policies, tests or tables are wrong; then nothing has run
 */
export async function runPolicyTests(options: TestRunOptions): Promise<TestReport> {
  const startedMs = options.monotonicMs()
  const built = await build(options)
  const builtMs = options.monotonicMs()
  const results = await runAll(built, options)
  const { policy, ruleTests } = built
  return {
    revision: policy.revision,
    opa: policy.opa,
    digest: policy.digest,
    ruleDigest: ruleTests?.digest ?? null,
    files: filesWithTests(built),
    results: results.chosen,
    total: results.total,
    buildMs: builtMs - startedMs,
    runMs: options.monotonicMs() - builtMs,
  }
}

async function build(options: TestRunOptions): Promise<Built> {
  const { folder, compiler, cacheDir } = options
  const sources = await loadPolicySources(folder)
  const inputSchema = await loadInputSchema()
  const files = await loadTestFiles(folder)
  const foreign = ownershipErrors(files.rego)
  if (foreign.length > 0) throw new PolicyBuildError(foreign)
  const building = Promise.all([
    buildPolicy(sources, { compiler, cacheDir, inputSchema }),
    buildRuleTests({
      compiler,
      cacheDir,
      request: toBuildRequest(sources, inputSchema),
      data: sources.data,
      tests: files.rego,
    }),
  ])
  building.catch(() => undefined) // it is awaited below; until then the tables are read
  const tables = readTables(files.tables, await loadTableCheck())
  const [policy, rules] = await building
  const refused = rules !== null && 'errors' in rules ? rules.errors : []
  if (tables.errors.length + refused.length > 0) throw new PolicyBuildError([...refused, ...tables.errors])
  return { policy, tables, files, ruleTests: rules !== null && 'rules' in rules ? rules : null }
}

async function runAll(
  built: Built,
  options: TestRunOptions,
): Promise<{ readonly chosen: readonly TestResult[]; readonly total: number }> {
  const { filter, folder, limits, monotonicMs } = options
  const { policy, ruleTests, tables } = built
  const isChosen = (test: Pick<TestCase, 'place' | 'name' | 'labels'>) => filter?.test(testId(test)) ?? true
  const rules = ruleTests === null ? [] : await ruleTests.run(ruleTests.rules)
  const data = createDataPlaces(await dataFiles(folder, policy))
  const cases = await runCases(tables.cases.filter(isChosen), { policy, limits, monotonicMs, data })
  return { chosen: [...rules.filter(isChosen), ...cases], total: rules.length + tables.cases.length }
}

/** Texts of the data files, to tell where a value comes from. */
async function dataFiles(
  folder: string,
  { data }: CompiledPolicy,
): Promise<Readonly<Record<string, string>>> {
  if (Object.keys(data).length === 0) return {}
  const selection = {
    enters: (name: string) => name !== 'cases',
    takes: (name: string) => /^data\.(json|ya?ml)$/.test(name),
  }
  return Object.fromEntries((await readFolder(folder, selection)).map(({ name, text }) => [name, text]))
}

function filesWithTests({ ruleTests, tables }: Built): readonly string[] {
  const files = [
    ...(ruleTests?.rules ?? []).map(({ file }) => file),
    ...tables.cases.map(({ place }) => place.file),
  ]
  return [...new Set(files)]
}
