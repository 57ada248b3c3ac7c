/**
 * Finds a connection pooler in transaction mode. There every statement may run on another server session: LISTEN hears
 * nothing, and a session's advisory lock guards nothing and is left behind. Both are load-bearing here.
 */

import type { Client } from 'pg'
import pg from 'pg'
import { UsageError } from '../errors.ts'
import type { Connection } from './connection.ts'
import { toClientConfig } from './connection.ts'

const PROBES = 3

/**
 * Throws UsageError `pooling_proxy` when `client` (connected by `connection`) does not keep one server session.
 *
 * A direct connection is told its own process id when it is opened; a pooler hands out ids of its own making. Only then
 * is it worth asking whether two open connections share a session, or one wanders between sessions.
 */
export async function refusePoolingProxy(client: Client, connection: Connection): Promise<void> {
  const first = await serverPid(client)
  if (first === announcedPid(client)) return
  const limits = { connectTimeoutMs: 10_000, statementTimeoutMs: 10_000, lockTimeoutMs: 0 }
  const other = new pg.Client(toClientConfig(connection, 'probe', limits))
  other.on('error', () => undefined)
  try {
    await other.connect()
    for (let probe = 0; probe < PROBES; probe += 1) {
      const theirs = await serverPid(other)
      // Twice in a row: a pooler that takes turns between two sessions would otherwise look faithful.
      const ours = [await serverPid(client), await serverPid(client)]
      if (ours.some((pid) => pid !== first) || theirs === first) throw poolingProxyError()
    }
  } finally {
    await other.end().catch(() => undefined)
  }
}

/** The error for a pooler that cannot be used; also for one that refuses our start-up parameters. */
export function poolingProxyError(cause?: unknown): UsageError {
  return new UsageError(
    'pooling_proxy',
    'A connection pooler in transaction mode (such as PgBouncer with pool_mode=transaction) stands between the gateway ' +
      'and PostgreSQL. Change notifications and advisory locks do not work through it. Point database.url and ' +
      'database.migrate_url at PostgreSQL itself, or at a pool with pool_mode=session that lets statement_timeout, ' +
      'lock_timeout and idle_in_transaction_session_timeout through.',
    { cause },
  )
}

async function serverPid(client: Client): Promise<number> {
  // No parameters: a simple query, which every pooler passes on.
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid')
  return rows[0]?.pid ?? -1
}

function announcedPid(client: Client): number | null {
  // `pg` keeps the BackendKeyData of the start-up here; its types do not name it.
  const { processID } = client as unknown as { readonly processID?: number | null }
  return processID ?? null
}
