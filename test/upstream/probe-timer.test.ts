import { expect } from 'chai'
import type { ProbeTimer } from '../../src/upstream/probe-timer.ts'
import { createProbeTimer } from '../../src/upstream/probe-timer.ts'

describe('the shared timer of probes', () => {
  let now: number
  let share: number
  let pending: { readonly at: number; readonly run: () => void }[]
  let timer: ProbeTimer

  beforeEach(() => {
    now = 0
    share = 0.5
    pending = []
    timer = createProbeTimer({
      clock: { monotonicMs: () => now },
      random: () => share,
      wait: (ms, run) => {
        const one = { at: now + ms, run }
        pending.push(one)
        return () => {
          pending = pending.filter((other) => other !== one)
        }
      },
    })
  })

  /** Lets time pass up to the next timer, and the looks it starts begin. */
  async function next(): Promise<number> {
    const one = pending.shift()
    if (one === undefined) throw new Error('no timer is waiting')
    now = one.at
    one.run()
    await new Promise((resolve) => setImmediate(resolve))
    return now
  }

  it('is one timer for all upstreams, and none without any', () => {
    expect(pending).to.have.length(0)
    for (let at = 0; at < 100; at += 1) timer.add(1000, async () => undefined)
    expect(pending).to.have.length(1)
    timer.close()
    expect(pending).to.have.length(0)
  })

  it('spreads the first looks over the interval and the later ones by a tenth', async () => {
    const times: number[] = []
    share = 0.25
    timer.add(1000, async () => void times.push(now))
    share = 1
    await next()
    expect(times).to.deep.equal([250])
    share = 0
    await next()
    await next()
    expect(times).to.deep.equal([250, 1350, 2250])
  })

  it('never looks twice at a time, and counts from the end of the last look', async () => {
    let looks = 0
    let end: () => void = () => undefined
    timer.add(1000, async () => {
      looks += 1
      await new Promise<void>((resolve) => {
        end = resolve
      })
    })
    await next()
    expect(pending).to.have.length(0)
    now = 10_000
    end()
    await new Promise((resolve) => setImmediate(resolve))
    expect(pending.map(({ at }) => at)).to.deep.equal([11_000])
    await next()
    expect(looks).to.equal(2)
  })

  it('looks sooner when it is told to, also from within a look, and never later', async () => {
    const times: number[] = []
    const job = timer.add(1000, async () => {
      times.push(now)
      if (times.length === 1) job.at(now + 10)
    })
    job.at(5000)
    job.at(100)
    expect(pending.map(({ at }) => at)).to.deep.equal([100])
    await next()
    await next()
    expect(times).to.deep.equal([100, 110])
  })

  it('does not let a slow upstream delay another', async () => {
    const looked: string[] = []
    timer.add(1000, () => new Promise(() => looked.push('slow')))
    timer.add(1000, async () => void looked.push('fast'))
    await next()
    await next()
    expect(looked).to.deep.equal(['slow', 'fast', 'fast'])
  })
})
