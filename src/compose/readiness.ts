/** Readiness: what must work for a call to be served, and what is only told. */
import type { Check } from '../admin/admin.ts'
import type { AuditWriter } from '../audit/writer.ts'
import type { ChangeFeed } from '../db/change-feed.ts'
import type { KillRoom } from '../kill/room.ts'
import type { PolicyRoom } from '../policy/engine.ts'
import type { PolicyReload } from '../policy/reload.ts'
import type { Upstreams } from '../upstream/room.ts'
import type { OpenedPolicies } from './policies.ts'

/** What is asked how it is. `audit` null = switched off. */
export interface ReadinessParts {
  readonly kills: Pick<KillRoom, 'counts'>
  readonly reload: Pick<PolicyReload, 'pending'>
  readonly policies: Pick<OpenedPolicies, 'sequence'>
  readonly policy: Pick<PolicyRoom, 'revision'>
  readonly upstreams: Pick<Upstreams, 'states'>
  readonly audit: Pick<AuditWriter, 'state' | 'gauges'> | null
  /** With `gap` calls go on without their rows. */
  readonly onAuditFailure: 'deny' | 'gap'
  readonly feed: Pick<ChangeFeed, 'confirmedAt'>
}

/** The checks of `/readyz` by name. `nowMs` by the monotonic clock of the change feed. */
export function readiness(
  parts: ReadinessParts,
  { nowMs, maxStaleMs }: { readonly nowMs: number; readonly maxStaleMs: number },
): Record<string, Check> {
  const upstreams = parts.upstreams.states()
  return {
    database: { state: nowMs - parts.feed.confirmedAt() <= maxStaleMs ? 'ok' : 'failed', required: true },
    // The last good policy serves; what waits to be mended is told and keeps nobody out.
    policy: {
      ...{ state: 'ok', required: true, ...parts.policy.revision },
      ...{ sequence: parts.policies.sequence(), pending: parts.reload.pending() },
    },
    kill_switches: { state: 'ok', required: false, ...parts.kills.counts() },
    audit: auditCheck(parts),
    upstreams: {
      state: upstreams.every((upstream) => upstream.status !== 'down') ? 'ok' : 'failed',
      required: false,
      servers: Object.fromEntries(upstreams.map((upstream) => [upstream.name, upstream.status])),
      open_breakers: upstreams.filter(({ breaker }) => breaker !== 'closed').map(({ name }) => name),
      uncheckable_schemas: upstreams.reduce((sum, { schemaProblems }) => sum + schemaProblems.length, 0),
    },
  }
}

function auditCheck({ audit, onAuditFailure }: ReadinessParts): Check {
  const required = onAuditFailure === 'deny'
  if (audit === null) return { state: 'disabled', required }
  const { pendingRows, spoolDiskBytes, spoolMaxBytes, lostRows } = audit.gauges()
  return {
    state: audit.state() === 'up' ? 'ok' : 'failed',
    required,
    waiting_rows: pendingRows,
    spool_used: Math.round((spoolDiskBytes / spoolMaxBytes) * 100) / 100,
    missed_rows: lostRows,
  }
}
