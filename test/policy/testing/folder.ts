/** Policies folders on disk, for tests of what reads them. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'

/** Folders that are removed together. */
export interface Folders {
  /** Makes a folder with these files; returns its path. */
  make(files: Readonly<Record<string, string>>): Promise<string>
  remove(): Promise<void>
}

/** @param name begins the folders' names */
export function createFolders(name: string): Folders {
  const made: string[] = []
  return {
    async make(files) {
      const root = await mkdtemp(join(tmpdir(), name))
      made.push(root)
      for (const [path, text] of Object.entries(files)) {
        await mkdir(dirname(join(root, path)), { recursive: true })
        await writeFile(join(root, path), text)
      }
      return root
    },
    async remove() {
      for (const root of made.splice(0)) await rm(root, { recursive: true, force: true })
    },
  }
}
