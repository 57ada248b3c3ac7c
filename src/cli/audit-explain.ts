/** `gateway audit explain`: why an attempt was allowed or not, on one screen. */
import type { Argv } from 'yargs'
import { explainRow } from '../audit/explain.ts'
import { factsOf } from '../audit/facts.ts'
import type { StoredRow } from '../audit/query.ts'
import { siblings } from '../audit/query.ts'
import type { StoredPolicy } from '../audit/revisions.ts'
import { loadRevision } from '../audit/revisions.ts'
import { stringifyExact } from '../json/exact.ts'
import { layoutExplanation } from './audit-explain-lines.ts'
import { findRow, ID_ARGUMENT } from './audit-row.ts'
import type { CommandArgs, CommandGroup, DatabaseContext } from './context.ts'
import { withDatabase } from './context.ts'
import type { Streams } from './output.ts'

interface ExplainArgs extends CommandArgs {
  readonly id: string
  readonly source: boolean
  readonly full: boolean
}

/** Adds the command. */
export const auditExplain: CommandGroup = (parser, streams) =>
  parser.command('explain <id>', 'Why an attempt was allowed or not', explainOptions, (args) =>
    explain(args, streams),
  )

function explainOptions(command: Argv<CommandArgs>): Argv<ExplainArgs> {
  return command
    .positional('id', ID_ARGUMENT)
    .option('source', { type: 'boolean', default: false, describe: 'With the source lines of that policy' })
    .option('full', { type: 'boolean', default: false, describe: 'All rules to the last line, no value cut' })
    .example('$0 audit explain 019a8f2c', 'Why?')
    .example('$0 audit explain 019a8f2c --source', 'Why, in the lines of the policy of that day')
}

async function explain(args: ExplainArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const row = await findRow(pools.general, args.id)
      const policy = await policyOf(pools.general, row)
      const { source, full } = args
      const explanation = explainRow(row, { policy, source, full: full || out.isJson })
      if (out.isJson) {
        out.line(stringifyExact(explanation))
        return
      }
      const options = { source, full, siblings: await siblings(pools.general, row) }
      for (const line of layoutExplanation(row, explanation, out, options)) out.line(line)
    },
    streams,
  )
}

async function policyOf(
  db: DatabaseContext['pools']['general'],
  row: StoredRow,
): Promise<StoredPolicy | null> {
  const { digest, revision } = factsOf(row).authz?.policy ?? {}
  if (typeof digest !== 'string' || typeof revision !== 'string') return null
  return await loadRevision(db, digest, revision)
}
