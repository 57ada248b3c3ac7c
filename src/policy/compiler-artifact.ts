/**
 * Where the Rego compiler is: the committed, compressed module in `compiler/`, unpacked once into a file that Node can
 * load. The file's name carries the module's digest and its content is compared with it at every use, so neither an
 * older version nor an altered file can ever run.
 */
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliDecompress } from 'node:zlib'

/** The files a compiler process needs. */
export interface CompilerArtifact {
  /** The unpacked module. */
  readonly wasm: string
  /** The script that runs it. */
  readonly runner: string
  /** SHA-256 (hex) of the module. */
  readonly digest: string
}

/** The same two levels above this file in `src/policy/` and in `dist/policy/`. */
const ROOM = fileURLToPath(new URL('../../compiler/', import.meta.url))

/** Where `npm run build` unpacks the module. */
const BUILT = fileURLToPath(new URL('../../dist/compiler/', import.meta.url))

/** Far above the module's 41 MB: a file that unpacks to more is not ours. */
const MAX_MODULE_BYTES = 128 * 1024 * 1024

const unbrotli = promisify(brotliDecompress)

/**
 * Finds the compiler, and unpacks it into `cacheDir` unless the build or an earlier use has. Several processes may do so
 * at once. Throws when the artifact is missing or is not the recorded one.
 */
export async function loadCompilerArtifact(cacheDir: string): Promise<CompilerArtifact> {
  const digest = await recordedDigest()
  const name = `rego-${digest.slice(0, 16)}.wasm`
  for (const folder of [BUILT, cacheDir]) {
    const wasm = join(folder, name)
    if (await holds(wasm, digest)) return artifact(wasm, digest)
  }
  return artifact(await unpack(cacheDir, name, digest), digest)
}

/**
 * Unpacks the compiler into the build's output folder, for `npm run build`.
 * @public imported by scripts/build.mjs from dist/
 */
export async function unpackCompilerForBuild(): Promise<CompilerArtifact> {
  return loadCompilerArtifact(BUILT)
}

function artifact(wasm: string, digest: string): CompilerArtifact {
  return { wasm, digest, runner: join(ROOM, 'runner.mjs') }
}

async function recordedDigest(): Promise<string> {
  const text = (await readFile(join(ROOM, 'rego.wasm.sha256'), 'utf8')).trim()
  if (!/^[0-9a-f]{64}$/.test(text)) throw new Error('compiler/rego.wasm.sha256 does not hold a SHA-256')
  return text
}

async function holds(path: string, digest: string): Promise<boolean> {
  try {
    return sha256(await readFile(path)) === digest
  } catch {
    return false
  }
}

async function unpack(folder: string, name: string, digest: string): Promise<string> {
  const packed = await readFile(join(ROOM, 'rego.wasm.br'))
  const wasm = await unbrotli(packed, { maxOutputLength: MAX_MODULE_BYTES })
  if (sha256(wasm) !== digest) {
    throw new Error('compiler/rego.wasm.br does not hold the module recorded in compiler/rego.wasm.sha256')
  }
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const target = join(folder, name)
  const draft = join(folder, `.${name}.${randomBytes(8).toString('hex')}`)
  try {
    await writeFile(draft, wasm, { mode: 0o600, flag: 'wx' })
    await rename(draft, target)
  } finally {
    await rm(draft, { force: true })
  }
  return target
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex')
}
