/** Makes and starts the database cluster of a home. Only ever called while holding the start lock. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { lstat, mkdir, open, readdir, readFile, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import pg from 'pg'
import { UsageError } from '../../errors.ts'
import type { ConnectionParts } from '../connection.ts'
import type { Binaries } from './binaries.ts'
import type { SpawnedServer, Use } from './guard.ts'
import { spawnGuarded } from './guard.ts'
import type { Credentials, Home } from './home.ts'
import { giveTo } from './home.ts'
import { openClient, removeLeftovers, tryConnect } from './server-state.ts'
import type { ServerUser } from './user.ts'

const run = promisify(execFile)

/** Names inside the embedded cluster. The owner is its superuser and makes the tables; the gateway works as the other. */
export const EMBEDDED_NAMES = { owner: 'gateway_owner', runtime: 'gateway', database: 'gateway' } as const

const MAX_LOG_BYTES = 1024 * 1024
const READY_POLL_MS = 25
const RETRY_MS = 15_000
const INIT_PREFIX = 'data.new-'

/** How to reach the embedded server as a role. */
export function embeddedConnection(
  home: Home,
  role: keyof Credentials,
  credentials: Credentials,
  database: string = EMBEDDED_NAMES.database,
): ConnectionParts {
  return {
    host: home.runDir,
    port: 5432,
    user: EMBEDDED_NAMES[role],
    password: credentials[role],
    database,
  }
}

/** Makes the cluster when there is none: beside its place first, so that a half-made one is never taken for one. */
export async function ensureCluster(
  home: Home,
  binaries: Binaries,
  credentials: Credentials,
  onProgress: (text: string) => void,
): Promise<void> {
  await removeHalfMade(home)
  if ((await lstat(home.dataDir).catch(() => null)) !== null) return
  onProgress(`making the database (PostgreSQL ${binaries.version})`)
  const fresh = join(home.root, `${INIT_PREFIX}${randomBytes(6).toString('hex')}`)
  const passwordFile = join(home.runDir, `password-${randomBytes(6).toString('hex')}`)
  await mkdir(fresh, { mode: 0o700 })
  await giveTo(fresh, home.user)
  try {
    await writePasswordFile(passwordFile, credentials.owner, home.user)
    const names = ['-D', fresh, '-U', EMBEDDED_NAMES.owner, `--pwfile=${passwordFile}`]
    const ways = ['--auth=scram-sha-256', '--encoding=UTF8', '--locale=C', '--data-checksums']
    await run(join(binaries.binDir, 'initdb'), [...names, ...ways], {
      ...home.user.ids,
      cwd: fresh,
      env: serverEnvironment(),
    })
    await rename(fresh, home.dataDir)
    await syncFolder(home.root)
  } catch (error) {
    const { stderr } = error as { readonly stderr?: string }
    throw new UsageError(
      'embedded_database',
      `The embedded database could not be made in ${home.root}: ${lastLines(stderr ?? String(error))}`,
      { cause: error },
    )
  } finally {
    await rm(passwordFile, { force: true })
    await rm(fresh, { recursive: true, force: true })
  }
}

/** Owned by the server user before there is anything in it; never by its path, which that user could change meanwhile. */
async function writePasswordFile(path: string, password: string, user: ServerUser): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    if (user.ids !== null) await file.chown(user.ids.uid, user.ids.gid)
    await file.writeFile(`${password}\n`)
  } finally {
    await file.close()
  }
}

