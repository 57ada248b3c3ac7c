/** A row back from the text that was written to the spool. Pure. */
import { objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import { toStoredText } from '../json/stored-text.ts'
import { PAYLOAD_COLUMNS } from './chain.ts'
import type { AuditRow } from './row.ts'
import { placeholder, RECORD, toRecord } from './row.ts'
import type { Entry } from './store.ts'

const JSON_COLUMNS: ReadonlySet<string> = new Set(PAYLOAD_COLUMNS)

/** An entry of a record that was read back from the spool; its row is made when its turn to be chained comes. */
export function readBack(text: string, seq: number, writer: string): Entry {
  const isCurrent = text.startsWith(RECORD)
  let row: AuditRow | null = null
  let record = isCurrent ? text : null
  const rowOf = (): AuditRow => {
    row ??= isCurrent ? toRow(text) : fromOlder(text)
    return row
  }
  return {
    get row() {
      return rowOf()
    },
    set row(changed) {
      row = changed
    },
    get record() {
      record ??= toRecord(rowOf(), writer, seq)
      return record
    },
    set record(changed) {
      record = changed
    },
    seq,
    writer,
    form: 'full',
  }
}

/**
 * In stored text a space follows every comma, and in strings every quote is escaped: so the names of the JSON columns stand
 * between the columns as they do nowhere else, and nothing has to be read but the columns before them.
 */
function toRow(record: string): AuditRow {
  const starts = PAYLOAD_COLUMNS.map((name) => record.indexOf(`,"${name}":`))
  const texts = PAYLOAD_COLUMNS.map((name, index) => {
    const text = record.slice((starts[index] ?? 0) + `,"${name}":`.length, starts[index + 1] ?? -1)
    return [name, text === 'null' ? null : text] as const
  })
  const columns = JSON.parse(`${record.slice(0, starts[0])}}`) as Record<string, unknown>
  return withoutPlace({ ...columns, ...Object.fromEntries(texts) })
}

/** Of a record that an earlier version made. A JSON column that is no JSON costs the row its details. */
function fromOlder(record: string): AuditRow {
  const columns: Record<string, unknown> = {}
  const texts: [string, string][] = []
  for (const [name, span] of objectMembers(record, rootSpan(record))) {
    const text = sliceOf(record, span)
    if (JSON_COLUMNS.has(name) && text !== 'null') texts.push([name, text])
    else columns[name] = JSON.parse(text)
  }
  try {
    const stored = texts.map(([name, text]) => [name, toStoredText(text)] as const)
    return withoutPlace({ ...columns, ...Object.fromEntries(stored) })
  } catch (thrown) {
    const why = `the row could not be prepared: ${thrown instanceof Error ? thrown.name : typeof thrown}`
    return placeholder(withoutPlace(columns), { why })
  }
}

/** Where the row stands in the chain is no column of its own. */
function withoutPlace(columns: Record<string, unknown>): AuditRow {
  const { v: _v, writer: _writer, seq: _seq, ...row } = columns
  return row as unknown as AuditRow
}
