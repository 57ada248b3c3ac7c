import { UsageError } from '../errors.ts'
import { poolingProxyError } from './pooling-proxy.ts'

/** What a person can do about a way of failing, by SQLSTATE or system error code. */
const WAYS_OUT: Readonly<Record<string, readonly [code: string, text: string]>> = {
  ECONNREFUSED: ['unreachable', 'Nothing listens there: is PostgreSQL running, are host and port right?'],
  ENOENT: ['unreachable', 'There is no such socket: is PostgreSQL running?'],
  ENOTFOUND: ['unreachable', 'The host name is unknown: check database.url.'],
  EAI_AGAIN: [
    'unreachable',
    'The host name cannot be looked up now: check database.url and the name service.',
  ],
  ETIMEDOUT: ['unreachable', 'The server does not answer: check database.url and the firewall.'],
  ECONNRESET: ['unreachable', 'The server closed the connection.'],
  '28P01': ['unreachable', 'The password was refused: check user and password in database.url.'],
  '28000': [
    'unreachable',
    'The server does not let this role in: check database.url and the server’s pg_hba.conf.',
  ],
  '3D000': ['unreachable', 'Create the database first, or correct its name in database.url.'],
  '53300': ['unreachable', 'The server has no free connection: raise max_connections or end other clients.'],
  '57P03': ['unreachable', 'The server is starting or stopping: try again in a moment.'],
  '42501': [
    'schema_rights',
    'The role may not change the schema: set database.migrate_url to a role that owns it (or give this role CREATE on the schema).',
  ],
  '3F000': [
    'schema_rights',
    'The role sees no schema: set database.migrate_url to a role that owns one (or GRANT USAGE, CREATE on it).',
  ],
  '55P03': ['unreachable', 'A table was locked by another session for too long: end it, then start again.'],
}

/** Turns what `pg` throws into an error for the person who starts the gateway. Others pass as they are. */
export function toDatabaseUsageError(error: unknown): unknown {
  if (error instanceof UsageError || !(error instanceof Error)) return error
  const { code } = error as Error & { readonly code?: string }
  if (/unsupported startup parameter/i.test(error.message)) return poolingProxyError(error)
  if (/timeout expired|Connection terminated/i.test(error.message)) {
    return new UsageError('unreachable', `The database did not answer: ${error.message}.`, { cause: error })
  }
  const wayOut = code === undefined ? undefined : WAYS_OUT[code]
  if (wayOut === undefined) return error
  return new UsageError(wayOut[0], `The database cannot be used: ${describe(error)}. ${wayOut[1]}`, {
    cause: error,
  })
}

/** An AggregateError (several addresses tried) has an empty message. */
function describe(error: Error): string {
  if (error.message !== '') return error.message
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : null
  return first instanceof Error ? first.message : error.name
}
