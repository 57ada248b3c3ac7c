/** `gateway policy test`. */
import { randomUUID } from 'node:crypto'
import { processEnvironment } from '../config/load.ts'
import { UsageError } from '../errors.ts'
import { PolicyBuildError } from '../policy/build-error.ts'
import type { TestReport } from '../policy/testing/report.ts'
import { runPolicyTests } from '../policy/testing/run-tests.ts'
import { loadTestFiles } from '../policy/testing/test-files.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import type { CompilerPair, PolicyPlace } from './policy-place.ts'
import { findPolicies, withCompilers } from './policy-place.ts'
import { layoutBenchmarks, toBenchmarkDocuments } from './policy-test-benchmark.ts'
import { layoutCoverage, percentText, toCoverageDocument, toLcov } from './policy-test-coverage.ts'
import { writeReport } from './policy-test-files.ts'
import { toGithub } from './policy-test-github.ts'
import { toJunit } from './policy-test-junit.ts'
import { countOutcomes, layoutReport, toReportDocument } from './policy-test-lines.ts'
import type { TestOutcome } from './policy-test-outcome.ts'
import { pathFrom } from './policy-test-outcome.ts'
import type { TestArgs, TestPlan } from './policy-test-plan.ts'
import { parsePlan } from './policy-test-plan.ts'
import { toSarif } from './policy-test-sarif.ts'
import { updateTables } from './policy-test-update.ts'
import { watchTests } from './policy-test-watch.ts'

/** For all tests together. */
const BENCHMARK_MS = 10_000

/** The compiler of the first run is not needed again. */
const QUICK_IDLE_MS = 1000

/** A run of the command. */
interface Command {
  readonly out: Output
  readonly plan: TestPlan
  readonly place: PolicyPlace
  /** From a file's name in the folder to its path from here. */
  readonly toPath: (file: string) => string
}

/**
 * Runs the tests; exit code 1 when one fails, the coverage is below the threshold or the policies do not build, 2 when there
 * is none to run.
 */
export async function test(args: TestArgs, streams?: Streams): Promise<void> {
  const isGithub = processEnvironment()['GITHUB_ACTIONS'] === 'true'
  const plan = parsePlan(args, { isGithub })
  const out = createOutput({ ...args, json: plan.format === 'json' }, streams)
  const place = findPolicies(args)
  const command = { out, plan, place, toPath: pathFrom(process.cwd(), place.folder) }
  if (plan.watch) await watch(command, streams)
  else await once(command)
}

async function once(command: Command): Promise<void> {
  const { out, plan, place } = command
  const tables = plan.update ? (await loadTestFiles(place.folder)).tables : {}
  const outcome = await out.progress('testing the policies', () =>
    withCompilers(place, (compilers) => attempt(() => runTests(command, compilers))),
  )
  if (outcome.kind === 'ran') refuseNothing(outcome.report, plan.run, place.folder)
  await writeReports(command, outcome)
  if (outcome.kind === 'ran' && plan.update) {
    const left = await updateTables(out, place.folder, outcome.report, tables)
    if (left > 0)
      throw new UsageError('check_failed', `${left} of ${outcome.report.results.length} tests fail`)
    return
  }
  show(command, outcome)
  conclude(command, outcome)
}

/** Compilers of its own: whoever stops it waits for none of them. */
async function watch(command: Command, streams: Streams = process): Promise<void> {
  const { place } = command
  await withCompilers(
    place,
    (quick) =>
      withCompilers(place, (lasting) => watchWith(command, { quick, lasting }, streams), { lasting: true }),
    { idleMs: QUICK_IDLE_MS },
  )
}

function watchWith(
  command: Command,
  compilers: { readonly quick: CompilerPair; readonly lasting: CompilerPair },
  streams: Streams,
): Promise<void> {
  const { out, plan, place } = command
  return watchTests({
    out,
    streams,
    folder: place.folder,
    layout: { out, full: plan.full, verbose: plan.verbose },
    compilers: compilers.lasting,
    nowMs: Date.now,
    onOutcome: (outcome) => writeReports(command, outcome),
    run: (pair, { filter, coverage }) => {
      const chosen = {
        ...command,
        plan: { ...plan, filter: filter ?? plan.filter, coverage: coverage || plan.coverage },
      }
      return pair === null ? attempt(() => runTests(chosen, compilers.quick)) : runAgain(chosen, pair)
    },
    extra: (report) => extraLines(command, report),
    toDocument,
  })
}

