/** `gateway policy publish|history|rollback`: policies for all gateways on one database. */
import { readFile } from 'node:fs/promises'
import type { Argv } from 'yargs'
import { policyKeys } from '../compose/policy-source.ts'
import type { Config } from '../config/types.ts'
import { servesOtherPolicies, waitUntilApplied } from '../db/applied.ts'
import { UsageError } from '../errors.ts'
import type { PolicyBundle } from '../policy/bundle.ts'
import { makeBundle, parseBundle, readBundleFile, resequenceBundle } from '../policy/bundle.ts'
import { createReleaseGate } from '../releases/gate.ts'
import type { PublishedRelease } from '../releases/store.ts'
import {
  findRelease,
  listReleases,
  MAX_RELEASES_LISTED,
  nextSequence,
  publishRelease,
} from '../releases/store.ts'
import type { SigningKey } from '../signing-key.ts'
import { publicKeyOf } from '../signing-key.ts'
import { actor } from './actor.ts'
import type { CommandArgs, DatabaseContext } from './context.ts'
import type { Streams } from './output.ts'
import { createOutput } from './output.ts'
import {
  buildContent,
  isBundleFile,
  parseSequence,
  readSigningKey,
  toRefusal,
  tryOut,
} from './policy-bundle.ts'
import { showRefusal } from './policy-check.ts'
import { findPolicies } from './policy-place.ts'
import { escapeText } from './text.ts'

/** Options that both ways to publish have. */
interface SigningArgs extends CommandArgs {
  readonly key?: string | undefined
  readonly unsigned: boolean
  readonly sequence?: string | undefined
}

/** Options of `publish`. */
export interface PublishArgs extends SigningArgs {
  readonly policies?: string | undefined
}

/** Options of `rollback`. */
export interface RollbackArgs extends SigningArgs {
  readonly release: string
}

/** Describes the command line. */
export function publishOptions(command: Argv<CommandArgs>): Argv<PublishArgs> {
  return signingOptions(
    command.positional('policies', {
      type: 'string',
      describe: 'Policies folder or bundle (default: the configured folder)',
    }),
  )
    .example('$0 policy publish ./policies --key release.pem', 'Build, sign, publish')
    .example('$0 policy publish bundle.tar.gz', 'A bundle that is signed already')
}

/** Describes the command line. */
export function historyOptions(command: Argv<CommandArgs>): Argv<CommandArgs> {
  return command.example('$0 policy history', 'Newest first')
}

/** Describes the command line. */
export function rollbackOptions(command: Argv<CommandArgs>): Argv<RollbackArgs> {
  return signingOptions(
    command.positional('release', {
      type: 'string',
      demandOption: true,
      describe: 'Sequence or revision of the release to bring back, as in the history',
    }),
  ).example('$0 policy rollback 41 --key release.pem', 'Its content, as a new release')
}

function signingOptions<T extends CommandArgs>(command: Argv<T>): Argv<T & SigningArgs> {
  const text = (describe: string) => ({ type: 'string', requiresArg: true, describe }) as const
  return command
    .option('key', text('PEM file with the private key that signs it'))
    .option('unsigned', {
      type: 'boolean',
      default: false,
      describe: 'Publish without a signature; only where no gateway has policy_keys',
    })
    .option('sequence', text('Number of the release (default: the next one)')) as Argv<T & SigningArgs>
}

/** What belongs to the database is loaded only here: other commands of this group start faster without it. */
async function withDatabase(
  args: CommandArgs,
  use: (context: DatabaseContext) => Promise<void>,
  streams?: Streams,
): Promise<void> {
  const context = await import('./context.ts')
  await context.withDatabase(args, use, streams)
}

/** What will be stored, once its sequence is known. */
interface Draft {
  /** Sequence it has already; null = it gets one. */
  readonly sequence: number | null
  readonly rollbackOf: number | null
  pack(sequence: number, key: SigningKey | null): Promise<Uint8Array>
}

/** Publishes; exit code 1 when the policies do not build or would be refused. */
export async function publish(args: PublishArgs, streams?: Streams): Promise<void> {
  const key = args.key === undefined ? null : readSigningKey(args.key)
  const draft = await draftOf(args, key, streams)
  await withDatabase(args, (context) => store(context, args, { draft, key }), streams)
}

async function draftOf(args: PublishArgs, key: SigningKey | null, streams?: Streams): Promise<Draft> {
  const { policies } = args
  if (policies !== undefined && isBundleFile(policies)) {
    const bundle = await readBundleFile(policies, null).catch((error: unknown) => {
      throw toRefusal(error, policies)
    })
    // A signature that is there stays: whoever publishes need not hold the key.
    if (bundle.signature === 'none' || key !== null) return contentDraft(bundle, null)
    if (args.sequence !== undefined)
      throw new UsageError('usage', 'The bundle is signed with its sequence; leave --sequence out.')
    const packed = await readFile(policies)
    return { sequence: bundle.manifest.sequence, rollbackOf: null, pack: () => Promise.resolve(packed) }
  }
  const out = createOutput(args, streams)
  const place = findPolicies({ ...args, dir: policies })
  const content = await out
    .progress('building the policies', () => buildContent(place))
    .catch((error: unknown) => showRefusal(out, error, place.folder, 'Nothing was published.'))
  return {
    ...{ sequence: null, rollbackOf: null },
    pack: (sequence, signer) => makeBundle({ ...content, sequence }, signer),
  }
}

function contentDraft(bundle: PolicyBundle, rollbackOf: number | null): Draft {
  return {
    ...{ sequence: null, rollbackOf },
    pack: (sequence, key) => resequenceBundle(bundle, sequence, key),
  }
}

