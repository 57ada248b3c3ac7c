/** The log as a stream of text: page by page, in order of `ts`, with bounded memory however long it is. */
import type { Pool } from 'pg'
import { CSV_HEADER, toCsv } from './csv.ts'
import { toJsonLine } from './document.ts'
import type { RowFilter } from './filter.ts'
import { toCondition } from './filter.ts'
import { toOcsf } from './ocsf.ts'
import type { StoredRow } from './query.ts'
import { FULL } from './query.ts'

/** The formats of an export. */
export const FORMATS = ['ndjson', 'csv', 'ocsf'] as const
/** `ndjson`: whole rows; `csv`: their columns without JSON; `ocsf`: events of OCSF 1.9, class API Activity. */
export type Format = (typeof FORMATS)[number]

/** Rows of one statement: with the largest trace and payloads a row can have, some 20 MB. */
const PAGE = 200

/** Where an export has come to. */
export interface ExportedPage {
  readonly text: string
  readonly rows: number
  /** The last row in it. */
  readonly last: Pick<StoredRow, 'id' | 'ts'>
}

/** What is exported, and how. */
export interface ExportPlan {
  readonly filter: RowFilter
  readonly format: Format
  /** Goes on behind this row; a format's first line is left out then. */
  readonly after: Pick<StoredRow, 'id' | 'ts'> | null
}

/** What stands before the first row. */
export function exportHead({ format, after }: ExportPlan): string {
  return format === 'csv' && after === null ? CSV_HEADER : ''
}

/** The rows, oldest first. Rows that are stored behind the cursor while it runs are not in it. */
export async function* exportPages(db: Pick<Pool, 'query'>, plan: ExportPlan): AsyncGenerator<ExportedPage> {
  const { sql, values } = toCondition(plan.filter, 3)
  // The first condition lets the planner skip days, the second one is exact.
  const statement = `select ${FULL} from audit_events
    where ts >= $1::timestamptz and (ts, id) > ($1::timestamptz, $2::uuid) and ${sql} order by ts, id limit $3`
  let at: Pick<StoredRow, 'id' | 'ts'> = plan.after ?? { ts: plan.filter.since ?? new Date(0), id: LEAST }
  const line = LINES[plan.format]
  for (;;) {
    const { rows } = await db.query<StoredRow>(statement, [at.ts, at.id, PAGE, ...values])
    const last = rows.at(-1)
    if (last === undefined) return
    yield { text: rows.map(line).join(''), rows: rows.length, last }
    if (rows.length < PAGE) return
    at = last
  }
}

const LEAST = '00000000-0000-0000-0000-000000000000'

const LINES: Readonly<Record<Format, (row: StoredRow) => string>> = {
  ndjson: (row) => `${toJsonLine(row)}\n`,
  csv: toCsv,
  ocsf: (row) => `${toOcsf(row)}\n`,
}
