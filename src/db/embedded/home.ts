/**
 * The folder an embedded database lives in:
 *
 *     <home>/credentials.json    passwords of both roles; 0600, ours
 *     <home>/data/               PGDATA; 0700, the server user's
 *     <home>/run/                socket, start lock, pipes of the users; 0700, the server user's (elsewhere if the path is long)
 *     <home>/server.log          what the server says
 *     <home>/binaries-<version>/ copy of the npm package's binaries, where the server user cannot reach the original
 */
import { execFile } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import {
  chmod,
  chown,
  link,
  lstat,
  mkdir,
  readdir,
  readFile,
  realpath,
  rm,
  writeFile,
} from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { promisify } from 'node:util'
import { UsageError } from '../../errors.ts'
import type { ServerUser } from './user.ts'

const run = promisify(execFile)

/** An existing, checked home. All paths absolute. */
export interface Home {
  readonly root: string
  readonly dataDir: string
  readonly runDir: string
  readonly logFile: string
  readonly user: ServerUser
}

/** Passwords of the two roles of an embedded database. */
export interface Credentials {
  readonly owner: string
  readonly runtime: string
}

/**
 * macOS allows 103 bytes in a socket's path, Linux 107. The longest name in there is `.s.PGSQL.5432.lock`, the server's
 * own lock file; a plain file, but it keeps a margin.
 */
const MAX_SOCKET_PATH = 103
/** What may lie in a home before its passwords are written. */
const OWN_NAME = /^(run|data|data\.new-.*|binaries-.*|server\.log.*|credentials\.json.*)$/

const LONGEST_NAME = '/.s.PGSQL.5432.lock'.length

/**
 * Where the embedded database of a project belongs when nothing is configured: `.gateway/postgres` in the project; for
 * root a folder that an unprivileged user can enter, named after the project's path so that two checkouts do not meet.
 */
export async function defaultDataHome(projectDir: string): Promise<string> {
  const project = await realpath(projectDir)
  if (process.getuid?.() !== 0) return join(project, '.gateway', 'postgres')
  return join('/var/lib/mcp-policy-gateway', `${safeName(basename(project))}-${digest(project)}`)
}

/** Makes what is missing and checks what is there. Throws UsageError `embedded_database` with the way out. */
export async function openHome(root: string, serverUser: ServerUser): Promise<Home> {
  const isRoot = serverUser.ids !== null
  await makeFolders(root, isRoot)
  const real = await realpath(root)
  await refuseForeign(real)
  // The server user must pass through to its data, and see nothing else.
  await chmod(real, isRoot ? 0o711 : 0o700)
  const dataDir = join(real, 'data')
  const user = await ownerOf(dataDir, serverUser)
  await refuseUnreachable(real, user)
  const runDir = await openRunDir(real, user)
  return { root: real, dataDir, runDir, logFile: join(real, 'server.log'), user }
}

async function makeFolders(root: string, isRoot: boolean): Promise<void> {
  try {
    const first = await mkdir(root, { recursive: true, mode: isRoot ? 0o755 : 0o700 })
    if (first === undefined || !isRoot) return
    // Whatever the umask is: what was made on the way must let the server user pass.
    for (let folder = root; folder.length >= first.length; folder = dirname(folder))
      await chmod(folder, 0o755)
  } catch (error) {
    throw homeError(root, 'cannot be made', error)
  }
}

/** Reads the passwords, making them first where there is no database yet. */
export async function loadCredentials(home: Home): Promise<Credentials> {
  const file = join(home.root, 'credentials.json')
  const existing = await readFile(file, 'utf8').catch(() => null)
  if (existing !== null) return parseCredentials(existing, file)
  if ((await lstat(home.dataDir).catch(() => null)) !== null) {
    throw new UsageError(
      'embedded_database',
      `${file} is missing or unreadable, so the database beside it cannot be opened. Restore the file, ` +
        `or move ${home.root} away to begin with an empty database.`,
    )
  }
  const fresh: Credentials = { owner: newPassword(), runtime: newPassword() }
  await writeOnce(file, `${JSON.stringify(fresh)}\n`)
  return parseCredentials(await readFile(file, 'utf8'), file)
}

