/** `gateway audit`: who did what, and why it was allowed or not. */
import { setTimeout as sleep } from 'node:timers/promises'
import type { Argv } from 'yargs'
import { explainRow } from '../audit/explain.ts'
import type { RowFilter, RowSummary, StoredRow } from '../audit/query.ts'
import { currentPosition, findRows, latestRows, rowsSince, siblings } from '../audit/query.ts'
import type { StoredPolicy } from '../audit/revisions.ts'
import { loadRevision } from '../audit/revisions.ts'
import { UsageError } from '../errors.ts'
import { parseExact, stringifyExact } from '../json/exact.ts'
import { OUTCOMES, parseLimit, parseOutcomes, parseSince } from './audit-arguments.ts'
import { eraseCommand } from './audit-erase.ts'
import { layoutExplanation } from './audit-explain.ts'
import { verifyCommand } from './audit-verify.ts'
import type { CommandArgs, CommandGroup, DatabaseContext } from './context.ts'
import { withDatabase } from './context.ts'
import type { Output, Streams } from './output.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'

interface TailArgs extends CommandArgs {
  readonly follow: boolean
  readonly outcome: readonly string[]
  readonly principal?: string | undefined
  readonly tool?: string | undefined
  readonly tenant?: string | undefined
  readonly since?: string | undefined
  readonly limit: string
}

interface ShowArgs extends CommandArgs {
  readonly id: string
}

interface ExplainArgs extends ShowArgs {
  readonly source: boolean
  readonly full: boolean
}

/** Adds the commands. */
export const auditCommands: CommandGroup = (parser, streams) =>
  parser.command('audit', 'Read the audit log', (group) =>
    eraseCommand(verifyCommand(group, streams), findRow, streams)
      .command('tail', 'The newest attempts', tailOptions, (args) => tail(args, streams))
      .command('show <id>', 'One row, whole', showOptions, (args) => show(args, streams))
      .command('explain <id>', 'Why an attempt was allowed or not', explainOptions, (args) =>
        explain(args, streams),
      )
      .demandCommand(1, 'Name a command: tail, show, explain, verify or erase.'),
  )

function tailOptions(command: Argv<CommandArgs>): Argv<TailArgs> {
  return command
    .option('follow', { alias: 'f', type: 'boolean', default: false, describe: 'Go on with what comes in' })
    .option('outcome', {
      type: 'string',
      array: true,
      default: [],
      describe: `Only these: ${OUTCOMES.join(', ')}`,
    })
    .option('principal', { type: 'string', describe: 'Only this principal' })
    .option('tool', { type: 'string', describe: 'Only this tool (or resource, prompt, ..)' })
    .option('tenant', { type: 'string', describe: 'Only this tenant' })
    .option('since', {
      type: 'string',
      describe: 'Only after: 2h, 7d, today, yesterday or an RFC 3339 moment',
    })
    .option('limit', { alias: 'n', type: 'string', default: '20', describe: 'How many at most' })
    .example('$0 audit tail -f', 'Watch')
    .example('$0 audit tail --outcome denied_authz --since 2h', 'What was denied')
    .example('$0 audit tail --principal ada --json', 'One row per line, for programs')
}

function showOptions(command: Argv<CommandArgs>): Argv<ShowArgs> {
  return command
    .positional('id', {
      type: 'string',
      demandOption: true,
      describe: 'Row id or request id, or its beginning',
    })
    .example('$0 audit show 019a8f2c', 'The one row whose id begins so')
}

function explainOptions(command: Argv<CommandArgs>): Argv<ExplainArgs> {
  return command
    .positional('id', {
      type: 'string',
      demandOption: true,
      describe: 'Row id or request id, or its beginning',
    })
    .option('source', { type: 'boolean', default: false, describe: 'With the source lines of that policy' })
    .option('full', { type: 'boolean', default: false, describe: 'All rules to the last line, no value cut' })
    .example('$0 audit explain 019a8f2c', 'Why?')
    .example('$0 audit explain 019a8f2c --source', 'Why, in the lines of the policy of that day')
}

