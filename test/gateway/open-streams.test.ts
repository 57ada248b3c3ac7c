import { setImmediate } from 'node:timers/promises'
import { expect } from 'chai'
import { CallAbort } from '../../src/call-signal.ts'
import type { Rooms } from '../../src/gateway/call.ts'
import { openCall } from '../../src/gateway/open-call.ts'
import { createPace } from '../../src/gateway/pace.ts'
import type { WatchedCall } from '../../src/gateway/streams.ts'
import { createOpenStreams } from '../../src/gateway/streams.ts'
import type { Call, Evaluation, PolicyRevision } from '../../src/gateway/types.ts'
import { until } from '../support/until.ts'

const revision = (name: string): PolicyRevision => ({ revision: name, digest: `sha256:${name}`, opa: '1' })

describe('open streams', () => {
  let now: number
  let killed: boolean
  let alsoKilled: string | null
  let live: boolean
  let allowed: boolean
  let inForce: PolicyRevision
  /** What has happened, in order. */
  let log: string[]
  let decisions: number

  beforeEach(() => {
    now = 0
    killed = false
    alsoKilled = null
    live = true
    allowed = true
    inForce = revision('one')
    log = []
    decisions = 0
  })

  const clock = { nowMs: () => 0, monotonicMs: () => now }
  const rooms = {
    clock,
    auth: { isLive: () => live },
    kills: {
      known: () => ({
        ofServer: (mount: string) =>
          (killed && mount === 'up') || mount === alsoKilled
            ? { what: 'server up', reason: 'r', actor: 'a' }
            : null,
        ofTool: () => null,
      }),
    },
    policy: {
      get revision() {
        return inForce
      },
      decide(): Evaluation {
        decisions += 1
        now += 1
        return evaluation(allowed)
      },
    },
  } as unknown as Pick<Rooms, 'auth' | 'policy' | 'kills' | 'clock'>

  function evaluation(allow: boolean): Evaluation {
    return { allow, failure: null, policy: { ...inForce, entrypoint: 'e' } } as unknown as Evaluation
  }

  function callOf(method: string, mount = 'up'): Call {
    const head = { httpMethod: 'POST', mount, rawHeaders: [], headers: {}, peer: '' }
    const call = openCall({ clock, newId: () => 'id' }, head)
    call.message = { kind: 'request', method, params: {} } as unknown as Call['message']
    call.evaluation = evaluation(true)
    return call
  }

  /** Each cut, and each abort of an upstream, takes 1 ms. */
  function open(count: number, method = 'subscriptions/listen') {
    const streams = createOpenStreams(rooms)
    const watched: WatchedCall[] = []
    for (let n = 0; n < count; n += 1) {
      const one = streams.watch(callOf(method), new CallAbort(), ({ kind }) => {
        now += 1
        log.push(`client ${kind}`)
      })
      one.signal.addEventListener('abort', () => {
        now += 1
        log.push('upstream')
      })
      watched.push(one)
    }
    return { streams, watched }
  }

  it('that must end: nothing passes from the first look on, all clients hear of it before the first upstream', async () => {
    const { streams, watched } = open(10)
    killed = true
    streams.recheck()
    expect(await Promise.all(watched.map((one) => one.mayPass()))).to.not.include(true)
    await until('all ends', () => log.length === 20)
    expect(log).to.deep.equal([...Array(10).fill('client killed'), ...Array(10).fill('upstream')])
    expect(decisions).to.equal(0)
  })

  it('are looked after in slices, between which others have their turn', async () => {
    const { streams } = open(40)
    const seen = new Set<number>()
    let isOver = false
    const others = (async () => {
      while (!isOver) {
        seen.add(log.length)
        await setImmediate()
      }
    })()
    live = false
    streams.recheck()
    await until('all ends', () => log.length === 80)
    isOver = true
    await others
    // 2 ms at a time.
    expect(seen.size).to.be.at.least(30)
    expect(log[0]).to.equal('client unauthenticated')
  })

  it('meet a new policy: what comes on one waits for its word, and is asked about once', async () => {
    const { streams, watched } = open(30)
    inForce = revision('two')
    allowed = false
    streams.recheck()
    const last = watched.at(-1) as WatchedCall
    expect(await last.mayPass()).to.equal(false)
    expect(last.ended()?.kind).to.equal('policy_denied')
    await until('all ends', () => log.length === 60)
    expect(decisions).to.equal(30)
  })

  it('that a new policy allows go on, and are not asked about again', async () => {
    const { streams, watched } = open(30)
    inForce = revision('two')
    expect(await watched[29]?.mayPass()).to.equal(true)
    streams.recheck()
    await until('all decisions', () => decisions === 30)
    streams.recheck()
    await setImmediate()
    expect(await Promise.all(watched.map((one) => one.mayPass()))).to.not.include(false)
    expect(decisions).to.equal(30)
    expect(log).to.deep.equal([])
  })

  it('a kill switch does not wait until a new policy has been asked about all of them', async () => {
    const { streams } = open(100)
    inForce = revision('two')
    streams.recheck()
    await setImmediate()
    killed = true
    streams.recheck()
    await until('all ends', () => log.length === 200)
    expect(decisions).to.be.below(20)
  })

  it('let nothing pass after a second change either, while the clients of the first still hear of theirs', async () => {
    const { streams } = open(100)
    const other = streams.watch(callOf('subscriptions/listen', 'other'), new CallAbort(), () => {
      log.push('other')
    })
    killed = true
    streams.recheck()
    await setImmediate()
    alsoKilled = 'other'
    streams.recheck()
    expect(await other.mayPass()).to.equal(false)
    expect(log.length).to.be.below(100)
    await until('all ends', () => log.length === 201)
    expect(log.filter((one) => one === 'other')).to.deep.equal(['other'])
  })

  it('end once, however many reasons there are', async () => {
    const { streams, watched } = open(1)
    inForce = revision('two')
    allowed = false
    const passing = watched[0]?.mayPass()
    killed = true
    streams.recheck()
    expect(await passing).to.equal(false)
    await until('its end', () => log.length >= 2)
    await setImmediate()
    expect(log).to.deep.equal(['client killed', 'upstream'])
  })

  it('that are no streams yet are not cut', async () => {
    const { streams, watched } = open(1, 'tools/call')
    killed = true
    streams.recheck()
    await setImmediate()
    expect(log).to.deep.equal([])
    watched[0]?.opened()
    streams.recheck()
    await until('its end', () => log.length === 2)
  })

  it('leave their rows a few at a time: the first at once, the others with a pause after each round', async () => {
    const { turn, hurry } = createPace(clock)
    let rows = 0
    const seen: number[] = []
    const leaveRow = async (): Promise<void> => {
      await turn()
      rows += 1
    }
    const all = Promise.all(Array.from({ length: 12 }, leaveRow))
    while (rows < 12) {
      await setImmediate()
      if (seen.at(-1) !== rows) seen.push(rows)
    }
    await all
    expect(seen).to.deep.equal([1, 5, 9, 12])
    hurry()
    await Promise.all(Array.from({ length: 12 }, leaveRow))
    expect(rows).to.equal(24)
  })
})
