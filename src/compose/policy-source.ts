/** Where policies are read from: a folder, a bundle, or what was published in the database. */
import { readFileSync } from 'node:fs'
import { stat } from 'node:fs/promises'
import type { Pool } from 'pg'
import type { Config } from '../config/types.ts'
import { PUBLISHED_POLICIES } from '../config/types.ts'
import { UsageError } from '../errors.ts'
import { buildPolicy } from '../policy/build.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import type { PolicyBundle } from '../policy/bundle.ts'
import { parseBundle, readBundleFile, toCompiledPolicy } from '../policy/bundle.ts'
import { BundleRefused } from '../policy/bundle-error.ts'
import { createCompiler } from '../policy/compiler.ts'
import { loadCompilerArtifact } from '../policy/compiler-artifact.ts'
import { PolicyFault } from '../policy/host-fault.ts'
import type { PolicyRelease, ReadPolicy, ReloadPace } from '../policy/reload.ts'
import { buildBeside } from '../policy/reload-build.ts'
import { fingerprintFile, fingerprintFolder } from '../policy/reload-folder.ts'
import type { ReleaseGate } from '../releases/gate.ts'
import { createReleaseGate } from '../releases/gate.ts'
import { readPublished } from '../releases/store.ts'
import type { SigningKey } from '../signing-key.ts'
import { parsePublicKey } from '../signing-key.ts'
import { cacheFolder } from './policy-settings.ts'

/** A place that policies are read from, again and again. */
export interface PolicySource {
  readonly kind: 'folder' | 'bundle' | 'database'
  /** Equal texts: nothing has changed. Never rejects. */
  look(): Promise<string>
  /** Beside calls. Throws PolicyBuildError, BundleRefused; other errors may pass by themselves. */
  read(signal: AbortSignal): Promise<ReadPolicy>
  /** Remembers what is in force. */
  accept(read: ReadPolicy): Promise<void>
  readonly pace: Partial<ReloadPace>
}

/** What {@link openPolicySource} needs. */
export interface PolicySourceParts {
  readonly config: Config
  readonly db: Pick<Pool, 'query'>
  /** Rejects with a PolicyFault when a policy cannot be loaded. */
  readonly tryOut: (policy: ReadPolicy['policy']) => Promise<void>
  /** Counts the changes that were announced. */
  readonly announced: () => number
}

/** Of that many published bundles one must be good; those are tried, the newest first. */
const MAX_CANDIDATES = 20
/** The database tells of changes, and a missed one is tried again soon. */
const PUBLISHED_PACE = { pollMs: 1000, quietMs: 0, retryMs: 1000 }

/** What kind of source is configured. A file is a bundle; what is not there yet counts as a folder. */
export async function policySourceKind({
  policies,
}: Pick<Config, 'policies'>): Promise<PolicySource['kind']> {
  if (policies === PUBLISHED_POLICIES) return 'database'
  const found = await stat(policies).catch(() => null)
  return found?.isFile() === true ? 'bundle' : 'folder'
}

/** The keys that verify bundles; null = none is configured. The configuration has checked them. */
export function policyKeys({ policyKeys: files }: Pick<Config, 'policyKeys'>): readonly SigningKey[] | null {
  return files.length === 0 ? null : files.map((file) => parsePublicKey(readFileSync(file, 'utf8')))
}

/** Opens the configured source. Throws UsageError when keys are configured for a folder. */
export async function openPolicySource(parts: PolicySourceParts): Promise<PolicySource> {
  const { config, db } = parts
  const keys = policyKeys(config)
  const kind = await policySourceKind(config)
  const gate = createReleaseGate(db)
  if (kind === 'folder') {
    refuseKeysOnFolder(config)
    return folderSource(config)
  }
  const accept = ({ release, policy }: ReadPolicy): Promise<void> =>
    release?.isVerified === true ? gate.accept({ ...release, revision: policy.revision }) : Promise.resolve()
  if (kind === 'database') {
    return {
      ...{ kind, accept, pace: PUBLISHED_PACE },
      look: async () => String(parts.announced()),
      read: () => readNewest({ ...parts, keys, gate }),
    }
  }
  const read = async (): Promise<ReadPolicy> => {
    const bundle = await readBundleFile(config.policies, keys)
    return await admit(bundle, gate)
  }
  return {
    ...{ kind, accept, read, pace: {} },
    look: () => fingerprintFile(config.policies),
  }
}

