/** The door of the policy tests: a policies folder -> what came of its tests. */
import type { CompiledPolicy } from '../build.ts'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../build.ts'
import { PolicyBuildError } from '../build-error.ts'
import { loadPolicySources, readFolder } from '../build-sources.ts'
import type { BuildRequest, Compiler } from '../compiler.ts'
import type { PolicyLimits } from '../engine.ts'
import { ownershipErrors } from '../ownership.ts'
import type { Benchmark } from './benchmark.ts'
import type { CaseRunOptions } from './case-run.ts'
import { benchmarkCases, runCases } from './case-run.ts'
import type { CountedModule, Coverage } from './coverage.ts'
import { toCoverage } from './coverage.ts'
import { createDataPlaces } from './data-files.ts'
import { compareEngines } from './engines.ts'
import type { ProbeCounts } from './probe-counts.ts'
import { addCounts, countProbe } from './probe-counts.ts'
import type { RanCase, TestReport, TestResult } from './report.ts'
import type { RanRule, RuleTests } from './rule-tests.ts'
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
  readonly filter: TestFilter | null
  /**
   * Builds the module with the rule tests and gives second opinions, at the same time, if there is so much to build that
   * another process is worth its start; absent = {@link compiler}.
   */
  readonly second?: Compiler
  /** Whether it is found out what the tests cover. */
  readonly coverage?: boolean
  /** `both`: topdown decides on the cases of tables, too. Default `wasm`. */
  readonly engine?: 'wasm' | 'both'
  /** Milliseconds; a test that takes longer fails. Default {@link DEFAULT_TIMEOUT_MS}. */
  readonly timeoutMs?: number
  /** Milliseconds to spend on measuring the tests once all have passed; absent = they are not measured. */
  readonly benchmarkMs?: number
}

/** A regular expression is one. */
export interface TestFilter {
  test(id: string): boolean
}

/** Ten seconds: budgets end what runs in Wasm long before, so this is for the second opinion. */
export const DEFAULT_TIMEOUT_MS = 10_000

/** What `--run` is compared with: `cases/tools.yaml:12 a name [eng, delete_repo]`. */
export function testId({ place, name, labels }: Pick<TestResult, 'place' | 'name' | 'labels'>): string {
  return `${place.file}:${place.row} ${name}${labels.length === 0 ? '' : ` [${labels.join(', ')}]`}`
}

/** Characters of Rego whose build takes longer than the start of a process. */
const WORTH_A_SECOND = 32_000

/** The policies and tests of a folder, built. */
interface Built {
  /** Has built the rule tests, and is asked for second opinions. */
  readonly second: Compiler
  readonly policy: CompiledPolicy
  readonly ruleTests: RuleTests | null
  readonly tables: ReadTables
  readonly files: TestFiles
  /** What the serving module was made from. */
  readonly request: BuildRequest
}

/**
 * Builds the policies as `gateway serve` does, and runs their tests.
 * @throws PolicyBuildError when policies, tests or tables are wrong; then nothing has run
 */
export async function runPolicyTests(options: TestRunOptions): Promise<TestReport> {
  const startedMs = options.monotonicMs()
  const built = await build(options)
  const builtMs = options.monotonicMs()
  const testRun = new TestRun(built, options)
  const run = await testRun.all()
  const runMs = options.monotonicMs() - builtMs
  const { policy, ruleTests } = built
  return {
    revision: policy.revision,
    opa: policy.opa,
    digest: policy.digest,
    ruleDigest: ruleTests?.digest ?? null,
    files: filesWithTests(built),
    ...run,
    buildMs: builtMs - startedMs,
    runMs,
    benchmarks: await testRun.benchmarks(run.results),
  }
}

async function build(options: TestRunOptions): Promise<Built> {
  const { folder, compiler, cacheDir } = options
  const sources = await loadPolicySources(folder)
  const inputSchema = await loadInputSchema()
  const files = await loadTestFiles(folder)
  const foreign = ownershipErrors(files.rego)
  if (foreign.length > 0) throw new PolicyBuildError(foreign)
  const request = toBuildRequest(sources, inputSchema)
  const isLarge = Object.values(request.sources).reduce((sum, text) => sum + text.length, 0) > WORTH_A_SECOND
  const second = isLarge ? (options.second ?? compiler) : compiler
  const building = Promise.all([
    buildPolicy(sources, { compiler, cacheDir, inputSchema }),
    buildRuleTests({
      compiler: second,
      cacheDir,
      request,
      data: sources.data,
      tests: files.rego,
    }),
  ])
  building.catch(() => undefined) // it is awaited below; until then the tables are read
  const tables = readTables(files.tables, await loadTableCheck())
  const [policy, rules] = await building
  const refused = rules !== null && 'errors' in rules ? rules.errors : []
  if (tables.errors.length + refused.length > 0) throw new PolicyBuildError([...refused, ...tables.errors])
  const ruleTests = rules !== null && 'rules' in rules ? rules : null
  return { second, policy, tables, files, request, ruleTests }
}

