import { expect } from 'chai'
import { CSV_HEADER, toCsv } from '../../src/audit/csv.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import type { StoredRow } from '../../src/audit/query.ts'
import { denied } from './fixtures.ts'

const ID = '019aa5f0-4a7b-7001-8abc-0123456789ab'

function row(changes: Partial<StoredRow> = {}): StoredRow {
  const made = toAuditRow(denied())
  return { ...made, ts: new Date(made.ts), writer: ID, seq: '7', leaf: null, ...changes }
}

/** RFC 4180, read by the letter. */
function parse(text: string): string[][] {
  const records: string[][] = []
  let cells: string[] = []
  const pattern = /(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r\n)/gy
  for (let match = pattern.exec(text); match !== null; match = pattern.exec(text)) {
    cells.push(match[1]?.replaceAll('""', '"') ?? match[2] ?? '')
    if (match[3] === ',') continue
    records.push(cells)
    cells = []
  }
  expect(records.flat().length, 'everything was read').to.be.greaterThan(0)
  return records
}

function cell(changes: Partial<StoredRow>, name: string): string | undefined {
  const [header = [], record = [], ...more] = parse(CSV_HEADER + toCsv(row(changes)))
  expect(record).to.have.lengthOf(header.length)
  expect(more).to.deep.equal([])
  return record[header.indexOf(name)]
}

describe('audit/csv', () => {
  it('gives a record with as many cells as the header has', () => {
    expect(cell({}, 'tool_name')).to.equal('delete_repo')
    expect(cell({}, 'ts')).to.equal('2026-11-21T10:00:00.123Z')
    expect(cell({}, 'roles')).to.equal('developer oncall')
    expect(cell({}, 'denied_by')).to.equal('destructive-without-mfa')
    expect(cell({}, 'leaf')).to.equal('')
    expect(cell({ decision: '7' }, 'denied_by')).to.equal('')
  })

  it('quotes what would end a cell', () => {
    for (const name of ['a,b', 'say "x"', 'two\r\nlines', 'a\nb', '","=1'])
      expect(cell({ tool_name: name }, 'tool_name'), JSON.stringify(name)).to.equal(name)
  })

  it('lets no cell be taken for a formula', () => {
    for (const name of [
      "=cmd|' /C calc'!A0",
      '+1',
      '-1+1',
      '@SUM(1)',
      '\t=1',
      '\r=1',
      '\n=1',
      '\uff1d1',
      '=HYPERLINK("http://x","y")',
    ])
      expect(cell({ tool_name: name }, 'tool_name'), JSON.stringify(name)).to.equal(`'${name}`)
    expect(cell({ roles: ['=1', 'x'] }, 'roles')).to.equal("'=1 x")
    expect(cell({ latency_ms: -1 }, 'latency_ms')).to.equal('-1')
  })
})
