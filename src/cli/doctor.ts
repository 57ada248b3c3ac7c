/** `gateway doctor`: is everything as it should be? Exit code 1 when something is not. */
import type { Argv } from 'yargs'
import { examine } from '../doctor/doctor.ts'
import type { CheckName, Finding, State } from '../doctor/finding.ts'
import { CHECKS, countText } from '../doctor/finding.ts'
import { UsageError } from '../errors.ts'
import { nearestName } from '../nearest-name.ts'
import type { CommandArgs, CommandGroup } from './context.ts'
import type { Look, Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { cutMiddle, escapeText, textWidth } from './text.ts'

interface DoctorArgs extends CommandArgs {
  readonly check?: string | undefined
  readonly name?: string | undefined
  readonly verbose: boolean
}

/** Adds `doctor`. */
export const doctorCommands: CommandGroup = (parser, streams) =>
  parser.command(
    'doctor [check] [name]',
    'Look at everything a gateway needs; exit code 1 when something fails',
    options,
    (args) => doctor(args, streams),
  )

function options(command: Argv<CommandArgs>): Argv<DoctorArgs> {
  return command
    .positional('check', { type: 'string', describe: `Only this: ${CHECKS.join(', ')}` })
    .positional('name', { type: 'string', describe: 'Only the upstream of this name' })
    .option('verbose', { alias: 'v', type: 'boolean', default: false, describe: 'Tell more of each' })
    .example('$0 doctor', 'Everything')
    .example('$0 doctor upstream github -v', 'One upstream, with its tools')
    .example('$0 doctor --json', 'For programs')
}

async function doctor(args: DoctorArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const only = parseOnly(args)
  const findings = await out.progress('looking at everything', (progress) =>
    examine({ load: { file: args.config }, only, nowMs: Date.now, onProgress: progress.step }),
  )
  if (only?.subject != null && !findings.some(({ check }) => check === only.check)) {
    throw new UsageError('not_found', `No upstream is named "${only.subject}". See: gateway config show`)
  }
  const failed = findings.filter(({ state }) => state === 'fail')
  const warnings = findings.filter(({ state }) => state === 'warn').length
  if (out.isJson) out.json({ ok: failed.length === 0, failed: failed.length, warnings, findings })
  else showFindings(out, findings, args.verbose, streams)
  const [first] = failed
  if (first !== undefined) throw new UsageError('check_failed', summary(failed.length, warnings, first))
  if (warnings > 0) out.note(`nothing failed, ${countText(warnings, 'warning')}`)
}

function parseOnly({ check, name }: DoctorArgs): { check: CheckName; subject: string | null } | null {
  if (check === undefined) return null
  const known = CHECKS.find((one) => one === check)
  if (known === undefined) {
    const meant = nearestName(check, CHECKS)
    const hint = meant === null ? `There are: ${CHECKS.join(', ')}.` : `Did you mean ${meant}?`
    throw new UsageError('usage', `There is no check "${check}". ${hint}`)
  }
  if (name !== undefined && known !== 'upstream') {
    throw new UsageError('usage', `Only upstreams have names: gateway doctor ${known}`)
  }
  return { check: known, subject: name ?? null }
}

const MARKS = {
  ok: ['ok  ', 'good'],
  warn: ['WARN', 'warn'],
  fail: ['FAIL', 'bad'],
  skipped: ['--  ', 'dim'],
} as const satisfies Record<State, readonly [string, Look]>

const TITLE_COLUMNS = 28

function showFindings(
  out: Output,
  findings: readonly Finding[],
  verbose: boolean,
  streams: Streams = process,
): void {
  const columns = out.isTerminal ? (streams.stdout.columns ?? 100) : Number.POSITIVE_INFINITY
  for (const finding of findings) {
    const [mark, look] = MARKS[finding.state]
    const title = cutMiddle(escapeText(finding.title), TITLE_COLUMNS)
    const padding = ' '.repeat(TITLE_COLUMNS - textWidth(title))
    out.line(`  ${out.style(look, mark)}  ${title}${padding}  ${escapeText(finding.summary)}`)
    if (finding.fix !== null) out.line(`          ${escapeText(finding.fix)}`)
    if (!verbose) continue
    for (const line of finding.details)
      out.line(out.style('dim', `          ${cutMiddle(escapeText(line), columns - 10)}`))
  }
}

function summary(failed: number, warnings: number, first: Finding): string {
  const more = warnings === 0 ? '' : `, ${countText(warnings, 'warning')}`
  const name = first.check === 'upstream' ? ` ${first.subject}` : ''
  return `${failed} failed${more}. Fix the FAIL first: gateway doctor ${first.check}${name} -v`
}