/** Brings the content of an earlier release back, as a new one. */
export async function rollback(args: RollbackArgs, streams?: Streams): Promise<void> {
  const key = args.key === undefined ? null : readSigningKey(args.key)
  await withDatabase(
    args,
    async (context) => {
      const found = await findRelease(context.pools.general, args.release)
      if (found === null)
        throw new UsageError('not_found', `No release ${args.release}. See: gateway policy history`)
      // What is signed again must have been signed before: the database alone does not decide what a key vouches for.
      const keys = policyKeys(context.config) ?? (key === null ? null : [publicKeyOf(key)])
      const bundle = await parseBundle(found.bundle, keys).catch((error: unknown) => {
        throw toRefusal(error, `release ${found.sequence}`)
      })
      if (bundle.manifest.sequence !== found.sequence)
        throw new UsageError(
          'check_failed',
          `The entry ${found.sequence} of the history holds the bundle of release ${bundle.manifest.sequence}: somebody has put it there.`,
        )
      await store(context, args, { draft: contentDraft(bundle, found.sequence), key })
    },
    streams,
  )
}

async function store(
  { config, out, pools }: DatabaseContext,
  args: SigningArgs,
  { draft, key }: { readonly draft: Draft; readonly key: SigningKey | null },
): Promise<void> {
  const db = pools.general
  if (draft.sequence === null) refuseUnsigned(args, config, key)
  const sequence =
    draft.sequence ?? (args.sequence === undefined ? await nextSequence(db) : parseSequence(args.sequence))
  const packed = await draft.pack(sequence, key)
  const bundle = await check(packed, config, key).catch((error: unknown) => {
    throw toRefusal(error, 'not published')
  })
  const { revision } = bundle.manifest
  const release = { sequence, revision, digest: bundle.digest }
  const isSigned = bundle.signature !== 'none'
  const reason = isSigned ? await createReleaseGate(db).refusal(release) : null
  if (reason !== null) throw new UsageError('check_failed', `not published: ${reason}`)
  const { rollbackOf } = draft
  const change = await publishRelease(db, {
    ...{ ...release, isSigned, rollbackOf, bundle: packed, actor: actor() },
  })
  const { applied, pending } = await waitUntilApplied(db, change)
  const other = (await servesOtherPolicies(db, sequence)).filter((name) => !pending.includes(name))
  const serving = applied.filter((name) => !other.includes(name))
  if (out.isJson) {
    out.json({ ...release, signed: isSigned, rollback_of: rollbackOf, serving, other, pending })
    return
  }
  const what = rollbackOf === null ? 'published' : `brought back ${rollbackOf} as`
  out.line(
    `${out.style('good', what)}  sequence ${sequence}  ${revision}  ${isSigned ? 'signed' : 'not signed'}`,
  )
  tellServing(out.note, { serving, other, pending })
}

function tellServing(
  note: (text: string) => void,
  { serving, other, pending }: Readonly<Record<'serving' | 'other' | 'pending', readonly string[]>>,
): void {
  const names = (list: readonly string[]): string => list.map(escapeText).join(', ')
  note(serving.length === 0 ? 'No running gateway serves it yet.' : `In force on ${names(serving)}.`)
  if (other.length > 0)
    note(
      `Not in force on ${names(other)}: /readyz and the log of each say why (policies other than postgres: stay).`,
    )
  if (pending.length > 0) note(`Not confirmed yet by ${names(pending)}.`)
}

/** By default policies are signed, since whoever holds the database's URL must not own them. */
function refuseUnsigned(args: SigningArgs, config: Config, key: SigningKey | null): void {
  if (key !== null) {
    if (args.unsigned) throw new UsageError('usage', '--key signs it, --unsigned does not: give one of them.')
    return
  }
  if (!args.unsigned) {
    throw new UsageError(
      'usage',
      'Policies are published signed: name the private key with --key FILE. ' +
        'Where no gateway has policy_keys, --unsigned leaves the signature out.',
    )
  }
  if (config.policyKeys.length > 0)
    throw new UsageError('usage', 'The configuration has policy_keys, so gateways refuse what is not signed.')
}

/** What a gateway with this configuration does with it. Throws BundleRefused, PolicyFault. */
async function check(packed: Uint8Array, config: Config, key: SigningKey | null): Promise<PolicyBundle> {
  const keys = policyKeys(config) ?? (key === null ? null : [publicKeyOf(key)])
  const bundle = await parseBundle(packed, keys)
  await tryOut(bundle)
  return bundle
}

/** Lists what was published. */
export async function history(args: CommandArgs, streams?: Streams): Promise<void> {
  await withDatabase(
    args,
    async ({ out, pools }) => {
      const releases = await listReleases(pools.general)
      if (out.isJson) {
        out.json(releases.map(toJson))
        return
      }
      if (releases.length === 0) {
        out.note('Nothing has been published.')
        out.next('gateway policy publish ./policies --key release.pem')
        return
      }
      out.table(['sequence', 'revision', 'signed', 'rollback of', 'at', 'actor'], releases.map(toRow))
      if (releases.length === MAX_RELEASES_LISTED)
        out.note(`Only the newest ${MAX_RELEASES_LISTED} are shown.`)
    },
    streams,
  )
}

function toRow({ sequence, revision, isSigned, rollbackOf, at, actor: who }: PublishedRelease) {
  return [sequence, revision, isSigned ? 'yes' : 'no', rollbackOf, at, who] as const
}

function toJson(release: PublishedRelease): Record<string, unknown> {
  const { sequence, revision, digest, isSigned, rollbackOf, at, actor: who, dbUser } = release
  return {
    ...{ sequence, revision, digest, signed: isSigned, rollback_of: rollbackOf },
    ...{ at, actor: who, db_user: dbUser },
  }
}