/** Gives a path to the server user; nothing to do when that is ourselves. */
export async function giveTo(path: string, user: ServerUser): Promise<void> {
  if (user.ids !== null) await chown(path, user.ids.uid, user.ids.gid)
}

function parseCredentials(text: string, file: string): Credentials {
  try {
    const { owner, runtime } = JSON.parse(text) as Partial<Record<string, unknown>>
    if (isPassword(owner) && isPassword(runtime)) return { owner, runtime }
  } catch {
    // Falls through to the message, which never shows the text.
  }
  throw new UsageError('embedded_database', `${file} is damaged: restore it from a backup.`)
}

function isPassword(value: unknown): value is string {
  return typeof value === 'string' && /^[A-Za-z0-9_-]{43}$/.test(value)
}

function newPassword(): string {
  return randomBytes(32).toString('base64url')
}

/** Whole or not at all, and never over an existing file. */
async function writeOnce(file: string, text: string): Promise<void> {
  const temporary = `${file}.${randomBytes(6).toString('hex')}`
  await writeFile(temporary, text, { mode: 0o600, flag: 'wx', flush: true })
  try {
    await link(temporary, file)
  } finally {
    await rm(temporary, { force: true })
  }
}

/** A folder that holds other things is left alone: its mode would be changed, and an `rm -r` of ours would be theirs. */
async function refuseForeign(root: string): Promise<void> {
  const { uid } = await lstat(root)
  if (uid !== process.getuid?.()) {
    throw homeError(root, `belongs to another user (uid ${uid}): start the gateway as that user`, null)
  }
  const names = await readdir(root)
  const strange = names.find((name) => !OWN_NAME.test(name))
  if (strange !== undefined && !names.includes('credentials.json')) {
    throw homeError(root, `holds other things (${JSON.stringify(strange)})`, null)
  }
}

/** An existing data folder keeps its user: a `postgres` account that appears later must not lock the database out. */
async function ownerOf(dataDir: string, wanted: ServerUser): Promise<ServerUser> {
  const stat = await lstat(dataDir).catch(() => null)
  if (stat === null || wanted.ids === null || stat.uid === wanted.ids.uid) return wanted
  if (stat.uid === 0) {
    throw new UsageError(
      'embedded_database',
      `${dataDir} belongs to root, as whom PostgreSQL does not run: chown -R ${wanted.name} ${dataDir}`,
    )
  }
  return { ids: { uid: stat.uid, gid: stat.gid }, name: `uid ${stat.uid}` }
}

async function refuseUnreachable(root: string, user: ServerUser): Promise<void> {
  if (user.ids === null) return
  try {
    await run('/bin/sh', ['-c', 'cd "$1"', 'sh', root], { ...user.ids, cwd: '/' })
  } catch (error) {
    throw homeError(
      root,
      `cannot be entered by the user ${user.name}, as whom PostgreSQL runs here: a folder above it is closed to others`,
      error,
    )
  }
}

async function openRunDir(root: string, user: ServerUser): Promise<string> {
  const inside = join(root, 'run')
  const isShort = Buffer.byteLength(inside) + LONGEST_NAME <= MAX_SOCKET_PATH
  // Fixed by the home's path and not by TMPDIR, so that every process finds the same one.
  const runDir = isShort ? inside : join('/tmp', `mcp-policy-gateway-${digest(root)}`)
  const made = await mkdir(runDir, { mode: 0o700 }).then(
    () => true,
    () => false,
  )
  if (made) await giveTo(runDir, user)
  const stat = await lstat(runDir)
  const uid = user.ids?.uid ?? process.getuid?.()
  // In /tmp anybody may have put something in our place.
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0) {
    throw homeError(
      runDir,
      `is not a folder of mode 0700 that belongs to uid ${uid}: remove it, or choose a shorter database.data_dir`,
      null,
    )
  }
  return runDir
}

function homeError(path: string, problem: string, cause: unknown): UsageError {
  return new UsageError(
    'embedded_database',
    `${path} ${problem}. Choose another folder with database.data_dir, or set DATABASE_URL to a PostgreSQL of yours.`,
    { cause },
  )
}

function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex').slice(0, 12)
}

function safeName(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]/g, '-').slice(0, 40) || 'project'
}
