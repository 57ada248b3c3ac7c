import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { Turn, Turns, TurnsOptions } from '../../src/gateway/turns.ts'
import { createTurns } from '../../src/gateway/turns.ts'

/** As many calls are worked on at once. */
const WORKING = 64

describe('the line at the door', () => {
  let now: number
  beforeEach(() => {
    now = 0
  })

  function start(options: Partial<TurnsOptions> = {}): Turns {
    const turns = createTurns({ maxInFlight: 1000, maxDelayMs: 500, monotonicMs: () => now, ...options })
    // These tests measure themselves.
    turns.close()
    return turns
  }

  /** What became of a call that asked for its turn. */
  interface Asked {
    turn: Turn | null
    refused: unknown
  }

  function ask(turns: Turns): Asked {
    const asked: Asked = { turn: null, refused: null }
    new Promise<Turn>((resolve) => resolve(turns.take())).then(
      (turn) => {
        asked.turn = turn
      },
      (error: unknown) => {
        asked.refused = error
      },
    )
    return asked
  }

  async function askMany(turns: Turns, count: number): Promise<readonly Asked[]> {
    const all = Array.from({ length: count }, () => ask(turns))
    await rounds(1)
    return all
  }

  async function rounds(count: number): Promise<void> {
    for (let at = 0; at < count; at += 1) await new Promise((resolve) => setImmediate(resolve))
  }

  /** Time passes in steps of a measurement; in each of them the first `finish` calls that have a turn end. */
  async function pass(turns: Turns, steps: number, calls: readonly Asked[], finish = 0): Promise<void> {
    for (let at = 0; at < steps; at += 1) {
      now += 50
      for (const asked of working(calls).slice(0, finish)) end(asked)
      await rounds(12)
      turns.measure()
      await rounds(1)
    }
  }

  const ended = new WeakSet<Asked>()
  function end(asked: Asked): void {
    ended.add(asked)
    asked.turn?.done()
  }
  const working = (calls: readonly Asked[]): readonly Asked[] =>
    calls.filter((asked) => asked.turn !== null && !ended.has(asked))
  const refused = (calls: readonly Asked[]): readonly Asked[] =>
    calls.filter((asked) => asked.refused !== null)

  it('lets a few in at once, however late everything is', async () => {
    const turns = start()
    for (let at = 0; at < 20; at += 1) {
      now += 10_000
      turns.measure()
    }
    expect(turns.state().lagMs).to.equal(9950)
    expect(working(await askMany(turns, WORKING))).to.have.length(WORKING)
    now += 60_000
    turns.measure()
    expect(turns.state()).to.include({ working: WORKING, waiting: 0, inFlight: WORKING })
  })

  it('lets a burst wait, serves it in order and refuses none of it', async () => {
    const turns = start()
    const calls = await askMany(turns, 200)
    expect(turns.state()).to.include({ working: WORKING, waiting: 200 - WORKING })
    end(calls[5] as Asked)
    await rounds(2)
    expect(calls.map((asked) => asked.turn !== null).lastIndexOf(true), 'the next one').to.equal(WORKING)
    await pass(turns, 8, calls, 25)
    expect(calls.filter((asked) => asked.turn === null)).to.have.length(0)
    expect(turns.state().waiting).to.equal(0)
  })

  it('turns away who would be one too many, and nobody who was let in for that', async () => {
    const turns = start()
    const calls = await askMany(turns, WORKING + 256)
    expect(refused(calls)).to.have.length(0)
    expect(turns.admits()).to.equal(false)
    const late = ask(turns)
    await rounds(1)
    expect(late.refused).to.be.instanceOf(GatewayError).and.to.include({ kind: 'overloaded' })
    expect(turns.state()).to.include({ inFlight: WORKING + 256, waiting: 256 })
  })

  it('lets nobody wait longer than the bound when nothing moves', async () => {
    const turns = start()
    const calls = await askMany(turns, WORKING + 10)
    await pass(turns, 10, calls)
    expect(refused(calls), 'exactly at the bound').to.have.length(0)
    await pass(turns, 1, calls)
    expect(refused(calls)).to.have.length(10)
    expect(turns.state()).to.include({ waiting: 0, inFlight: WORKING, working: WORKING })
  })

  it('cuts a line that stands to what is served soon, and lets bursts in again when it has drained', async () => {
    const turns = start()
    const calls: Asked[] = [...(await askMany(turns, WORKING + 250))]
    // 400 a second are served, more than that come.
    for (let at = 0; at < 8; at += 1) {
      calls.push(...(await askMany(turns, turns.admits() ? 20 : 0)))
      await pass(turns, 1, calls, 20)
    }
    expect(turns.state().maxWaiting).to.be.closeTo(40, 8)
    expect(turns.state().waiting).to.be.at.most(48)
    const before = refused(calls).length
    expect(before, 'those who came last').to.be.above(50)
    expect(refused(calls.slice(0, 150))).to.have.length(0)
    await pass(turns, 20, calls, 20)
    expect(refused(calls)).to.have.length(before)
    expect(turns.state()).to.include({ working: 0, waiting: 0, inFlight: 0, maxWaiting: 256 })
  })

  it('lets more wait in a burst the faster it is', async () => {
    const turns = start()
    const calls: Asked[] = [...(await askMany(turns, WORKING + 100))]
    for (let at = 0; at < 40; at += 1) {
      await pass(turns, 1, calls, WORKING)
      calls.push(...(await askMany(turns, WORKING)))
    }
    expect(refused(calls)).to.have.length(0)
    expect(turns.state().maxWaiting, '60 % of the bound at 1,280 a second').to.be.closeTo(384, 1)
  })

  it('counts everybody who was let in, whatever they wait for', async () => {
    const turns = start({ maxInFlight: 5 })
    const release: (() => void)[] = []
    const forward = turns.away(() => new Promise<void>((resolve) => release.push(resolve)))
    const calls = await askMany(turns, 5)
    const away = calls.map(() => forward())
    expect(turns.state()).to.include({ working: 0, inFlight: 5 })
    expect(turns.admits()).to.equal(false)
    calls[0]?.turn?.leave()
    expect(turns.admits(), 'a long-lived stream').to.equal(true)
    for (const one of release) one()
    await Promise.all(away)
    for (const asked of calls) end(asked)
    for (const asked of calls) end(asked)
    expect(turns.state()).to.include({ working: 0, inFlight: 0 })
  })

  it('gives the turn of who waits for an upstream to the next one, but not of who is back at once', async () => {
    const turns = start()
    const calls = await askMany(turns, WORKING + 2)
    await turns.away(async () => undefined)()
    await rounds(2)
    expect(turns.state()).to.include({ working: WORKING, waiting: 2 })
    let back: () => void = () => undefined
    const away = turns.away(() => new Promise<void>((resolve) => (back = resolve)))()
    await rounds(2)
    expect(turns.state()).to.include({ working: WORKING, waiting: 1 })
    back()
    await away
    expect(turns.state(), 'what has been begun goes on').to.include({ working: WORKING + 1, waiting: 1 })
    end(calls[0] as Asked)
    await rounds(2)
    expect(turns.state()).to.include({ working: WORKING, waiting: 1 })
  })

  it('takes a call off its count when what it waited for fails', async () => {
    const turns = start()
    const failing = turns.away(() => Promise.reject(new Error('gone')))
    await askMany(turns, 1)
    await failing().catch(() => undefined)
    expect(turns.state()).to.include({ working: 1, inFlight: 1 })
  })

  it('refuses nobody for want of time when it is told so', async () => {
    const turns = start({ maxDelayMs: null })
    const calls = await askMany(turns, 1000)
    await pass(turns, 100, calls)
    expect(refused(calls)).to.have.length(0)
    expect(turns.state().waiting).to.equal(1000 - WORKING)
    expect(turns.admits(), 'but for the cap').to.equal(false)
  })
})
