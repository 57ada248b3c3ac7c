/** `gateway audit export`: rows for other systems, as a stream or a file. */
import type { Argv } from 'yargs'
import type { ExportedPage, ExportPlan, Format } from '../audit/export.ts'
import { exportHead, exportPages, FORMATS } from '../audit/export.ts'
import { withPatience } from '../audit/patience.ts'
import { toDatabaseUsageError } from '../db/usage-error.ts'
import { UsageError } from '../errors.ts'
import type { FilterArgs } from './audit-filter.ts'
import { filterOptions, toFilter } from './audit-filter.ts'
import { findRow } from './audit-row.ts'
import type { CommandArgs, CommandGroup, DatabaseContext } from './context.ts'
import { withDatabase } from './context.ts'
import type { Streams } from './output.ts'
import type { Progress } from './progress.ts'
import { shellWord } from './shell-word.ts'
import type { Sink } from './sink.ts'
import { fileSink, streamSink } from './sink.ts'
import { whenStopped } from './stop.ts'

interface ExportArgs extends FilterArgs {
  readonly format: Format
  readonly output?: string | undefined
  readonly force: boolean
  readonly after?: string | undefined
}

/** Adds the command. */
export const auditExport: CommandGroup = (parser, streams) =>
  parser.command('export', 'Rows for other systems: NDJSON, CSV or OCSF events', exportOptions, (args) =>
    exportLog(args, streams),
  )

function exportOptions(command: Argv<CommandArgs>): Argv<ExportArgs> {
  return filterOptions(command)
    .option('format', {
      choices: FORMATS,
      default: 'ndjson' as const,
      describe: 'ndjson: whole rows; csv: without JSON columns; ocsf: OCSF 1.9 API Activity',
    })
    .option('output', {
      alias: 'o',
      type: 'string',
      requiresArg: true,
      describe: 'File to write; .gz packs it. Without it: stdout',
    })
    .option('force', { type: 'boolean', default: false, describe: 'Write over a file that is there' })
    .option('after', { type: 'string', describe: 'Go on behind this row, where an export has ended' })
    .example('$0 audit export --since 2026-11-01 --until 2026-12-01 -o november.ndjson.gz', 'A month')
    .example('$0 audit export --format csv --outcome denied --since 7d > denied.csv', 'For a spreadsheet')
    .example('$0 audit export --format ocsf --since yesterday --until today', 'For a SIEM')
}

async function exportLog(args: ExportArgs, streams: Streams = process): Promise<void> {
  const nowMs = Date.now()
  // A fixed end: what comes in meanwhile belongs to the next export.
  const filter = { until: new Date(nowMs), ...toFilter(args, nowMs) }
  await withDatabase(
    args,
    async (context) => {
      const { out, pools } = context
      const after = args.after === undefined ? null : await findRow(pools.general, args.after)
      const plan: ExportPlan = { filter, format: args.format, after }
      const sink =
        args.output === undefined ? streamSink(streams.stdout) : await fileSink(args.output, args.force)
      const rows = await out.progress('exporting', (progress) => run({ context, args, plan, sink, progress }))
      if (rows === null) return
      if (out.isJson && args.output !== undefined) out.json({ file: args.output, rows })
      else out.note(`${count(rows)}${args.output === undefined ? '' : ` in ${args.output}`}.`)
    },
    streams,
  )
}

interface Running {
  readonly context: DatabaseContext
  readonly args: ExportArgs
  readonly plan: ExportPlan
  readonly sink: Sink
  readonly progress: Progress
}

/** Rows written; null when the reader has seen enough. What ends it early is told with the way to go on. */
async function run(running: Running): Promise<number | null> {
  const { context, plan, sink } = running
  const stop = whenStopped()
  const done = { rows: 0, last: plan.after?.id ?? null }
  try {
    await sink.write(exportHead(plan))
    await withPatience(context.pools.general, async (db) => {
      const tell = reporter(running)
      for await (const page of exportPages(db, plan)) {
        await sink.write(page.text)
        done.rows += page.rows
        done.last = page.last.id
        tell(done.rows, page)
        if (stop.signal.aborted) throw new UsageError('interrupted', 'The export was stopped.')
      }
    })
    await sink.finish()
    return done.rows
  } catch (error) {
    const kept = await sink.abandon()
    if ((error as { code?: unknown }).code === 'EPIPE') return null
    tellTheRest(running, done, kept)
    throw toDatabaseUsageError(error)
  } finally {
    stop.release()
  }
}

const REPORT_MS = 5000

/** Tells now and then how far it is: by time, since counting the rows would take as long as exporting them. */
function reporter({ plan, progress }: Running): (rows: number, page: ExportedPage) => void {
  let toldAt = performance.now()
  const until = plan.filter.until?.getTime() ?? 0
  let from: number | null = null
  return (rows, { last }) => {
    from ??= last.ts.getTime()
    if (performance.now() - toldAt < REPORT_MS) return
    toldAt = performance.now()
    const share = until > from ? (last.ts.getTime() - from) / (until - from) : 1
    progress.step(
      `exporting: ${count(rows)}, up to ${last.ts.toISOString()}, about ${Math.floor(share * 100)} % of the time`,
    )
  }
}

function tellTheRest(
  { context: { out }, args, plan }: Running,
  done: { readonly rows: number; readonly last: string | null },
  kept: string | null,
): void {
  if (done.last === null || done.rows === 0) return
  out.note(`${count(done.rows)} were exported${kept === null ? '' : ` and are in ${kept}`}. The rest:`)
  const options: readonly (readonly [name: string, value: string | undefined])[] = [
    ['config', args.config],
    ['format', args.format],
    ...args.outcome.map((outcome) => ['outcome', outcome] as const),
    ['principal', args.principal],
    ['tool', args.tool],
    ['server', args.server],
    ['tenant', args.tenant],
    ['until', plan.filter.until?.toISOString()],
    ['after', done.last],
  ]
  const words = options.flatMap(([name, value]) =>
    value === undefined ? [] : [`--${name} ${shellWord(value)}`],
  )
  out.next(['gateway audit export', ...words].join(' '))
}

function count(rows: number): string {
  return `${rows.toLocaleString('en-US')} ${rows === 1 ? 'row' : 'rows'}`
}
