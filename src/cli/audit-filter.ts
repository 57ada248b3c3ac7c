/** The options by which commands choose rows. */
import type { Argv } from 'yargs'
import type { RowFilter } from '../audit/filter.ts'
import { UsageError } from '../errors.ts'
import { OUTCOMES, parseOutcomes, parseTime } from './audit-arguments.ts'
import type { CommandArgs } from './context.ts'

/** What {@link filterOptions} adds. */
export interface FilterArgs extends CommandArgs {
  readonly outcome: readonly string[]
  readonly principal?: string | undefined
  readonly tool?: string | undefined
  readonly server?: string | undefined
  readonly tenant?: string | undefined
  readonly since?: string | undefined
  readonly until?: string | undefined
}

/** Adds `--outcome`, `--principal`, `--tool`, `--server`, `--tenant`, `--since` and `--until`. */
export function filterOptions(command: Argv<CommandArgs>): Argv<FilterArgs> {
  return command
    .option('outcome', {
      type: 'string',
      array: true,
      default: [],
      describe: `Only these: ${OUTCOMES.join(', ')}, or denied for all denials`,
    })
    .option('principal', { type: 'string', describe: 'Only this principal' })
    .option('tool', { type: 'string', describe: 'Only this tool (or resource, prompt, ..)' })
    .option('server', { type: 'string', describe: 'Only this upstream' })
    .option('tenant', { type: 'string', describe: 'Only this tenant' })
    .option('since', {
      type: 'string',
      describe: 'Only from then on: 2h (ago), 7d, today, yesterday, a day or an RFC 3339 moment',
    })
    .option('until', { type: 'string', describe: 'Only before then, written like --since' })
}

/** The filter that is meant. Throws UsageError `usage`. */
export function toFilter(args: FilterArgs, nowMs: number): RowFilter {
  const outcomes = parseOutcomes(args.outcome)
  const since = args.since === undefined ? undefined : parseTime('--since', args.since, nowMs)
  const until = args.until === undefined ? undefined : parseTime('--until', args.until, nowMs)
  if (since !== undefined && until !== undefined && since >= until) {
    throw new UsageError('usage', `--since ${args.since} is not before --until ${args.until}.`)
  }
  return {
    ...(outcomes.length === 0 ? {} : { outcomes }),
    ...(args.principal === undefined ? {} : { principal: args.principal }),
    ...(args.tool === undefined ? {} : { tool: args.tool }),
    ...(args.server === undefined ? {} : { server: args.server }),
    ...(args.tenant === undefined ? {} : { tenant: args.tenant }),
    ...(since === undefined ? {} : { since }),
    ...(until === undefined ? {} : { until }),
  }
}
