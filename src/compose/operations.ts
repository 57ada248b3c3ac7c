/** What those who run the gateway see and steer: metrics, changes, reloads, the admin listener. */
import { hostname } from 'node:os'
import pg from 'pg'
import type { Admin } from '../admin/admin.ts'
import { createAdmin } from '../admin/admin.ts'
import type { Metrics, MetricsOptions } from '../admin/metrics.ts'
import { createMetrics } from '../admin/metrics.ts'
import type { AuditWriter } from '../audit/writer.ts'
import type { AuthRoom } from '../auth/room.ts'
import type { ChangeFeed } from '../db/change-feed.ts'
import { createChangeFeed } from '../db/change-feed.ts'
import { toClientConfig } from '../db/connection.ts'
import type { Pools } from '../db/pools.ts'
import type { Spine } from '../gateway/call.ts'
import type { Log } from '../log.ts'
import type { PolicyReload } from '../policy/reload.ts'
import { VERSION } from '../version.ts'
import type { Building, Ground } from './building.ts'
import type { OpenedDatabase } from './database.ts'
import type { OpenedPolicies } from './policies.ts'
import type { ReadinessParts } from './readiness.ts'
import { readiness } from './readiness.ts'

type MetricSources = Pick<MetricsOptions, 'kills' | 'upstreams' | 'load'>

/** Metrics of this gateway. */
export function openMetrics(
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

/** Follows what other gateways and commands change. */
export function openChangeFeed(
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

interface ReloadParts {
  readonly policies: OpenedPolicies
  readonly feed: ChangeFeed
  readonly metrics: Metrics
  readonly spine: Spine
}

/** Follows the policies; open streams are judged anew when they change. */
export function openReload({ own }: Building, { policies, feed, metrics, spine }: ReloadParts): PolicyReload {
  const reload = policies.watch(feed, (result) => {
    metrics.recordReload(result, { ...policies.room.revision, sequence: policies.sequence() })
    spine.recheckStreams()
  })
  return own(reload, (opened) => opened.close())
}

interface AdminParts extends Omit<ReadinessParts, 'onAuditFailure'> {
  readonly auth: AuthRoom
  readonly metrics: Metrics
  readonly drain: { isDraining: boolean }
}

/** The listener for those who run the gateway; null when none is configured. */
export function openAdmin(
  { config, options, own }: Building,
  ground: Ground,
  parts: AdminParts,
): Admin | null {
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
