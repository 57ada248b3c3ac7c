import { expect } from 'chai'
import { Histogram, Registry } from 'prom-client'
import { createHistogram } from '../../src/admin/histogram.ts'

const BUCKETS = [0.001, 0.01, 0.1]
const VALUES = [0, 0.0005, 0.001, 0.0011, 0.05, 0.1, 7, 7]

describe('the histograms of every call', () => {
  it('say what those of prom-client say, with labels', async () => {
    const options = {
      name: 'a_seconds',
      help: 'Some time.',
      labelNames: ['method', 'error'],
      buckets: BUCKETS,
    }
    const [ours, theirs] = [new Registry(), new Registry()]
    const histogram = createHistogram({ ...options, registers: [ours] })
    const reference = new Histogram({ ...options, registers: [theirs] })
    for (const [index, value] of VALUES.entries()) {
      const error = index % 2 === 0 ? '' : 'quoted "one"\\'
      histogram.observe(value, 'tools/call', error)
      reference.observe({ method: 'tools/call', error }, value)
    }
    expect(await ours.metrics()).to.equal(await theirs.metrics())
  })

  it('say what those of prom-client say without labels, also before the first value', async () => {
    const options = { name: 'b_bytes', help: 'Some size.', buckets: BUCKETS }
    const [ours, theirs] = [new Registry(), new Registry()]
    const histogram = createHistogram({ ...options, registers: [ours] })
    const reference = new Histogram({ ...options, registers: [theirs] })
    expect(await ours.metrics()).to.equal(await theirs.metrics())
    for (const value of VALUES) {
      histogram.observe(value)
      reference.observe(value)
    }
    expect(await ours.metrics()).to.equal(await theirs.metrics())
  })
})
