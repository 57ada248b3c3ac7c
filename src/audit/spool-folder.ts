/**
 * The folder of all spools of a machine or volume:
 *
 *     <dir>/<writer>/              one process's spool: its lock and its files; 0700
 *     <dir>/<writer>/<writer>/     one it has adopted and not emptied yet
 *     <dir>/damaged/               files in which something was unreadable, for people
 *     <dir>/dead-letters-<writer>.ndjson   rows as made that the database refused
 *
 * A spool whose process has died is moved into the folder of the one that adopts it: a rename has exactly one winner.
 */
import { basename, dirname, join } from 'node:path'
import { UsageError } from '../errors.ts'
import type { SpoolFs } from './spool-files.ts'
import { segmentNumber, WRITER_FOLDER } from './spool-files.ts'
import type { SpoolLock } from './spool-lock.ts'
import { holdLock, isHeld } from './spool-lock.ts'

/** The folder of one process's spool, held. */
export interface OwnFolder {
  /** The folder of all spools. */
  readonly root: string
  readonly path: string
  /** Takes over the spools of processes that have died; gives their paths, also of those taken over before. */
  adopt(): Promise<readonly string[]>
  /** Gives back what was adopted and not emptied, and lets go of the lock. Removes the folder when it is empty. */
  release(): Promise<void>
}

/** Makes and locks the folder of a writer. Throws UsageError `config` with the way out when the disk does not let it. */
export async function openOwnFolder(fs: SpoolFs, root: string, writer: string): Promise<OwnFolder> {
  const path = join(root, writer.replaceAll('-', '').slice(0, 12))
  const lock = await makeFolder(fs, root, path)
  return {
    root,
    path,
    adopt: () => adopt(fs, root, path),
    async release() {
      for (const name of await writerFolders(fs, path)) await fs.rename(join(path, name), join(root, name))
      await lock.release()
      await fs.rm(join(path, 'lock'), { force: true })
      // Not empty: its files wait for whoever comes next.
      await fs.rmdir(path).catch(() => undefined)
    },
  }
}

async function makeFolder(fs: SpoolFs, root: string, path: string): Promise<SpoolLock> {
  try {
    // Others may have their own business in the folders above.
    await fs.mkdir(dirname(root), { mode: 0o755, recursive: true })
    await fs.mkdir(root, { mode: 0o700 }).catch(unlessExists)
    await fs.mkdir(path, { mode: 0o700 })
    return await holdLock(path)
  } catch (cause) {
    throw toSpoolError(root, cause)
  }
}

function unlessExists(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EEXIST') throw error
}

/** What a person can mend about a folder that cannot be used. */
export function toSpoolError(root: string, cause: unknown): UsageError {
  if (cause instanceof UsageError) return cause
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause)
  return new UsageError(
    'config',
    `Audit rows cannot be spooled in ${root} (${code}). Make it writable for the gateway, or choose another folder with audit.spool_dir.`,
    { cause },
  )
}

async function adopt(fs: SpoolFs, root: string, own: string): Promise<readonly string[]> {
  for (const name of await writerFolders(fs, root)) {
    const path = join(root, name)
    if (name === basename(own) || !(await isOrphan(fs, path))) continue
    // Another process may have been first.
    await fs.rename(path, join(own, name)).catch(() => undefined)
  }
  for (const name of await writerFolders(fs, own)) {
    // What a dead process had adopted itself.
    for (const inner of await writerFolders(fs, join(own, name))) {
      await fs.rename(join(own, name, inner), join(own, inner))
    }
  }
  return (await writerFolders(fs, own)).map((name) => join(own, name))
}

/** One without any file is about to be made by a process that starts. */
async function isOrphan(fs: SpoolFs, path: string): Promise<boolean> {
  const names = await fs.readdir(path).catch(() => [])
  const holdsRows = names.some((name) => segmentNumber(name) !== null || WRITER_FOLDER.test(name))
  return holdsRows && !(await isHeld(path).catch(() => true))
}

async function writerFolders(fs: SpoolFs, folder: string): Promise<readonly string[]> {
  const names = await fs.readdir(folder).catch(() => [])
  return names.filter((name) => WRITER_FOLDER.test(name))
}
