import { expect } from 'chai'
import type { GatewayError } from '../../src/errors.ts'
import type { Message } from '../../src/gateway/types.ts'
import type { Forwarder } from '../../src/upstream/forward.ts'
import { startV1Upstream, startV2Upstream } from '../support/sdk-upstreams.ts'
import type { RawHandler, RawStream, RawUpstream } from '../support/upstreams.ts'
import { startRawUpstream } from '../support/upstreams.ts'
import type { ForwarderParts } from './call-fixture.ts'
import { callOf, forwarderTo, recordingSink } from './call-fixture.ts'

const never = new AbortController().signal
const OK = { content: [] }

describe('the time a call may take', () => {
  const open: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })

  async function start(handler: RawHandler, parts: ForwarderParts): Promise<[RawUpstream, Forwarder]> {
    const upstream = await startRawUpstream(handler)
    const forwarder = forwarderTo(upstream.url, parts)
    open.push(forwarder, upstream)
    return [upstream, forwarder]
  }

  function calling(forwarder: Forwarder, message: Partial<Message> = {}, sink = recordingSink()) {
    return forwarder.forward(callOf({ message }), sink, never)
  }

  async function refusal(promise: Promise<unknown>): Promise<GatewayError> {
    return (await promise.then(
      () => new Error('it went through'),
      (thrown: unknown) => thrown,
    )) as GatewayError
  }

  const every = (ms: number, stream: RawStream, send: () => void, closed: Promise<void>): RawStream => {
    const timer = setInterval(send, ms)
    void closed.then(() => clearInterval(timer))
    return stream
  }

  it("is the upstream's, unless the tool has one of its own, shorter or longer", async () => {
    const later: (() => void)[] = []
    const toolTimeoutsMs = new Map([
      ['quick', 20],
      ['thorough', 60_000],
    ])
    const [upstream, forwarder] = await start((_, reply) => void later.push(() => reply.result(OK)), {
      timeoutMs: 60,
      toolTimeoutsMs,
    })
    const thorough = calling(forwarder, { params: { name: 'thorough' } })
    await upstream.waitFor('tools/call', 0)
    const quick = await refusal(calling(forwarder, { params: { name: 'quick' } }))
    expect(quick).to.include({ kind: 'upstream_timeout', detail: 'no answer within 20 ms' })
    const other = await refusal(calling(forwarder, { params: { name: 'other' } }))
    expect(other).to.include({ kind: 'upstream_timeout', detail: 'no answer within 60 ms' })
    later[0]?.()
    expect((await thorough).report).to.include({ status: 200 })
  })

  it('is not the one of a tool for another method, whatever it names', async () => {
    const [, forwarder] = await start(() => undefined, {
      timeoutMs: 20,
      toolTimeoutsMs: new Map([['quick', 60_000]]),
    })
    const error = await refusal(calling(forwarder, { method: 'prompts/get', params: { name: 'quick' } }))
    expect(error).to.include({ detail: 'no answer within 20 ms' })
  })

  describe('on a stream', () => {
    it('is over although the server keeps the connection alive', async () => {
      const [, forwarder] = await start(
        (_, reply) => {
          const stream = reply.stream()
          every(5, stream, () => stream.raw(': still here\n\n'), reply.closed)
        },
        { timeoutMs: 50 },
      )
      const error = await refusal(calling(forwarder))
      expect(error).to.include({
        kind: 'upstream_timeout',
        detail: 'no message on the stream within 50 ms',
      })
    })

    it('begins anew with each message', async () => {
      const [, forwarder] = await start(
        (_, reply) => {
          const stream = reply.stream()
          const progress = { jsonrpc: '2.0', method: 'notifications/progress', params: { progress: 1 } }
          let left = 12
          every(
            20,
            stream,
            () => {
              left -= 1
              if (left > 0) stream.message(progress)
              else stream.result(OK)
            },
            reply.closed,
          )
        },
        { timeoutMs: 150 },
      )
      const sink = recordingSink()
      await calling(forwarder, {}, sink)
      expect(sink.events).to.have.length(11)
    })

    it('does not run while the client has not taken what has come', async () => {
      const [, forwarder] = await start(
        (_, reply) => {
          const stream = reply.stream()
          stream.message({ jsonrpc: '2.0', method: 'notifications/progress', params: { progress: 1 } })
          stream.result(OK)
        },
        { timeoutMs: 40 },
      )
      const sink = recordingSink(() => new Promise((resolve) => setTimeout(resolve, 150)))
      expect((await calling(forwarder, {}, sink)).report).to.include({ status: 200 })
    })

    it('does not run once the client was asked something: people take their time', async () => {
      const [, forwarder] = await start(
        (_, reply) => {
          const stream = reply.stream()
          stream.message({ jsonrpc: '2.0', id: 'q', method: 'elicitation/create', params: {} })
          setTimeout(() => stream.result(OK), 150)
        },
        { timeoutMs: 40 },
      )
      expect((await calling(forwarder)).report).to.include({ status: 200 })
    })

    it('holds for tools of the official SDKs that hang', async () => {
      const call = { name: 'slow', arguments: { milliseconds: 60_000 } }
      const v1 = await startV1Upstream()
      const v2 = await startV2Upstream()
      open.push(v1, v2)
      const [one, two] = [v1, v2].map(({ url }) =>
        forwarderTo(url, { timeoutMs: 10_000, toolTimeoutsMs: new Map([['slow', 80]]) }),
      ) as [Forwarder, Forwarder]
      open.unshift(one, two)
      const inSession = await openSession(one)
      const request = (params: object) => ({
        params: call,
        body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params })),
      })
      const first = one.forward(
        callOf({
          headers: { 'mcp-protocol-version': '2025-11-25' },
          message: { ...request(call), session: inSession },
        }),
        recordingSink(),
        never,
      )
      expect(await refusal(first)).to.include({ kind: 'upstream_timeout' })
      const meta = {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
      }
      const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'slow' }
      const second = two.forward(
        callOf({ headers, message: { ...request({ ...call, _meta: meta }), era: 'modern' } }),
        recordingSink(),
        never,
      )
      expect(await refusal(second)).to.include({ kind: 'upstream_timeout' })
      expect(v1.calls('slow') + v2.calls('slow')).to.equal(2)
    })
  })
})

async function openSession(forwarder: Forwarder) {
  const params = {
    protocolVersion: '2025-11-25',
    capabilities: {},
    clientInfo: { name: 'test', version: '1' },
  }
  const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }))
  const answer = await forwarder.forward(
    callOf({ message: { method: 'initialize', body } }),
    recordingSink(),
    never,
  )
  return { upstreamId: answer.head.sessionId ?? '', hash: 'hash' }
}
