/** Which rows of the audit log are meant, and the SQL for it. */
import type { Outcome } from '../errors.ts'

/** Which rows; everything absent matches all. */
export interface RowFilter {
  readonly outcomes?: readonly Outcome[]
  readonly principal?: string
  /** Name of the target, whatever its kind. */
  readonly tool?: string
  readonly server?: string
  readonly tenant?: string
  /** Rows whose call began then or later. */
  readonly since?: Date
  /** Rows whose call began before. */
  readonly until?: Date
}

const CONDITIONS: readonly {
  readonly member: keyof RowFilter
  readonly sql: (at: number) => string
}[] = [
  { member: 'outcomes', sql: (at) => `outcome = any($${at}::text[])` },
  { member: 'principal', sql: (at) => `principal_id = $${at}` },
  { member: 'tool', sql: (at) => `tool_name = $${at}` },
  { member: 'server', sql: (at) => `server = $${at}` },
  { member: 'tenant', sql: (at) => `tenant = $${at}` },
  { member: 'since', sql: (at) => `ts >= $${at}::timestamptz` },
  { member: 'until', sql: (at) => `ts < $${at}::timestamptz` },
]

/** A condition on columns of `audit_events` whose parameters begin after `$before`, and their values. */
export function toCondition(
  filter: RowFilter,
  before = 0,
): { readonly sql: string; readonly values: readonly unknown[] } {
  const given = CONDITIONS.filter(({ member }) => filter[member] !== undefined)
  return {
    sql: given.map(({ sql }, index) => sql(before + index + 1)).join(' and ') || 'true',
    values: given.map(({ member }) => filter[member]),
  }
}
