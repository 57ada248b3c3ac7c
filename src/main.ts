/**
 * The composition root: configuration -> database, policy, rooms, listeners. The only place that makes clocks, ids, pools
 * and processes; whatever it made it closes, in reverse order.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { dirname, join } from 'node:path'
import pg from 'pg'
import type { Admin } from './admin/admin.ts'
import { createAdmin } from './admin/admin.ts'
import type { Metrics } from './admin/metrics.ts'
import { createMetrics } from './admin/metrics.ts'
import { createNoAudit } from './audit/none.ts'
import { storeRevision } from './audit/revisions.ts'
import type { AuditWriter } from './audit/writer.ts'
import { createAuditRoom } from './audit/writer.ts'
import { countKeys } from './auth/key-store.ts'
import type { AuthRoom } from './auth/room.ts'
import { createAuthRoom } from './auth/room.ts'
import { listenText } from './config/listen.ts'
import { loadOrMakeSecret } from './config/own-secret.ts'
import type { Config, Listen } from './config/types.ts'
import type { OpenedDatabase } from './database.ts'
import { openMigratedDatabase } from './database.ts'
import type { ChangeFeed } from './db/change-feed.ts'
import { createChangeFeed } from './db/change-feed.ts'
import { toClientConfig } from './db/connection.ts'
import type { Pools } from './db/pools.ts'
import { createPools } from './db/pools.ts'
import { UsageError } from './errors.ts'
import { createSpine } from './gateway/call.ts'
import type { Rooms } from './gateway/call.ts'
import { createRowIds } from './gateway/row-id.ts'
import { recordThrottledWindow } from './gateway/throttled.ts'
import type { HttpRoom } from './http/room.ts'
import { createHttpRoom } from './http/room.ts'
import type { FrontDoor } from './http/server.ts'
import { createFrontDoor } from './http/server.ts'
import type { Log } from './log.ts'
import { createObserver } from './log.ts'
import type { CompiledPolicy } from './policy/build.ts'
import { buildPolicy } from './policy/build.ts'
import { loadPolicySources } from './policy/build-sources.ts'
import { createCompiler } from './policy/compiler.ts'
import { loadCompilerArtifact } from './policy/compiler-artifact.ts'
import type { PolicyRoom } from './policy/engine.ts'
import { createPolicyRoom } from './policy/engine.ts'
import { deriveKey, parseSecret } from './secret.ts'
import type { Upstreams } from './upstream/room.ts'
import { createUpstreams } from './upstream/room.ts'

/** A gateway that is listening. */
export interface RunningGateway {
  readonly address: Listen
  /** null when no admin listener is configured. */
  readonly adminAddress: Listen | null
  readonly policy: { readonly revision: string; readonly digest: string }
  /** Lets calls in flight finish or records them, then closes everything that was started. */
  close(): Promise<void>
}

/** What {@link startGateway} takes besides the configuration. */
export interface StartOptions {
  readonly log: Log
  /** Told what is going on: worth showing when it takes longer than a second. */
  readonly onProgress?: (text: string) => void
  /** Wall clock, ms since the epoch; tests move it. */
  readonly nowMs?: () => number
}

/**
 * Starts everything in order: database, policy, rooms, listeners. A failure on the way closes what was started.
 * Throws UsageError or PolicyBuildError for what the person who runs it can mend.
 */
export async function startGateway(config: Config, options: StartOptions): Promise<RunningGateway> {
  const closers: (() => Promise<void> | void)[] = []
  const close = async (): Promise<void> => {
    while (closers.length > 0) await closers.pop()?.()
  }
  const own = <T>(thing: T, release: (thing: T) => Promise<void> | void): T => {
    closers.push(() => release(thing))
    return thing
  }
  try {
    return { ...(await open({ config, options, own })), close }
  } catch (error) {
    await close()
    throw error
  }
}

interface Building {
  readonly config: Config
  readonly options: StartOptions
  /** Remembers how to close what was made; closed in reverse order. */
  readonly own: <T>(thing: T, release: (thing: T) => Promise<void> | void) => T
}

/** Clocks, ids and the process's name: made here and nowhere else. */
interface Ground {
  readonly clock: Rooms['clock']
  readonly newId: (ms: number) => string
  readonly processId: string
}

