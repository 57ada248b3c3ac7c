import { hash } from 'node:crypto'
import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { Call } from '../../src/gateway/types.ts'
import type { Forwarder } from '../../src/upstream/forward.ts'
import type { RawHandler, RawUpstream } from '../support/upstreams.ts'
import { startRawUpstream } from '../support/upstreams.ts'
import type { CallParts, ForwarderParts } from './call-fixture.ts'
import {
  callOf,
  forwarderTo,
  getStream,
  notification,
  recordingSink,
  session,
  terminate,
} from './call-fixture.ts'

const OK = { content: [{ type: 'text', text: 'fine' }] }
const never = new AbortController().signal

describe('forwarding one message', () => {
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

  async function send(handler: RawHandler, call: Call = callOf(), parts: ForwarderParts = {}) {
    const [, forwarder] = await start(handler, parts)
    return await forwarder.forward(call, recordingSink(), never)
  }

  async function refusal(
    handler: RawHandler,
    call: Call = callOf(),
    parts: ForwarderParts = {},
  ): Promise<GatewayError> {
    const [, forwarder] = await start(handler, parts)
    return await rejected(forwarder.forward(call, recordingSink(), never))
  }

  async function rejected(promise: Promise<unknown>): Promise<GatewayError> {
    const error = await promise.then(
      () => null,
      (thrown: unknown) => thrown,
    )
    expect(error).to.be.instanceOf(GatewayError)
    return error as GatewayError
  }

  describe('upwards', () => {
    it('sends the original bytes', async () => {
      const body = Buffer.from(
        '{"jsonrpc":"2.0","id":1,  "method":"tools/call","params":{"n":12345678901234567890.10}}',
      )
      const [upstream, forwarder] = await start((_, reply) => reply.result(OK))
      await forwarder.forward(callOf({ message: { body } }), recordingSink(), never)
      expect(upstream.requests[0]?.body.equals(body)).to.equal(true)
    })

    it('passes only what the allow-list names', async () => {
      const [upstream, forwarder] = await start((_, reply) => reply.result(OK))
      const headers = {
        authorization: 'Bearer gwk_callers',
        'x-api-key': 'gwk_callers',
        cookie: 'a=b',
        host: 'gateway.example',
        origin: 'https://evil.example',
        referer: 'https://evil.example',
        forwarded: 'for=1.2.3.4',
        'x-forwarded-for': '1.2.3.4',
        'x-real-ip': '1.2.3.4',
        'proxy-authorization': 'Basic x',
        'user-agent': 'their client',
        'content-length': '999999',
        'transfer-encoding': 'chunked',
        'content-type': 'application/json; charset=utf-8',
        accept: '*/*',
        'accept-encoding': 'gzip',
        'mcp-session-id': 'wrapped-for-the-client',
        'mcp-protocol-version': '2025-11-25',
        'mcp-method': 'tools/list',
        'mcp-name': 'lie',
        'mcp-param-x': 'lie',
        'last-event-id': '7',
        traceparent: '00-a-b-01',
        tracestate: 'a=b',
        baggage: 'c=d',
        'x-anything': 'else',
      }
      await forwarder.forward(callOf({ headers, message: { session } }), recordingSink(), never)
      const { host, connection, ...sent } = upstream.requests[0]?.headers ?? {}
      expect(host).to.equal(`127.0.0.1:${upstream.port}`)
      expect(connection).to.equal('keep-alive')
      expect(sent).to.deep.equal({
        authorization: 'Bearer upstream-secret',
        'user-agent': 'gateway-test',
        'content-type': 'application/json',
        'content-length': String(callOf().message?.body.length),
        accept: 'application/json, text/event-stream',
        'accept-encoding': 'identity',
        'mcp-session-id': 'upstream-session',
        'mcp-protocol-version': '2025-11-25',
        traceparent: '00-a-b-01',
        tracestate: 'a=b',
        baggage: 'c=d',
      })
    })

    it('passes the routing headers of a 2026-07-28 request', async () => {
      const [upstream, forwarder] = await start((_, reply) => reply.result(OK))
      const headers = {
        'mcp-method': 'tools/call',
        'mcp-name': 'echo',
        'mcp-param-region': '=?base64?eA==?=',
      }
      await forwarder.forward(callOf({ headers, message: { era: 'modern' } }), recordingSink(), never)
      expect(upstream.requests[0]?.headers).to.include(headers)
    })

    it('sends GET and DELETE without a body', async () => {
      const [upstream, forwarder] = await start((_, reply) => reply.send(405, ''))
      const headers = { 'last-event-id': '42' }
      await forwarder.forward(callOf({ ...getStream, headers }), recordingSink(), never)
      await forwarder.forward(callOf({ ...terminate, headers }), recordingSink(), never)
      const [get, del] = upstream.requests
      expect(get?.httpMethod).to.equal('GET')
      expect(get?.headers).to.include({ accept: 'text/event-stream', 'last-event-id': '42' })
      expect(get?.headers).not.to.have.any.keys('content-type', 'content-length')
      expect(del?.httpMethod).to.equal('DELETE')
      expect(del?.headers).not.to.have.any.keys('content-type', 'content-length', 'last-event-id', 'accept')
    })
  })

  describe('a JSON answer', () => {
    it('comes back byte for byte, with its hash and size', async () => {
      const text = '{"jsonrpc":"2.0", "id":1, "result":{"n":12345678901234567890, "isError":true}}'
      const answer = await send((_, reply) =>
        reply.send(200, text, { 'content-type': 'Application/JSON; charset=utf-8' }),
      )
      expect(answer.message?.toString()).to.equal(text)
      expect(answer.parsed).to.have.property('id', 1)
      expect(answer.frame).to.equal(null)
      expect(answer.head).to.deep.equal({
        status: 200,
        headers: { 'content-type': 'application/json' },
        sessionId: null,
        stream: false,
      })
      const { ms, ...report } = answer.report
      expect(ms).to.be.a('number')
      expect(report).to.deep.equal({
        server: 'up',
        status: 200,
        jsonRpcError: null,
        toolIsError: true,
        bytes: Buffer.byteLength(text),
        sha256: hash('sha256', text),
      })
    })

    it('brings the code of a JSON-RPC error', async () => {
      const answer = await send((_, reply) => reply.error(-32602, 'Unknown tool'))
      expect(answer.report).to.include({ jsonRpcError: -32602, toolIsError: false, status: 200 })
    })

    it('brings no header that is not allowed', async () => {
      const headers = {
        'set-cookie': 'a=b',
        'www-authenticate': 'Bearer',
        location: 'https://evil.example',
        server: 'secret/1.0',
        'x-powered-by': 'secret',
        'mcp-session-id': 'not-an-initialize',
        'cache-control': 'public',
        'retry-after': '5',
      }
      const answer = await send((_, reply) => reply.result(OK, headers))
      expect(answer.head.headers).to.deep.equal({ 'content-type': 'application/json' })
      expect(answer.head.sessionId).to.equal(null)
    })

    it('brings the session id of an initialize', async () => {
      const message = { method: 'initialize' }
      const answer = await send(
        (_, reply) => reply.result(OK, { 'mcp-session-id': 'abc' }),
        callOf({ message }),
      )
      expect(answer.head.sessionId).to.equal('abc')
    })

    it('matches string ids, big ids and ids with escapes', async () => {
      for (const [asked, answered] of [
        ['"a\\u0062"', '"ab"'],
        ['12345678901234567890', '12345678901234567000'],
        ['1', '1.0'],
      ] as const) {
        const body = `{"jsonrpc":"2.0","id":${answered},"result":{}}`
        const answer = await send(
          (_, reply) => reply.send(200, body, { 'content-type': 'application/json' }),
          callOf({ message: { idText: asked } }),
        )
        expect(answer.message?.toString()).to.equal(body)
      }
    })

    const json = { 'content-type': 'application/json' }
    const bad: Record<string, RawHandler> = {
      'no content type': (_, reply) => reply.send(200, '{"jsonrpc":"2.0","id":1,"result":{}}'),
      HTML: (_, reply) =>
        reply.send(200, '<h1>Stack trace at secret.js</h1>', { 'content-type': 'text/html' }),
      'an empty body': (_, reply) => reply.send(200, '', json),
      'not JSON': (_, reply) => reply.send(200, 'Stack trace at secret.js', json),
      'a byte order mark': (_, reply) => reply.send(200, '\uFEFF{"jsonrpc":"2.0","id":1,"result":{}}', json),
      'invalid UTF-8': (_, reply) =>
        reply.send(
          200,
          Buffer.concat([
            Buffer.from('{"jsonrpc":"2.0","id":1,"result":{"a":"'),
            Buffer.from([0xff]),
            Buffer.from('"}}'),
          ]),
          json,
        ),
      'another id': (_, reply) => reply.json(200, { jsonrpc: '2.0', id: 2, result: {} }),
      'the id as another type': (_, reply) => reply.json(200, { jsonrpc: '2.0', id: '1', result: {} }),
      'no id': (_, reply) => reply.json(200, { jsonrpc: '2.0', error: { code: 1, message: 'x' } }),
      'a null id': (_, reply) =>
        reply.json(200, { jsonrpc: '2.0', id: null, error: { code: 1, message: 'x' } }),
      'an array': (_, reply) => reply.json(200, [{ jsonrpc: '2.0', id: 1, result: {} }]),
      'neither result nor error': (_, reply) => reply.json(200, { jsonrpc: '2.0', id: 1 }),
      'both result and error': (_, reply) =>
        reply.json(200, { jsonrpc: '2.0', id: 1, result: {}, error: { code: 1, message: '' } }),
      'a result that is no object': (_, reply) => reply.json(200, { jsonrpc: '2.0', id: 1, result: 'text' }),
      'an error without a code': (_, reply) =>
        reply.json(200, { jsonrpc: '2.0', id: 1, error: { message: 'x' } }),
      'no jsonrpc member': (_, reply) => reply.json(200, { id: 1, result: {} }),
      'a request': (_, reply) => reply.json(200, { jsonrpc: '2.0', id: 1, method: 'ping', result: {} }),
      'a compressed body': (_, reply) =>
        reply.json(200, { jsonrpc: '2.0', id: 1, result: {} }, { 'content-encoding': 'gzip' }),
      'a redirect': (_, reply) => reply.send(307, '', { location: 'https://evil.example/secret.js' }),
      'an exception': (_, reply) => reply.error(-32603, 'secret.js:7', 500),
      'its own 401': (_, reply) =>
        reply.json(
          401,
          { jsonrpc: '2.0', id: 1, error: { code: 1, message: 'secret.js' } },
          { 'www-authenticate': 'Bearer' },
        ),
      'its own 403': (_, reply) => reply.error(1, 'secret.js', 403),
      'its own 407': (_, reply) => reply.error(1, 'secret.js', 407),
      'a 400 that is not JSON-RPC': (_, reply) =>
        reply.send(400, 'secret.js', { 'content-type': 'text/plain' }),
      'a 404 without a session': (_, reply) => reply.send(404, 'secret.js'),
      'a 202 to a request': (_, reply) => reply.send(202, ''),
      'a body shorter than promised': (_, reply) => {
        reply.partial(1000, '{"jsonrpc":"2.0","id":1,')
        setTimeout(() => reply.die(), 5)
      },
      'no answer at all': (_, reply) => reply.die(),
      'not HTTP': (_, reply) => void reply.response.socket?.end('SSH-2.0-OpenSSH secret.js\r\n'),
    }
    for (const [name, handler] of Object.entries(bad)) {
      it(`that is ${name} is a failed upstream, without its words`, async () => {
        const call = callOf()
        const error = await refusal(handler, call)
        expect(error.kind).to.equal('upstream_failed')
        expect(error.message).to.equal('Upstream failed')
        expect(error.detail).to.be.a('string')
        expect(error.detail).not.to.contain('secret')
        expect(call.upstream).to.include({ server: 'up', sha256: null })
      })
    }

    it('larger than the bound is a failed upstream, and the rest is not read', async () => {
      const big = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { text: 'x'.repeat(100_000) } })
      const [, forwarder] = await start((_, reply) => reply.send(200, big, json), { maxAnswerBytes: 65_536 })
      const error = await rejected(forwarder.forward(callOf(), recordingSink(), never))
      expect(error).to.include({ kind: 'upstream_failed', detail: 'its answer is larger than 65536 bytes' })
    })

    it('that unfolds into millions of values is not parsed', async () => {
      const bomb = `{"jsonrpc":"2.0","id":1,"result":${'['.repeat(6_000_000)}`
      const error = await refusal((_, reply) => reply.send(200, bomb, json), callOf(), {
        maxAnswerBytes: 1 << 26,
      })
      expect(error.kind).to.equal('upstream_failed')
    })

    it('with one large string passes', async () => {
      const text = '[{,"\\'.repeat(1_000_000)
      const answer = await send((_, reply) => reply.result({ text }), callOf(), { maxAnswerBytes: 1 << 26 })
      expect(answer.parsed?.['result']).to.deep.equal({ text })
    })
  })

  describe('an HTTP error', () => {
    it('with a JSON-RPC error is relayed with its status, whatever its id', async () => {
      for (const status of [400, 404, 405, 429]) {
        for (const id of [1, null, 'server-error']) {
          const body = {
            jsonrpc: '2.0',
            id,
            error: { code: -32020, message: 'Header mismatch', data: { a: 1 } },
          }
          const answer = await send((_, reply) => reply.json(status, body, { 'retry-after': '7' }))
          expect(answer.head.status).to.equal(status)
          expect(answer.message?.toString()).to.equal(JSON.stringify(body))
          expect(answer.report.jsonRpcError).to.equal(-32020)
          expect(answer.head.headers['retry-after']).to.equal(status === 429 ? '7' : undefined)
        }
      }
    })

    it('with a result is a failed upstream', async () => {
      const error = await refusal((_, reply) => reply.json(400, { jsonrpc: '2.0', id: 1, result: {} }))
      expect(error.kind).to.equal('upstream_failed')
    })

    it('404 within a session is relayed bare', async () => {
      const answer = await send(
        (_, reply) => reply.send(404, 'Session secret.js not found'),
        callOf({ message: { session } }),
      )
      expect(answer.head).to.deep.include({ status: 404, headers: {} })
      expect(answer.message).to.equal(null)
    })

    it('to server/discover is relayed bare, so that clients fall back to 2025-x', async () => {
      for (const status of [400, 404, 405, 406]) {
        const answer = await send(
          (_, reply) => reply.send(status, 'nope'),
          callOf({ message: { method: 'server/discover' } }),
        )
        expect(answer.head.status).to.equal(status)
        expect(answer.message).to.equal(null)
      }
    })
  })

  describe('notifications, GET and DELETE', () => {
    it('a notification is answered 202 without a body, whatever the upstream adds', async () => {
      const replies: RawHandler[] = [
        (_, reply) => reply.send(202, ''),
        (_, reply) => reply.send(204, ''),
        (_, reply) => reply.send(200, 'accepted by secret.js'),
        (_, reply) => void reply.stream().raw('data: {}\n\n'),
        (_, reply) => void reply.stream(),
      ]
      for (const handler of replies) {
        const answer = await send(handler, callOf({ message: notification }))
        expect(answer.head).to.deep.equal({ status: 202, headers: {}, sessionId: null, stream: false })
        expect(answer.message).to.equal(null)
      }
    })

    it('a notification that is refused is relayed, one that fails is a failed upstream', async () => {
      const answer = await send(
        (_, reply) => reply.error(-32600, 'no', 400),
        callOf({ message: notification }),
      )
      expect(answer.head.status).to.equal(400)
      const error = await refusal((_, reply) => reply.send(500, ''), callOf({ message: notification }))
      expect(error.kind).to.equal('upstream_failed')
    })

    it('DELETE is relayed', async () => {
      for (const status of [200, 204, 405, 404]) {
        const answer = await send((_, reply) => reply.send(status, ''), callOf(terminate))
        expect(answer.head.status).to.equal(status)
      }
    })

    it('a GET without a stream is relayed', async () => {
      const answer = await send((_, reply) => reply.send(405, 'no'), callOf(getStream))
      expect(answer.head).to.deep.equal({ status: 405, headers: {}, sessionId: null, stream: false })
      expect((await refusal((_, reply) => reply.json(200, {}), callOf(getStream))).kind).to.equal(
        'upstream_failed',
      )
    })
  })

  describe('deadlines', () => {
    const late: Record<string, RawHandler> = {
      'no answer': () => {},
      'half an answer': (_, reply) => reply.partial(1000, '{"jsonrpc"'),
    }
    for (const [name, handler] of Object.entries(late)) {
      it(`${name} is a timeout, and the exchange is ended`, async () => {
        let closed: Promise<void> = Promise.resolve()
        const [, forwarder] = await start(
          (request, reply) => {
            closed = reply.closed
            return handler(request, reply)
          },
          { timeoutMs: 100 },
        )
        const call = callOf()
        const error = await rejected(forwarder.forward(call, recordingSink(), never))
        expect(error.kind).to.equal('upstream_timeout')
        expect(call.upstream?.ms).to.be.greaterThan(0)
        await closed
      })
    }

    it('waiting for a free connection counts', async () => {
      const [upstream, forwarder] = await start(() => {}, { timeoutMs: 100, maxConnections: 1 })
      const first = rejected(forwarder.forward(callOf(), recordingSink(), never))
      const second = rejected(forwarder.forward(callOf(), recordingSink(), never))
      expect([(await first).kind, (await second).kind]).to.deep.equal([
        'upstream_timeout',
        'upstream_timeout',
      ])
      expect(upstream.count()).to.equal(1)
    })

    it('an upstream that is not there has failed', async () => {
      const [upstream, forwarder] = await start(() => {})
      await upstream.close()
      const error = await rejected(forwarder.forward(callOf(), recordingSink(), never))
      expect(error.kind).to.equal('upstream_failed')
      expect(error.detail).to.contain('ECONNREFUSED')
    })
  })

  describe('when the client goes away', () => {
    async function hangUp(handler: RawHandler, parts: CallParts = {}) {
      const controller = new AbortController()
      let closed: Promise<void> = Promise.resolve()
      const [upstream, forwarder] = await start((request, reply) => {
        closed = reply.closed
        return handler(request, reply)
      })
      const sink = recordingSink()
      const running = forwarder.forward(callOf(parts), sink, controller.signal)
      await upstream.waitFor(parts.httpMethod ?? 'tools/call', 0)
      return { controller, sink, running, closed: () => closed, upstream, forwarder }
    }

    it('the upstream exchange is aborted at once', async () => {
      for (const handler of [() => {}, late]) {
        const { controller, running, closed } = await hangUp(handler)
        controller.abort()
        expect((await rejected(running)).kind).to.equal('client_closed')
        await closed()
      }
      function late(_: unknown, reply: { partial(promised: number, body: string): void }): void {
        reply.partial(1000, '{"json')
      }
    })

    it('a stream is aborted at once', async () => {
      const { controller, running, closed, sink } = await hangUp((_, reply) => {
        reply.stream().message({ jsonrpc: '2.0', method: 'notifications/progress' })
      })
      await sink.nth(0)
      controller.abort()
      expect((await rejected(running)).kind).to.equal('client_closed')
      await closed()
    })

    it('a GET stream ends as it should', async () => {
      const { controller, running, closed, sink } = await hangUp((_, reply) => void reply.stream(), getStream)
      await sink.opened
      controller.abort()
      const answer = await running
      expect(answer.message).to.equal(null)
      expect(answer.report).to.include({ status: 200, bytes: 0 })
      await closed()
    })

    it('a call that was closed for a reason of ours says so', async () => {
      const { controller, running } = await hangUp(() => {})
      controller.abort(new GatewayError('policy_denied'))
      expect((await rejected(running)).kind).to.equal('policy_denied')
    })

    it('nothing is sent when it had gone before', async () => {
      const [upstream, forwarder] = await start((_, reply) => reply.result(OK))
      const error = await rejected(forwarder.forward(callOf(), recordingSink(), AbortSignal.abort()))
      expect(error.kind).to.equal('client_closed')
      await forwarder.forward(callOf(), recordingSink(), never)
      expect(upstream.count()).to.equal(1)
    })
  })

  it('never sends a POST twice', async () => {
    const [upstream, forwarder] = await start((_, reply) => reply.result(OK))
    await forwarder.forward(callOf(), recordingSink(), never)
    upstream.handle((_, reply) => reply.die())
    expect((await rejected(forwarder.forward(callOf(), recordingSink(), never))).kind).to.equal(
      'upstream_failed',
    )
    expect(upstream.count()).to.equal(2)
  })

  it('reuses connections for calls that follow each other', async () => {
    const [upstream, forwarder] = await start((_, reply) => reply.result(OK))
    for (let call = 0; call < 20; call += 1) await forwarder.forward(callOf(), recordingSink(), never)
    // Two, because a call that starts while the last one is being settled finds its connection still taken.
    expect(upstream.connections()).to.be.at.most(2)
  })

  it('refuses a request of the upstream in the same session', async () => {
    const [upstream, forwarder] = await start((_, reply) => reply.send(202, ''))
    const headers = { authorization: 'Bearer gwk_callers', 'mcp-protocol-version': '2025-11-25' }
    await forwarder.refuseServerRequest(callOf({ headers, message: { session } }), '"s\\u0031"')
    const [request] = upstream.requests
    expect(request?.body.toString()).to.equal(
      '{"jsonrpc":"2.0","id":"s\\u0031","error":{"code":-1,"message":"Forbidden"}}',
    )
    expect(request?.headers).to.include({
      'mcp-session-id': 'upstream-session',
      'mcp-protocol-version': '2025-11-25',
      authorization: 'Bearer upstream-secret',
    })
    upstream.handle(() => {})
    const hasty = forwarderTo(upstream.url, { timeoutMs: 50 })
    open.push(hasty)
    await hasty.refuseServerRequest(callOf(), '1')
    await upstream.close()
    await forwarder.refuseServerRequest(callOf(), '1')
  })
})
