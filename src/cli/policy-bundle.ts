/** What the commands about bundles share: keys, the build of a folder, reading a bundle, and how it is refused. */
import { statSync } from 'node:fs'
import { policyKeys } from '../compose/policy-source.ts'
import { loadConfig } from '../config/load.ts'
import { readSecretFile } from '../config/secret-file.ts'
import { UsageError } from '../errors.ts'
import { buildForBundle } from '../policy/build.ts'
import { loadPolicySources } from '../policy/build-sources.ts'
import type { BundleContent, PolicyBundle } from '../policy/bundle.ts'
import { readBundleFile, toCompiledPolicy } from '../policy/bundle.ts'
import { BundleRefused } from '../policy/bundle-error.ts'
import { createPolicyRoom } from '../policy/engine.ts'
import { PolicyFault } from '../policy/host-fault.ts'
import type { SigningKey } from '../signing-key.ts'
import { parsePrivateKey, parsePublicKey } from '../signing-key.ts'
import type { CommandArgs } from './context.ts'
import type { PolicyPlace } from './policy-place.ts'
import { withCompiler } from './policy-place.ts'

/** The private key in a file. Throws UsageError. */
export function readSigningKey(file: string): SigningKey {
  return readKey(file, parsePrivateKey)
}

/** The public keys in files; null = none is named. Throws UsageError. */
export function readVerificationKeys(files: readonly string[]): readonly SigningKey[] | null {
  return files.length === 0 ? null : files.map((file) => readKey(file, parsePublicKey))
}

/** Those of the configuration, if there is one; secrets it asks for need not be there. */
export function configuredKeys(args: CommandArgs): readonly SigningKey[] | null {
  if (args.config !== undefined) return policyKeys(loadConfig({ file: args.config }).config)
  try {
    return policyKeys(loadConfig({}).config)
  } catch (error) {
    if (error instanceof UsageError) return null
    throw error
  }
}

function readKey(file: string, parse: (pem: string) => SigningKey): SigningKey {
  try {
    return parse(readSecretFile(file))
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new UsageError('usage', `The key ${file} cannot be used: ${reason}.`, { cause })
  }
}

/** The sequence a person gave. Throws UsageError. */
export function parseSequence(text: string): number {
  const sequence = Number(text)
  if (/^\d{1,16}$/.test(text) && sequence > 0 && Number.isSafeInteger(sequence)) return sequence
  throw new UsageError('usage', '--sequence is a whole number above 0, higher than that of the last release.')
}

/** Builds a folder for a bundle. Throws PolicyBuildError. */
export async function buildContent(place: PolicyPlace): Promise<Omit<BundleContent, 'sequence'>> {
  const sources = await loadPolicySources(place.folder)
  return await withCompiler(place, (compiler) => buildForBundle(sources, compiler))
}

/** Whether this is a file rather than a folder. Throws UsageError when it is not there. */
export function isBundleFile(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false })
  if (found === undefined) throw new UsageError('usage', `There is no ${path}.`)
  return found.isFile()
}

/** Reads a bundle and loads its policy as a gateway would. Throws UsageError `check_failed` when it is refused. */
export async function openBundle(file: string, keys: readonly SigningKey[] | null): Promise<PolicyBundle> {
  try {
    const bundle = await readBundleFile(file, keys)
    await tryOut(bundle)
    return bundle
  } catch (error) {
    throw toRefusal(error, file)
  }
}

/** Loads the policy of a bundle and lets go of it. Throws BundleRefused, PolicyFault. */
export async function tryOut(bundle: PolicyBundle): Promise<void> {
  const room = await createPolicyRoom({
    policy: toCompiledPolicy(bundle),
    inputMacKey: Buffer.alloc(32),
    now: () => 0n,
    monotonicMs: () => 0,
    log: { warn: () => undefined, error: () => undefined },
  })
  room.close()
}

/** UsageError `check_failed` for a bundle that would not serve; every other error as it is. */
export function toRefusal(error: unknown, name: string): unknown {
  if (!(error instanceof BundleRefused || error instanceof PolicyFault)) return error
  return new UsageError('check_failed', `${name}: ${error.message}`, { cause: error })
}

/** What a bundle is, for programs. */
export function toBundleDocument({ manifest, digest, signature }: PolicyBundle): Record<string, unknown> {
  const { revision, sequence, opa, entrypoints, files } = manifest
  return { revision, sequence, digest, signature, opa, entrypoints, files }
}
