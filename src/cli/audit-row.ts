/** The row that a command is about. */
import type { StoredRow } from '../audit/query.ts'
import { findRows } from '../audit/query.ts'
import { UsageError } from '../errors.ts'

/** `<id>` of a command. */
export const ID_ARGUMENT = {
  type: 'string',
  demandOption: true,
  describe: 'Row id or request id, or its beginning',
} as const

/** The one row that is meant by (the beginning of) an id. Throws UsageError when there is none, or several. */
export async function findRow(db: Parameters<typeof findRows>[0], id: string): Promise<StoredRow> {
  const rows = await findRows(db, id)
  if (rows === null) {
    throw new UsageError(
      'usage',
      `"${id}" is no id: give a row id or request id, or at least its first 4 hex digits. See: gateway audit tail`,
    )
  }
  const exact = rows.find((row) => row.id === id.trim().toLowerCase())
  const [row, ...others] = rows
  if (row === undefined) {
    throw new UsageError(
      'not_found',
      `No row has an id or request id that begins with ${id}. See: gateway audit tail`,
    )
  }
  // The rows of one exchange share a request id; the first of them is the call itself.
  if (exact !== undefined || others.every((other) => other.request_id === row.request_id)) return exact ?? row
  const list = rows
    .slice(0, 10)
    .map((one) => `  ${one.id}  ${one.outcome}  ${one.method ?? '-'} ${one.tool_name ?? ''}`)
  const more = rows.length > 10 ? ['  ..'] : []
  throw new UsageError('usage', [`More than one row begins with ${id}:`, ...list, ...more].join('\n'))
}
