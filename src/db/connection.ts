/** How one role reaches the database: either a URL from the configuration or the parts the embedded launcher made. */
import type { ClientConfig } from 'pg'

/** A connection in parts, as the embedded launcher gives it. */
export interface ConnectionParts {
  /** Directory of the unix socket, or a host name. */
  readonly host: string
  readonly port: number
  readonly user: string
  readonly password: string
  readonly database: string
}

/** Connection of one database role. May hold a password: never log it, never put it into an error. */
export type Connection = { readonly connectionString: string } | ConnectionParts

/** The same as a URL, as `database.url` takes it and psql understands it. Holds the password. */
export function toConnectionUrl(parts: ConnectionParts): string {
  const user = `${encodeURIComponent(parts.user)}:${encodeURIComponent(parts.password)}`
  return `postgresql://${user}@${encodeURIComponent(parts.host)}:${parts.port}/${encodeURIComponent(parts.database)}`
}

/** Bounds on what one statement may cost. All in milliseconds; 0 = no bound. */
export interface StatementLimits {
  readonly connectTimeoutMs: number
  /** The server gives up on a statement after this. */
  readonly statementTimeoutMs: number
  /** The server gives up waiting for a lock after this. */
  readonly lockTimeoutMs: number
}

/** What `pg` needs to open a connection. `application_name` shows up in pg_stat_activity: `mcp-policy-gateway/<use>`. */
export function toClientConfig(connection: Connection, use: string, limits: StatementLimits): ClientConfig {
  return {
    ...connection,
    application_name: `mcp-policy-gateway/${use}`,
    connectionTimeoutMillis: limits.connectTimeoutMs,
    statement_timeout: limits.statementTimeoutMs,
    lock_timeout: limits.lockTimeoutMs,
    idle_in_transaction_session_timeout: 60_000,
    // The server's own timeout is useless when the server or the network has gone: the client gives up a little later.
    ...(limits.statementTimeoutMs > 0 ? { query_timeout: limits.statementTimeoutMs + 1000 } : {}),
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
  }
}
