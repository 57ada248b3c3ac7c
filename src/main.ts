/**
 * The composition root: configuration -> database, policy, rooms, listeners. The only place that makes clocks, ids, pools
 * and processes; whatever it made it closes, in reverse order.
 */
import { randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { createNoAudit } from './audit/none.ts'
import { KEYS_TOPIC } from './auth/key-store.ts'
import { keepAuditDays, openAudit } from './compose/audit.ts'
import { loadSigner } from './compose/audit-trust.ts'
import type { Building, Ground, StartOptions } from './compose/building.ts'
import { openAuth, openKills, openRate, refuseWithoutCredentials } from './compose/callers.ts'
import type { OpenedDatabase } from './compose/database.ts'
import { openMigratedDatabase } from './compose/database.ts'
import {
  listen,
  openFrontDoor,
  openHttp,
  openTurnedAway,
  openTurns,
  waitingElsewhere,
} from './compose/door.ts'
import { openAdmin, openChangeFeed, openMetrics, openReload } from './compose/operations.ts'
import { openPolicies, readFolderFirst } from './compose/policies.ts'
import { openRowRules } from './compose/row-rules.ts'
import { openUpstreams } from './compose/upstreams.ts'
import { loadOrMakeSecret } from './config/own-secret.ts'
import type { Config, Listen } from './config/types.ts'
import type { Pools } from './db/pools.ts'
import { createPools } from './db/pools.ts'
import { UsageError } from './errors.ts'
import { createSpine } from './gateway/call.ts'
import type { FederationSettings } from './gateway/federation/federation.ts'
import { createRowIds } from './gateway/row-id.ts'
import { KILLS_TOPIC } from './kill/store.ts'
import { createObserver } from './log.ts'
import type { ReloadResult } from './policy/reload.ts'
import { deriveKey, parseSecret } from './secret.ts'
import { VERSION } from './version.ts'

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