async function open(building: Building): Promise<Omit<RunningGateway, 'close'>> {
  const { config, options, own } = building
  const ground: Ground = {
    clock: { nowMs: options.nowMs ?? Date.now, monotonicMs: () => performance.now() },
    newId: createRowIds(),
    processId: randomUUID(),
  }
  const compiled = await loadPolicy(config, options)
  const database = own(await openMigratedDatabase(config, options.onProgress), (opened) => opened.stop())
  const secret = await loadSecret(config, database)
  const pools = openPools(building, database)
  const policy = openPolicy(building, ground, compiled, secret)
  await storeRevision(pools.general, { ...compiled, loadedAt: new Date(ground.clock.nowMs()) })
  const upstreams = openUpstreams(building, ground)
  const audit = openAudit(building, ground, pools)
  const http = openHttp(config, secret)
  const metrics = openMetrics(audit, compiled)
  const observe = createObserver(options.log, metrics)
  const recording = { audit: audit ?? createNoAudit(), http, clock: ground.clock, newId: ground.newId, observe }
  const feed = openChangeFeed(building, ground, database, pools)
  const auth = openAuth(building, ground, pools, feed, recording)
  await feed.refresh()
  await refuseWithoutCredentials(config, pools)
  const spine = createSpine({ ...recording, auth, policy, upstreams }, config.limits)
  const drain = { isDraining: false }
  const admin = openAdmin(building, { auth, policy, upstreams, audit, feed, metrics, ground, drain })
  const front = openFrontDoor(building, ground, spine, drain)
  return {
    address: await listen(front, config.listen),
    adminAddress: admin === null ? null : await admin.listen(),
    policy: policy.revision,
  }
}

async function loadPolicy(config: Config, { onProgress }: StartOptions): Promise<CompiledPolicy> {
  const cacheDir = join(dirname(config.file), '.gateway', 'cache')
  onProgress?.('compiling the policies')
  const sources = await loadPolicySources(config.policies)
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(cacheDir) })
  try {
    return await buildPolicy(sources, { compiler, cacheDir })
  } finally {
    await compiler.close()
  }
}

/** With an embedded database the gateway keeps a secret of its own beside it; with a configured one the fleet shares one. */
async function loadSecret(config: Config, database: OpenedDatabase): Promise<string> {
  if (config.secret !== null) return parseSecret(config.secret)
  if (database.home !== null) return await loadOrMakeSecret(join(database.home, 'gateway-secret'))
  throw new UsageError('config', 'A database of your own needs secret_file (or GATEWAY_SECRET): 32 random bytes shared by all gateways.')
}

function openPools({ options, own }: Building, database: OpenedDatabase): Pools {
  const onIdleError = (use: string, error: Error): void =>
    options.log.warn({ pool: use, error: error.message }, 'database connection lost')
  return own(createPools({ runtime: database.runtime, onIdleError }), (pools) => pools.close())
}

function openHttp(config: Config, secret: string): HttpRoom {
  return createHttpRoom({
    allowedHosts: allowedHosts(config),
    allowedOrigins: config.allowedOrigins,
    trustedProxies: config.trustedProxies,
    maxBodyBytes: config.limits.maxBodyBytes,
    sessionKey: deriveKey(secret, 'session'),
  })
}

/** What the configuration names, the public address, and on a loopback listener the names of this machine. */
function allowedHosts(config: Config): readonly string[] {
  const published = config.publicUrl === null ? [] : [new URL(config.publicUrl).host]
  const local = isLoopback(config.listen.host) ? ['localhost', '127.0.0.1', '[::1]'] : []
  return [...config.allowedHosts, ...published, ...local]
}

function openMetrics(audit: AuditWriter | null, policy: CompiledPolicy): Metrics {
  const metrics = createMetrics({ version: VERSION, audit: audit === null ? null : audit.gauges, process: true })
  metrics.setPolicy(policy)
  return metrics
}

function openChangeFeed({ options, own }: Building, ground: Ground, database: OpenedDatabase, pools: Pools): ChangeFeed {
  const limits = { connectTimeoutMs: 2000, statementTimeoutMs: 0, lockTimeoutMs: 0 }
  const feed = createChangeFeed({
    db: pools.keys,
    openClient: () => new pg.Client(toClientConfig(database.runtime, 'changes', limits)),
    process: { id: ground.processId, name: `${hostname()}:${process.pid}` },
    monotonicMs: ground.clock.monotonicMs,
    onHealth: ({ ok, error }) => tellFeedHealth(options.log, ok, error),
  })
  return own(feed, (opened) => opened.close())
}

function tellFeedHealth(log: Log, ok: boolean, error: unknown): void {
  if (ok) log.info('changes of keys are being read again')
  else log.error({ error: error instanceof Error ? error.message : String(error) }, 'changes of keys cannot be read')
}
