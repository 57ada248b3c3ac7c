/** `gateway audit tail`: the newest attempts, one line each, and what comes in. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Argv } from 'yargs'
import type { RowFilter } from '../audit/filter.ts'
import type { Start } from '../audit/follow.ts'
import { follow, startNow } from '../audit/follow.ts'
import type { RowSummary } from '../audit/query.ts'
import { latestRows } from '../audit/query.ts'
import { parseLimit } from './audit-arguments.ts'
import type { FilterArgs } from './audit-filter.ts'
import { filterOptions, toFilter } from './audit-filter.ts'
import type { CommandArgs, CommandGroup, DatabaseContext } from './context.ts'
import { withDatabase } from './context.ts'
import type { Look, Output, Streams } from './output.ts'
import { drained } from './sink.ts'
import { whenStopped } from './stop.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'

interface TailArgs extends FilterArgs {
  readonly follow: boolean
  readonly limit: string
}

/** Adds the command. */
export const auditTail: CommandGroup = (parser, streams) =>
  parser.command('tail', 'The newest attempts', tailOptions, (args) => tail(args, streams))

function tailOptions(command: Argv<CommandArgs>): Argv<TailArgs> {
  return filterOptions(command)
    .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'Go on with what comes in' })
    .option('limit', { alias: 'n', type: 'string', default: '20', describe: 'How many at most' })
    .example('$0 audit tail -f', 'Watch')
    .example('$0 audit tail --outcome denied_authz --since 2h', 'What was denied')
    .example('$0 audit tail --principal ada --json', 'One row per line, for programs')
}

async function tail(args: TailArgs, streams?: Streams): Promise<void> {
  const filter = toFilter(args, Date.now())
  const limit = parseLimit(args.limit)
  await withDatabase(
    args,
    async (context) => {
      const { out, pools } = context
      // Taken before the list is read: what is stored in between is shown by neither or both, and shown once.
      const start = args.follow ? await startNow(pools.general) : null
      const rows = await latestRows(pools.general, filter, limit)
      showRows(out, rows, streams)
      if (start !== null) {
        await goOn(context, filter, { start, shown: new Set(rows.map((row) => row.id)) }, streams)
        return
      }
      if (rows.length === 0) out.note('No attempt matches.')
      if (rows.length === limit) out.note(`The newest ${limit}; --limit for more.`)
      const denied = rows.findLast((row) => row.outcome === 'denied_authz')
      if (denied !== undefined && out.isTerminal) out.next(`gateway audit explain ${denied.id}`)
    },
    streams,
  )
}

/** Until Ctrl-C, which is how one ends it and no error. */
async function goOn(
  { out, pools }: Pick<DatabaseContext, 'out' | 'pools'>,
  filter: RowFilter,
  from: { readonly start: Start; readonly shown: ReadonlySet<string> },
  streams: Streams = process,
): Promise<void> {
  const stop = whenStopped()
  try {
    await follow(pools.general, from.start, {
      filter,
      signal: stop.signal,
      monotonicMs: () => performance.now(),
      pause: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => undefined),
      onRows: async (rows) => {
        const unseen = rows.filter((row) => !from.shown.has(row.id))
        showRows(out, unseen, streams)
        await drained(streams.stdout)
      },
      onTrouble: (error) =>
        out.note(
          error === null ? 'The database answers again.' : `The database does not answer: ${error.message}`,
        ),
    })
  } finally {
    stop.release()
  }
}

function showRows(out: Output, rows: readonly RowSummary[], streams: Streams = process): void {
  for (const row of rows) {
    if (out.isJson) out.ndjson(row)
    else if (out.isTerminal) out.line(terminalLine(out, row, streams.stdout.columns ?? 100))
    else out.line(tabLine(row))
  }
}

function lookOf({ outcome }: RowSummary): Look {
  if (outcome === 'allowed') return 'good'
  return outcome === 'killed' || outcome.startsWith('denied_') ? 'bad' : 'warn'
}

function terminalLine(out: Output, row: RowSummary, columns: number): string {
  const outcome = row.outcome.padEnd(14)
  const left = `${row.ts.toISOString().replace('T', ' ').slice(0, 23)}  `
  const who = column(row.principal_id ?? '-', 18)
  const what = column(whatText(row), 34)
  const used = left.length + outcome.length + 2 + 20 + 36
  const room = Math.max(12, columns - used - row.id.length - 2)
  return `${left}${out.style(lookOf(row), outcome)}  ${who}  ${what}  ${column(whyText(row), room)}  ${out.style('dim', row.id)}`
}

function tabLine(row: RowSummary): string {
  const cells = [
    row.ts.toISOString(),
    row.outcome,
    String(row.status_code),
    row.principal_id,
    row.tenant,
    row.method,
    row.server,
    row.tool_name,
    whyText(row),
    row.id,
  ]
  return cells.map((cell) => escapeText(cell ?? '')).join('\t')
}

function whatText(row: RowSummary): string {
  const target = row.tool_name === null || row.tool_name === row.server ? '' : ` ${row.tool_name}`
  return `${row.server ?? '-'} ${row.method ?? '-'}${target}`
}

function whyText(row: RowSummary): string {
  if (row.denied_by !== null && row.denied_by.length > 0) return row.denied_by.join(', ')
  return row.reason ?? ''
}

function column(text: string, width: number): string {
  const cut = cutMiddle(escapeText(text), width)
  return cut + ' '.repeat(Math.max(0, width - textWidth(cut)))
}
