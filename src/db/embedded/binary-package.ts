/** A private copy of the npm package's programs, for when the server user cannot reach or load the original. */
import { randomBytes } from 'node:crypto'
import { chmod, cp, lstat, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises'
import { dirname, join, relative, resolve, sep } from 'node:path'

interface Link {
  readonly source: string
  readonly target: string
}

/**
 * Copies `native/` into the home once, readable for everybody, with the library links that the package's own install
 * script would have made (npm and pnpm often do not run install scripts). Returns the copy's folder.
 */
export async function copyPackage(packageDir: string, homeRoot: string): Promise<string> {
  const version = await packageVersion(packageDir)
  const target = join(homeRoot, `binaries-${version}`)
  if ((await lstat(target).catch(() => null)) !== null) return target
  const temporary = `${target}.${randomBytes(6).toString('hex')}`
  try {
    await mkdir(temporary, { mode: 0o755 })
    await cp(packageDir, temporary, { recursive: true, verbatimSymlinks: true })
    await makeLinks(packageDir, temporary)
    await openForAll(temporary)
    await rename(temporary, target)
  } finally {
    await rm(temporary, { recursive: true, force: true })
  }
  return target
}

async function packageVersion(packageDir: string): Promise<string> {
  const text = await readFile(join(packageDir, '..', 'package.json'), 'utf8')
  const { version } = JSON.parse(text) as { readonly version?: unknown }
  return typeof version === 'string' ? version.replace(/[^A-Za-z0-9._-]/g, '-') : 'unknown'
}

async function makeLinks(packageDir: string, copy: string): Promise<void> {
  const text = await readFile(join(packageDir, 'pg-symlinks.json'), 'utf8').catch(() => '[]')
  const links = (JSON.parse(text) as readonly Link[]).map(({ source, target }) => ({
    source: insideCopy(copy, source),
    target: insideCopy(copy, target),
  }))
  for (const { source, target } of links) {
    await rm(target, { force: true })
    await symlink(relative(dirname(target), source), target)
  }
}

/** Entries are written as `native/lib/..`; one that leads out of the folder is not followed. */
function insideCopy(copy: string, entry: string): string {
  const path = resolve(copy, entry.replace(/^native\//, ''))
  if (!path.startsWith(copy + sep)) throw new Error(`pg-symlinks.json leads out of its package: ${entry}`)
  return path
}

async function openForAll(folder: string): Promise<void> {
  await chmod(folder, 0o755)
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) await openForAll(path)
    else if (entry.isFile()) await chmod(path, (await lstat(path)).mode & 0o100 ? 0o755 : 0o644)
  }
}
