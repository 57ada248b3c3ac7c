/**
 * The database that comes with the gateway: a real PostgreSQL, started from programs that are on the machine (or came as
 * an optional npm package), for a first try, a single node, or tests. For a fleet bring a server of your own.
 *
 * Several processes may use one home at the same time: the first starts the server, the others adopt it, and it ends with
 * the last of them, however each of them ends.
 */
import { join } from 'node:path'
import { UsageError } from '../errors.ts'
import type { ConnectionParts } from './connection.ts'
import { findBinaries, findBinaryPackage } from './embedded/binaries.ts'
import { embeddedConnection, ensureCluster, ensureRoles, startServer } from './embedded/cluster.ts'
import type { Use } from './embedded/guard.ts'
import { hasPipe, joinServer } from './embedded/guard.ts'
import type { Credentials, Home } from './embedded/home.ts'
import { loadCredentials, openHome } from './embedded/home.ts'
import type { ServerState } from './embedded/server-state.ts'
import { isServerProcess, observeServer, readServerPid } from './embedded/server-state.ts'
import { withStartLock } from './embedded/start-lock.ts'
import { findServerUser } from './embedded/user.ts'

/** What {@link startEmbeddedPostgres} needs. */
export interface EmbeddedOptions {
  /** Absolute path of the folder it lives in; see `defaultDataHome`. Made when missing. */
  readonly dataHome: string
  /** Folder of `postgres` and `initdb` to use instead of looking for one; null or absent = look. */
  readonly binDir?: string | null
  /** PATH of the environment, searched after the system's usual folders. */
  readonly path?: string
  /** Folder of the npm package's programs; absent = look it up, null = do not use it. */
  readonly packageDir?: string | null
  /** Whether the system's usual folders are searched; default true. */
  readonly system?: boolean
  /** More server settings, by name. Only the process that starts the server decides. */
  readonly settings?: Readonly<Record<string, string>>
  /** Told what is going on: worth showing when it takes longer than a second. */
  readonly onProgress?: (text: string) => void
  /** How long the start may take, recovery after a crash included. Default two minutes. */
  readonly timeoutMs?: number
}

/** A running embedded database, held by this process until `stop`. */
export interface EmbeddedPostgres {
  /** Superuser of the cluster: for migrations. */
  readonly owner: ConnectionParts
  /** What the gateway works as. */
  readonly runtime: ConnectionParts
  /** True when another process had started it. */
  readonly isAdopted: boolean
  /** Server version, e.g. `15.18`; null when adopted. */
  readonly version: string | null
  readonly dataHome: string
  /** Lets go of it: the server ends if nobody else uses it. Resolves when it has ended, or is known to stay. */
  stop(): Promise<void>
}

const DEFAULT_TIMEOUT_MS = 120_000
const POLL_MS = 25
/** A server that answers although its guard has gone: after this long it is not just ending, it is an orphan. */
const ORPHAN_AFTER_MS = 1500
/** How long the guard may take to notice that the last user has gone, before we believe that there are others. */
const NOTICE_MS = 150
const END_TIMEOUT_MS = 30_000

/** Starts or adopts it. Throws UsageError `embedded_database` with the way out. */
export async function startEmbeddedPostgres(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  if (process.platform === 'win32') {
    throw new UsageError(
      'embedded_database',
      'The embedded database needs a Unix system. On Windows set DATABASE_URL to a PostgreSQL of yours, or use WSL.',
    )
  }
  const home = await openHome(options.dataHome, await findServerUser())
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const progress = options.onProgress ?? (() => undefined)
  const lock = {
    path: join(home.runDir, 'start.lock'),
    timeoutMs,
    onWait: () => progress('waiting for another process that is starting the database'),
  }
  return await withStartLock(lock, async () => {
    const credentials = await loadCredentials(home)
    const adopted = await adopt(home, credentials, timeoutMs)
    if (adopted !== null) return toEmbedded(home, credentials, adopted, null)
    const { use, version } = await start(home, credentials, options, progress)
    return toEmbedded(home, credentials, use, version)
  })
}

