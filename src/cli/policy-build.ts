/** `gateway policy build`. */
import { randomBytes } from 'node:crypto'
import { rename, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Argv } from 'yargs'
import { UsageError } from '../errors.ts'
import type { PolicyBundle } from '../policy/bundle.ts'
import { makeBundle, parseBundle } from '../policy/bundle.ts'
import type { SigningKey } from '../signing-key.ts'
import type { CommandArgs } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import {
  buildContent,
  parseSequence,
  readSigningKey,
  toBundleDocument,
  toRefusal,
  tryOut,
} from './policy-bundle.ts'
import { showRefusal } from './policy-check.ts'
import type { FolderArgs } from './policy-place.ts'
import { findPolicies } from './policy-place.ts'
import { escapeText } from './text.ts'

/** Options of the command. */
export interface BuildArgs extends FolderArgs {
  readonly out: string
  readonly sign: boolean
  readonly key?: string | undefined
  readonly sequence?: string | undefined
}

/** Describes the command line. */
export function buildOptions(command: Argv<CommandArgs>): Argv<BuildArgs> {
  const text = (describe: string) => ({ type: 'string', requiresArg: true, describe }) as const
  return command
    .positional('dir', { type: 'string', describe: 'Policies folder (default: the configured one)' })
    .option('out', { ...text('The file to write'), alias: 'o', default: 'bundle.tar.gz' })
    .option('sign', { type: 'boolean', default: false, describe: 'Sign it, with --key and --sequence' })
    .option('key', text('PEM file with the private key: EC P-256 (ES256) or RSA (RS256)'))
    .option('sequence', text('Number of the release, higher than that of the last'))
    .example('$0 policy build', 'The same sources give the same bytes')
    .example('$0 policy build -o prod.tar.gz --sign --key release.pem --sequence 42', 'A signed release')
}

/** Builds a bundle; exit code 1 when the policies do not build. */
export async function build(args: BuildArgs, streams?: Streams): Promise<void> {
  const out = createOutput(args, streams)
  const { key, sequence } = readRelease(args)
  const place = findPolicies(args)
  const content = await out
    .progress('building the policies', () => buildContent(place))
    .catch((error: unknown) => showRefusal(out, error, place.folder, 'No bundle was written.'))
  const packed = await makeBundle({ ...content, sequence }, key)
  const bundle = await check(packed).catch((error: unknown) => {
    throw toRefusal(error, 'not written')
  })
  await writeWhole(args.out, packed)
  if (out.isJson) {
    out.json({ file: args.out, bytes: packed.length, ...toBundleDocument(bundle) })
    return
  }
  const { manifest } = bundle
  const facts = [
    `${Object.keys(manifest.files).length} files`,
    sequence === 0 ? 'no sequence' : `sequence ${sequence}`,
    key === null ? 'not signed' : `signed (${key.alg})`,
  ]
  out.line(
    `${out.style('good', 'built')}  ${escapeText(args.out)}  ${manifest.revision}  ${facts.join(', ')}`,
  )
}

/** What cannot be loaded is not written. */
async function check(packed: Uint8Array): Promise<PolicyBundle> {
  const bundle = await parseBundle(packed, null)
  await tryOut(bundle)
  return bundle
}

/** A signature without a sequence would let anybody bring an old release back. */
function readRelease({ sign, key, sequence }: BuildArgs): {
  readonly key: SigningKey | null
  readonly sequence: number
} {
  if (!sign && key !== undefined) throw new UsageError('usage', '--key is for --sign: give both, or neither.')
  if (sign && key === undefined) throw new UsageError('usage', '--sign needs --key FILE, a PEM private key.')
  if (sign && sequence === undefined)
    throw new UsageError('usage', '--sign needs --sequence N, higher than that of the last release.')
  return {
    key: key === undefined ? null : readSigningKey(key),
    sequence: sequence === undefined ? 0 : parseSequence(sequence),
  }
}

/** Whoever watches the file sees the old bundle or the new one, never a part. */
async function writeWhole(file: string, content: Uint8Array): Promise<void> {
  const draft = join(dirname(file), `.bundle.${randomBytes(8).toString('hex')}`)
  try {
    await writeFile(draft, content, { flag: 'wx' })
    await rename(draft, file)
  } catch (cause) {
    await rm(draft, { force: true }).catch(() => undefined)
    const reason = cause instanceof Error && 'code' in cause ? String(cause.code) : 'unknown'
    throw new UsageError('usage', `${file} cannot be written (${reason}).`, { cause })
  }
}
