import { once } from 'node:events'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { expect } from 'chai'
import type { GatewayError } from '../../src/errors.ts'
import { createUpstreamGate } from '../../src/rate/caps.ts'
import type { UpstreamSettings, Upstreams, UpstreamsOptions } from '../../src/upstream/room.ts'
import { createUpstreams } from '../../src/upstream/room.ts'
import { sharedSchemas } from '../support/schemas.ts'
import { startV1Upstream, startV2Upstream } from '../support/sdk-upstreams.ts'
import { until } from '../support/until.ts'
import type { RawHandler, ScriptedOptions } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'
import type { CallParts } from './call-fixture.ts'
import { callOf, clock, getStream, notification, recordingSink, settingsOf } from './call-fixture.ts'

const never = new AbortController().signal
const OPEN = { breaker: { failures: 3, openMs: 60_000 } }

describe('the health of an upstream', () => {
  const open: { close(): Promise<void> }[] = []
  const logged: { readonly level: string; readonly message: string; readonly [field: string]: unknown }[] = []
  let now = 0
  /** Real time, and what a test lets pass on top of it. */
  const moved = { nowMs: () => Date.now(), monotonicMs: () => performance.now() + now }

  afterEach(async () => {
    logged.length = 0
    now = 0
    for (const one of open.splice(0)) await one.close()
  })

  function start(settings: Partial<UpstreamSettings>, options: Partial<UpstreamsOptions> = {}): Upstreams {
    const upstreams = createUpstreams({
      schemas: sharedSchemas(),
      upstreams: { up: settingsOf(settings) },
      limits: { catalogMinIntervalMs: 0 },
      version: '1.2.3',
      clock: moved,
      random: Math.random,
      log: {
        info: (fields, message) => logged.push({ ...fields, level: 'info', message }),
        warn: (fields, message) => logged.push({ ...fields, level: 'warn', message }),
      },
      ...options,
    })
    open.unshift(upstreams)
    return upstreams
  }

  async function scripted(options: ScriptedOptions = {}) {
    const upstream = await startScriptedUpstream(options)
    open.push(upstream)
    return upstream
  }

  const forward = (upstreams: Upstreams, parts: CallParts = {}, signal = never) =>
    upstreams.forward(callOf(parts), recordingSink(), signal)

  async function refusal(promise: unknown): Promise<GatewayError> {
    return (await Promise.resolve(promise).then(
      () => new Error('it went through'),
      (thrown: unknown) => thrown,
    )) as GatewayError
  }

  async function fail(upstreams: Upstreams, times: number): Promise<void> {
    for (let at = 0; at < times; at += 1) await refusal(forward(upstreams))
  }

  describe('as the circuit breaker sees it', () => {
    const faults: Record<string, RawHandler> = {
      'answers 500': (_, reply) => reply.send(500, 'x'),
      'answers 503 with a JSON-RPC error': (_, reply) => reply.error(-32603, 'x', 503),
      'breaks the connection': (_, reply) => reply.die(),
      'breaks the connection in the middle of its answer': (_, reply) => {
        reply.partial(100, '{')
        setTimeout(reply.die, 5)
      },
      'does not answer in time': () => undefined,
      'breaks its stream': (_, reply) => {
        const stream = reply.stream()
        setTimeout(stream.die, 5)
      },
    }
    for (const [what, handle] of Object.entries(faults)) {
      it(`is not asked any more when it ${what} again and again`, async () => {
        const upstream = await scripted({ handle })
        const upstreams = start({ url: upstream.url, timeoutMs: 100, ...OPEN })
        await fail(upstreams, 3)
        const error = await refusal(forward(upstreams))
        expect(error).to.include({ kind: 'upstream_failed', message: 'Upstream failed' })
        expect(error.data).to.deep.equal({ retryAfterSeconds: 60 })
        expect(upstream.calls()).to.equal(3)
        expect(upstreams.states()[0]).to.include({ breaker: 'open', status: 'down' })
      })
    }

    const innocent: Record<string, RawHandler> = {
      'a JSON-RPC error': (_, reply) => reply.error(-32603, 'x'),
      'a tool that fails': (_, reply) => reply.result({ isError: true, content: [] }),
      'a refusal with 400': (_, reply) => reply.error(-32602, 'x', 400),
      'a refusal with 429': (_, reply) => reply.error(1, 'x', 429),
      'a 401, which is about our credential': (_, reply) => reply.send(401, ''),
      'a redirect': (_, reply) => reply.send(307, '', { location: '/' }),
      'an answer that is not JSON-RPC': (_, reply) =>
        reply.send(200, '<html>', { 'content-type': 'application/json' }),
    }
    for (const [what, handle] of Object.entries(innocent)) {
      it(`is not blamed for ${what}`, async () => {
        const upstream = await scripted({ handle })
        const upstreams = start({ url: upstream.url, ...OPEN })
        for (let at = 0; at < 10; at += 1) await forward(upstreams).catch(() => undefined)
        expect(upstream.calls()).to.equal(10)
        expect(upstreams.states()[0]).to.include({ breaker: 'closed' })
      })
    }

    it('is not blamed for callers who go away', async () => {
      const upstream = await scripted({ handle: () => undefined })
      const upstreams = start({ url: upstream.url, ...OPEN })
      for (let at = 0; at < 10; at += 1) {
        const gone = new AbortController()
        const running = forward(upstreams, {}, gone.signal)
        await upstream.waitFor('tools/call', at)
        gone.abort()
        expect(await refusal(running)).to.include({ kind: 'client_closed' })
      }
      expect(upstreams.states()[0]).to.include({ breaker: 'closed' })
    })

    it('is not blamed for long-lived streams that break after they were opened', async () => {
      const upstream = await scripted({
        handle: (_, reply) => {
          const stream = reply.stream()
          setTimeout(stream.die, 5)
        },
      })
      const upstreams = start({ url: upstream.url, ...OPEN })
      for (let at = 0; at < 5; at += 1) await forward(upstreams, getStream).catch(() => undefined)
      expect(upstream.count('GET')).to.equal(5)
      expect(upstreams.states()[0]).to.include({ breaker: 'closed', status: 'up' })
    })

    it('gets one call as a trial when the time is over, and all of them when that works', async () => {
      const upstream = await scripted({ handle: (_, reply) => reply.send(500, '') })
      const upstreams = start({ url: upstream.url, ...OPEN })
      await fail(upstreams, 3)
      now += 60_001
      const held: (() => void)[] = []
      upstream.handle((_, reply) => void held.push(() => reply.result({})))
      const trial = forward(upstreams)
      await until('the trial', () => held.length === 1)
      for (let at = 0; at < 5; at += 1) {
        expect((await refusal(forward(upstreams))).data).to.deep.equal({ retryAfterSeconds: 1 })
      }
      expect(held).to.have.length(1)
      held[0]?.()
      await trial
      upstream.handle((_, reply) => reply.result({}))
      await Promise.all([forward(upstreams), forward(upstreams)])
      expect(upstreams.states()[0]).to.include({ breaker: 'closed', status: 'up', lastError: null })
    })

    it('is not locked by a trial whose caller went away', async () => {
      const upstream = await scripted({ handle: (_, reply) => reply.send(500, '') })
      const upstreams = start({ url: upstream.url, ...OPEN })
      await fail(upstreams, 3)
      now += 60_001
      upstream.handle(() => undefined)
      const gone = new AbortController()
      const trial = forward(upstreams, {}, gone.signal)
      await upstream.waitFor('tools/call', 3)
      gone.abort()
      await refusal(trial)
      upstream.handle((_, reply) => reply.result({}))
      await forward(upstreams)
      expect(upstreams.states()[0]).to.include({ breaker: 'closed' })
    })

    it('tells a caller of an upstream that has never been read the same, without asking it', async () => {
      const gone = await scripted()
      await gone.close()
      const upstreams = start({ url: gone.url, ...OPEN })
      for (let at = 0; at < 3; at += 1) await refusal(upstreams.findTool('up', 'echo'))
      const error = await refusal(upstreams.findTool('up', 'echo'))
      expect(error.data).to.deep.equal({ retryAfterSeconds: 60 })
      expect(upstreams.states()[0]?.lastError, 'what really happened').to.contain('ECONNREFUSED')
    })

    it('goes on to find the tools it knows while nothing is asked', async () => {
      const upstream = await scripted({ handle: (_, reply) => reply.die() })
      const upstreams = start({ url: upstream.url, ...OPEN })
      await upstreams.findTool('up', 'echo')
      await fail(upstreams, 3)
      now += 1_000_000
      upstream.handle(() => undefined)
      expect(await upstreams.findTool('up', 'echo')).to.include({ name: 'echo' })
    })

    it('never gets a tools/call twice', async () => {
      const upstream = await scripted({ handle: (_, reply) => reply.die() })
      const upstreams = start({ url: upstream.url, breaker: { failures: 100, openMs: 1000 } })
      await fail(upstreams, 20)
      expect(upstream.calls()).to.equal(20)
    })

    it('logs each change once, and nothing of what the upstream said', async () => {
      const upstream = await scripted({ handle: (_, reply) => reply.send(500, 's3cret') })
      const upstreams = start({ url: upstream.url, headers: { authorization: 'Bearer s3cret' }, ...OPEN })
      await upstreams.findTool('up', 'echo')
      await fail(upstreams, 6)
      now += 60_001
      upstream.handle((_, reply) => reply.result({}))
      await forward(upstreams)
      await forward(upstreams)
      expect(logged.map(({ level, message }) => `${level} ${message}`)).to.deep.equal([
        'info an upstream is up',
        'warn the circuit breaker of an upstream is open: calls are refused',
        'warn an upstream is down',
        'info the circuit breaker of an upstream makes a trial',
        'info the circuit breaker of an upstream is closed again',
        'info an upstream is up',
      ])
      expect(logged.every(({ upstream: name }) => name === 'up')).to.equal(true)
      expect(logged[2]).to.include({ error: 'it answered 500' })
      expect(JSON.stringify(logged)).not.to.contain('s3cret')
    })
  })

  describe('as probes see it', () => {
    const PROBED = { probeIntervalMs: 10, breaker: { failures: 3, openMs: 20 } }

    it('joins when it comes up, and nobody has to call it for that', async () => {
      const first = await scripted()
      await first.close()
      const upstreams = start({ url: first.url, ...PROBED })
      await until('it to be down', () => upstreams.states()[0]?.status === 'down')
      expect(await refusal(upstreams.findTool('up', 'echo'))).to.include({ kind: 'upstream_failed' })
      await scripted({ port: first.port })
      await until('it to be up', () => upstreams.states()[0]?.status === 'up')
      expect(upstreams.states()[0]).to.include({ tools: 1, breaker: 'closed' })
    })

    it('opens the breaker of one that has gone, and closes it when it is back', async () => {
      const first = await scripted()
      const upstreams = start({ url: first.url, ...PROBED })
      await until('it to be up', () => upstreams.states()[0]?.status === 'up')
      await first.close()
      await until('the breaker to open', () => upstreams.states()[0]?.breaker === 'open')
      expect(upstreams.states()[0]).to.include({ status: 'down' })
      await scripted({ port: first.port })
      await until('the breaker to close', () => upstreams.states()[0]?.breaker === 'closed')
      expect(upstreams.states()[0]).to.include({ status: 'up', lastError: null })
    })

    it('sends `server/discover` on 2026-07-28, with our headers and as the revision asks', async () => {
      const upstream = await scripted()
      start({ url: upstream.url, headers: { authorization: 'Bearer up' }, probeIntervalMs: 10 }).warm()
      const probe = await upstream.waitFor('server/discover', 2)
      expect(probe.headers).to.include({
        authorization: 'Bearer up',
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'server/discover',
        'user-agent': 'mcp-policy-gateway/1.2.3',
      })
      expect(upstream.count('tools/list'), 'read once').to.equal(1)
    })

    it('pings in a session of its own before that, one for all probes, and ends it', async () => {
      const upstream = await scripted({
        era: 'legacy',
        sessions: true,
        handle: (request, reply) => {
          if (request.httpMethod === 'DELETE') return reply.send(200, '')
          reply.result({})
        },
      })
      const upstreams = start({ url: upstream.url, probeIntervalMs: 10 })
      upstreams.warm()
      const probe = await upstream.waitFor('ping', 3)
      expect(probe.headers).to.include({
        'mcp-session-id': 'scripted-session-1',
        'mcp-protocol-version': '2025-11-25',
      })
      expect(upstream.count('initialize'), 'for the list and for the probes').to.equal(2)
      await upstreams.close()
      expect(upstream.count('DELETE')).to.equal(2)
    })

    it('begins a new session when the upstream has forgotten the old one', async () => {
      let forgets = true
      const upstream = await scripted({
        era: 'legacy',
        sessions: true,
        handle: (request, reply) => {
          if (request.httpMethod === 'DELETE') return reply.send(200, '')
          if (forgets && request.method === 'ping') return reply.error(-32001, 'Session not found', 404)
          reply.result({})
        },
      })
      const upstreams = start({ url: upstream.url, probeIntervalMs: 10 })
      upstreams.warm()
      await upstream.waitFor('ping', 2)
      forgets = false
      const after = upstream.count('ping')
      await upstream.waitFor('ping', after + 2)
      expect(upstreams.states()[0]).to.include({ status: 'up', breaker: 'closed' })
    })

    for (const [name, serve] of [
      ['v1 SDK', startV1Upstream],
      ['v2 SDK, both eras', startV2Upstream],
      ['v2 SDK, 2026-07-28 only', () => startV2Upstream('reject')],
    ] as const) {
      it(`finds a server of the ${name} well`, async () => {
        const upstream = await serve()
        open.push(upstream)
        const upstreams = start({ url: upstream.url, probeIntervalMs: 10 })
        const method = name === 'v1 SDK' ? 'ping' : 'server/discover'
        await until('several probes', () => upstream.count(method) >= 4)
        expect(upstreams.states()[0]).to.include({ status: 'up', lastError: null, breaker: 'closed' })
        expect(upstream.count('tools/list')).to.equal(1)
      })
    }

    it('reads the list again when the upstream has changed its revision', async () => {
      const first = await scripted({ era: 'modern' })
      const upstreams = start({ url: first.url, probeIntervalMs: 10 })
      await until('it to be read', () => upstreams.states()[0]?.protocolVersion === '2026-07-28')
      await first.close()
      await scripted({ era: 'legacy', port: first.port, handle: (_, reply) => reply.result({}) })
      await until('it to be read', () => upstreams.states()[0]?.protocolVersion === '2025-11-25')
      await until('it to be up', () => upstreams.states()[0]?.status === 'up')
    })

    it('leaves an upstream alone that is being called', async () => {
      const upstream = await scripted()
      const upstreams = start({ url: upstream.url, probeIntervalMs: 100 })
      await upstreams.findTool('up', 'echo')
      const before = upstream.count('server/discover')
      const end = performance.now() + 250
      while (performance.now() < end) await forward(upstreams)
      expect(upstream.count('server/discover')).to.equal(before)
    })

    it('does not wait for an upstream that accepts and says nothing', async () => {
      const silent = createServer(() => undefined).listen(0, '127.0.0.1')
      await once(silent, 'listening')
      const url = `http://127.0.0.1:${(silent.address() as AddressInfo).port}/mcp`
      const upstreams = start(
        { url, timeoutMs: 50, ...PROBED },
        {
          limits: {
            catalogMinIntervalMs: 0,
            catalog: { maxPages: 5, maxTools: 5, maxBytes: 1000, maxPageBytes: 1000, timeoutMs: 50 },
          },
        },
      )
      await until('the breaker to open', () => upstreams.states()[0]?.breaker === 'open')
      await upstreams.close()
      silent.close()
    })
  })

  describe('with a bound on what it works on', () => {
    const gated = (maxConcurrent: number, maxWaitMs = 10_000, maxWaiting = 100) => ({
      gateOf: () => createUpstreamGate({ maxConcurrent, maxWaiting, maxWaitMs }, clock.monotonicMs),
    })

    it('gets so many requests and no more, the others in turn', async () => {
      const held: (() => void)[] = []
      const upstream = await scripted({ handle: (_, reply) => void held.push(() => reply.result({})) })
      const waits: number[] = []
      const upstreams = start(
        { url: upstream.url },
        { ...gated(2), onWait: (_name, ms) => void waits.push(ms) },
      )
      const order: number[] = []
      const running = [0, 1, 2, 3].map((at) => forward(upstreams).then(() => order.push(at)))
      await until('two calls', () => held.length === 2)
      expect(upstreams.states()[0]).to.include({ inFlight: 2, waiting: 2 })
      held[0]?.()
      await until('the third', () => held.length === 3)
      held[1]?.()
      held[2]?.()
      await until('the fourth', () => held.length === 4)
      held[3]?.()
      await Promise.all(running)
      expect(order.at(-1)).to.equal(3)
      expect(waits).to.have.length(4)
      expect(upstreams.states()[0]).to.include({ inFlight: 0, waiting: 0 })
    })

    it('is spared a call that waited too long: 503', async () => {
      const upstream = await scripted({ handle: () => undefined })
      const upstreams = start({ url: upstream.url }, gated(1, 10))
      const gone = new AbortController()
      const first = refusal(forward(upstreams, {}, gone.signal))
      await upstream.waitFor('tools/call', 0)
      const error = await refusal(forward(upstreams))
      expect(error).to.include({ kind: 'overloaded' })
      expect(error.data).to.deep.equal({ retryAfterSeconds: 1 })
      expect(upstream.calls()).to.equal(1)
      gone.abort()
      await first
      expect(upstreams.states()[0], 'not its fault').to.include({ breaker: 'closed', inFlight: 0 })
    })

    it('still gets what an earlier request may be waiting for, and long-lived streams', async () => {
      const upstream = await scripted({
        handle: (request, reply) => {
          if (request.httpMethod === 'GET') reply.stream()
          else if (request.id === undefined) reply.send(202, '')
        },
      })
      const upstreams = start({ url: upstream.url }, gated(1, 0))
      const gone = new AbortController()
      const running = [forward(upstreams, {}, gone.signal), forward(upstreams, getStream, gone.signal)]
      await upstream.waitFor('tools/call', 0)
      await upstream.waitFor('GET', 0)
      const response = {
        kind: 'response',
        method: 'response',
        body: Buffer.from('{"jsonrpc":"2.0"}'),
      } as const
      await forward(upstreams, { message: notification })
      await forward(upstreams, { message: response })
      expect(upstreams.states()[0]).to.include({ inFlight: 1 })
      gone.abort()
      await Promise.allSettled(running)
    })

    it('refuses those who wait as soon as its breaker opens', async () => {
      const held: (() => void)[] = []
      const upstream = await scripted({ handle: (_, reply) => void held.push(() => reply.send(500, '')) })
      const upstreams = start({ url: upstream.url, breaker: { failures: 1, openMs: 60_000 } }, gated(1))
      const running = [0, 1, 2].map(() => refusal(forward(upstreams)))
      await until('the first', () => held.length === 1)
      held[0]?.()
      const errors = await Promise.all(running)
      expect(errors.map(({ data }) => data['retryAfterSeconds'])).to.deep.equal([undefined, 60, 60])
      expect(upstream.calls()).to.equal(1)
    })
  })
})