/** What {@link startServer} needs. */
export interface ServerStart {
  readonly home: Home
  readonly binaries: Binaries
  readonly credentials: Credentials
  /** More server settings, by name; they win over ours. */
  readonly settings: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

/** Starts the server under a guard and waits until it answers. Throws UsageError with the end of its log. */
export async function startServer(start: ServerStart): Promise<Use> {
  const deadline = performance.now() + start.timeoutMs
  const retryUntil = performance.now() + RETRY_MS
  await removeLeftovers(start.home)
  await rotateLog(start.home)
  for (;;) {
    const logStart = (await lstat(start.home.logFile).catch(() => null))?.size ?? 0
    const spawned = await spawnGuarded(start.home, serverCommand(start), serverEnvironment())
    if (await becomesReady(start, spawned, deadline)) return spawned.use
    spawned.use.release()
    const said = (await readFile(start.home.logFile)).subarray(logStart).toString('utf8')
    // A server that was killed a moment ago, or its children, are still ending.
    const isTransient = /pre-existing shared memory block|lock file .* already exists/.test(said)
    if (!isTransient || performance.now() > retryUntil) {
      throw new UsageError(
        'embedded_database',
        `The embedded database in ${start.home.root} did not start: ${lastLines(said)}. All of it stands in ${start.home.logFile}.`,
      )
    }
    await new Promise((resolve) => setTimeout(resolve, 250))
  }
}

/** Makes the runtime role and the database where they are missing. Repeatable. */
export async function ensureRoles(home: Home, credentials: Credentials): Promise<void> {
  const { runtime, database } = EMBEDDED_NAMES
  await withOwner(home, credentials, 'postgres', async (query) => {
    const role = pg.escapeIdentifier(runtime)
    const login = `login nosuperuser nocreatedb nocreaterole password ${pg.escapeLiteral(credentials.runtime)}`
    const isThere = (await query('select from pg_roles where rolname = $1', [runtime])) > 0
    await query(`${isThere ? 'alter' : 'create'} role ${role} ${login}`)
    const hasDatabase = (await query('select from pg_database where datname = $1', [database])) > 0
    if (!hasDatabase) await query(`create database ${pg.escapeIdentifier(database)}`)
  })
  await withOwner(home, credentials, database, async (query) => {
    // Before PostgreSQL 15 everybody may create in `public`.
    await query('revoke create on schema public from public')
  })
}

type CountQuery = (text: string, values?: unknown[]) => Promise<number>

async function withOwner(
  home: Home,
  credentials: Credentials,
  database: string,
  use: (query: CountQuery) => Promise<void>,
): Promise<void> {
  const client = openClient(embeddedConnection(home, 'owner', credentials, database))
  try {
    await client.connect()
    await use(async (text, values) => (await client.query(text, values)).rowCount ?? 0)
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function becomesReady(start: ServerStart, spawned: SpawnedServer, deadline: number): Promise<boolean> {
  let hasExited = false
  spawned.guard.once('exit', () => {
    hasExited = true
  })
  spawned.guard.once('error', () => {
    hasExited = true
  })
  // The database of ours may not exist yet; `postgres` always does.
  const connection = embeddedConnection(start.home, 'owner', start.credentials, 'postgres')
  while (!hasExited && performance.now() < deadline) {
    if (await tryConnect(connection)) return true
    await new Promise((resolve) => setTimeout(resolve, READY_POLL_MS))
  }
  return false
}

function serverCommand({ home, binaries, settings }: ServerStart): string[] {
  const all: Record<string, string> = {
    // No network at all: the socket's folder is the door, and it is closed to other users.
    listen_addresses: '',
    unix_socket_directories: `"${home.runDir.replaceAll('"', '""')}"`,
    unix_socket_permissions: '0700',
    port: '5432',
    shared_buffers: '64MB',
    max_connections: '40',
    jit: 'off',
    log_checkpoints: 'off',
    // Errors of statements quote values: they go to the client that caused them, never into a file.
    log_min_messages: 'log',
    log_min_error_statement: 'panic',
    ...settings,
  }
  const assignments = Object.entries(all).flatMap(([name, value]) => ['-c', `${name}=${value}`])
  return [join(binaries.binDir, 'postgres'), '-D', home.dataDir, ...assignments]
}

/** Nothing of our own environment (PG*, LD_*, secrets) reaches the server. */
function serverEnvironment(): Record<string, string> {
  return { PATH: '/usr/local/bin:/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' }
}

async function removeHalfMade(home: Home): Promise<void> {
  const names = (await readdir(home.root)).filter((name) => name.startsWith(INIT_PREFIX))
  await Promise.all(names.map((name) => rm(join(home.root, name), { recursive: true, force: true })))
}

async function rotateLog(home: Home): Promise<void> {
  const size = (await lstat(home.logFile).catch(() => null))?.size ?? 0
  if (size > MAX_LOG_BYTES) await rename(home.logFile, `${home.logFile}.old`)
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

function lastLines(text: string): string {
  const lines = text.trim().split('\n').slice(-5)
  return lines.join(' | ').slice(-1000) || 'it said nothing'
}
