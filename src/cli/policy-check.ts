/** `gateway policy check`. */
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import { formatMessages, PolicyBuildError, toMessageDocuments } from '../policy/build-error.ts'
import { checkPolicies } from '../policy/lint/check-policies.ts'
import type { OfferedTools } from '../policy/lint/offered-tools.ts'
import { messageKind } from '../policy/message.ts'
import type { CommandArgs } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import type { FolderArgs, PolicyPlace } from './policy-place.ts'
import { findPolicies, withCompiler } from './policy-place.ts'
import { escapeText } from './text.ts'

/** Options of the command. */
export interface CheckArgs extends FolderArgs {
  readonly offline: boolean
}

/** Describes the command line. */
export function checkOptions(command: Argv<CommandArgs>): Argv<CheckArgs> {
  return command
    .positional('dir', { type: 'string', describe: 'Policies folder (default: the configured one)' })
    .option('offline', {
      type: 'boolean',
      default: false,
      describe: 'Do not ask the configured upstreams which tools they offer',
    })
    .example('$0 policy check', 'The configured folder')
    .example('$0 policy check ./policies --json', 'Another one, for programs')
}

/** Checks; exit code 1 when the policies would not be served. Warnings do not change it. */
export async function check(args: CheckArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const place = findPolicies(args)
  const offered = args.offline ? null : await offeredTools(out, place)
  const upstreams = place.config === null ? null : Object.keys(place.config.upstreams)
  const { policy, warnings, files } = await out
    .progress('checking the policies', () =>
      withCompiler(place, (compiler) => checkPolicies({ ...place, compiler, offered, upstreams })),
    )
    .catch((error: unknown) => showRefusal(out, error, place.folder))
  if (out.isJson) {
    out.json(toMessageDocuments(warnings))
    return
  }
  if (warnings.length > 0) out.line(`${formatMessages(warnings, out.style)}\n`)
  const counted = warnings.length === 0 ? '' : `, ${countText(warnings.length, 'warning')}`
  out.line(
    `${out.style('good', 'ok')}  ${escapeText(place.folder)}  ${policy.revision}  ${countText(files, 'file')}${counted}`,
  )
}

/** null for a folder that belongs to no configuration. What can ask upstreams is loaded only here. */
async function offeredTools(out: Output, { config }: PolicyPlace): Promise<OfferedTools | null> {
  if (config === null) return null
  const { readOfferedTools } = await import('./offered-tools.ts')
  return await readOfferedTools(out, config)
}

/** Prints what is wrong with policies and ends the command with exit code 1; other errors go on as they are. */
export function showRefusal(out: Output, error: unknown, folder: string, then = ''): never {
  if (!(error instanceof PolicyBuildError)) throw error
  if (out.isJson) out.json(toMessageDocuments(error.errors))
  else out.line(error.format(out.style))
  const [first] = error.errors
  const more = first === undefined ? '' : ` What it means: gateway help ${messageKind(first).id}.`
  const counted = `${countText(error.errors.length, 'error')} in ${folder}.`
  throw new UsageError('check_failed', `${counted}${more}${then === '' ? '' : ` ${then}`}`, { cause: error })
}

function countText(count: number, word: string): string {
  return count === 1 ? `1 ${word}` : `${count} ${word}s`
}
