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

/** The same by class of SQLSTATE or kind of system error, where no single code says more. */
const KINDS: readonly (readonly [code: RegExp, kind: string, text: string])[] = [
  [
    /^(SELF_SIGNED|DEPTH_ZERO|UNABLE_TO|CERT_|ERR_TLS|ERR_SSL|EPROTO)/,
    'unreachable',
    'The encrypted connection failed: check sslmode and sslrootcert in database.url.',
  ],
  [/^(08|53|57)...$/, 'unreachable', 'The server cannot serve now: see its log.'],
  [/^28...$/, 'unreachable', 'The server does not let this role in: check database.url.'],
  [/^E[A-Z]+$/, 'unreachable', 'The connection failed: check database.url and the network.'],
]

/** Turns what `pg` throws into an error for the person who starts the gateway. Others pass as they are. */
export function toDatabaseUsageError(error: unknown): unknown {
  if (error instanceof UsageError || !(error instanceof Error)) return error
  const { code } = error as Error & { readonly code?: string }
  // The cause would show the URL, and the password in it.
  if (code === 'ERR_INVALID_URL') return new UsageError('config', 'database.url is not a postgres:// URL.')
  if (/unsupported startup parameter/i.test(error.message)) return poolingProxyError(error)
  if (/timeout expired|Connection terminated|does not support SSL/i.test(error.message)) {
    return new UsageError('unreachable', `The database cannot be reached: ${error.message}.`, {
      cause: error,
    })
  }
  const [kind, text] = wayOutOf(code ?? '')
  if (kind === null) return error
  return new UsageError(kind, `The database cannot be used: ${describe(error)}. ${text}`, { cause: error })
}

function wayOutOf(code: string): readonly [kind: string | null, text: string] {
  const exact = WAYS_OUT[code]
  if (exact !== undefined) return exact
  const [, kind, text] = KINDS.find(([pattern]) => pattern.test(code)) ?? []
  return [kind ?? null, text ?? '']
}

/** An AggregateError (several addresses tried) has an empty message. */
function describe(error: Error): string {
  if (error.message !== '') return error.message
  const first = error instanceof AggregateError ? (error.errors[0] as unknown) : null
  return first instanceof Error ? first.message : error.name
}
