/** A row back from the text that was written to the spool. Pure. */
import { objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import { toStoredText } from '../json/stored-text.ts'
import { PAYLOAD_COLUMNS } from './chain.ts'
import type { AuditRow } from './row.ts'
import { placeholder, toRecord } from './row.ts'
import type { Entry } from './store.ts'
import { reasonOf } from './store.ts'

const JSON_COLUMNS: ReadonlySet<string> = new Set(PAYLOAD_COLUMNS)

/**
 * The row of a record (see `toRecord`). It may have been written by an earlier version, so its JSON columns are brought into
 * the form in which they are stored; one that is no JSON costs the row its details.
 */
export function toRow(record: string): AuditRow {
  const row: Record<string, unknown> = {}
  const texts: Record<string, string> = {}
  for (const [name, span] of objectMembers(record, rootSpan(record))) {
    const text = sliceOf(record, span)
    if (JSON_COLUMNS.has(name) && text !== 'null') texts[name] = text
    else row[name] = JSON.parse(text)
  }
  const { writer: _writer, seq: _seq, ...columns } = row as unknown as AuditRow & Entry
  try {
    for (const [name, text] of Object.entries(texts)) texts[name] = toStoredText(text)
    return { ...columns, ...texts }
  } catch (thrown) {
    return placeholder(columns, { why: `the row could not be prepared: ${reasonOf(thrown)}` })
  }
}

/** An entry of a record that was read back from the spool; its row is made when its turn to be chained comes. */
export function readBack(text: string, seq: number, writer: string): Entry {
  let row: AuditRow | null = null
  let record: string | null = null
  const rowOf = (): AuditRow => {
    row ??= toRow(text)
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
