/**
 * Bundles: a built policy as one file. OPA reads it as a bundle of its own (`.manifest` with roots, `data.json`, `*.rego`);
 * what is ours stands in the manifest's `metadata.gateway`: a format, the sequence, and the SHA-256 of every other file.
 *
 * The module inside is the one OPA's compiler made. It is metered where it is loaded, like one that was built there.
 */
import { createHash } from 'node:crypto'
import { readFile, stat } from 'node:fs/promises'
import { JsonRefusal, scanText } from '../json/scan.ts'
import type { SigningKey } from '../signing-key.ts'
import type { CompiledPolicy } from './build.ts'
import { revisionOf } from './build.ts'
import type { JsonObject } from './build-data.ts'
import { ownedPath, parseData } from './build-data.ts'
import type { ArchiveFiles } from './bundle-archive.ts'
import { ARCHIVE_BOUNDS, packArchive, unpackArchive } from './bundle-archive.ts'
import type { BundleRefusal } from './bundle-error.ts'
import { BundleRefused } from './bundle-error.ts'
import { SIGNATURES_FILE, signFiles, verifyFiles } from './bundle-signature.ts'
import type { Dictionary } from './dictionary.ts'
import { PRODUCT_FILE_PREFIX } from './dictionary.ts'
import { meter } from './meter.ts'
import { MeterError } from './meter-decode.ts'

const MANIFEST = '.manifest'
const MODULE = 'policy.wasm'
const DICTIONARY = 'dictionary.json'
const DATA = 'data.json'
const FORMAT = 1
const JSON_BOUNDS = { maxDepth: 64, maxKeys: 1_000_000 }

/** What a bundle says of itself. */
export interface BundleManifest {
  /** Short name of sources and data, as of a folder. */
  readonly revision: string
  /** Rises from one release to the next; 0 = none was given. */
  readonly sequence: number
  /** Version of OPA that compiled it. */
  readonly opa: string
  readonly entrypoints: readonly string[]
  /** SHA-256 (hex) of every file but the manifest and the signature. */
  readonly files: Readonly<Record<string, string>>
}

/** A bundle whose files are those that its manifest names. */
export interface PolicyBundle {
  readonly manifest: BundleManifest
  /** `sha256:<hex>` of the manifest: names the whole content, signed or not. */
  readonly digest: string
  /** `verified`: by one of the keys that were given; `unchecked`: signed, but no key was given. */
  readonly signature: 'none' | 'unchecked' | 'verified'
  readonly files: ArchiveFiles
}

/** What {@link makeBundle} packs. */
export interface BundleContent {
  readonly policy: CompiledPolicy
  /** The module before metering. */
  readonly module: Uint8Array
  readonly sequence: number
}

/** Packs a policy; without a key the same content gives the same bytes. */
export async function makeBundle(content: BundleContent, key: SigningKey | null): Promise<Buffer> {
  const { policy, module, sequence } = content
  const files = new Map<string, Uint8Array>([
    [MODULE, module],
    [DICTIONARY, encode(policy.dictionary)],
    [DATA, encode(policy.data)],
    ...Object.entries(policy.sources).map(([name, text]) => [name, Buffer.from(text)] as const),
  ])
  const { revision, opa, entrypoints } = policy
  return await pack(files, { revision, sequence, opa, entrypoints }, key)
}

/** The same content under another sequence, signed anew or not at all. */
export async function resequenceBundle(
  { manifest, files }: PolicyBundle,
  sequence: number,
  key: SigningKey | null,
): Promise<Buffer> {
  const content = new Map([...files].filter(([name]) => name !== MANIFEST && name !== SIGNATURES_FILE))
  return await pack(content, { ...manifest, sequence }, key)
}

