/** `gateway db migrate|status`. */
import pg from 'pg'
import type { OpenedDatabase } from '../compose/database.ts'
import { openDatabase } from '../compose/database.ts'
import { loadConfig } from '../config/load.ts'
import { toClientConfig } from '../db/connection.ts'
import { migrate, readSchema } from '../db/migrate.ts'
import { toDatabaseUsageError } from '../db/usage-error.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'

/** Adds `db migrate` and `db status`. */
export const dbCommands: CommandGroup = (parser, streams) =>
  parser.command('db', 'Look at the database schema, bring it up to date', (group) =>
    group
      .command(
        'migrate',
        'Apply the steps that are missing (the gateway does so at every start)',
        (command) => command.example('$0 db migrate', 'Before rolling out a new version'),
        (args) => withOpened(args, streams, runMigrate),
      )
      .command(
        'status',
        'Show which steps are applied and which are missing',
        (command) => command.example('$0 db status --json', 'For programs'),
        (args) => withOpened(args, streams, showStatus),
      )
      .demandCommand(1, 'Name a command: migrate or status.'),
  )

async function withOpened(
  args: CommandArgs,
  streams: Streams | undefined,
  use: (out: Output, database: OpenedDatabase) => Promise<void>,
): Promise<void> {
  const out = createOutput(args, streams)
  const { config } = loadConfig({ file: args.config })
  const database = await out.progress('opening the database', (progress) =>
    openDatabase(config, progress.step),
  )
  try {
    await use(out, database)
  } finally {
    await database.stop()
  }
}

async function runMigrate(out: Output, { owner, runtime }: OpenedDatabase): Promise<void> {
  const report = await out.progress('migrating the database', (progress) =>
    migrate({ owner, runtime, onProgress: progress.step }),
  )
  if (out.isJson) {
    out.json(report)
    return
  }
  for (const step of report.applied) out.line(`applied  ${step}`)
  out.line(`${out.style('good', 'ok')}  schema ${report.version}, ${report.applied.length} steps applied now`)
}

async function showStatus(out: Output, { owner }: OpenedDatabase): Promise<void> {
  const limits = { connectTimeoutMs: 5000, statementTimeoutMs: 10_000, lockTimeoutMs: 5000 }
  const client = new pg.Client(toClientConfig(owner, 'cli', limits))
  try {
    await client.connect()
    const { applied, pending } = await readSchema(client)
    if (out.isJson) {
      out.json({ applied, pending })
      return
    }
    const steps = applied.map(
      ({ id, name, appliedAt }) => [stepName(id, name), 'applied', appliedAt] as const,
    )
    out.table(['step', 'state', 'applied at'], [...steps, ...pending.map((name) => [name, 'missing', null])])
    if (pending.length > 0) out.next('gateway db migrate')
  } catch (error) {
    throw toDatabaseUsageError(error)
  } finally {
    await client.end().catch(() => undefined)
  }
}

function stepName(id: number, name: string): string {
  return `${String(id).padStart(4, '0')}-${name}`
}
