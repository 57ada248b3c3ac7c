/**
 * Finished builds on disk. The folder is this user's alone, a file appears whole or not at all, and one that does not
 * hold what its own digest says is as good as absent: it is built again.
 */
import { createHash, randomBytes } from 'node:crypto'
import { chmod, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { BuiltPolicy } from './build.ts'

/** No build comes near it; a larger file is not read. */
const MAX_ENTRY_BYTES = 128 * 1024 * 1024

const DIGEST_BYTES = 32

interface Envelope {
  readonly key: string
  readonly opa: string
  readonly entrypoints: readonly string[]
  readonly dictionary: BuiltPolicy['dictionary']
  /** Base64. */
  readonly wasm: string
}

/** Reads the build of that key; null when there is none that is whole. */
export async function readCachedBuild(folder: string, key: string): Promise<BuiltPolicy | null> {
  const path = entryPath(folder, key)
  try {
    if ((await stat(path)).size > MAX_ENTRY_BYTES) return null
    const bytes = await readFile(path)
    const content = bytes.subarray(DIGEST_BYTES)
    if (!bytes.subarray(0, DIGEST_BYTES).equals(digest(content))) return null
    const envelope = JSON.parse(content.toString('utf8')) as Envelope
    if (envelope.key !== key) return null
    const { opa, entrypoints, dictionary, wasm } = envelope
    return { opa, entrypoints, dictionary, wasm: Uint8Array.from(Buffer.from(wasm, 'base64')) }
  } catch {
    return null
  }
}

/** Keeps a build. A folder that cannot be written to only costs time: the next start builds again. */
export async function writeCachedBuild(folder: string, key: string, built: BuiltPolicy): Promise<void> {
  const envelope: Envelope = {
    key,
    opa: built.opa,
    entrypoints: built.entrypoints,
    dictionary: built.dictionary,
    wasm: Buffer.from(built.wasm).toString('base64'),
  }
  const content = Buffer.from(JSON.stringify(envelope))
  const draft = join(folder, `.${key}.${randomBytes(8).toString('hex')}`)
  try {
    await mkdir(folder, { recursive: true, mode: 0o700 })
    await chmod(folder, 0o700)
    await writeFile(draft, Buffer.concat([digest(content), content]), { mode: 0o600, flag: 'wx' })
    await rename(draft, entryPath(folder, key))
  } catch {
    await rm(draft, { force: true }).catch(() => undefined)
  }
}

function entryPath(folder: string, key: string): string {
  return join(folder, `${key}.policy`)
}

function digest(content: Uint8Array): Buffer {
  return createHash('sha256').update(content).digest()
}
