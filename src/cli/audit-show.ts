/** `gateway audit show`: one row, whole, or as a test of the policy. */
import type { Argv } from 'yargs'
import { toCase } from '../audit/as-case.ts'
import { toJsonPage } from '../audit/document.ts'
import type { StoredRow } from '../audit/query.ts'
import { UsageError } from '../errors.ts'
import { findRow, ID_ARGUMENT } from './audit-row.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { withDatabase } from './context.ts'
import type { Output, Streams } from './output.ts'
import { escapeText } from './text.ts'

interface ShowArgs extends CommandArgs {
  readonly id: string
  readonly 'as-case': boolean
}

/** Adds the command. */
export const auditShow: CommandGroup = (parser, streams) =>
  parser.command('show <id>', 'One row, whole', showOptions, (args) => show(args, streams))

function showOptions(command: Argv<CommandArgs>): Argv<ShowArgs> {
  return command
    .positional('id', ID_ARGUMENT)
    .option('as-case', {
      type: 'boolean',
      default: false,
      describe: 'As a table for `gateway policy test`: the same call, and what was decided',
    })
    .example('$0 audit show 019a8f2c', 'The one row whose id begins so')
    .example('$0 audit show 019a8f2c --as-case > policies/cases/incident.yaml', 'An incident becomes a test')
}

async function show(args: ShowArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const row = await findRow(pools.general, args.id)
      if (args['as-case']) showCase(out, row)
      else showRow(out, row)
    },
    streams,
  )
}

function showRow(out: Output, row: StoredRow): void {
  if (out.isJson) {
    out.line(toJsonPage(row))
    return
  }
  for (const line of toJsonPage(row, 2).split('\n')) out.line(escapeText(line))
  out.next(`gateway audit explain ${row.id}`)
}

function showCase(out: Output, row: StoredRow): void {
  const made = toCase(row)
  if (made === null) {
    throw new UsageError(
      'check_failed',
      `The policy was not asked about ${row.id} (${row.outcome}), so there is nothing to test.`,
    )
  }
  if (out.isJson) {
    out.json({ id: row.id, table: made.text, fill_in: made.fillIn })
    return
  }
  out.line(made.text.trimEnd())
  if (made.fillIn.length === 0) return
  out.note('The row does not hold everything as it was, so the case is skipped until you have filled it in:')
  for (const place of made.fillIn) out.note(`  ${escapeText(place)}`)
}
