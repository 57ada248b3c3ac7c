import { expect } from 'chai'
import type { Breaker, BreakerState, Pass } from '../../src/upstream/breaker.ts'
import { createBreaker, NotAskedError } from '../../src/upstream/breaker.ts'

describe('the circuit breaker', () => {
  let now: number
  let changes: BreakerState[]
  let breaker: Breaker

  beforeEach(() => {
    now = 0
    changes = []
    breaker = createBreaker({
      failures: 3,
      openMs: 1000,
      clock: { monotonicMs: () => now },
      onChange: (state) => changes.push(state),
    })
  })

  function fail(times: number): void {
    for (let at = 0; at < times; at += 1) breaker.enter().settle('fails')
  }

  function refusal(): NotAskedError {
    try {
      breaker.enter()
    } catch (thrown) {
      expect(thrown).to.be.instanceOf(NotAskedError)
      return thrown as NotAskedError
    }
    throw new Error('it was let through')
  }

  it('opens after failures in a row, and not before', () => {
    fail(2)
    breaker.enter().settle('works')
    fail(2)
    breaker.enter().settle('unclear')
    expect(breaker.state()).to.equal('closed')
    fail(1)
    expect(breaker.state()).to.equal('open')
    expect(changes).to.deep.equal(['open'])
  })

  it('counts failures of calls that ran at the same time', () => {
    const passes = Array.from({ length: 10 }, () => breaker.enter())
    for (const pass of passes) pass.settle('fails')
    expect(changes).to.deep.equal(['open'])
  })

  it('refuses at once while open, with the seconds left and no word of the upstream', () => {
    fail(3)
    now = 400
    const error = refusal()
    expect(error).to.include({ kind: 'upstream_failed', message: 'Upstream failed' })
    expect(error.data).to.deep.equal({ retryAfterSeconds: 1 })
    expect(breaker.trialAt()).to.equal(1000)
  })

  it('lets exactly one trial through, however many ask', () => {
    fail(3)
    now = 1000
    expect(breaker.refusal(), 'looking takes no trial').to.equal(null)
    const trial = breaker.enter()
    expect(breaker.state()).to.equal('half_open')
    for (let at = 0; at < 100; at += 1) expect(refusal().data).to.deep.equal({ retryAfterSeconds: 1 })
    trial.settle('works')
    expect(changes).to.deep.equal(['open', 'half_open', 'closed'])
    for (let at = 0; at < 100; at += 1) breaker.enter()
  })

  it('opens again for the whole time when the trial fails', () => {
    fail(3)
    now = 1500
    breaker.enter().settle('fails')
    expect(breaker.state()).to.equal('open')
    now = 2499
    refusal()
    now = 2500
    breaker.enter().settle('works')
    expect(breaker.state()).to.equal('closed')
  })

  it('gives the trial to the next one when it ends without a verdict', () => {
    fail(3)
    now = 1000
    breaker.enter().settle('unclear')
    expect(breaker.state()).to.equal('half_open')
    breaker.enter().settle('works')
    expect(breaker.state()).to.equal('closed')
  })

  it('takes the beginning of a stream for a trial that works', () => {
    fail(3)
    now = 1000
    const trial = breaker.enter()
    trial.began()
    expect(breaker.state()).to.equal('closed')
    trial.settle('fails')
    expect(breaker.state()).to.equal('closed')
  })

  it('takes the beginning of a stream for nothing while it is closed', () => {
    for (let at = 0; at < 3; at += 1) {
      const pass = breaker.enter()
      pass.began()
      pass.settle('fails')
    }
    expect(breaker.state()).to.equal('open')
  })

  it('does not stay locked by a trial that hangs', () => {
    fail(3)
    now = 1000
    const hanging = breaker.enter()
    now = 1999
    refusal()
    now = 2000
    const second = breaker.enter()
    refusal()
    hanging.settle('fails')
    expect(breaker.state(), 'the one that took too long decides nothing').to.equal('half_open')
    second.settle('works')
    expect(breaker.state()).to.equal('closed')
  })

  it('listens to nothing that was asked before the last change', () => {
    const before: Pass[] = Array.from({ length: 10 }, () => breaker.enter())
    fail(3)
    for (const pass of before.slice(0, 5)) pass.settle('works')
    expect(breaker.state()).to.equal('open')
    now = 1000
    breaker.enter().settle('works')
    for (const pass of before.slice(5)) pass.settle('fails')
    expect(changes).to.deep.equal(['open', 'half_open', 'closed'])
  })
})
