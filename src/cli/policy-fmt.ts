/** `gateway policy fmt`. */
import { randomBytes } from 'node:crypto'
import { chmod, realpath, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createTwoFilesPatch } from 'diff'
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import type { FormattedFile } from '../policy/format-folder.ts'
import { formatFolder } from '../policy/format-folder.ts'
import type { CommandArgs } from './context.ts'
import type { Output, Streams } from './output.ts'
import { createOutput } from './output.ts'
import { showRefusal } from './policy-check.ts'
import type { FolderArgs } from './policy-place.ts'
import { findPolicies, withCompiler } from './policy-place.ts'
import { escapeText } from './text.ts'

/** Options of the command. */
export interface FmtArgs extends FolderArgs {
  readonly check: boolean
  readonly diff: boolean
}

/** Describes the command line. */
export function fmtOptions(command: Argv<CommandArgs>): Argv<FmtArgs> {
  const off = { type: 'boolean', default: false } as const
  return command
    .positional('dir', { type: 'string', describe: 'Policies folder (default: the configured one)' })
    .option('check', { ...off, describe: 'Write nothing; exit code 1 when a file is not formatted' })
    .option('diff', { ...off, describe: 'Write nothing; show what would change' })
    .example('$0 policy fmt', 'Format all Rego files of the configured folder')
    .example('$0 policy fmt --check --diff', 'What is not formatted, for a build')
    .example('$0 policy fmt ./policies --json', 'Another folder, for programs')
}

/** Formats, or tells what is not formatted. A file that cannot be parsed leaves all as they are. */
export async function fmt(args: FmtArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const place = findPolicies(args)
  const files = await out
    .progress('formatting the policies', () =>
      withCompiler(place, (compiler) => formatFolder(place.folder, compiler)),
    )
    .catch((error: unknown) => showRefusal(out, error, place.folder, 'Nothing was written.'))
  const changed = files.filter(({ text, formatted }) => text !== formatted)
  const isWritten = !args.check && !args.diff
  if (isWritten) for (const file of changed) await replaceFile(join(place.folder, file.name), file.formatted)
  show(out, changed, args)
  if (args.check && changed.length > 0)
    throw new UsageError(
      'check_failed',
      `${changed.length} of ${files.length} files are not formatted. Format them: gateway policy fmt`,
    )
  if (changed.length === 0) out.note(`${files.length} files are formatted as they stand.`)
}

function show(out: Output, changed: readonly FormattedFile[], { diff }: FmtArgs): void {
  if (out.isJson) {
    out.json(changed.map((file) => ({ file: file.name, ...(diff && { diff: patchOf(file) }) })))
    return
  }
  for (const file of changed) {
    if (!diff) out.line(escapeText(file.name))
    else for (const line of patchOf(file).trimEnd().split('\n')) out.line(paint(out, line))
  }
}

/** Texts that have little in common are compared no longer than this. */
const DIFF_MS = 2000

function patchOf({ name, text, formatted }: FormattedFile): string {
  const options = { context: 3, timeout: DIFF_MS }
  const patch = createTwoFilesPatch(name, name, text, formatted, undefined, undefined, options)
  return (patch ?? `--- ${name}\n+++ ${name}\nthe whole file changes\n`).replace(/^(?:Index: .*\n)?=+\n/, '')
}

function paint(out: Output, line: string): string {
  const shown = line.split('\t').map(escapeText).join('\t')
  if (/^(---|\+\+\+) /.test(line)) return out.style('strong', shown)
  if (line.startsWith('+')) return out.style('good', shown)
  return line.startsWith('-') ? out.style('bad', shown) : shown
}

/** Whoever stops in the middle leaves the old file or the new one. A link stays one. */
async function replaceFile(path: string, text: string): Promise<void> {
  try {
    const real = await realpath(path)
    const draft = join(dirname(real), `.fmt-${randomBytes(6).toString('hex')}`)
    try {
      await writeFile(draft, text, { flag: 'wx' })
      await chmod(draft, (await stat(real)).mode)
      await rename(draft, real)
    } finally {
      await rm(draft, { force: true })
    }
  } catch (cause) {
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new UsageError('usage', `${path} cannot be written (${reason}).`, { cause })
  }
}
