/** A row back from the text that was written to the spool. Pure. */
import { objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import { PAYLOAD_COLUMNS } from './chain.ts'
import type { AuditRow } from './row.ts'
import type { Entry } from './store.ts'

const JSON_COLUMNS: ReadonlySet<string> = new Set(PAYLOAD_COLUMNS)

/** The row of a record (see `toRecord`). JSON columns keep their characters. */
export function toRow(record: string): AuditRow {
  const row: Record<string, unknown> = {}
  for (const [name, span] of objectMembers(record, rootSpan(record))) {
    const text = sliceOf(record, span)
    row[name] = JSON_COLUMNS.has(name) && text !== 'null' ? text : JSON.parse(text)
  }
  const { writer: _writer, seq: _seq, ...columns } = row
  return { ...columns, core: toCore(String(row['decision'])) } as unknown as AuditRow
}

/** The decision without what policies and callers wrote. */
function toCore(decision: string): string {
  return withMembers(decision, (name, text) => {
    return name === 'authz' ? withMembers(text, (inner, value) => (WRITTEN.has(inner) ? null : value)) : text
  })
}

const WRITTEN: ReadonlySet<string> = new Set(['input', 'trace'])

function withMembers(object: string, change: (name: string, text: string) => string | null): string {
  const members: string[] = []
  for (const [name, span] of objectMembers(object, rootSpan(object))) {
    const text = change(name, sliceOf(object, span))
    if (text !== null) members.push(`${JSON.stringify(name)}:${text}`)
  }
  return `{${members.join(',')}}`
}

/** An entry of a record that was read back from the spool; its row is made when its turn to be chained comes. */
export function readBack(record: string, seq: number, writer: string): Entry {
  let row: AuditRow | null = null
  return {
    get row() {
      row ??= toRow(record)
      return row
    },
    set row(changed) {
      row = changed
    },
    seq,
    writer,
    record,
    form: 'full',
  }
}
