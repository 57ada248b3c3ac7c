/**
 * What a policies folder looks like from outside, as one short text: equal texts mean that nothing has changed.
 *
 * Looking is repeated instead of being told by the operating system: notifications do not cross network file systems and
 * container mounts, and are lost when the folder itself is replaced (a release's symlink, a checkout, a mounted volume).
 */
import { createHash } from 'node:crypto'
import type { Dirent } from 'node:fs'
import { readdir, realpath, stat } from 'node:fs/promises'
import { join } from 'node:path'

/** Far more than a folder that builds can hold; what lies beyond is not looked at. */
const MAX_ENTRIES = 10_000
const MAX_DEPTH = 20

/** Looks at names, places, sizes and times of everything that is not hidden, through links. Never rejects. */
export async function fingerprintFolder(folder: string): Promise<string> {
  return createHash('sha256')
    .update((await lookAtFolder(folder)).join('\n'))
    .digest('hex')
}

/** The same with a line for each entry: its name (a JSON text that begins with `/`), a space, and what changes when it does. */
export async function lookAtFolder(folder: string): Promise<readonly string[]> {
  const seen: string[] = []
  try {
    const root = await realpath(folder)
    seen.push(root)
    await look(root, '', 0, seen)
  } catch (error) {
    seen.push(codeOf(error))
  }
  return seen
}

/** The same for one file, through links. Never rejects. */
export async function fingerprintFile(file: string): Promise<string> {
  try {
    const path = await realpath(file)
    return `${JSON.stringify(path)} ${await factsOf(path)}`
  } catch (error) {
    return codeOf(error)
  }
}

async function look(folder: string, name: string, depth: number, seen: string[]): Promise<void> {
  if (depth > MAX_DEPTH) return
  for (const entry of await entriesOf(folder, seen)) {
    if (entry.name.startsWith('.')) continue
    if (seen.length >= MAX_ENTRIES) return
    const path = join(folder, entry.name)
    const inside = `${name}/${entry.name}`
    seen.push(`${JSON.stringify(inside)} ${await factsOf(path)}`)
    if (entry.isDirectory()) await look(path, inside, depth + 1, seen)
  }
}

async function entriesOf(folder: string, seen: string[]): Promise<Dirent[]> {
  try {
    const entries = await readdir(folder, { withFileTypes: true })
    return entries.sort((a, b) => (a.name < b.name ? -1 : 1))
  } catch (error) {
    seen.push(codeOf(error))
    return []
  }
}

async function factsOf(path: string): Promise<string> {
  try {
    const { dev, ino, size, mtimeNs, ctimeNs, mode } = await stat(path, { bigint: true })
    return [dev, ino, size, mtimeNs, ctimeNs, mode].join(' ')
  } catch (error) {
    return codeOf(error)
  }
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : 'unreadable'
}
