/** `gateway audit verify`: is the audit log what was stored? */
import { readFileSync } from 'node:fs'
import { readAnchorFile } from '../audit/anchor-file.ts'
import type { PublicKeys } from '../audit/signing.ts'
import { parsePublicKeys } from '../audit/signing.ts'
import type { VerifyReport } from '../audit/verify.ts'
import { verifyLog } from '../audit/verify.ts'
import { UsageError } from '../errors.ts'
import { parseTime } from './audit-arguments.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import { withDatabase } from './context.ts'
import type { Output, Streams } from './output.ts'
import { escapeText } from './text.ts'

interface VerifyArgs extends CommandArgs {
  readonly since?: string | undefined
  readonly until?: string | undefined
  readonly anchor?: string | undefined
  readonly publicKey: readonly string[]
}

/** Adds `audit verify`. */
export const auditVerify: CommandGroup = (parser, streams) =>
  parser.command<VerifyArgs>(
    'verify',
    'Prove that rows were not edited, deleted, reordered or cut off',
    (command) =>
      command
        .option('since', { type: 'string', describe: 'Only rows after: 2h, 7d, today, a day or a moment' })
        .option('until', { type: 'string', describe: 'Only rows before' })
        .option('anchor', {
          type: 'string',
          requiresArg: true,
          describe: 'File of checkpoints kept outside the database (audit.anchors)',
        })
        .option('public-key', {
          type: 'string',
          array: true,
          requiresArg: true,
          default: [],
          describe: 'PEM file with the public key, got from elsewhere; again for older keys',
        })
        .example('$0 audit verify', 'Everything')
        .example('$0 audit verify --anchor anchors.ndjson --public-key audit-key.pub', 'Trusting no one')
        .example('$0 audit verify --since 7d --json', 'For programs'),
    (args) => verify(args, streams),
  )

async function verify(args: VerifyArgs, streams?: Streams): Promise<void> {
  const nowMs = Date.now()
  const since = args.since === undefined ? null : parseTime('--since', args.since, nowMs)
  const until = args.until === undefined ? null : parseTime('--until', args.until, nowMs)
  const publicKeys = readKeys(args.publicKey)
  // Read before the rows: what was anchored by now has rows as well.
  const anchors = args.anchor === undefined ? null : await readAnchorFile(args.anchor, { since, until })
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const report = await out.progress('verifying', ({ step }) =>
        verifyLog({
          ...{ db: pools.general, since, until, anchors, publicKeys },
          onProgress: ({ rows }) => step(`verifying: ${rows} rows`),
        }),
      )
      if (out.isJson) out.json(report)
      else for (const line of layout(report, out)) out.line(line)
      if (!report.ok) throw new UsageError('check_failed', failure(report))
    },
    streams,
  )
}

function readKeys(files: readonly string[]): PublicKeys | null {
  if (files.length === 0) return null
  return new Map(files.flatMap((file) => [...readKey(file)]))
}

function readKey(file: string): PublicKeys {
  try {
    return parsePublicKeys(readFileSync(file, 'utf8'))
  } catch (cause) {
    const code = cause instanceof TypeError ? cause.message : 'cannot be read'
    throw new UsageError('usage', `--public-key ${file}: ${code}.`, { cause })
  }
}

function failure({ findings, moreFindings }: VerifyReport): string {
  const count = findings.length + moreFindings
  return `The audit log is not what was stored: ${count === 1 ? '1 finding' : `${count} findings`}.`
}

function layout(report: VerifyReport, out: Output): readonly string[] {
  const found = report.findings.map(
    ({ kind, text }) => `${out.style('bad', kind.padEnd(12))}${escapeText(text)}`,
  )
  if (report.moreFindings > 0) found.push(`and ${report.moreFindings} more`)
  if (!report.ok) return [...found, '', ...facts(report)]
  return [`${out.style('good', 'ok')}  every row is what was stored`, ...facts(report)]
}

function facts(report: VerifyReport): readonly string[] {
  const { rows, writers, checkpoints, anchors, erased, retired, retiredUnsigned, holes, unchained } = report
  const span =
    report.first === null || report.last === null
      ? ''
      : `, ${report.first.toISOString()} to ${report.last.toISOString()}`
  const told: readonly (readonly [boolean, string])[] = [
    [true, `${rows} rows of ${writers} writers${span}`],
    [true, `${checkpoints} signed checkpoints, ${anchors} anchors agree`],
    [erased > 0, `${erased} rows whose payload was erased, with a signed record`],
    [retired > 0, `${retired} rows dropped because of their age, by the records of it`],
    [retiredUnsigned > 0, `not proven: ${retiredUnsigned} of those, whose records nobody signed`],
    [holes > 0, `${holes} numbers that a gateway itself left out`],
    [unchained > 0, `not proven: ${unchained} rows from before the chain`],
    [report.unproven > 0, `not proven: ${report.unproven} rows after the last checkpoint of their writer`],
    [
      report.keys === 'database',
      'not proven: the public keys themselves, which come from this database (--public-key)',
    ],
    [report.keys === 'none', 'not proven: that the chain was not rewritten as a whole; nothing signs it'],
    [anchors === 0, 'not proven: that no chain was cut off together with its checkpoints (--anchor)'],
  ]
  return told.filter(([applies]) => applies).map(([, text]) => `    ${text}`)
}
