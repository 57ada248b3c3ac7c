import { hash } from 'node:crypto'
import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { Message } from '../../src/gateway/types.ts'
import type { Forwarder } from '../../src/upstream/forward.ts'
import { createSessionOrder } from '../../src/upstream/session-order.ts'
import { createStreamWatch } from '../../src/upstream/stream-watch.ts'
import type { RawHandler, RawUpstream } from '../support/upstreams.ts'
import { startRawUpstream } from '../support/upstreams.ts'
import type { CallParts, ForwarderParts } from './call-fixture.ts'
import { callOf, clock, forwarderTo, getStream, recordingSink, session } from './call-fixture.ts'

const never = new AbortController().signal
const progress = (step: number) => ({
  jsonrpc: '2.0',
  method: 'notifications/progress',
  params: { progress: step },
})
const response = (id: unknown = 1) => ({ jsonrpc: '2.0', id, result: { content: [] } })

describe('forwarding a stream', () => {
  const open: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })

  async function start(handler: RawHandler, parts: ForwarderParts = {}): Promise<[RawUpstream, Forwarder]> {
    const upstream = await startRawUpstream(handler)
    const forwarder = forwarderTo(upstream.url, parts)
    open.push(forwarder, upstream)
    return [upstream, forwarder]
  }

  async function refusal(
    handler: RawHandler,
    parts: ForwarderParts = {},
    call: CallParts = {},
  ): Promise<[GatewayError, number]> {
    const [, forwarder] = await start(handler, parts)
    const sink = recordingSink()
    const error = await forwarder.forward(callOf(call), sink, never).then(
      () => null,
      (thrown: unknown) => thrown,
    )
    expect(error).to.be.instanceOf(GatewayError)
    return [error as GatewayError, sink.events.length]
  }

  it('opens at once and relays each event before the next is sent', async () => {
    const sink = recordingSink()
    const [, forwarder] = await start(async (_, reply) => {
      const stream = reply.stream({ 'mcp-session-id': 'x', 'set-cookie': 'a=b' })
      await sink.opened
      for (let step = 0; step < 3; step += 1) {
        stream.message(progress(step), { id: `e${step}` })
        await sink.nth(step)
      }
      stream.message(response(), { id: 'last', event: 'message' })
    })
    const answer = await forwarder.forward(callOf(), sink, never)
    expect(sink.heads).to.deep.equal([
      { status: 200, headers: { 'content-type': 'text/event-stream' }, sessionId: null, stream: true },
    ])
    expect(sink.events.map((event) => event.id)).to.deep.equal(['e0', 'e1', 'e2'])
    expect(answer.frame).to.deep.include({ id: 'last', event: 'message' })
    expect(answer.message?.toString()).to.equal(JSON.stringify(response()))
    expect(answer.report).to.include({ status: 200, sha256: hash('sha256', JSON.stringify(response())) })
  })

  it('ends when the response has come, although the upstream goes on', async () => {
    let closed: Promise<void> = Promise.resolve()
    const [, forwarder] = await start((_, reply) => {
      closed = reply.closed
      const stream = reply.stream()
      stream.message(response())
      stream.message(progress(1))
    })
    const sink = recordingSink()
    const answer = await forwarder.forward(callOf(), sink, never)
    expect(answer.parsed).to.deep.equal(response())
    expect(sink.events).to.deep.equal([])
    await closed
  })

  it('keeps the connection when the upstream ends after the response', async () => {
    const [upstream, forwarder] = await start((_, reply) => {
      const stream = reply.stream()
      stream.message(response())
      stream.end()
    })
    for (let call = 0; call < 20; call += 1) await forwarder.forward(callOf(), recordingSink(), never)
    expect(upstream.connections()).to.be.at.most(2)
  })

  it('holds the upstream back while the client is slow', async () => {
    let release: () => void = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const sink = recordingSink(() => held)
    let written = 0
    const total = 4000
    const [, forwarder] = await start(async (_, reply) => {
      const stream = reply.stream()
      const large = { ...progress(0), params: { filler: 'x'.repeat(16_000) } }
      for (; written < total; written += 1) {
        if (stream.message(large)) continue
        const drained = new Promise((resolve) => reply.response.once('drain', resolve))
        // The first stall is the proof; then the client reads again.
        release()
        await drained
      }
      stream.message(response())
    })
    const running = forwarder.forward(callOf(), sink, never)
    await sink.nth(0)
    expect(sink.events).to.have.length(1)
    await running
    expect(sink.events).to.have.length(total)
  })

  it('relays what was received before the connection broke, then fails', async () => {
    const [error, events] = await refusal((_, reply) => {
      const stream = reply.stream()
      stream.message(progress(1))
      stream.message(progress(2))
      setTimeout(() => stream.die(), 20)
    })
    expect(error.kind).to.equal('upstream_failed')
    expect(events).to.equal(2)
  })

  it('gives the response although the connection breaks right after it, while events are still being relayed', async () => {
    let die: () => void = () => {}
    const sink = recordingSink(async () => {
      die()
      await new Promise((resolve) => setTimeout(resolve, 30))
    })
    const [, forwarder] = await start((_, reply) => {
      const stream = reply.stream()
      die = () => stream.die()
      stream.raw(`data: ${JSON.stringify(progress(1))}\n\ndata: ${JSON.stringify(response())}\n\n`)
    })
    const answer = await forwarder.forward(callOf(), sink, never)
    expect(answer.parsed).to.deep.equal(response())
  })

  const bad: Record<string, RawHandler> = {
    'ends without the response': (_, reply) => reply.stream().end(),
    'answers another request': (_, reply) => void reply.stream().message(response(2)),
    'answers a null id': (_, reply) =>
      void reply.stream().message({ jsonrpc: '2.0', id: null, error: { code: 1, message: 'x' } }),
    'sends text': (_, reply) => void reply.stream().raw('data: secret.js\n\n'),
    'sends an array': (_, reply) => void reply.stream().message([progress(1)]),
    'sends an object of no kind': (_, reply) => void reply.stream().message({ jsonrpc: '2.0', id: 1 }),
    'hides a response behind a method': (_, reply) =>
      void reply.stream().message({ ...response(), method: 'x' }),
    'sends invalid UTF-8': (_, reply) => void reply.stream().raw(Buffer.from([0x64, 0xff, 0x0a, 0x0a])),
    'sends an endless line': (_, reply) => void reply.stream().raw(`data: ${'x'.repeat(70_000)}`),
    'sends endless comments': (_, reply) => void reply.stream().raw(': x\n'.repeat(20_000)),
  }
  for (const [name, handler] of Object.entries(bad)) {
    it(`that ${name} is a failed upstream`, async () => {
      const [error] = await refusal(handler, { maxAnswerBytes: 65_536 })
      expect(error.kind).to.equal('upstream_failed')
      expect(error.detail).not.to.contain('secret')
    })
  }

  it('that a 2025-x server ends early, to be asked again by event id, ends without a message', async () => {
    const early: RawHandler = (_, reply) => {
      const stream = reply.stream()
      stream.raw('id: 7\nretry: 100\ndata:\n\n')
      stream.end()
    }
    const [, forwarder] = await start(early)
    const answer = await forwarder.forward(callOf(), recordingSink(), never)
    expect(answer).to.deep.include({ message: null, parsed: null, frame: null })
    const modern = forwarder.forward(callOf({ message: { era: 'modern' } }), recordingSink(), never)
    expect(await modern.catch((thrown: unknown) => thrown)).to.include({ kind: 'upstream_failed' })
  })

  it('passes on priming events and drops comments and foreign event types', async () => {
    const sink = recordingSink()
    const [, forwarder] = await start((_, reply) => {
      const stream = reply.stream()
      stream.raw('id: 1\nretry: 500\ndata:\n\n: secret\n\n')
      stream.message(response(), { event: 'endpoint' })
      stream.raw('id: 2\n\n')
      stream.message(response())
    })
    await forwarder.forward(callOf(), sink, never)
    expect(sink.events.map((event) => event.raw.toString())).to.deep.equal([
      'id: 1\nretry: 500\ndata:\n\n',
      'id: 2\n\n',
    ])
  })

  it('passes on the id and the retry time of a foreign event type, nothing else of it', async () => {
    const sink = recordingSink()
    const [, forwarder] = await start((_, reply) => {
      const stream = reply.stream()
      stream.raw('event: close\nid: 5\nretry: 10\ndata: secret\n\n')
      stream.message(response())
    })
    await forwarder.forward(callOf(), sink, never)
    expect(sink.events).to.deep.equal([
      { id: '5', retry: '10', event: null, data: null, raw: Buffer.alloc(0) },
    ])
  })

  it('stops when the sink refuses an event, and cuts the upstream off', async () => {
    let closed: Promise<void> = Promise.resolve()
    const sink = recordingSink(async () => {
      throw new GatewayError('policy_denied')
    })
    const [, forwarder] = await start((_, reply) => {
      closed = reply.closed
      reply.stream().message(progress(1))
    })
    const error: unknown = await forwarder.forward(callOf(), sink, never).catch((thrown: unknown) => thrown)
    expect(error).to.include({ kind: 'policy_denied' })
    await closed
  })

  it('that falls silent, or lives too long, times out', async () => {
    const steady: RawHandler = (_, reply) => {
      const stream = reply.stream()
      const timer = setInterval(() => stream.raw(': alive\n\n'), 10)
      void reply.closed.then(() => clearInterval(timer))
    }
    const silent = await refusal((_, reply) => void reply.stream(), {
      streamLimits: { idleMs: 50, maxMs: 5000 },
    })
    expect(silent[0]).to.include({ kind: 'upstream_timeout', detail: 'the stream was silent for 50 ms' })
    const old = await refusal(steady, { streamLimits: { idleMs: 5000, maxMs: 100 } })
    expect(old[0]).to.include({ kind: 'upstream_timeout', detail: 'the stream is older than 100 ms' })
  })

  describe('opened with GET', () => {
    it('relays everything, responses of earlier requests included, until the upstream closes', async () => {
      const sink = recordingSink()
      let body = ''
      const [, forwarder] = await start((_, reply) => {
        const stream = reply.stream()
        for (const message of [progress(1), response(7), { jsonrpc: '2.0', id: 's1', method: 'ping' }]) {
          body += `data: ${JSON.stringify(message)}\n\n`
        }
        stream.raw(body)
        stream.end()
      })
      const answer = await forwarder.forward(callOf(getStream), sink, never)
      expect(sink.events).to.have.length(3)
      expect(answer).to.deep.include({ message: null, parsed: null, frame: null })
      expect(answer.head).to.deep.equal(sink.heads[0])
      expect(answer.report).to.include({ status: 200, bytes: body.length, sha256: hash('sha256', body) })
    })

    it('may be silent, ends at its maximum age, and fails when it breaks', async () => {
      const parts = { streamLimits: { idleMs: 20, maxMs: 20 }, maxStreamMs: 120 }
      const [, forwarder] = await start((_, reply) => void reply.stream(), parts)
      const answer = await forwarder.forward(callOf(getStream), recordingSink(), never)
      expect(answer.report.status).to.equal(200)
      const [, broken] = await start((_, reply) => {
        const stream = reply.stream()
        setTimeout(() => stream.die(), 10)
      })
      const error: unknown = await broken
        .forward(callOf(getStream), recordingSink(), never)
        .catch((thrown: unknown) => thrown)
      expect(error).to.include({ kind: 'upstream_failed' })
    })

    describe('for a session', () => {
      const stream = { ...getStream, message: { ...getStream.message, session } }
      const inSession = { message: { session } }

      it('comes before what the session sends after it', async () => {
        const answered: string[] = []
        const open: (() => void)[] = []
        const [upstream, forwarder] = await start((request, reply) => {
          if (request.httpMethod === 'GET') open.push(() => reply.stream())
          else reply.result({})
        })
        const sink = recordingSink()
        const controller = new AbortController()
        const running = forwarder.forward(callOf(stream), sink, controller.signal)
        const calling = forwarder
          .forward(callOf(inSession), recordingSink(), never)
          .then(() => answered.push('same session'))
        await upstream.waitFor('GET', 0)
        const other = { message: { session: { ...session, upstreamId: 'another' } } }
        await forwarder.forward(callOf(other), recordingSink(), never)
        answered.push('another session')
        expect(upstream.calls(), 'only that of another session').to.equal(1)
        open[0]?.()
        await calling
        expect(answered).to.deep.equal(['another session', 'same session'])
        controller.abort()
        await running
      })

      it('holds nobody up when it is refused', async () => {
        const [, forwarder] = await start((request, reply) => {
          if (request.httpMethod === 'GET') reply.send(405, '')
          else reply.result({})
        })
        const [answer] = await Promise.all([
          forwarder.forward(callOf(stream), recordingSink(), never),
          forwarder.forward(callOf(inSession), recordingSink(), never),
        ])
        expect(answer.head.status).to.equal(405)
      })

      it('holds nobody up for longer than the bound when its head does not come', async () => {
        const order = createSessionOrder(5)
        const messageOf = (parts: CallParts): Message => callOf(parts).message as Message
        await order.enter(messageOf(stream))
        await order.enter(messageOf(inSession))
        const passage = await order.enter(messageOf(stream))
        passage.left()
        await order.enter(messageOf(inSession))
      })

      it('comes before a request that was read in the same turn', async () => {
        const order = createSessionOrder(60_000)
        const entered: string[] = []
        const enter = async (parts: CallParts, name: string): Promise<void> => {
          const passage = await order.enter(callOf(parts).message as Message)
          entered.push(name)
          passage.opened()
        }
        await Promise.all([enter(inSession, 'request'), enter(stream, 'stream')])
        expect(entered).to.deep.equal(['stream', 'request'])
      })
    })

    it('does not take a place from calls', async () => {
      const [, forwarder] = await start(
        (request, reply) => {
          if (request.httpMethod === 'GET') reply.stream()
          else reply.result({})
        },
        { maxConnections: 1 },
      )
      const controller = new AbortController()
      const sink = recordingSink()
      const running = forwarder.forward(callOf(getStream), sink, controller.signal)
      await sink.opened
      await forwarder.forward(callOf(), recordingSink(), never)
      controller.abort()
      await running
    })
  })

  describe('of a subscription', () => {
    const listen: CallParts = { message: { era: 'modern', method: 'subscriptions/listen', idText: '1' } }

    it('is over when the client leaves, or at its maximum age', async () => {
      const [, forwarder] = await start((_, reply) => void reply.stream().message(progress(1)), {
        maxStreamMs: 120,
      })
      const controller = new AbortController()
      const sink = recordingSink()
      const running = forwarder.forward(callOf(listen), sink, controller.signal)
      await sink.nth(0)
      controller.abort()
      for (const answer of [await running, await forwarder.forward(callOf(listen), recordingSink(), never)]) {
        expect(answer).to.deep.include({ message: null, parsed: null, frame: null })
        expect(answer.head.status).to.equal(200)
      }
    })

    it('ends with the response when the upstream ends it, and fails when that is missing', async () => {
      const [, forwarder] = await start((_, reply) => void reply.stream().message(response()))
      const answer = await forwarder.forward(callOf(listen), recordingSink(), never)
      expect(answer.parsed).to.deep.equal(response())
      const [error] = await refusal((_, reply) => reply.stream().end(), {}, listen)
      expect(error.kind).to.equal('upstream_failed')
    })

    it('that was refused before it opened is a call like any other', async () => {
      const [, forwarder] = await start(() => undefined, { timeoutMs: 50 })
      const error: unknown = await forwarder
        .forward(callOf(listen), recordingSink(), never)
        .catch((thrown: unknown) => thrown)
      expect(error).to.include({ kind: 'upstream_timeout' })
    })
  })

  it('the shared watch keeps no timer without streams', () => {
    let now = 0
    const watch = createStreamWatch({ clock: { ...clock, monotonicMs: () => now }, sweepMs: 5 })
    const watched = watch.add({ idleMs: 10, maxMs: 100 }, () => expect.fail('removed streams do not expire'))
    watched.remove()
    now = 1000
    watch.close()
  })
})
