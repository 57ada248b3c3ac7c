import { expect } from 'chai'
import type { EndingKind } from '../../src/errors.ts'
import { ENDINGS, GatewayError } from '../../src/errors.ts'
import type { Message, Reply, UpstreamAnswer } from '../../src/gateway/types.ts'
import { MessageRefusal } from '../../src/http/message-refusal.ts'
import { createHttpRoom } from '../../src/http/room.ts'
import { createSessionBinder } from '../../src/http/session.ts'
import { callOf, headOf } from './fixtures.ts'

const KEY = Buffer.alloc(32, 7)
const room = createHttpRoom({
  allowedHosts: ['localhost'],
  allowedOrigins: [],
  trustedProxies: ['10.0.0.0/8'],
  denyAs: 'http',
  maxBodyBytes: 1000,
  sessionKey: KEY,
  taskKey: KEY,
  serverRequestKey: KEY,
})

function bodyOf(reply: Reply): unknown {
  return reply.message === null ? null : JSON.parse(reply.message.toString())
}

function refuse(
  error: GatewayError,
  message: Partial<Message> | null = {},
  headers: Record<string, string> = {},
): Reply {
  return room.replyRefusal(callOf(message, headOf('POST', headers)), error)
}

describe('a refusal', () => {
  const plain = (Object.keys(ENDINGS) as EndingKind[]).filter(
    (kind) => !['client_closed', 'invalid_arguments', 'unknown_method'].includes(kind),
  )
  for (const kind of plain) {
    it(`${kind}: ${ENDINGS[kind].status}, code ${ENDINGS[kind].code}, and nothing but the request id`, () => {
      const error = new GatewayError(kind, { detail: 'rule x of policy y', cause: new Error('secret') })
      const reply = refuse(error)
      expect(reply.status).to.equal(ENDINGS[kind].status)
      expect(bodyOf(reply)).to.deep.equal({
        jsonrpc: '2.0',
        id: 7,
        error: {
          code: ENDINGS[kind].code,
          message: ENDINGS[kind].message,
          data: { ...(ENDINGS[kind].status === 503 && { retryAfterSeconds: 1 }), requestId: 'req-1' },
        },
      })
      expect(reply.headers).to.include({
        'x-request-id': 'req-1',
        'content-type': 'application/json',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      })
      expect(reply.frame).to.equal(null)
    })
  }

  it('echoes the id with its exact digits, and omits what is not known', () => {
    const text = (reply: Reply) => reply.message?.toString() ?? ''
    expect(text(refuse(new GatewayError('policy_denied'), { idText: '12345678901234567890' }))).to.contain(
      '"id":12345678901234567890,',
    )
    expect(text(refuse(new GatewayError('policy_denied'), { idText: '"\\u0061"' }))).to.contain(
      '"id":"\\u0061",',
    )
    expect(bodyOf(refuse(new GatewayError('unauthenticated'), null))).to.not.have.property('id')
    expect(bodyOf(refuse(new MessageRefusal('header_mismatch', { idText: '9' }), null))).to.have.property(
      'id',
      9,
    )
    expect(bodyOf(refuse(new MessageRefusal('parse_error'), null))).to.not.have.property('id')
    expect(
      bodyOf(refuse(new GatewayError('policy_denied'), { kind: 'notification', idText: null })),
    ).to.not.have.property('id')
    expect(
      bodyOf(refuse(new GatewayError('policy_denied'), { kind: 'response', idText: '3' })),
    ).to.not.have.property('id')
  })

  it('carries the data that the protocol defines', () => {
    const error = new MessageRefusal('unsupported_version', {
      idText: '1',
      data: { supported: ['2026-07-28'], requested: 'x', requestId: 'forged' },
    })
    expect(bodyOf(refuse(error, null))).to.have.deep.nested.property('error.data', {
      supported: ['2026-07-28'],
      requested: 'x',
      requestId: 'req-1',
    })
  })

  it('says when to come back', () => {
    const reply = refuse(new GatewayError('rate_limited', { data: { retryAfterSeconds: 1.2 } }))
    expect(reply.headers['retry-after']).to.equal('2')
    expect(bodyOf(reply)).to.have.nested.property('error.data.retryAfterSeconds', 1.2)
    expect(
      refuse(new GatewayError('overloaded', { data: { retryAfterSeconds: 0 } })).headers['retry-after'],
    ).to.equal('1')
    expect(refuse(new GatewayError('upstream_failed')).headers).to.not.have.property('retry-after')
  })

  it('always says when to come back with a 503', () => {
    for (const kind of [
      'overloaded',
      'audit_unavailable',
      'limiter_unavailable',
      'auth_unavailable',
    ] as const) {
      const reply = refuse(new GatewayError(kind))
      expect(reply.headers['retry-after']).to.equal('1')
      expect(bodyOf(reply)).to.have.nested.property('error.data.retryAfterSeconds', 1)
    }
  })

  it('challenges, and says invalid_token only to who has sent one', () => {
    const challenge = (headers: Record<string, string>) =>
      refuse(new GatewayError('unauthenticated'), null, headers).headers['www-authenticate']
    expect(challenge({})).to.equal('Bearer')
    expect(challenge({ authorization: 'Basic x' })).to.equal('Bearer error="invalid_token"')
    expect(challenge({ 'x-api-key': 'x' })).to.equal('Bearer error="invalid_token"')
    expect(refuse(new GatewayError('policy_denied')).headers).to.not.have.property('www-authenticate')
  })

  it('names the methods that are allowed', () => {
    expect(
      refuse(new MessageRefusal('method_not_allowed', { allow: 'POST' }), null).headers['allow'],
    ).to.equal('POST')
  })

  it('answers an unknown method as each era does', () => {
    const status = (message: Partial<Message>) => refuse(new GatewayError('unknown_method'), message).status
    expect(status({ era: 'modern' })).to.equal(404)
    expect(status({ era: 'legacy' })).to.equal(200)
    expect(status({ era: 'legacy', kind: 'notification', idText: null })).to.equal(400)
    expect(status({ era: 'modern', kind: 'notification', idText: null })).to.equal(404)
    expect(bodyOf(refuse(new GatewayError('unknown_method')))).to.have.nested.property('error.code', -32601)
  })

  describe('for invalid arguments', () => {
    const error = new GatewayError('invalid_arguments', {
      message: 'Invalid arguments: /path must be string',
    })
    it('is a tool result since 2025-11-25', () => {
      const reply = refuse(error)
      expect(reply.status).to.equal(200)
      expect(bodyOf(reply)).to.deep.equal({
        jsonrpc: '2.0',
        id: 7,
        result: {
          content: [{ type: 'text', text: 'Invalid arguments: /path must be string' }],
          isError: true,
          _meta: { 'mcp-policy-gateway/requestId': 'req-1' },
        },
      })
    })
    it('says in 2026-07-28 that the result is complete', () => {
      const reply = refuse(error, { era: 'modern', protocolVersion: '2026-07-28' })
      expect(bodyOf(reply)).to.have.nested.property('result.resultType', 'complete')
    })
    it('was an error before', () => {
      for (const protocolVersion of ['2025-03-26', '2025-06-18', null]) {
        const reply = refuse(error, { protocolVersion })
        expect(reply.status).to.equal(200)
        expect(bodyOf(reply)).to.have.nested.property('error.code', -32602)
      }
    })
  })

  it('says nothing to who has gone', () => {
    const reply = refuse(new GatewayError('client_closed'))
    expect([reply.status, reply.message]).to.deep.equal([499, null])
  })
})

