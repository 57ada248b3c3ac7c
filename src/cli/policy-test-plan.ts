/** The command line of `gateway policy test`, and what it asks for. */
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import type { TestFilter } from '../policy/testing/run-tests.ts'
import type { CommandArgs } from './context.ts'
import type { FolderArgs } from './policy-place.ts'

const FORMATS = ['pretty', 'json', 'junit', 'github', 'sarif'] as const
/** What is written to stdout. */
export type Format = (typeof FORMATS)[number]
const ENGINES = ['wasm', 'both'] as const

/** Options of the command. */
export interface TestArgs extends FolderArgs {
  readonly run?: string | undefined
  readonly verbose: boolean
  readonly full: boolean
  readonly format?: Format | undefined
  readonly junit?: string | undefined
  readonly coverage: boolean
  readonly 'coverage-threshold'?: string | undefined
  readonly lcov?: string | undefined
  readonly engine: (typeof ENGINES)[number]
  readonly timeout?: string | undefined
  readonly bench: boolean
  readonly update: boolean
  readonly watch: boolean
}

/** What the arguments ask for, checked. */
export interface TestPlan {
  readonly filter: TestFilter | null
  /** The text of {@link filter}. */
  readonly run: string | null
  readonly format: Format
  readonly verbose: boolean
  readonly full: boolean
  /** Files to write; null = none. */
  readonly junit: string | null
  readonly lcov: string | null
  readonly coverage: boolean
  /** Percent. */
  readonly threshold: number | null
  readonly engine: 'wasm' | 'both'
  /** Milliseconds; null = the default. */
  readonly timeoutMs: number | null
  readonly bench: boolean
  readonly update: boolean
  readonly watch: boolean
}

/** Describes the command line. */
export function testOptions(command: Argv<CommandArgs>): Argv<TestArgs> {
  const text = (describe: string) => ({ type: 'string', requiresArg: true, describe }) as const
  const flag = (describe: string) => ({ type: 'boolean', default: false, describe }) as const
  return command
    .positional('dir', { type: 'string', describe: 'Policies folder (default: the configured one)' })
    .option('run', text('Only tests of which `file:line name [combination]` matches this regular expression'))
    .option('verbose', { alias: 'v', ...flag('A line for every test') })
    .option('full', flag('Nothing cut'))
    .option('watch', flag('Go on: run again whenever a file is saved'))
    .option('coverage', flag('Tell which expressions and reasons no test has brought about'))
    .option('coverage-threshold', text('Fail below so many percent of the expressions'))
    .option('lcov', text('Write the coverage to this file, for editors'))
    .option('update', flag('Write what the policies say now into the tables whose cases fail'))
    .option('engine', {
      choices: ENGINES,
      default: 'wasm' as const,
      describe: 'both: OPA’s interpreter decides on the cases, too; a difference fails',
    })
    .option('timeout', text('A test that takes longer fails, such as 500ms or 5s (default 10s)'))
    .option('bench', flag('Measure every test once all have passed'))
    .option('format', {
      choices: FORMATS,
      describe: 'What to print (default: pretty; github in GitHub Actions; --json is json)',
    })
    .option('junit', text('Write a JUnit report to this file, too'))
    .example('$0 policy test', 'All tests of the configured folder')
    .example("$0 policy test --run 'tools.yaml.*delete'", 'Some of them')
    .example('$0 policy test --watch', 'Again whenever a file is saved')
    .example('$0 policy test --coverage-threshold 90 --junit report.xml', 'For CI')
    .example('$0 policy test ./policies --json', 'Another folder, for programs')
}

/**
 * Checks the arguments. Throws UsageError.
 * @param surroundings whether it runs in GitHub Actions
 */
export function parsePlan(args: TestArgs, surroundings: { readonly isGithub: boolean }): TestPlan {
  const threshold = args['coverage-threshold']
  const plan: TestPlan = {
    filter: args.run === undefined ? null : parseFilter(args.run),
    run: args.run ?? null,
    format: formatOf(args, surroundings.isGithub),
    verbose: args.verbose,
    full: args.full,
    junit: args.junit ?? null,
    lcov: args.lcov ?? null,
    coverage: args.coverage || threshold !== undefined || args.lcov !== undefined,
    threshold: threshold === undefined ? null : parseThreshold(threshold),
    engine: args.engine,
    timeoutMs: args.timeout === undefined ? null : parseTimeout(args.timeout),
    bench: args.bench,
    update: args.update,
    watch: args.watch,
  }
  refuseContradictions(plan)
  return plan
}

function formatOf({ format, json, watch, update }: TestArgs, isGithub: boolean): Format {
  if (json === true && format !== undefined && format !== 'json')
    throw new UsageError('usage', `--json and --format ${format} exclude each other.`)
  if (json === true) return 'json'
  return format ?? (isGithub && !watch && !update ? 'github' : 'pretty')
}

function refuseContradictions({ watch, update, bench, format }: TestPlan): void {
  const refuse = (what: string): never => {
    throw new UsageError('usage', `${what} exclude each other.`)
  }
  if (watch && update) refuse('--watch and --update')
  if (watch && bench) refuse('--watch and --bench')
  if (update && bench) refuse('--update and --bench')
  if (watch && format !== 'pretty' && format !== 'json') refuse(`--watch and --format ${format}`)
  if (update && format !== 'pretty' && format !== 'json') refuse(`--update and --format ${format}`)
}

function parseFilter(text: string): RegExp {
  try {
    return new RegExp(text, 'u')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new UsageError('usage', `--run is no regular expression: ${reason}`, { cause })
  }
}

function parseThreshold(text: string): number {
  const percent = /^\d{1,3}(\.\d{1,4})?$/.test(text) ? Number(text) : Number.NaN
  if (percent >= 0 && percent <= 100) return percent
  throw new UsageError('usage', `--coverage-threshold "${text}": write a percentage from 0 to 100.`)
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 }
const MAX_TIMEOUT_MS = 600_000

function parseTimeout(text: string): number {
  const [, count = '', unit = ''] = /^(\d{1,6})(ms|s|m)$/.exec(text) ?? []
  const ms = Number(count) * (UNITS[unit] ?? 0)
  if (ms >= 1 && ms <= MAX_TIMEOUT_MS) return ms
  throw new UsageError('usage', `--timeout "${text}": write a duration from 1ms to 10m, such as 500ms or 5s.`)
}
