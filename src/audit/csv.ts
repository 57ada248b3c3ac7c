/** Rows as CSV (RFC 4180), safe to open in a spreadsheet. Pure. */
import { parseExact } from '../json/exact.ts'
import type { StoredRow } from './query.ts'

/** The columns: all that are no JSON, and the policy's reasons. */
const COLUMNS = [
  'ts',
  'id',
  'request_id',
  'outcome',
  'status_code',
  'reason',
  'error_message',
  'tenant',
  'principal_id',
  'principal_kind',
  'role',
  'roles',
  'api_key_id',
  'client_ip',
  'client_name',
  'client_version',
  'protocol_version',
  'session_hash',
  'http_method',
  'method',
  'server',
  'target_kind',
  'tool_name',
  'latency_ms',
  'upstream_ms',
  'policy_revision',
  'writer',
  'seq',
  'leaf',
] as const satisfies readonly (keyof StoredRow)[]
const REASONS = ['allowed_by', 'denied_by'] as const

/** A spreadsheet takes a cell that begins so for a formula; the wide forms are taken for the narrow ones. */
const FORMULA = /^[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/
const QUOTED = /[",\r\n]/

/** The first line. */
export const CSV_HEADER = `${[...COLUMNS, ...REASONS].join(',')}\r\n`

/** One row as one record; lists are joined with a space. */
export function toCsv(row: StoredRow): string {
  const authz = authzOf(row.decision)
  const cells = [...COLUMNS.map((name) => row[name]), ...REASONS.map((name) => authz[name])]
  return `${cells.map(cell).join(',')}\r\n`
}

function cell(value: unknown): string {
  if (value === null || value === undefined) return ''
  if (typeof value === 'number') return String(value)
  const text =
    value instanceof Date ? value.toISOString() : Array.isArray(value) ? value.join(' ') : String(value)
  const safe = FORMULA.test(text) ? `'${text}` : text
  return QUOTED.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe
}

function authzOf(decision: string): Readonly<Record<string, unknown>> {
  const { authz } = (parseExact(decision) ?? {}) as { authz?: Record<string, unknown> }
  return authz ?? {}
}