async function start(
  home: Home,
  credentials: Credentials,
  options: EmbeddedOptions,
  progress: (text: string) => void,
): Promise<{ use: Use; version: string }> {
  const search = {
    binDir: options.binDir ?? null,
    path: options.path ?? '',
    packageDir: options.packageDir === undefined ? findBinaryPackage() : options.packageDir,
    system: options.system ?? true,
  }
  const binaries = await findBinaries(home, search, progress)
  await ensureCluster(home, binaries, credentials, progress)
  progress(`starting PostgreSQL ${binaries.version}`)
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS
  const settings = options.settings ?? {}
  const use = await startServer({ home, binaries, credentials, settings, timeoutMs })
  try {
    await ensureRoles(home, credentials)
  } catch (error) {
    use.release()
    throw error
  }
  return { use, version: binaries.version }
}

/** A use of the server that is already running; null when there is none to adopt and the way is free to start one. */
async function adopt(home: Home, credentials: Credentials, timeoutMs: number): Promise<Use | null> {
  const connection = embeddedConnection(home, 'owner', credentials, 'postgres')
  const deadline = performance.now() + timeoutMs
  const refused = foreignServer(home)
  let answersSince: number | null = null
  while (performance.now() < deadline) {
    const use = await joinServer(home)
    if (use !== null && (await answers(home, connection, use, deadline).catch(refused))) return use
    const state = await observeServer(home, connection).catch(refused)
    if (state === 'gone') return null
    answersSince = state === 'ready' ? (answersSince ?? performance.now()) : null
    if (answersSince !== null && performance.now() - answersSince > ORPHAN_AFTER_MS) await endOrphan(home)
    await sleep(POLL_MS)
  }
  throw new UsageError(
    'embedded_database',
    `A PostgreSQL is running on ${home.dataDir} but neither answers nor ends. See ${home.logFile}; end it (pid in ` +
      'postmaster.pid) with SIGINT, then start again.',
  )
}

/** Waits until a joined server answers. Lets go of it when it does not, or refuses us, or only half a guard was left. */
async function answers(
  home: Home,
  connection: ConnectionParts,
  use: Use,
  deadline: number,
): Promise<boolean> {
  let state: ServerState = 'busy'
  try {
    while (state === 'busy' && use.isGuarded() && performance.now() < deadline) {
      state = await observeServer(home, connection)
      if (state === 'busy') await sleep(POLL_MS)
    }
    return state === 'ready'
  } finally {
    if (state !== 'ready') use.release()
  }
}

/** Its guard was killed: nobody would ever end it. It is ended here and started anew, under a guard. */
async function endOrphan(home: Home): Promise<void> {
  const pid = await readServerPid(home)
  if (pid === null || !(await isServerProcess(pid, home))) return
  process.kill(pid, 'SIGINT')
  await waitUntilGone(home, pid)
}

function foreignServer(home: Home): (cause: unknown) => never {
  return (cause) => {
    throw new UsageError(
      'embedded_database',
      `The PostgreSQL running on ${home.dataDir} refuses the passwords of ${join(home.root, 'credentials.json')}. ` +
        'Restore that file, or end the server.',
      { cause },
    )
  }
}

function toEmbedded(
  home: Home,
  credentials: Credentials,
  use: Use,
  version: string | null,
): EmbeddedPostgres {
  let stopping: Promise<void> | null = null
  return {
    owner: embeddedConnection(home, 'owner', credentials),
    runtime: embeddedConnection(home, 'runtime', credentials),
    isAdopted: version === null,
    version,
    dataHome: home.root,
    stop() {
      stopping ??= letGo(home, use)
      return stopping
    },
  }
}

async function letGo(home: Home, use: Use): Promise<void> {
  const pid = await readServerPid(home)
  use.release()
  const noticed = performance.now() + NOTICE_MS
  while (await hasPipe(home)) {
    if (performance.now() > noticed) return
    await sleep(10)
  }
  if (pid !== null) await waitUntilGone(home, pid)
}

async function waitUntilGone(home: Home, pid: number): Promise<void> {
  const deadline = performance.now() + END_TIMEOUT_MS
  while ((await readServerPid(home)) === pid && performance.now() < deadline) await sleep(10)
}

async function sleep(ms: number): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, ms))
}
