/**
 * The composition root: configuration -> database, policy, rooms, listeners. The only place that makes clocks, ids, pools
 * and processes; whatever it made it closes, in reverse order.
 */
import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import { join } from 'node:path'
import pg from 'pg'
import type { Admin } from './admin/admin.ts'
import { createAdmin } from './admin/admin.ts'
import type { Metrics, MetricsOptions } from './admin/metrics.ts'
import { createMetrics } from './admin/metrics.ts'

import { createAnchors } from './audit/anchors.ts'
import { createNoAudit } from './audit/none.ts'
import type { Signer } from './audit/signing.ts'
import type { AuditWriter } from './audit/writer.ts'
import type { AuditRoomParts } from './audit-room.ts'
import { openAuditRoom } from './audit-room.ts'
import { loadSigner } from './audit-trust.ts'
import { countKeys, KEYS_TOPIC } from './auth/key-store.ts'
import type { AuthRoom } from './auth/room.ts'
import { createAuthRoom } from './auth/room.ts'
import { isLoopback } from './config/listen.ts'
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
import type { Rooms, Spine } from './gateway/call.ts'
import { createSpine } from './gateway/call.ts'
import type { FederationSettings } from './gateway/federation/federation.ts'
import { createRowIds } from './gateway/row-id.ts'
import { recordThrottledWindow } from './gateway/throttled.ts'
import type { TurnedAwayRecord } from './gateway/turned-away.ts'
import { createTurnedAway } from './gateway/turned-away.ts'
import type { Turns } from './gateway/turns.ts'
import { createTurns } from './gateway/turns.ts'
import type { HttpRoom } from './http/room.ts'
import { createHttpRoom } from './http/room.ts'
import type { FrontDoor } from './http/server.ts'
import { createFrontDoor } from './http/server.ts'
import type { KillRoom } from './kill/room.ts'
import { createKillRoom } from './kill/room.ts'
import { KILLS_TOPIC } from './kill/store.ts'
import type { Log } from './log.ts'
import { createObserver } from './log.ts'
import type { OpenedPolicies } from './policies.ts'
import { openPolicies, readFolderFirst } from './policies.ts'
import type { PolicyReload, ReloadResult } from './policy/reload.ts'
import type { UpstreamGate } from './rate/caps.ts'
import { createPrincipalCaps, createUpstreamGate } from './rate/caps.ts'
import { createRateGate } from './rate/gate.ts'
import { createLimiter } from './rate/room.ts'
import type { ReadinessParts } from './readiness.ts'
import { readiness } from './readiness.ts'
import { openRetention } from './retention.ts'
import { openRowRules } from './row-rules.ts'
import { deriveKey, parseSecret } from './secret.ts'
import type { Upstreams } from './upstream/room.ts'
import { createUpstreams } from './upstream/room.ts'
import type { SchemaPlans } from './upstream/schema-plans.ts'
import { VERSION } from './version.ts'

const MAX_THROTTLED_ADDRESSES = 100_000
/** Within a second of a change no stream stays open that would not be allowed any more. */
const STREAM_RECHECK_MS = 500

/** A gateway that is listening. */
export interface RunningGateway {
  readonly address: Listen
  /** null when no admin listener is configured. */
  readonly adminAddress: Listen | null
  /** The one it started with. */
  readonly policy: { readonly revision: string; readonly digest: string }
  /** Reads the policies folder now, whether it has changed or not. Never rejects: what fails leaves the last good one. */
  reloadPolicies(): Promise<ReloadResult>
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
  /** Compiled schemas of tools, when several gateways run in this process. Left open when this one closes. */
  readonly schemas?: SchemaPlans
}

/**
 * Starts everything in order: database, policy, rooms, listeners. A failure on the way closes what was started.
 * Throws UsageError or PolicyBuildError for what the person who runs it can mend.
 */
