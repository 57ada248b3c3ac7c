/** `gateway audit stats`: the log in numbers. */
import type { Argv } from 'yargs'
import type { RowFilter } from '../audit/filter.ts'
import { withPatience } from '../audit/patience.ts'
import type { Count, Counts, Dimension } from '../audit/stats.ts'
import { countRows, DIMENSIONS, overview } from '../audit/stats.ts'
import { toDatabaseUsageError } from '../db/usage-error.ts'
import { parseLimit } from './audit-arguments.ts'
import type { FilterArgs } from './audit-filter.ts'
import { filterOptions, toFilter } from './audit-filter.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { withDatabase } from './context.ts'
import type { Output, Streams } from './output.ts'
import type { Cell } from './table.ts'

interface StatsArgs extends FilterArgs {
  readonly by?: Dimension | undefined
  readonly limit: string
}

/** Adds the command. */
export const auditStats: CommandGroup = (parser, streams) =>
  parser.command('stats', 'Who is denied, why and by which rule; how long calls take', statsOptions, (args) =>
    stats(args, streams),
  )

function statsOptions(command: Argv<CommandArgs>): Argv<StatsArgs> {
  return filterOptions(command)
    .option('by', {
      choices: DIMENSIONS,
      describe: 'Count by this; reason and rule count only what was not allowed',
    })
    .option('limit', { alias: 'n', type: 'string', default: '10', describe: 'Lines of a table' })
    .default('since', '24h')
    .example('$0 audit stats', 'The last day')
    .example('$0 audit stats --by rule --since 7d', 'Which rules deny')
    .example('$0 audit stats --by principal --outcome denied_authz', 'Whom the policy denies')
}

async function stats(args: StatsArgs, streams?: Streams): Promise<void> {
  const filter = toFilter(args, Date.now())
  const limit = parseLimit(args.limit)
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const tables = await out.progress('counting', () =>
        withPatience(pools.general, (db) => count(db, filter, args.by, limit)).catch((error: unknown) => {
          throw toDatabaseUsageError(error)
        }),
      )
      if (out.isJson) {
        out.json({ since: filter.since ?? null, until: filter.until ?? null, ...named(tables) })
        return
      }
      tables.forEach((counts, at) => {
        if (at > 0 && counts.counts.length === 0) return
        if (at > 0) out.line()
        showCounts(out, counts, args)
      })
    },
    streams,
  )
}

/** The dimension asked for; without one the outcomes, and of what was denied whom, why and by which rule. */
async function count(
  db: Parameters<typeof countRows>[0],
  filter: RowFilter,
  by: Dimension | undefined,
  limit: number,
): Promise<readonly Counts[]> {
  if (by !== undefined) return [await countRows(db, filter, by, limit)]
  const told = await overview(db, filter, limit)
  return [told.outcomes, told.denied.principals, told.denied.reasons, told.denied.rules]
}

/** For programs: one count as it is, several under what they count. */
function named(tables: readonly Counts[]): object {
  const [first, principals, reasons, rules] = tables
  if (principals === undefined) return { ...first }
  return { outcomes: first, denied: { principals, reasons, rules } }
}

const NONE: Readonly<Record<Dimension, string>> = {
  outcome: '-',
  principal: '(nobody known)',
  tenant: '(no tenant)',
  tool: '(none)',
  reason: '(none)',
  rule: '(no rule allowed it)',
}

function showCounts(out: Output, { by, attempts, keys, counts }: Counts, { since, until }: StatsArgs): void {
  if (counts.length === 0) {
    out.note(`No attempt matches since ${since}${until === undefined ? '' : ` until ${until}`}.`)
    return
  }
  const headers = [by, 'attempts', 'share', 'allowed', 'denied', 'p50 ms', 'p95 ms']
  out.table(
    headers,
    counts.map((line) => cells(line, by)),
  )
  if (counts.length < keys) out.note(`${counts.length} of ${keys} shown (--limit), of ${attempts} attempts.`)
}

function cells(line: Count, by: Dimension): readonly Cell[] {
  const { key, attempts, share, allowed, denied, p50_ms: p50, p95_ms: p95 } = line
  return [key ?? NONE[by], attempts, `${(share * 100).toFixed(1)} %`, allowed, denied, round(p50), round(p95)]
}

function round(ms: number | null): number | null {
  return ms === null ? null : Math.round(ms * 10) / 10
}