/** What a run adds to the report. */
type RunResults = Pick<TestReport, 'results' | 'cases' | 'total' | 'coverage'>

/** One run of what was built. */
class TestRun {
  readonly #built: Built
  readonly #options: TestRunOptions
  readonly #timeoutMs: number
  /** What the cases have evaluated. */
  readonly #counts: ProbeCounts = new Map()
  #rules: readonly RanRule[] = []

  constructor(built: Built, options: TestRunOptions) {
    this.#built = built
    this.#options = options
    this.#timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  }

  async all(): Promise<RunResults> {
    const { ruleTests, tables } = this.#built
    const { monotonicMs, coverage: isCounted = false } = this.#options
    const plan = { monotonicMs, timeoutMs: this.#timeoutMs, isCounted }
    const rules = ruleTests === null ? [] : await ruleTests.run(plan)
    this.#rules = rules
    const cases = await this.#cases(tables.cases.filter((test) => this.#isChosen(test)))
    const ofRules = rules.flatMap(({ results }) => results)
    const results = [
      ...ofRules.filter((result) => this.#isChosen(result)),
      ...cases.map(({ result }) => result),
    ]
    return {
      results,
      cases,
      total: ofRules.length + tables.cases.length,
      coverage: isCounted ? this.#coverage(rules) : null,
    }
  }

  #isChosen(test: Pick<TestCase, 'place' | 'name' | 'labels'>): boolean {
    return this.#options.filter?.test(testId(test)) ?? true
  }

  async #cases(chosen: readonly TestCase[]): Promise<readonly RanCase[]> {
    const cases = await runCases(chosen, await this.#caseOptions())
    const { engine, limits } = this.#options
    if (engine !== 'both') return cases
    const { request, policy, second } = this.#built
    const dataText = JSON.stringify(policy.data)
    const subject = { compiler: second, request, dataText, timeoutMs: this.#timeoutMs }
    return await compareEngines(cases, subject, limits)
  }

  async #caseOptions(): Promise<CaseRunOptions> {
    const { policy } = this.#built
    const { folder, limits, monotonicMs, coverage } = this.#options
    return {
      policy,
      limits,
      monotonicMs,
      timeoutMs: this.#timeoutMs,
      data: createDataPlaces(await dataFiles(folder, policy)),
      onProbe: coverage === true ? (probe) => countProbe(this.#counts, probe) : undefined,
    }
  }

  /** Of a rule all sub-cases are evaluated at once, so one that is chosen stands for all of them. */
  #coverage(rules: readonly RanRule[]): Coverage {
    const { policy, ruleTests, files } = this.#built
    const modules: CountedModule[] = [{ dictionary: policy.dictionary, counts: this.#counts }]
    if (ruleTests !== null) {
      const counts: ProbeCounts = new Map()
      for (const rule of rules) {
        if (rule.results.some((result) => this.#isChosen(result))) addCounts(counts, rule.counts)
      }
      modules.push({ dictionary: ruleTests.dictionary, counts })
    }
    return toCoverage(modules, (file) => Object.hasOwn(files.rego, file))
  }

  /** What the tests cost; null when it was not asked for or one of them failed. */
  async benchmarks(results: readonly TestResult[]): Promise<readonly Benchmark[] | null> {
    const { benchmarkMs, monotonicMs } = this.#options
    if (benchmarkMs === undefined || results.some(({ outcome }) => outcome === 'failed')) return null
    const { ruleTests, tables } = this.#built
    const cases = tables.cases.filter((test) => this.#isChosen(test))
    const chosen = this.#rules.filter((rule) => rule.results.some((result) => this.#isChosen(result)))
    const plan = { totalMs: benchmarkMs, tests: cases.length + chosen.length, monotonicMs }
    const ofRules = await ruleTests?.benchmark(
      chosen.map(({ rule }) => rule),
      plan,
    )
    return [
      ...(ofRules ?? []),
      ...(await benchmarkCases(cases, { ...(await this.#caseOptions()), onProbe: undefined }, plan)),
    ]
  }
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