async function pack(
  content: ReadonlyMap<string, Uint8Array>,
  { revision, sequence, opa, entrypoints }: Omit<BundleManifest, 'files'>,
  key: SigningKey | null,
): Promise<Buffer> {
  const files = Object.fromEntries([...content].map(([name, bytes]) => [name, sha256(bytes)]))
  const manifest = {
    revision,
    roots: [''],
    rego_version: 1,
    metadata: { gateway: { format: FORMAT, sequence, opa, entrypoints, files } },
  }
  const all = new Map(content).set(MANIFEST, encode(manifest))
  if (key !== null) all.set(SIGNATURES_FILE, Buffer.from(await signFiles(all, key)))
  return await packArchive(all)
}

/** Reads a bundle file. Throws BundleRefused, or an Error of the file system. */
export async function readBundleFile(
  file: string,
  keys: readonly SigningKey[] | null,
): Promise<PolicyBundle> {
  const { size } = await stat(file)
  if (size > ARCHIVE_BOUNDS.maxPackedBytes)
    throw new BundleRefused('archive', `the bundle is larger than ${ARCHIVE_BOUNDS.maxPackedBytes} bytes`)
  return await parseBundle(await readFile(file), keys)
}

/**
 * Reads a bundle; nothing in it is believed before its digests are checked and, with keys, its signature.
 * @param keys null = signatures are not checked
 * @throws BundleRefused
 */
export async function parseBundle(
  packed: Uint8Array,
  keys: readonly SigningKey[] | null,
): Promise<PolicyBundle> {
  const files = await unpackArchive(packed)
  if (keys !== null) await verifyFiles(files, keys)
  const manifest = readManifest(files)
  checkDigests(files, manifest)
  const signed = files.has(SIGNATURES_FILE)
  return {
    manifest,
    digest: `sha256:${sha256(fileOf(files, MANIFEST))}`,
    signature: keys !== null ? 'verified' : signed ? 'unchecked' : 'none',
    files,
  }
}

/** The policy of a bundle, metered and ready to be loaded. Throws BundleRefused. */
export function toCompiledPolicy({ files, manifest }: PolicyBundle): CompiledPolicy {
  const wasm = metered(fileOf(files, MODULE))
  const data = readData(files)
  const sources = readSources(files)
  const revision = revisionOf({ rego: authorsFiles(sources), data })
  if (revision !== manifest.revision)
    throw refuse('manifest', 'its revision is not that of its sources and data')
  return Object.freeze({
    wasm,
    dictionary: readDictionary(files),
    data,
    sources,
    revision,
    digest: `sha256:${sha256(wasm)}`,
    opa: manifest.opa,
    entrypoints: manifest.entrypoints,
  })
}

/** Sources without those of the product. */
export function authorsFiles(sources: Readonly<Record<string, string>>): Readonly<Record<string, string>> {
  return Object.fromEntries(Object.entries(sources).filter(([name]) => !name.startsWith(PRODUCT_FILE_PREFIX)))
}

function readManifest(files: ArchiveFiles): BundleManifest {
  const manifest = asObject(readJson(files, MANIFEST))
  const {
    format,
    sequence,
    opa,
    entrypoints,
    files: named,
  } = asObject(asObject(manifest['metadata'])['gateway'])
  const { revision } = manifest
  if (format !== FORMAT) throw refuse('manifest', `its format is not ${FORMAT}: build it with this version`)
  if (typeof revision !== 'string' || !/^[0-9a-f]{12}$/.test(revision))
    throw refuse('manifest', 'its manifest has no revision')
  if (typeof sequence !== 'number' || !Number.isSafeInteger(sequence) || sequence < 0)
    throw refuse('manifest', 'its manifest has no sequence')
  if (typeof opa !== 'string' || !/^[0-9A-Za-z.+-]{1,32}$/.test(opa))
    throw refuse('manifest', 'its manifest has no version of OPA')
  if (!isTexts(entrypoints)) throw refuse('manifest', 'its manifest has no entrypoints')
  const digests = asObject(named)
  if (!isTexts(Object.values(digests))) throw refuse('manifest', 'its manifest has no digests')
  return { revision, sequence, opa, entrypoints, files: digests as BundleManifest['files'] }
}

