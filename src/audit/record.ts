/** Rows on their way as bytes, and back from the text that was written to the spool. */
import { objectMembers, rootSpan, sliceOf } from '../json/span.ts'
import { toStoredText } from '../json/stored-text.ts'
import { PAYLOAD_COLUMNS } from './chain.ts'
import type { AuditRow, Chained } from './row.ts'
import { placeholder, RECORD, toChained, toRecord } from './row.ts'
import type { Entry } from './store.ts'

const JSON_COLUMNS: ReadonlySet<string> = new Set(PAYLOAD_COLUMNS)

/** Bytes of one piece of memory that holds the records of many rows. */
const PIECE = 256 * 1024

/**
 * Makes entries of rows. Rows wait for the database while many others are made: as bytes outside of the heap they are no work
 * for the garbage collector, which would move texts of that size about.
 */
export function entryMaker(): (row: AuditRow, seq: number, writer: string) => Entry {
  let piece = Buffer.alloc(0)
  let used = 0
  const toBytes = (text: string): Buffer => {
    const size = Buffer.byteLength(text)
    if (size > PIECE / 4) return Buffer.from(text)
    if (used + size > piece.length) {
      piece = Buffer.allocUnsafeSlow(PIECE)
      used = 0
    }
    const start = used
    used += piece.write(text, start, 'utf8')
    return piece.subarray(start, used)
  }
  return (row, seq, writer) => {
    const bytes = toBytes(toRecord(row, writer, seq))
    return new RowEntry(seq, writer, { bytes, record: null, row })
  }
}

/** An entry of a record that was read back from the spool; its row is made when its turn to be chained comes. */
export function readBack(text: string, seq: number, writer: string): Entry {
  if (text.startsWith(RECORD)) return new RowEntry(seq, writer, { bytes: null, record: text, row: null })
  return new RowEntry(seq, writer, { bytes: null, record: null, row: fromOlder(text) })
}

/** What is known of a row, of which everything else can be made; not all of it is null. */
interface Forms {
  readonly bytes: Buffer | null
  readonly record: string | null
  readonly row: AuditRow | null
}

class RowEntry implements Entry {
  readonly seq: number
  readonly writer: string
  form: Entry['form'] = 'full'
  #forms: Forms
  #chained: Chained | null = null

  constructor(seq: number, writer: string, forms: Forms) {
    this.seq = seq
    this.writer = writer
    this.#forms = forms
  }

  get row(): AuditRow {
    return this.#forms.row ?? toRow(this.record)
  }

  get record(): string {
    const { bytes, record, row } = this.#forms
    return record ?? bytes?.toString() ?? toRecord(row as AuditRow, this.writer, this.seq)
  }

  get bytes(): Buffer {
    return this.#forms.bytes ?? Buffer.from(this.record)
  }

  chained(): Chained {
    if (this.#chained !== null) return this.#chained
    const { row, bytes, record } = this.#forms
    this.#chained = toChained(row ?? this.row, this.writer, this.seq)
    if (bytes !== null || record !== null) this.#forms = { bytes, record, row: null }
    return this.#chained
  }

  replace(row: AuditRow, form: Entry['form']): void {
    this.#forms = { bytes: null, record: null, row }
    this.#chained = null
    this.form = form
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