async function tail(args: TailArgs, streams?: Streams): Promise<void> {
  const filter = toFilter(args, Date.now())
  const limit = parseLimit(args.limit)
  await withDatabase(
    args,
    async ({ out, pools }) => {
      // Taken before the list is read: what is stored in between is shown by neither or both, and shown once.
      const start = args.follow ? await currentPosition(pools.general) : null
      const rows = await latestRows(pools.general, filter, limit)
      const shown = new Set(rows.map((row) => row.id))
      showRows(out, rows, streams)
      if (start !== null) {
        await follow({ out, pools }, filter, { start, shown }, streams)
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

function toFilter(args: TailArgs, nowMs: number): RowFilter {
  const outcomes = parseOutcomes(args.outcome)
  return {
    ...(outcomes.length === 0 ? {} : { outcomes }),
    ...(args.principal === undefined ? {} : { principal: args.principal }),
    ...(args.tool === undefined ? {} : { tool: args.tool }),
    ...(args.tenant === undefined ? {} : { tenant: args.tenant }),
    ...(args.since === undefined ? {} : { since: parseSince(args.since, nowMs) }),
  }
}

const POLL_MS = 1000

/** Until Ctrl-C, which is how one ends it and no error. */
async function follow(
  { out, pools }: Pick<DatabaseContext, 'out' | 'pools'>,
  filter: RowFilter,
  from: { start: Awaited<ReturnType<typeof currentPosition>>; shown: ReadonlySet<string> },
  streams?: Streams,
): Promise<void> {
  const stop = new AbortController()
  const interrupt = (): void => stop.abort()
  process.once('SIGINT', interrupt)
  process.once('SIGTERM', interrupt)
  let position = from.start
  try {
    while (!stop.signal.aborted) {
      const found = await rowsSince(pools.general, position, filter)
      position = found.position
      showRows(
        out,
        found.rows.filter((row) => !from.shown.has(row.id)),
        streams,
      )
      await sleep(POLL_MS, undefined, { signal: stop.signal }).catch(() => undefined)
    }
  } finally {
    process.off('SIGINT', interrupt)
    process.off('SIGTERM', interrupt)
  }
}

function showRows(out: Output, rows: readonly RowSummary[], streams: Streams = process): void {
  for (const row of rows) {
    if (out.isJson) out.ndjson(row)
    else if (out.isTerminal) out.line(terminalLine(out, row, streams.stdout.columns ?? 100))
    else out.line(tabLine(row))
  }
}

function terminalLine(out: Output, row: RowSummary, columns: number): string {
  const outcome = row.outcome.padEnd(14)
  const look = row.outcome === 'allowed' ? 'good' : row.outcome === 'denied_authz' ? 'bad' : 'warn'
  const left = `${row.ts.toISOString().replace('T', ' ').slice(0, 23)}  `
  const who = column(row.principal_id ?? '-', 18)
  const what = column(whatText(row), 34)
  const used = left.length + outcome.length + 2 + 20 + 36
  const room = Math.max(12, columns - used - row.id.length - 2)
  return `${left}${out.style(look, outcome)}  ${who}  ${what}  ${column(whyText(row), room)}  ${out.style('dim', row.id)}`
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

async function show(args: ShowArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const row = await findRow(pools.general, args.id)
      if (out.isJson) {
        out.line(stringifyExact(toDocument(row)))
        return
      }
      for (const line of stringifyExact(toDocument(row), 2).split('\n')) out.line(escapeText(line))
      out.next(`gateway audit explain ${row.id}`)
    },
    streams,
  )
}

function toDocument(row: StoredRow): Record<string, unknown> {
  return {
    ...row,
    request_json: parsed(row.request_json),
    response_json: parsed(row.response_json),
    decision: parsed(row.decision),
    redaction: parsed(row.redaction),
  }
}

function parsed(json: string | null): unknown {
  return json === null ? null : parseExact(json)
}

async function explain(args: ExplainArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const row = await findRow(pools.general, args.id)
      const policy = await policyOf(pools.general, row)
      const explanation = explainRow(row, { policy, source: args.source, full: args.full || out.isJson })
      if (out.isJson) {
        out.line(stringifyExact(explanation))
        return
      }
      const options = { full: args.full, siblings: await siblings(pools.general, row) }
      for (const line of layoutExplanation(row, explanation, out, options)) out.line(line)
    },
    streams,
  )
}

type Db = Pick<DatabaseContext['pools']['general'], 'query'>

async function policyOf(db: Db, row: StoredRow): Promise<StoredPolicy | null> {
  const decision = parseExact(row.decision) as {
    authz?: { policy?: { digest?: unknown; revision?: unknown } }
  }
  const { digest, revision } = decision.authz?.policy ?? {}
  if (typeof digest !== 'string' || typeof revision !== 'string') return null
  return await loadRevision(db, digest, revision)
}

/** The one row that is meant by (the beginning of) an id. Throws UsageError when there is none, or several. */
export async function findRow(db: Db, id: string): Promise<StoredRow> {
  const rows = await findRows(db, id)
  if (rows === null) {
    throw new UsageError(
      'usage',
      `"${id}" is no id: give a row id or request id, or at least its first 4 hex digits. See: gateway audit tail`,
    )
  }
  const exact = rows.find((row) => row.id === id.trim().toLowerCase())
  const [row, ...others] = rows
  if (row === undefined) {
    throw new UsageError(
      'not_found',
      `No row has an id or request id that begins with ${id}. See: gateway audit tail`,
    )
  }
  // The rows of one exchange share a request id; the first of them is the call itself.
  if (exact !== undefined || others.every((other) => other.request_id === row.request_id)) return exact ?? row
  const list = rows
    .slice(0, 10)
    .map((one) => `  ${one.id}  ${one.outcome}  ${one.method ?? '-'} ${one.tool_name ?? ''}`)
  const more = rows.length > 10 ? ['  ..'] : []
  throw new UsageError('usage', [`More than one row begins with ${id}:`, ...list, ...more].join('\n'))
}
