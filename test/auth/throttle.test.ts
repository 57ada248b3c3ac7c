import { expect } from 'chai'
import type { Throttle, ThrottledWindow, ThrottleOptions } from '../../src/auth/throttle.ts'
import { createThrottle } from '../../src/auth/throttle.ts'

describe('the throttle', () => {
  let now: number
  let reported: ThrottledWindow[]
  let throttle: Throttle

  function create(options: Partial<ThrottleOptions> = {}): Throttle {
    throttle = createThrottle({
      maxFailures: 3,
      windowMs: 60_000,
      maxAddresses: 100,
      nowMs: () => now,
      onWindow: (window) => void reported.push(window),
      ...options,
    })
    return throttle
  }

  beforeEach(() => {
    now = 1_000_000
    reported = []
  })

  afterEach(() => {
    throttle.close()
  })

  const fail = (address: string, times = 1) => {
    for (let time = 0; time < times; time += 1) throttle.recordFailure(address)
  }

  it('lets an address fail up to the limit, then says how long to wait', () => {
    create()
    fail('192.0.2.1', 2)
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(null)
    fail('192.0.2.1')
    now += 20_500
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(40)
    expect(throttle.retryAfterSeconds('192.0.2.2')).to.equal(null)
    now += 39_499
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(1)
    now += 1
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(null)
  })

  it('counts the addresses of one IPv6 network together', () => {
    create()
    for (const tail of ['1', '2', '3']) fail(`2001:db8::${tail}`)
    expect(throttle.retryAfterSeconds('2001:db8::ffff')).to.equal(60)
    expect(throttle.retryAfterSeconds('2001:db8:0:1::1')).to.equal(null)
  })

  it('reports each throttled window once, with how many attempts it refused', () => {
    create()
    fail('192.0.2.1', 3)
    for (let time = 0; time < 5; time += 1) throttle.recordRefusal('192.0.2.1')
    expect(reported).to.deep.equal([])
    now += 60_000
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(null)
    const first = { address: '192.0.2.1', count: 5, fromMs: 1_000_000, toMs: 1_060_000 }
    expect(reported).to.deep.equal([first])
    fail('192.0.2.1', 3)
    throttle.recordRefusal('192.0.2.1')
    now += 10
    throttle.close()
    expect(reported).to.deep.equal([
      first,
      { address: '192.0.2.1', count: 1, fromMs: 1_060_000, toMs: 1_060_010 },
    ])
  })

  it('says nothing of windows that refused nobody', () => {
    create()
    fail('192.0.2.1', 3)
    throttle.close()
    expect(reported).to.deep.equal([])
  })

  it('reports ended windows by itself, without another attempt from there', async function () {
    this.timeout(5000)
    create({ windowMs: 10_000 })
    fail('192.0.2.1', 3)
    throttle.recordRefusal('192.0.2.1')
    now += 10_000
    while (reported.length === 0) await new Promise((resolve) => setTimeout(resolve, 20))
    expect(reported).to.have.length(1)
  })

  it('remembers a bounded number of addresses and loses no count of the ones it forgets', () => {
    create({ maxAddresses: 10 })
    fail('192.0.2.1', 3)
    throttle.recordRefusal('192.0.2.1')
    for (let n = 0; n < 1000; n += 1) fail(`198.51.100.${n}`)
    expect(reported).to.have.length(1)
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(null)
  })

  it('locks nobody out for long when the clock is set back', () => {
    create()
    fail('192.0.2.1', 3)
    now -= 86_400_000
    expect(throttle.retryAfterSeconds('192.0.2.1')).to.equal(null)
  })
})