function checkDigests(files: ArchiveFiles, manifest: BundleManifest): void {
  const named = new Set(Object.keys(manifest.files))
  for (const [name, content] of files) {
    if (name === MANIFEST || name === SIGNATURES_FILE) continue
    if (!named.delete(name)) throw refuse('content', `its manifest does not name ${name}`)
    if (manifest.files[name] !== sha256(content))
      throw refuse('content', `${name} is not the file that its manifest names`)
  }
  const [missing] = named
  if (missing !== undefined) throw refuse('content', 'it lacks a file that its manifest names')
}

function metered(module: Uint8Array): Uint8Array {
  try {
    return meter(module)
  } catch (cause) {
    if (!(cause instanceof MeterError)) throw cause
    throw refuse('module', `its module cannot be metered: ${cause.message}`, cause)
  }
}

function readData(files: ArchiveFiles): JsonObject {
  const parsed = parseData(DATA, textOf(files, DATA))
  if ('error' in parsed) throw refuse('content', `${DATA}: ${parsed.error.message}`)
  const owned = ownedPath(parsed.value)
  if (owned !== null) throw refuse('content', `${DATA}: ${owned} belongs to the gateway`)
  return parsed.value
}

function readSources(files: ArchiveFiles): Readonly<Record<string, string>> {
  const names = [...files.keys()].filter((name) => name.endsWith('.rego'))
  return Object.freeze(Object.fromEntries(names.map((name) => [name, textOf(files, name)])))
}

/** What it says is checked against the module when both are loaded. */
function readDictionary(files: ArchiveFiles): Dictionary {
  const { v, rules, exprs } = asObject(readJson(files, DICTIONARY))
  if (v !== 1 || !Array.isArray(rules) || !Array.isArray(exprs))
    throw refuse('content', `${DICTIONARY} is no dictionary of traces`)
  return { v, rules, exprs } as Dictionary
}

function readJson(files: ArchiveFiles, name: string): unknown {
  const text = textOf(files, name)
  try {
    scanText(text, JSON_BOUNDS)
  } catch (cause) {
    if (!(cause instanceof JsonRefusal)) throw cause
    throw refuse('manifest', `${name} is not JSON that is read in one way only`, cause)
  }
  return JSON.parse(text)
}

function textOf(files: ArchiveFiles, name: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(fileOf(files, name))
  } catch (cause) {
    if (cause instanceof BundleRefused) throw cause
    throw refuse('content', `${name} is not UTF-8`, cause)
  }
}

function fileOf(files: ArchiveFiles, name: string): Uint8Array {
  const content = files.get(name)
  if (content === undefined) throw refuse('content', `it has no ${name}`)
  return content
}

function asObject(value: unknown): Readonly<Record<string, unknown>> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return value as Readonly<Record<string, unknown>>
  throw refuse('manifest', 'its manifest is not that of a bundle of this gateway')
}

function isTexts(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.every((one) => typeof one === 'string')
}

/** JSON as OPA hashes it (sorted by bytes, no white space, U+2028 and U+2029 escaped), so that its signatures agree with ours. */
function encode(value: unknown): Buffer {
  return Buffer.from(canonical(value).replaceAll('\u2028', '\\u2028').replaceAll('\u2029', '\\u2029'))
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value)
  const members = Object.entries(value)
    .map(([name, member]) => [Buffer.from(name), JSON.stringify(name), member] as const)
    .sort(([a], [b]) => Buffer.compare(a, b))
  return `{${members.map(([, name, member]) => `${name}:${canonical(member)}`).join(',')}}`
}

function sha256(content: Uint8Array): string {
  return createHash('sha256').update(content).digest('hex')
}

function refuse(reason: BundleRefusal, message: string, cause?: unknown): BundleRefused {
  return new BundleRefused(reason, `the bundle is refused: ${message}`, { cause })
}
