/** `gateway policy test`. */
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import type { TestReport } from '../policy/testing/report.ts'
import { runPolicyTests } from '../policy/testing/run-tests.ts'
import type { CommandArgs } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import type { FolderArgs } from './policy-place.ts'
import { findPolicies, withCompiler } from './policy-place.ts'
import { countOutcomes, layoutReport, toReportDocument } from './policy-test-lines.ts'

/** Options of the command. */
export interface TestArgs extends FolderArgs {
  readonly run?: string | undefined
  readonly full: boolean
}

/** Describes the command line. */
export function testOptions(command: Argv<CommandArgs>): Argv<TestArgs> {
  return command
    .positional('dir', { type: 'string', describe: 'Policies folder (default: the configured one)' })
    .option('run', {
      type: 'string',
      requiresArg: true,
      describe: 'Only tests of which `file:line name [combination]` matches this regular expression',
    })
    .option('full', { type: 'boolean', default: false, describe: 'Nothing cut' })
    .example('$0 policy test', 'All tests of the configured folder')
    .example("$0 policy test --run 'tools.yaml.*delete'", 'Some of them')
    .example('$0 policy test ./policies --json', 'Another folder, for programs')
}

/** Runs the tests; exit code 1 when one fails or the policies do not build, 2 when there is none to run. */
export async function test(args: TestArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const filter = args.run === undefined ? null : parseFilter(args.run)
  const place = findPolicies(args)
  const report = await out
    .progress('testing the policies', () =>
      withCompiler(place, (compiler) =>
        runPolicyTests({ ...place, compiler, filter, monotonicMs: () => performance.now() }),
      ),
    )
    .catch((error: unknown) => showRefusal(out, error, place.folder, 'No test ran.'))
  refuseNothing(report, args.run ?? null, place.folder)
  show(out, place.folder, report, args.full)
  const { failed } = countOutcomes(report.results)
  if (failed > 0) throw new UsageError('check_failed', `${failed} of ${report.results.length} tests failed`)
}

function parseFilter(text: string): RegExp {
  try {
    return new RegExp(text, 'u')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new UsageError('usage', `--run is no regular expression: ${reason}`, { cause })
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

function show(out: Output, folder: string, report: TestReport, full: boolean): void {
  if (out.isJson) {
    out.json(toReportDocument(report))
    return
  }
  for (const line of layoutReport(folder, report, { out, full })) out.line(line)
}
