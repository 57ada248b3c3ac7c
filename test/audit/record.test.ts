import { expect } from 'chai'
import fc from 'fast-check'
import { NO_LEAF } from '../../src/audit/chain.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import { entryMaker, readBack } from '../../src/audit/record.ts'
import type { AuditRow, Seal } from '../../src/audit/row.ts'
import { sealBehind, toChained, toRecord, toRowsParameter } from '../../src/audit/row.ts'
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

  it('keeps rows as bytes, each its own, however long they are', () => {
    const entryOf = entryMaker()
    const long = { ...(rows[0] as AuditRow), error_message: 'ä'.repeat(100_000) }
    const made = Array.from({ length: 300 }, (_, at) => (at % 50 === 7 ? long : (rows[at % 2] as AuditRow)))
    const entries = made.map((row, at) => entryOf(row, at + 1, WRITER))
    for (const [at, entry] of entries.entries()) {
      const row = made[at] as AuditRow
      expect(entry.record).to.equal(toRecord(row, WRITER, at + 1))
      expect(entry.bytes.toString()).to.equal(entry.record)
      expect(entry.row).to.deep.equal(row)
    }
  })

  it('takes the digests of a row once, and anew of what takes its place', () => {
    const [row, other] = rows as [AuditRow, AuditRow]
    const entry = entryMaker()(row, 1, WRITER)
    const chained = entry.chained()
    expect(entry.chained()).to.equal(chained)
    expect(entry.row).to.deep.equal(row)
    entry.replace(other, 'without_payload')
    expect(entry).to.include({ form: 'without_payload', record: toRecord(other, WRITER, 1) })
    expect(entry.bytes.toString()).to.equal(entry.record)
    expect(entry.chained().text).to.include(other.id).and.not.include(row.id)
  })

  it('is sent as one JSON array, with its seal', () => {
    const seals = [1, 2].map((seq) => sealBehind(NO_LEAF, toChained(rows[seq - 1] as AuditRow, WRITER, seq)))
    const records = rows.map((row, at) => Buffer.from(toRecord(row, WRITER, at + 1)))
    for (const count of [1, 2]) {
      const sealed = records.slice(0, count).map((bytes, at) => ({ bytes, seal: seals[at] as Seal }))
      const parameter = toRowsParameter(sealed)
      expect(parameter[0]).to.equal(1)
      const expected = sealed.map(({ bytes, seal: { salt, leaf } }) => ({
        ...JSON.parse(bytes.toString()),
        ...{ salt: `\\x${salt}`, leaf: `\\x${leaf}` },
      }))
      expect(JSON.parse(parameter.subarray(1).toString())).to.deep.equal(expected)
    }
  })
})
