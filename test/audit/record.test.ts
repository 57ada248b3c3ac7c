import { expect } from 'chai'
import fc from 'fast-check'
import { NO_LEAF } from '../../src/audit/chain.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import { readBack } from '../../src/audit/record.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { sealBehind, toChained, toRecord } from '../../src/audit/row.ts'
import { toStoredText } from '../../src/json/stored-text.ts'
import { allowed, denied, newId, toolsCall } from './fixtures.ts'

const WRITER = newId(0)

/** As versions wrote it that left the form of JSON columns to the database. */
function olderRecord({ request_json, response_json, decision, redaction, ...columns }: AuditRow): string {
  const head = JSON.stringify({ writer: WRITER, seq: 1, ...columns }).slice(0, -1)
  const compact = (text: string | null) => (text === null ? null : JSON.stringify(JSON.parse(text)))
  return (
    `${head},"request_json":${compact(request_json)},"response_json":${compact(response_json)}` +
    `,"decision":${compact(decision)},"redaction":${compact(redaction)}}`
  )
}

describe('audit/record', () => {
  const rows = [allowed({}, '{"jsonrpc":"2.0","id":1,"result":{"x":1}}'), denied()].map((event) =>
    toAuditRow(event),
  )

  it('gives the row back as it was made, and its text as it is', () => {
    for (const row of rows) {
      const record = toRecord(row, WRITER, 1)
      const entry = readBack(record, 1, WRITER)
      expect(entry.row).to.deep.equal(row)
      expect(entry.record).to.equal(record)
    }
  })

  it('is not misled by what callers write', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }).map((value) => value.replaceAll('\0', '')),
      fc.constantFrom(',"decision":', '","decision":null', '\\","redaction":{', ',"request_json":{}}'),
    )
    fc.assert(
      fc.property(text, fc.jsonValue(), (name, value) => {
        const row = {
          ...toAuditRow(denied({ message: toolsCall(JSON.stringify({ name, [name]: value })) })),
          tool_name: name,
          request_json: toStoredText(JSON.stringify({ [name]: [name, value], '",': name })),
        }
        expect(readBack(toRecord(row, WRITER, 7), 7, WRITER).row).to.deep.equal(row)
      }),
      { numRuns: 50 },
    )
  })

  it('brings the record of an earlier version into the form in which it is stored', () => {
    for (const row of rows) {
      const entry = readBack(olderRecord(row), 1, WRITER)
      expect(entry.row).to.deep.equal(row)
      expect(entry.record).to.equal(toRecord(row, WRITER, 1))
    }
  })

  it('keeps that there was a row when a column of an earlier version is no JSON', () => {
    const [row] = rows
    const broken = olderRecord(row as AuditRow).replace('"decision":{"', '"decision":{"a":tru,"')
    const { row: kept } = readBack(broken, 1, WRITER)
    expect(kept).to.include({ id: row?.id, outcome: 'allowed', tool_name: null })
    expect(JSON.parse(kept.decision).stored.why).to.match(/could not be prepared: SyntaxError/)
    expect(sealBehind(NO_LEAF, toChained(kept, WRITER, 1)).leaf).to.match(/^[0-9a-f]{64}$/)
  })
})
