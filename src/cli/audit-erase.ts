/** `gateway audit erase`: takes payloads out of rows, and keeps the log provable. */
import { userInfo } from 'node:os'
import pg from 'pg'
import type { EraseOrder, RowPlace } from '../audit/erase.ts'
import { erasableRows, erasePayloads } from '../audit/erase.ts'
import { loadSigner } from '../compose/audit-trust.ts'
import { openMigratedDatabase } from '../compose/database.ts'
import { loadConfig } from '../config/load.ts'
import { toClientConfig } from '../db/connection.ts'
import { UsageError } from '../errors.ts'
import { findRow } from './audit-row.ts'
import { confirm } from './confirm.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'

interface EraseArgs extends CommandArgs {
  readonly id?: string | undefined
  readonly principal?: string | undefined
  readonly reason: string
  readonly yes: boolean
}

const MAX_REASON = 1000

/** Finds the one row that is meant by (the beginning of) an id, or throws UsageError. */

/** Adds `audit erase`. */
export const auditErase: CommandGroup = (parser, streams) =>
  parser.command<EraseArgs>(
    'erase',
    'Erase the payload of rows for good; that the call happened stays',
    (command) =>
      command
        .option('id', { type: 'string', requiresArg: true, describe: 'One row' })
        .option('principal', { type: 'string', requiresArg: true, describe: 'All rows of this principal' })
        .option('reason', {
          type: 'string',
          requiresArg: true,
          demandOption: true,
          describe: 'Why; kept with the record of the erasure',
        })
        .option('yes', { type: 'boolean', default: false, describe: 'Do not ask' })
        .example('$0 audit erase --id 019a8f2c --reason "ticket 4711"', 'One row')
        .example('$0 audit erase --principal ada --reason "asked by ada" --yes --json', 'For programs'),
    (args) => erase(args, streams),
  )

async function erase(args: EraseArgs, streams?: Streams): Promise<void> {
  if ((args.id === undefined) === (args.principal === undefined)) {
    throw new UsageError('usage', 'Give either --id or --principal.')
  }
  const reason = args.reason.trim()
  if (reason === '' || reason.length > MAX_REASON) {
    throw new UsageError('usage', `--reason: write 1 to ${MAX_REASON} characters.`)
  }
  const out = createOutput(args, streams)
  const { config } = loadConfig({ file: args.config })
  const database = await out.progress('opening the database', ({ step }) =>
    openMigratedDatabase(config, step),
  )
  try {
    const signer = await loadSigner(config, database.home)
    if (signer === null) {
      const text =
        'Erasing needs audit.signing_key_file: without a signed record the row would count as edited.'
      throw new UsageError('config', text)
    }
    const limits = { connectTimeoutMs: 5000, statementTimeoutMs: 60_000, lockTimeoutMs: 5000 }
    const client = new pg.Client(toClientConfig(database.owner, 'cli', limits))
    client.on('error', () => undefined)
    try {
      await client.connect()
      const order = { signer, actor: userInfo().username, reason, nowMs: Date.now() }
      await run(client, { args, order, out, streams })
    } finally {
      await client.end().catch(() => undefined)
    }
  } finally {
    await database.stop()
  }
}

interface Run {
  readonly args: EraseArgs
  readonly order: EraseOrder
  readonly out: Output
  readonly streams: Streams | undefined
}

async function run(client: pg.Client, { args, order, out, streams }: Run): Promise<void> {
  const { id, principal } = args
  const first = id === undefined ? await erasableRows(client, principal ?? '') : [await findRow(client, id)]
  if (first.length === 0) throw new UsageError('not_found', 'There is no row whose payload could be erased.')
  const what = id === undefined ? `of all rows of this principal` : 'of this row'
  if (!args.yes)
    await confirm(`Erase request, response, input and trace values ${what} for good? [y/N] `, streams)
  const erased = await out.progress('erasing', async ({ step }) => {
    let count = 0
    for (let batch: readonly RowPlace[] = first; batch.length > 0; ) {
      count += await erasePayloads(client, batch, order)
      step(`erasing: ${count} rows`)
      batch = principal === undefined ? [] : await erasableRows(client, principal)
    }
    return count
  })
  if (out.isJson) out.json({ erased })
  else
    out.line(`${out.style('good', 'ok')}  ${erased === 1 ? '1 row' : `${erased} rows`} without payload now`)
  if (erased > 0) out.next('gateway audit verify')
}
