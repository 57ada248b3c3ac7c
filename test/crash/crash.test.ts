import { expect } from 'chai'
import { crashRun } from './harness.ts'
import type { Evidence } from './judge.ts'
import { judge } from './judge.ts'

/** The long version is `npm run test:crash`. */
describe('gateways that are killed under load', function () {
  this.timeout(120_000)

  it('lose no acknowledged call, double none and declare every hole', async () => {
    const { violations, ...report } = await crashRun({
      mode: 'batch',
      kills: 2,
      databaseStops: 1,
      gateways: 2,
      clients: 8,
      seed: 4711,
    })
    expect(violations, JSON.stringify(report)).to.deep.equal([])
    expect(report.acknowledged).to.be.greaterThan(0)
    expect(report.writers).to.be.at.least(2)
  })
})

describe('the judge of a crash run', () => {
  const row = { request_id: 'a', outcome: 'allowed', writer: 'w', seq: '1', asked: true, seqs: null }
  const found = async (rows: readonly object[], changes: Partial<Evidence> = {}) => {
    const client = { query: async () => ({ rows }) } as unknown as Parameters<typeof judge>[0]
    const ledger = {
      allowed: new Set(['a']),
      denied: new Set<string>(),
      unavailable: new Set<string>(),
      broken: 0,
    }
    return await judge(client, { ledger, upstreamCalls: 1, leftSpools: 0, ...changes })
  }

  it('has nothing to say when all is well', async () => {
    expect((await found([row])).violations).to.deep.equal([])
  })

  it('finds a lost call, a doubled row, another outcome, a hole, a traceless call and a spool left behind', async () => {
    const other = { ...row, request_id: 'b' }
    const cases: readonly [readonly object[], Partial<Evidence>, RegExp][] = [
      [[other], {}, /without a row/],
      [[row, { ...row, seq: '2' }], {}, /doubled/],
      [[{ ...row, outcome: 'interrupted' }], {}, /another outcome/],
      [[row, { ...other, seq: '3' }], {}, /no gap declares/],
      [[row, other], {}, /no gap declares/],
      [[row], { upstreamCalls: 2 }, /reached the upstream/],
      [[row], { leftSpools: 1 }, /not emptied/],
    ]
    for (const [rows, changes, says] of cases) {
      const { violations } = await found(rows, changes)
      expect(violations.join('\n')).to.match(says)
    }
  })

  it('takes a declared hole for one', async () => {
    const gap = { ...row, request_id: 'g', outcome: 'gap', seq: '3', asked: false, seqs: [2, 2] }
    expect((await found([row, gap])).violations).to.deep.equal([])
  })
})