describe('an answer of the upstream', () => {
  const answer = (
    patch: Partial<UpstreamAnswer> = {},
    head: Partial<UpstreamAnswer['head']> = {},
  ): UpstreamAnswer => ({
    head: { status: 200, headers: { 'content-type': 'text/html' }, sessionId: null, stream: false, ...head },
    message: Buffer.from('{"jsonrpc":"2.0","id":7,"result":{}}'),
    parsed: {},
    frame: null,
    report: {
      server: 'github',
      status: 200,
      jsonRpcError: null,
      toolIsError: false,
      ms: 1,
      bytes: 1,
      sha256: null,
    },
    ...patch,
  })
  const frame = { raw: Buffer.from('data: {}\n\n'), data: '{}', id: '1', event: 'message', retry: null }

  it('keeps status and bytes, under our own headers', () => {
    const given = answer(
      {},
      { status: 404, headers: { 'x-kept': '1', 'x-request-id': 'theirs', 'content-length': '9' } },
    )
    const reply = room.replyWith(callOf({}), given)
    expect(reply.status).to.equal(404)
    expect(reply.message).to.equal(given.message)
    expect(reply.headers).to.deep.equal({
      'x-kept': '1',
      'x-request-id': 'req-1',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store',
      'content-type': 'application/json',
    })
  })

  it('is an event when it came as one, and has no type when it has no body', () => {
    const streamed = room.replyWith(callOf({}), answer({ frame }))
    expect(streamed.headers['content-type']).to.equal('text/event-stream')
    expect(streamed.frame).to.equal(frame)
    const empty = room.replyWith(callOf({}), answer({ message: null }, { status: 202 }))
    expect(empty.status).to.equal(202)
    expect(empty.headers).to.not.have.property('content-type')
  })

  it('opens a stream that nobody may hold back', () => {
    const reply = room.openHead(callOf({}), { status: 200, headers: {}, sessionId: null, stream: true })
    expect(reply.headers).to.deep.equal({
      'x-request-id': 'req-1',
      'x-content-type-options': 'nosniff',
      'cache-control': 'no-store, no-transform',
      'content-type': 'text/event-stream',
      'x-accel-buffering': 'no',
    })
  })

  it('hands out the session of an initialize bound to its caller, and no other', () => {
    const head = { sessionId: 'up-1', headers: { 'mcp-session-id': 'up-1' } }
    const reply = room.replyWith(callOf({ method: 'initialize' }), answer({}, head))
    const wrapped = reply.headers['mcp-session-id'] ?? ''
    expect(
      createSessionBinder(KEY).unwrap({ principalId: 'alice', tenant: 'acme', mount: 'github' }, wrapped)
        ?.upstreamId,
    ).to.equal('up-1')
    expect(
      room.openHead(callOf({ method: 'initialize' }), answer({}, head).head).headers['mcp-session-id'],
    ).to.equal(wrapped)
    expect(room.replyWith(callOf({}), answer({}, head)).headers).to.not.have.property('mcp-session-id')
    const modern = callOf({ method: 'initialize', era: 'modern' })
    expect(room.replyWith(modern, answer({}, head)).headers).to.not.have.property('mcp-session-id')
  })

  it('is refused when its session id cannot stand in a header', () => {
    const given = answer({}, { sessionId: 'a\r\nb' })
    expect(() => room.replyWith(callOf({ method: 'initialize' }), given))
      .to.throw()
      .with.property('kind', 'upstream_failed')
  })
})

describe('the room', () => {
  it('knows the client address of a head that it would refuse', () => {
    const head = { ...headOf('POST', { host: 'evil', 'x-forwarded-for': '198.51.100.1' }), peer: '10.0.0.1' }
    expect(() => room.admit(head))
      .to.throw()
      .with.property('kind', 'host_refused')
    expect(room.clientIp(head)).to.equal('198.51.100.1')
  })
  it('does not start with a malformed list', () => {
    const options = {
      allowedHosts: ['a b'],
      allowedOrigins: [],
      trustedProxies: [],
      denyAs: 'http' as const,
      maxBodyBytes: 1,
      sessionKey: KEY,
      taskKey: KEY,
      serverRequestKey: KEY,
    }
    expect(() => createHttpRoom(options)).to.throw(RangeError, 'allowed_hosts')
  })
})