/** Reads a folder or a bundle as `gateway serve` does, without regard to what was in force. For commands that only look. */
export async function readPolicies(
  config: Config,
  onProgress: (text: string) => void = () => undefined,
): Promise<ReadPolicy> {
  if ((await policySourceKind(config)) === 'folder') {
    refuseKeysOnFolder(config)
    return await buildFolder(config, onProgress)
  }
  const bundle = await readBundleFile(config.policies, policyKeys(config))
  return { policy: toCompiledPolicy(bundle), release: releaseOf(bundle), refused: null }
}

/** A folder has no signature, so with keys nothing in it may serve. */
function refuseKeysOnFolder({ policies, policyKeys: files }: Config): void {
  if (files.length === 0) return
  throw new UsageError(
    'config',
    `policy_keys asks for signed policies, and ${policies} is no bundle. ` +
      'Build one with `gateway policy build --sign`, or remove policy_keys.',
  )
}

function folderSource(config: Config): PolicySource {
  const folder = config.policies
  return {
    kind: 'folder',
    look: () => fingerprintFolder(folder),
    async read(signal) {
      const policy = await buildBeside({ folder, cacheDir: cacheFolder(config), signal })
      return { policy, release: null, refused: null }
    },
    accept: () => Promise.resolve(),
    pace: {},
  }
}

async function buildFolder(config: Config, onProgress: (text: string) => void): Promise<ReadPolicy> {
  const cacheDir = cacheFolder(config)
  onProgress('compiling the policies')
  const sources = await loadPolicySources(config.policies)
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(cacheDir) })
  try {
    const policy = await buildPolicy(sources, { compiler, cacheDir })
    return { policy, release: null, refused: null }
  } finally {
    await compiler.close()
  }
}

/** What a gateway on `postgres:` would serve now. Throws BundleRefused, PolicyFault. */
export async function readPublishedPolicies(
  config: Config,
  db: Pick<Pool, 'query'>,
  tryOut: PolicySourceParts['tryOut'] = () => Promise.resolve(),
): Promise<ReadPolicy> {
  return await readNewest({ db, tryOut, keys: policyKeys(config), gate: createReleaseGate(db) })
}

interface Published {
  readonly db: Pick<Pool, 'query'>
  readonly tryOut: PolicySourceParts['tryOut']
  readonly keys: readonly SigningKey[] | null
  readonly gate: ReleaseGate
}

/** The newest that may serve and can be loaded; what somebody without the key has put on top does not stand in its way. */
async function readNewest({ db, tryOut, keys, gate }: Published): Promise<ReadPolicy> {
  let refused: Error | null = null
  for (let nth = 0; nth < MAX_CANDIDATES; nth += 1) {
    const bytes = await readPublished(db, nth)
    if (bytes === null) break
    try {
      const found = await admit(await parseBundle(bytes, keys), gate)
      await tryOut(found.policy)
      return { ...found, refused }
    } catch (error) {
      if (!(error instanceof BundleRefused || error instanceof PolicyFault)) throw error
      refused ??= error
    }
  }
  throw refused ?? new BundleRefused('content', 'no policies have been published in the database')
}

/** Throws BundleRefused for a verified bundle that is older than what was in force. */
async function admit(bundle: PolicyBundle, gate: ReleaseGate): Promise<ReadPolicy> {
  const release = releaseOf(bundle)
  if (release.isVerified) {
    const reason = await gate.refusal({ ...release, revision: bundle.manifest.revision })
    if (reason !== null) throw new BundleRefused('sequence', `the bundle is refused: ${reason}`)
  }
  return { policy: toCompiledPolicy(bundle), release, refused: null }
}

function releaseOf({ manifest, digest, signature }: PolicyBundle): PolicyRelease {
  return { sequence: manifest.sequence, digest, isVerified: signature === 'verified' }
}
