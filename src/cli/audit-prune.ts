/** `gateway audit prune`: removes whole days that are older than they have to be kept. */
import { resolve } from 'node:path'
import type { Argv } from 'yargs'
import type { OldDay, RetiredDay } from '../audit/retention.ts'
import { mayRetire, oldDays, retireDays } from '../audit/retention.ts'
import { createRetirementRecord } from '../audit/retirement.ts'
import { loadSigner } from '../compose/audit-trust.ts'
import { asOwner } from '../compose/retention.ts'
import { toDatabaseUsageError } from '../db/usage-error.ts'
import { UsageError } from '../errors.ts'
import { confirm } from './confirm.ts'
import type { CommandArgs, CommandGroup, DatabaseContext } from './context.ts'
import { withDatabase } from './context.ts'
import { parseDuration } from './key-arguments.ts'
import type { Output, Streams } from './output.ts'

interface PruneArgs extends CommandArgs {
  readonly 'older-than'?: string | undefined
  readonly 'dry-run': boolean
  readonly archive?: string | undefined
  readonly yes: boolean
}

const DAY_MS = 86_400_000

/** Adds the command. */
export const auditPrune: CommandGroup = (parser, streams) =>
  parser.command('prune', 'Remove days that are old enough', pruneOptions, (args) => prune(args, streams))

function pruneOptions(command: Argv<CommandArgs>): Argv<PruneArgs> {
  return command
    .option('older-than', {
      type: 'string',
      requiresArg: true,
      describe: 'Days that ended so long ago, such as 90d (default: audit.retention_days)',
    })
    .option('dry-run', { type: 'boolean', default: false, describe: 'Only tell which days would go' })
    .option('archive', {
      type: 'string',
      requiresArg: true,
      describe: 'Write each day into this folder first (default: audit.archive_dir)',
    })
    .option('yes', { alias: 'y', type: 'boolean', default: false, describe: 'Do not ask' })
    .example('$0 audit prune --dry-run', 'What is older than audit.retention_days?')
    .example(
      '$0 audit prune --older-than 90d --archive ./archive --yes',
      'For cron, with the owner as database.migrate_url',
    )
    .example('$0 audit prune --dry-run --json', 'For programs')
}

async function prune(args: PruneArgs, streams?: Streams): Promise<void> {
  await withDatabase(args, (context) => pruneWith(args, context, streams), streams)
}

async function pruneWith(args: PruneArgs, context: DatabaseContext, streams?: Streams): Promise<void> {
  const { out, config, owner } = context
  const keepDays = parseKeepDays(args['older-than'], config.audit.retentionDays)
  const archiveFolder = args.archive === undefined ? config.audit.archiveDir : resolve(args.archive)
  const old = await asked(owner, (client) => oldDays(client, keepDays, Date.now()))
  if (old.length === 0 || args['dry-run']) {
    showOld(out, old, keepDays)
    return
  }
  await refuseWithoutRight(owner)
  if (!args.yes) {
    showOld(out, old, keepDays)
    const where =
      archiveFolder === null ? 'without an archive' : `after an archive is written to ${archiveFolder}`
    await confirm(`Remove these days for good, ${where}? [y/N] `, streams)
  }
  const recordRetirement = createRetirementRecord(await loadSigner(config, context.home), Date.now)
  const gone = await out.progress('removing old days', (progress) =>
    asked(owner, (client) =>
      retireDays({
        ...{ db: client, keepDays, nowMs: Date.now(), archiveFolder, recordRetirement },
        onRetired: ({ day }) => progress.step(`${day} is gone`),
      }),
    ),
  )
  if (gone === null) {
    throw new UsageError('unreachable', 'A gateway is removing old days just now. Try again in a minute.')
  }
  showGone(out, gone)
}

function parseKeepDays(text: string | undefined, configured: number | null): number {
  if (text === undefined) {
    if (configured !== null) return configured
    throw new UsageError(
      'usage',
      'audit.retention_days is null: rows are kept for ever. Say --older-than 90d.',
    )
  }
  const days = parseDuration(text) / DAY_MS
  if (Number.isInteger(days) && days >= 1 && days <= 36_500) return days
  throw new UsageError('usage', `--older-than "${text}": write whole days or weeks, at least 1d.`)
}

async function refuseWithoutRight(owner: DatabaseContext['owner']): Promise<void> {
  if (await asked(owner, mayRetire)) return
  throw new UsageError(
    'schema_rights',
    'This role may not remove audit rows, and must not: set database.migrate_url to the role that owns the tables.',
  )
}

async function asked<T>(owner: DatabaseContext['owner'], use: Parameters<typeof asOwner<T>>[1]): Promise<T> {
  try {
    return await asOwner(owner, use)
  } catch (error) {
    throw toDatabaseUsageError(error)
  }
}

function showOld(out: Output, days: readonly OldDay[], keepDays: number): void {
  if (out.isJson) {
    out.json({ keep_days: keepDays, days })
    return
  }
  if (days.length === 0) {
    out.note(`No day ended more than ${keepDays} days ago.`)
    return
  }
  out.table(
    ['day', 'rows, about', 'MiB'],
    days.map(({ day, rows, bytes }) => [day, rows === null ? 'unknown' : String(rows), mebibytes(bytes)]),
  )
}

function showGone(out: Output, days: readonly RetiredDay[]): void {
  if (out.isJson) {
    out.json({ removed: days })
    return
  }
  out.table(
    ['day', 'rows', 'MiB', 'archive', 'sha256'],
    days.map(({ day, rows, bytes, archive }) => [
      day,
      String(rows),
      mebibytes(bytes),
      archive?.file ?? '-',
      archive?.sha256 ?? '-',
    ]),
  )
  out.note(`${days.length} days removed.`)
}

function mebibytes(bytes: number): string {
  return (bytes / 1_048_576).toFixed(1)
}