/** Builds are kept in memory: files would take the processes that stay their practice. */
function runAgain(command: Command, compilers: CompilerPair): Promise<TestOutcome> {
  const place = { ...command.place, cacheDir: null }
  return attempt(() => runTests({ ...command, place }, compilers))
}

function runTests({ plan, place }: Command, [compiler, second]: CompilerPair): Promise<TestReport> {
  const { filter, coverage, engine, timeoutMs, bench } = plan
  return runPolicyTests({
    ...{ ...place, compiler, second, filter, coverage, engine, monotonicMs: () => performance.now() },
    ...(timeoutMs === null ? {} : { timeoutMs }),
    ...(bench ? { benchmarkMs: BENCHMARK_MS } : {}),
  })
}

/** What is wrong with policies or tests is an outcome; other errors go on as they are. */
async function attempt(run: () => Promise<TestReport>): Promise<TestOutcome> {
  try {
    return { kind: 'ran', report: await run() }
  } catch (error) {
    if (error instanceof PolicyBuildError) return { kind: 'refused', error }
    throw error
  }
}

/** A run of nothing must not look like a success. */
function refuseNothing(report: TestReport, run: string | null, folder: string): void {
  if (report.results.length > 0) return
  if (run !== null && report.total > 0)
    throw new UsageError('usage', `No test matches --run ${run}; there are ${report.total}.`)
  throw new UsageError(
    'usage',
    `${folder} holds no tests. Write tables in cases/*.yaml, or rules test_.. in *_test.rego.`,
  )
}

async function writeReports({ plan, toPath }: Command, outcome: TestOutcome): Promise<void> {
  if (plan.junit !== null) await writeReport(plan.junit, toJunit(outcome, toPath))
  const coverage = outcome.kind === 'ran' ? outcome.report.coverage : null
  if (plan.lcov !== null && coverage !== null) await writeReport(plan.lcov, toLcov(coverage, toPath))
}

function show(command: Command, outcome: TestOutcome): void {
  const { out, plan, place, toPath } = command
  switch (plan.format) {
    case 'junit':
      out.line(toJunit(outcome, toPath).trimEnd())
      return
    case 'sarif':
      out.json(toSarif(outcome, toPath))
      return
    case 'github': {
      const lines =
        outcome.kind === 'ran' ? prettyLines(command, outcome.report) : [outcome.error.format(out.style)]
      for (const line of toGithub(lines, outcome, { toPath, token: randomUUID() })) out.line(line)
      return
    }
    case 'json':
      if (outcome.kind === 'refused') showRefusal(out, outcome.error, place.folder, NOT_RUN)
      out.json(toDocument(outcome.report))
      return
    default:
      if (outcome.kind === 'refused') showRefusal(out, outcome.error, place.folder, NOT_RUN)
      for (const line of prettyLines(command, outcome.report)) out.line(line)
  }
}

const NOT_RUN = 'No test ran.'

function prettyLines(command: Command, report: TestReport): readonly string[] {
  const { out, plan, place } = command
  const layout = { out, full: plan.full, verbose: plan.verbose }
  return [...layoutReport(place.folder, report, layout), ...extraLines(command, report)]
}

/** What was asked for besides the tests' outcomes. */
function extraLines({ out, plan, place }: Command, report: TestReport): readonly string[] {
  const layout = { out, full: plan.full }
  const { coverage, benchmarks } = report
  return [
    ...(coverage === null ? [] : layoutCoverage(coverage, plan.threshold, layout)),
    ...(benchmarks === null ? [] : layoutBenchmarks(benchmarks, place.limits.fuel, layout)),
  ]
}

function toDocument(report: TestReport): object {
  const { coverage, benchmarks } = report
  return {
    ...toReportDocument(report),
    ...(coverage === null ? {} : { coverage: toCoverageDocument(coverage) }),
    ...(benchmarks === null ? {} : { benchmarks: toBenchmarkDocuments(benchmarks) }),
  }
}

function conclude({ plan, place }: Command, outcome: TestOutcome): void {
  if (outcome.kind === 'refused') {
    const { length } = outcome.error.errors
    throw new UsageError(
      'check_failed',
      `${length} error${length === 1 ? '' : 's'} in ${place.folder}. ${NOT_RUN}`,
    )
  }
  const { report } = outcome
  const { failed } = countOutcomes(report.results)
  if (failed > 0) throw new UsageError('check_failed', `${failed} of ${report.results.length} tests failed`)
  const percent = report.coverage?.counts.percent ?? 100
  if (plan.threshold !== null && percent < plan.threshold) {
    const text = `coverage ${percentText(percent)} % is below the threshold of ${plan.threshold} %`
    throw new UsageError('check_failed', text)
  }
}