export async function startGateway(config: Config, options: StartOptions): Promise<RunningGateway> {
  const closers: (() => Promise<void>)[] = []
  const close = async (): Promise<void> => {
    const failures: unknown[] = []
    while (closers.length > 0) await Promise.resolve(closers.pop()?.()).catch((error) => failures.push(error))
    if (failures.length > 0) throw failures[0]
  }
  const own = <T>(thing: T, release: (thing: T) => Promise<void> | void): T => {
    closers.push(async () => release(thing))
    return thing
  }
  try {
    return { ...(await open({ config, options, own })), close }
  } catch (error) {
    // What went wrong first is what the person has to mend.
    await close().catch(() => undefined)
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
  const first = await readFolderFirst(config, options.onProgress)
  const database = own(await openMigratedDatabase(config, options.onProgress), (opened) => opened.stop())
  const secret = await loadSecret(config, database)
  const pools = openPools(building, database)
  const policyParts = { config, first, db: pools.general, secret, clock: ground.clock, log: options.log }
  const policies = own(await openPolicies(policyParts), (opened) => opened.room.close())
  const policy = policies.room
  const upstreams = openUpstreams(building, ground, (name, ms) => metrics.recordUpstreamWait(name, ms))
  const signer = await loadSigner(config, database.home)
  const audit = await openAudit(building, ground, {
    database,
    pool: pools.audit,
    signer,
    redaction: openRowRules(config, secret, policy),
    onRow: (bytes) => metrics.recordAuditRow(bytes),
  })
  keepAuditDays(building, ground, database.owner, signer)
  const turns = openTurns(building, ground)
  const http = openHttp(config, secret)
  const metrics = openMetrics(audit, policies, {
    kills: () => kills.counts(),
    upstreams: upstreams.states,
    load: turns.state,
  })
  const recording = {
    audit: audit ?? createNoAudit(),
    http,
    clock: ground.clock,
    newId: ground.newId,
    observe: createObserver(options.log, metrics),
  }
  const turnedAway = openTurnedAway(building, recording, metrics)
  const feed = openChangeFeed(building, ground, { database, pools, policies })
  const auth = openAuth(building, ground, pools, feed, recording)
  const kills = openKills(config, ground, pools, feed)
  await feed.refresh()
  await refuseWithoutCredentials(config, pools)
  const rate = openRate(building, ground, pools)
  const rooms = { ...recording, turns, auth, kills, policy, rate, upstreams }
  const spine = createSpine(waitingElsewhere(rooms, turns), mergedMount(config, secret))
  for (const topic of [KEYS_TOPIC, KILLS_TOPIC]) feed.onChange(topic, spine.recheckStreams)
  const reload = openReload(building, { policies, feed, metrics, spine })
  const drain = { isDraining: false }
  const admin = openAdmin(building, ground, {
    ...{ auth, kills, policy, policies, reload, upstreams, audit, feed, metrics, drain },
  })
  const front = openFrontDoor(building, ground, { spine, http, turns, turnedAway, drain })
  return {
    address: await listen(front, config.listen),
    adminAddress: admin === null ? null : await admin.listen(),
    policy: policy.revision,
    reloadPolicies: reload.reload,
  }
}

/** With an embedded database the gateway keeps a secret of its own beside it; with a configured one the fleet shares one. */
async function loadSecret(config: Config, database: OpenedDatabase): Promise<string> {
  if (config.secret !== null) return parseSecret(config.secret)
  if (database.home !== null) return await loadOrMakeSecret(join(database.home, 'gateway-secret'))
  throw new UsageError(
    'config',
    'A database of your own needs secret_file (or GATEWAY_SECRET): 32 random bytes shared by all gateways.',
  )
}

function openPools({ options, own }: Building, database: OpenedDatabase): Pools {
  const onIdleError = (use: string, error: Error): void =>
    options.log.warn({ pool: use, error: error.message }, 'database connection lost')
  return own(createPools({ runtime: database.runtime, onIdleError }), (pools) => pools.close())
}

/** null when it is switched off. */
function mergedMount({ federation, limits }: Config, secret: string): FederationSettings | null {
  if (!federation.enabled) return null
  const { partTimeoutMs } = federation
  const cursorKey = deriveKey(secret, 'cursor')
  return { partTimeoutMs, maxStreamMs: limits.maxStreamS * 1000, cursorKey, version: VERSION }
}

/** Waiting for a body or for an upstream is not the gateway's own work. */
function waitingElsewhere(rooms: Rooms, { away }: Turns): Rooms {
  const { http, upstreams } = rooms
  return {
    ...rooms,
    http: { ...http, read: away(http.read) },
    upstreams: {
      ...upstreams,
      findTool: away(upstreams.findTool),
      validateArguments: away(upstreams.validateArguments),
      forward: away(upstreams.forward),
    },
  }
}

function openTurns({ config, own }: Building, { clock }: Ground): Turns {
  const { maxInFlight, maxDelayMs } = config.limits
  const turns = createTurns({ maxInFlight, maxDelayMs, monotonicMs: clock.monotonicMs })
  return own(turns, (opened) => opened.close())
}

/** Attempts turned away at the door are many when there is no time to write a line about each. */
function openTurnedAway({ options, own }: Building, rooms: Recording, metrics: Metrics): TurnedAwayRecord {
  const record = createTurnedAway({
    rooms,
    onCount(count) {
      metrics.recordTurnedAway(count)
      options.log.warn({ attempts: count }, 'attempts turned away: more is being asked than can be answered')
    },
  })
  return own(record, (opened) => opened.close())
}

function openHttp(config: Config, secret: string): HttpRoom {
  return createHttpRoom({
    allowedHosts: allowedHosts(config),
    allowedOrigins: allowedOrigins(config),
    trustedProxies: config.trustedProxies,
    denyAs: config.denyAs,
    maxBodyBytes: config.limits.maxBodyBytes,
    sessionKey: deriveKey(secret, 'session'),
    taskKey: deriveKey(secret, 'task'),
  })
}

/** What the configuration names, the public address, and on a loopback listener the names of this machine. */
function allowedHosts(config: Config): readonly string[] {
  const published = config.publicUrl === null ? [] : [new URL(config.publicUrl).host]
  const local = isLoopback(config.listen.host) ? ['localhost', '127.0.0.1', '[::1]'] : []
  return [...config.allowedHosts, ...published, ...local]
}

function allowedOrigins({ allowedOrigins: listed, publicUrl }: Config): readonly string[] {
  return publicUrl === null ? listed : [...listed, new URL(publicUrl).origin]
}

type MetricSources = Pick<MetricsOptions, 'kills' | 'upstreams' | 'load'>

function openMetrics(
  audit: AuditWriter | null,
  { room, sequence }: OpenedPolicies,
  sources: MetricSources,
): Metrics {
  const metrics = createMetrics({
    version: VERSION,
    audit: audit === null ? null : audit.gauges,
    ...sources,
    process: true,
  })
  metrics.setPolicy({ ...room.revision, sequence: sequence() })
  return metrics
}

function openChangeFeed(
  { options, own }: Building,
  ground: Ground,
  parts: { readonly database: OpenedDatabase; readonly pools: Pools; readonly policies: OpenedPolicies },
): ChangeFeed {
  const { database, pools, policies } = parts
  const limits = { connectTimeoutMs: 2000, statementTimeoutMs: 0, lockTimeoutMs: 0 }
  const feed = createChangeFeed({
    db: pools.keys,
    openClient: () => new pg.Client(toClientConfig(database.runtime, 'changes', limits)),
    process: { id: ground.processId, name: `${hostname()}:${process.pid}` },
    policySequence: policies.sequence,
    monotonicMs: ground.clock.monotonicMs,
    onHealth: ({ ok, error }) => tellFeedHealth(options.log, ok, error),
  })
  return own(feed, (opened) => opened.close())
}

function tellFeedHealth(log: Log, ok: boolean, error: unknown): void {
  if (ok) log.info('changes of keys are being read again')
  else
    log.error(
      { error: error instanceof Error ? error.message : String(error) },
      'changes of keys cannot be read',
    )
}

function openUpstreams(
  { config, options, own }: Building,
  ground: Ground,
  onWait: (name: string, ms: number) => void,
): Upstreams {
  const upstreams = createUpstreams({
    upstreams: config.upstreams,
    schemas: options.schemas,
    limits: { maxStreamMs: config.limits.maxStreamS * 1000 },
    gateOf: (name) => openGate(config, ground, name),
    version: VERSION,
    clock: ground.clock,
    random: Math.random,
    log: options.log,
    onWait,
  })
  upstreams.warm()
  return own(upstreams, (opened) => opened.close())
}

/** Bounds what one upstream works on at once. */
function openGate({ upstreams, limits }: Config, { clock }: Ground, name: string): UpstreamGate | null {
  const { maxInFlight = null, maxWaitMs = 0 } = upstreams[name] ?? {}
  if (maxInFlight === null) return null
  const bounds = { maxConcurrent: maxInFlight, maxWaiting: limits.maxInFlight, maxWaitMs }
  return createUpstreamGate(bounds, clock.monotonicMs)
}

async function openAudit(
  { config, options, own }: Building,
  ground: Ground,
  parts: Pick<AuditRoomParts, 'database' | 'pool' | 'signer' | 'redaction' | 'onRow'>,
): Promise<AuditWriter | null> {
  if (!config.audit.enabled) {
    options.log.warn({}, 'audit is off: attempts leave no row (audit.enabled: false)')
    return null
  }
  const { clock, newId, processId: writerId } = ground
  const anchors = own(createAnchors({ targets: config.audit.anchors, log: options.log }), (opened) =>
    opened.close(),
  )
  if (!parts.signer) options.log.warn({}, 'the audit log is not signed (audit.signing_key_file)')
  const writer = await openAuditRoom(config, {
    ...{ ...parts, writerId, newId, clock },
    log: options.log,
    onCheckpoint: anchors.record,
  })
  return own(writer, async (opened) => void (await opened.close()))
}

/** Days that are older than they have to be kept are removed, by the role that may. */
function keepAuditDays(
  { config, options, own }: Building,
  { clock }: Ground,
  owner: OpenedDatabase['owner'],
  signer: Signer | null,
): void {
  const { retentionDays, archiveDir } = config.audit
  if (retentionDays === null) return
  const parts = {
    owner,
    keepDays: retentionDays,
    archiveFolder: archiveDir,
    signer,
    nowMs: clock.nowMs,
    log: options.log,
  }
  own(openRetention(parts), (opened) => opened.close())
}

type Recording = Pick<Rooms, 'audit' | 'http' | 'clock' | 'newId' | 'observe'>

function openAuth(
  { config, own }: Building,
  ground: Ground,
  pools: Pools,
  feed: ChangeFeed,
  recording: Recording,
): AuthRoom {
  const { throttle, maxStaleS, anonymous } = config.auth
  const pending = new Set<Promise<void>>()
  const room = createAuthRoom({
    db: pools.keys,
    changes: feed,
    clock: ground.clock,
    anonymous: anonymous ? { roles: ['admin'] } : null,
    maxStaleMs: maxStaleS * 1000,
    throttle: {
      maxFailures: throttle.maxFailures,
      windowMs: throttle.windowS * 1000,
      maxAddresses: MAX_THROTTLED_ADDRESSES,
    },
    onThrottledWindow: (window) => {
      const row = recordThrottledWindow(recording, window).finally(() => pending.delete(row))
      pending.add(row)
    },
  })
  return own(room, async (opened) => {
    opened.close()
    await Promise.all(pending)
  })
}

function openKills(config: Config, ground: Ground, pools: Pools, feed: ChangeFeed): KillRoom {
  return createKillRoom({
    db: pools.keys,
    changes: feed,
    monotonicMs: ground.clock.monotonicMs,
    maxStaleMs: config.auth.maxStaleS * 1000,
  })
}

interface ReloadParts {
  readonly policies: OpenedPolicies
  readonly feed: ChangeFeed
  readonly metrics: Metrics
  readonly spine: Spine
}

function openReload({ own }: Building, { policies, feed, metrics, spine }: ReloadParts): PolicyReload {
  const reload = policies.watch(feed, (result) => {
    metrics.recordReload(result, { ...policies.room.revision, sequence: policies.sequence() })
    spine.recheckStreams()
  })
  return own(reload, (opened) => opened.close())
}

/** Without a key nobody could be let in, and a gateway that lets everybody in by mistake must not start. */
async function refuseWithoutCredentials(config: Config, pools: Pools): Promise<void> {
  if (config.auth.anonymous || (await countKeys(pools.general)) > 0) return
  throw new UsageError(
    'config',
    'There is no API key yet, so nobody could use the gateway. Make one with `gateway keys create --name NAME --role ROLE`, or start with --dev on a loopback address.',
  )
}

/** Limits are counted in the database for all gateways; the caps on one principal in the memory of each. */
function openRate({ config, options, own }: Building, { clock }: Ground, pools: Pools): Rooms['rate'] {
  const limiter = own(createLimiter({ pool: pools.limits, clock, log: options.log }), (opened) =>
    opened.close(),
  )
  // Opens the first connection before the first call needs it.
  void limiter.sweep()
  const { principalMaxInFlight, principalMaxDenialsPerMinute } = config.limits
  const caps = createPrincipalCaps({
    limits: {
      maxInFlight: principalMaxInFlight ?? Number.POSITIVE_INFINITY,
      maxDenialsPerMinute: principalMaxDenialsPerMinute ?? Number.POSITIVE_INFINITY,
    },
    monotonicMs: clock.monotonicMs,
  })
  return createRateGate(limiter, caps)
}

interface AdminParts extends Omit<ReadinessParts, 'onAuditFailure'> {
  readonly auth: AuthRoom
  readonly metrics: Metrics
  readonly drain: { isDraining: boolean }
}

function openAdmin({ config, options, own }: Building, ground: Ground, parts: AdminParts): Admin | null {
  if (config.admin.listen === null) return null
  const admin = createAdmin({
    listen: config.admin.listen,
    allowedHosts: config.admin.allowedHosts,
    health: () =>
      readiness(
        { ...parts, onAuditFailure: config.audit.onFailure },
        { nowMs: ground.clock.monotonicMs(), maxStaleMs: config.auth.maxStaleS * 1000 },
      ),
    isDraining: () => parts.drain.isDraining,
    authenticate: parts.auth.authenticate,
    metrics: parts.metrics,
    onFault: (error) => options.log.error({ err: error }, 'admin request failed'),
  })
  return own(admin, (opened) => opened.close())
}

interface FrontDoorParts {
  readonly spine: Spine
  readonly http: HttpRoom
  readonly turns: Turns
  readonly turnedAway: TurnedAwayRecord
  readonly drain: { isDraining: boolean }
}

function openFrontDoor({ config, options, own }: Building, ground: Ground, parts: FrontDoorParts): FrontDoor {
  const { spine, http, turns, turnedAway, drain } = parts
  const front = createFrontDoor({
    spine: spine.attempt,
    preflight: http.preflight,
    tls: config.tls,
    doorman: {
      handsOn: () => turns.admits() || !turnedAway.isFlood(),
      turnedAway: (head) => turnedAway.note({ ...head, clientIp: http.clientIp(head) }),
    },
    newRequestId: () => ground.newId(ground.clock.nowMs()),
    log: options.log,
  })
  const timer = setInterval(spine.recheckStreams, STREAM_RECHECK_MS)
  timer.unref()
  return own(front, async (opened) => {
    drain.isDraining = true
    spine.endStreams()
    await opened.close(config.limits.drainMs)
    clearInterval(timer)
  })
}

async function listen(front: FrontDoor, at: Listen): Promise<Listen> {
  const { address, port } = await front.listen(at.host, at.port)
  return { host: address, port }
}
