import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { toAuditRow } from '../../src/audit/event.ts'
import { createRowIds } from '../../src/gateway/row-id.ts'
import type { TurnedAwayRecord } from '../../src/gateway/turned-away.ts'
import { createTurnedAway } from '../../src/gateway/turned-away.ts'
import type { AuditEvent, Call } from '../../src/gateway/types.ts'

const schema = JSON.parse(
  readFileSync(new URL('../../schemas/decision.schema.json', import.meta.url), 'utf8'),
) as object
const matchesSchema = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).compile(schema)

/** Rows of their own in one round. */
const OWN = 100

describe('the record of attempts turned away', () => {
  let now: number
  let isUp: boolean
  let stored: AuditEvent[]
  let counts: number[]
  let begun: Call[]
  const open: TurnedAwayRecord[] = []
  beforeEach(() => {
    now = Date.parse('2026-08-01T12:00:00Z')
    isUp = true
    stored = []
    counts = []
    begun = []
  })
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })

  function start(): TurnedAwayRecord {
    const record = createTurnedAway({
      rooms: {
        clock: { nowMs: () => now, monotonicMs: () => now },
        newId: createRowIds(),
        audit: {
          async begin(call) {
            if (!isUp) throw new Error('down')
            begun.push(call)
          },
          async end(event) {
            stored.push(event)
          },
        },
      },
      onCount: (count) => counts.push(count),
    })
    open.push(record)
    return record
  }

  function note(record: TurnedAwayRecord, times: number, clientIp = '10.0.0.1'): readonly string[] {
    return Array.from({ length: times }, () => {
      now += 1
      return record.note({ httpMethod: 'POST', mount: 'github', clientIp })
    })
  }

  const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  const attemptsIn = (events: readonly AuditEvent[]): number =>
    events.reduce((sum, { call }) => sum + (call.counted?.count ?? 1), 0)

  it('gives each a row of its own, without the request id of another', async () => {
    const record = start()
    const ids = note(record, 3)
    expect(stored, 'answers do not wait for it').to.have.length(0)
    record.round()
    expect(stored.map(({ call }) => call.id)).to.deep.equal(ids)
    expect(new Set(ids).size).to.equal(3)
    const row = toAuditRow(stored[0] as AuditEvent)
    expect(row).to.include({ outcome: 'overloaded', reason: 'overloaded', status_code: 503 })
    expect(row).to.include({ client_ip: '10.0.0.1', server: 'github', http_method: 'POST' })
    expect(row).to.include({ principal_id: null, request_json: null, request_id: ids[0] })
    expect(JSON.parse(row.decision)).not.to.have.property('counted')
  })

  it('counts a flood in one row, exactly, and names who it came from', async () => {
    const record = start()
    note(record, OWN)
    const from = now + 1
    const ids = [...note(record, 250), ...note(record, 30, '10.0.0.2')]
    expect(new Set(ids).size, 'the request id leads to the row that counts it').to.equal(1)
    record.round()
    await settled()
    expect(stored).to.have.length(OWN + 1)
    const row = toAuditRow(stored[OWN] as AuditEvent)
    expect(row).to.include({ id: ids[0], outcome: 'overloaded', client_ip: null, server: null })
    expect(matchesSchema(JSON.parse(row.decision)), JSON.stringify(matchesSchema.errors)).to.equal(true)
    expect(JSON.parse(row.decision)['counted']).to.deep.equal({
      count: 280,
      from: new Date(from).toISOString(),
      to: new Date(now).toISOString(),
      addresses: { '10.0.0.1': 250, '10.0.0.2': 30 },
      others: 0,
    })
    note(record, 5)
    record.round()
    expect(attemptsIn(stored)).to.equal(OWN + 280 + 5)
  })

  it('names a bounded number of addresses and counts the rest', async () => {
    const record = start()
    note(record, OWN)
    for (let at = 0; at < 300; at += 1) note(record, 2, `10.1.${at >> 8}.${at & 255}`)
    record.round()
    await settled()
    const counted = stored.at(-1)?.call.counted
    expect(Object.keys(counted?.addresses ?? {})).to.have.length(20)
    expect(counted).to.include({ count: 600, others: 560 })
  })

  it('goes on counting while the audit log takes nothing, and loses none', async () => {
    const record = start()
    isUp = false
    for (let round = 0; round < 10; round += 1) {
      note(record, OWN + 50)
      record.round()
      await settled()
    }
    expect(stored).to.have.length(10 * OWN)
    isUp = true
    record.round()
    await settled()
    expect(stored).to.have.length(10 * OWN + 1)
    expect(attemptsIn(stored)).to.equal(10 * (OWN + 50))
    expect(begun.map(({ id }) => id)).to.deep.equal([stored.at(-1)?.call.id])
  })

  it('hands everything over when it closes, also what the audit log would not promise to keep', async () => {
    const record = start()
    isUp = false
    note(record, OWN + 7)
    await record.close()
    expect(attemptsIn(stored)).to.equal(OWN + 7)
    expect(counts).to.deep.equal([OWN + 7])
  })

  it('leaves a few in each round to the spine', () => {
    const record = start()
    const isFlood = (): readonly boolean[] => Array.from({ length: 7 }, () => record.isFlood())
    const few = [false, false, false, false, false, true, true]
    expect(isFlood()).to.deep.equal(few)
    record.round()
    expect(isFlood()).to.deep.equal(few)
    expect(stored).to.have.length(0)
  })

  it('tells how many they were once in five rounds, and nothing when there were none', () => {
    const record = start()
    for (let round = 0; round < 5; round += 1) {
      note(record, 10)
      record.round()
    }
    for (let round = 0; round < 10; round += 1) record.round()
    expect(counts).to.deep.equal([50])
  })
})
