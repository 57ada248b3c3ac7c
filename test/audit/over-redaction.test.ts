import { expect } from 'chai'
import { createRedactor, PAYLOAD_BOUNDS } from '../../src/audit/redact.ts'
import { ordinaryPayloads } from '../support/ordinary-payloads.ts'

/** Most of the values of ordinary payloads that may be hidden, although they are no secrets. */
const MAX_SHARE = 0.005

describe('audit/redact: ordinary payloads', () => {
  it(`lose at most ${MAX_SHARE * 100} % of their values`, () => {
    let values = 0
    const lost: string[] = []
    for (const [name, payload] of ordinaryPayloads()) {
      values += leaves(payload)
      const { redacted, redactedCount } = createRedactor().json(JSON.stringify(payload), {
        bounds: PAYLOAD_BOUNDS,
        learn: true,
      })
      expect(redacted.length, name).to.equal(redactedCount)
      for (const [pointer, kind] of redacted) lost.push(`${name}${pointer}: ${kind}`)
    }
    expect(values).to.be.greaterThan(700)
    expect(lost.length / values, lost.join('\n')).to.be.at.most(MAX_SHARE)
  })
})

function leaves(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 1
  return Object.values(value).reduce<number>((sum, inner) => sum + leaves(inner), 0)
}
