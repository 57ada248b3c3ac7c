import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import { decodeNameHeader } from '../../src/gateway/federation/names.ts'
import type { Exchange, Message } from '../../src/gateway/types.ts'
import { MessageRefusal } from '../../src/http/message-refusal.ts'
import { readHint, readMessage } from '../../src/http/read.ts'
import { createSessionBinder } from '../../src/http/session.ts'
import { createTaskBinder } from '../../src/http/task.ts'
import { exchangeOf, headOf, PRINCIPAL } from './fixtures.ts'

const sessions = createSessionBinder(Buffer.alloc(32, 7))
const tasks = createTaskBinder(Buffer.alloc(32, 8))
const OPTIONS = { maxBodyBytes: 100_000, sessions, tasks }
const POST = { 'content-type': 'application/json', accept: 'application/json, text/event-stream' }
const VERSION = 'io.modelcontextprotocol/protocolVersion'
const MODERN_META = {
  [VERSION]: '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
  'io.modelcontextprotocol/clientInfo': { name: 'probe', version: '1.2' },
}
const SESSION = sessions.wrap({ principalId: 'alice', tenant: 'acme', mount: 'github' }, 'up-1')

function read(body: unknown, headers: Record<string, string> = {}, method = 'POST'): Promise<Message> {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body)
  return readFrom(exchangeOf(headOf(method, { ...POST, ...headers }), text))
}

async function readFrom(exchange: Exchange): Promise<Message> {
  return (await readMessage(exchange, PRINCIPAL, OPTIONS)).message
}

async function refusalOf(reading: Promise<Message>): Promise<GatewayError> {
  try {
    const message = await reading
    throw new Error(`accepted as ${message.kind}`)
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
}

async function kindOf(reading: Promise<Message>): Promise<string> {
  return (await refusalOf(reading)).kind
}

const call = (params: object = { name: 'x' }, extra: object = {}) => ({
  jsonrpc: '2.0',
  id: 7,
  method: 'tools/call',
  params,
  ...extra,
})

describe('reading a message', () => {
  it('takes a tools/call apart and keeps every digit and byte', async () => {
    const body =
      '{"jsonrpc":"2.0", "id" : 12345678901234567890 ,"method":"tools/call","params":{"name":"sum","arguments": {"n":9007199254740993, "x":1.50 } }}'
    const message = await read(body, { 'mcp-protocol-version': '2025-06-18', 'mcp-session-id': SESSION })
    expect(message).to.include({
      kind: 'request',
      era: 'legacy',
      protocolVersion: '2025-06-18',
      method: 'tools/call',
      idText: '12345678901234567890',
      argumentsText: '{"n":9007199254740993, "x":1.50 }',
      client: null,
    })
    expect(message.params['name']).to.equal('sum')
    expect(message.body.toString()).to.equal(body)
    expect(message.session?.upstreamId).to.equal('up-1')
  })

  describe('what a policy sees as arguments', () => {
    const cases: readonly (readonly [string, object | undefined, string | null])[] = [
      ['tools/call', { name: 'x' }, '{}'],
      ['tools/call', { name: 'x', arguments: { a: [1] } }, '{"a":[1]}'],
      ['prompts/get', { name: 'x', arguments: { a: 'b' } }, '{"a":"b"}'],
      ['resources/read', { uri: 'file:///a' }, '{"uri":"file:///a"}'],
      ['resources/subscribe', { uri: 'file:///a', other: 1 }, '{"uri":"file:///a"}'],
      ['resources/unsubscribe', {}, '{}'],
      [
        'completion/complete',
        { argument: { name: 'a', value: 'b' }, ref: { type: 'ref/prompt', name: 'p' } },
        '{"ref":{"type":"ref/prompt","name":"p"},"argument":{"name":"a","value":"b"}}',
      ],
      ['logging/setLevel', { level: 'debug' }, '{"level":"debug"}'],
      ['logging/setLevel', undefined, '{}'],
      ['tools/list', { cursor: 'x' }, null],
      ['resources/list', undefined, null],
      ['ping', undefined, null],
      ['x/unknown', { arguments: {} }, null],
    ]
    for (const [method, params, expected] of cases) {
      it(`${method} ${JSON.stringify(params) ?? ''}: ${expected}`, async () => {
        expect((await read({ jsonrpc: '2.0', id: 1, method, params })).argumentsText).to.equal(expected)
      })
    }
    it('must be an object', async () => {
      for (const value of [null, [], 'x', 1]) {
        const error = await refusalOf(read(call({ name: 'x', arguments: value })))
        expect([error.kind, (error as MessageRefusal).idText]).to.deep.equal(['invalid_params', '7'])
      }
    })
  })

  describe('headers about content', () => {
    const cases: readonly (readonly [Record<string, string>, string])[] = [
      [{ 'content-type': 'application/json; charset=utf-8' }, 'read'],
      [{ 'content-type': 'Application/JSON;charset="UTF-8"' }, 'read'],
      [{ 'content-type': 'application/json; charset=utf-16' }, 'unsupported_media_type'],
      [{ 'content-type': 'text/plain' }, 'unsupported_media_type'],
      [{ 'content-type': 'text/plain; x=application/json' }, 'unsupported_media_type'],
      [{ 'content-type': 'application/json-patch+json' }, 'unsupported_media_type'],
      [{ 'content-type': '' }, 'unsupported_media_type'],
      [{ 'content-encoding': 'gzip' }, 'unsupported_media_type'],
      [{ 'content-encoding': 'identity' }, 'read'],
      [{ 'transfer-encoding': 'gzip, chunked' }, 'unsupported_media_type'],
      [{ 'transfer-encoding': 'Chunked' }, 'read'],
      [{ accept: '*/*' }, 'read'],
      [{ accept: 'application/*;q=0.5, text/*' }, 'read'],
      [{ accept: 'APPLICATION/JSON,text/event-stream' }, 'read'],
      [{ accept: 'application/json' }, 'not_acceptable'],
      [{ accept: 'text/event-stream' }, 'not_acceptable'],
      [{ accept: 'application/json, text/event-stream;q=0' }, 'not_acceptable'],
      [{ accept: '*/*, text/event-stream; q=0.0' }, 'not_acceptable'],
      [{ accept: '' }, 'not_acceptable'],
    ]
    for (const [headers, expected] of cases) {
      it(`${JSON.stringify(headers)}: ${expected}`, async () => {
        const got = await read(call(), headers).then(
          () => 'read',
          (error: GatewayError) => error.kind,
        )
        expect(got).to.equal(expected)
      })
    }
  })

  describe('bodies that are refused', () => {
    const cases: readonly (readonly [string, string | Buffer, string])[] = [
      ['nothing', '', 'parse_error'],
      ['broken JSON', '{"jsonrpc":', 'parse_error'],
      ['a byte order mark', `\ufeff${JSON.stringify(call())}`, 'parse_error'],
      ['invalid UTF-8', Buffer.from([0x7b, 0xff, 0x7d]), 'parse_error'],
      ['a duplicate key', '{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}', 'parse_error'],
      [
        'a duplicate key in the arguments',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":1,"\\u0061":2}}}',
        'parse_error',
      ],
      ['a look-alike in the envelope', '{"jsonrpc":"2.0","id":1,"method":"a","Method":"b"}', 'parse_error'],
      ['a look-alike with U+017F', '{"jsonrpc":"2.0","id":1,"method":"a","param\u017f":{}}', 'parse_error'],
      [
        'a look-alike in params',
        '{"jsonrpc":"2.0","id":1,"method":"a","params":{"Name":"b"}}',
        'parse_error',
      ],
      [
        'a look-alike with U+212A',
        '{"jsonrpc":"2.0","id":1,"method":"a","params":{"tas\u212a":1}}',
        'parse_error',
      ],
      [
        'a look-alike in _meta',
        `{"jsonrpc":"2.0","id":1,"method":"a","params":{"_meta":{"${VERSION.toUpperCase()}":1}}}`,
        'parse_error',
      ],
      [
        'a look-alike in ref',
        '{"jsonrpc":"2.0","id":1,"method":"a","params":{"ref":{"NAME":1}}}',
        'parse_error',
      ],
      ['1e400', '{"jsonrpc":"2.0","id":1,"method":"a","params":{"x":1e400}}', 'parse_error'],
      ['an empty array', '[]', 'invalid_request'],
      ['a string', '"x"', 'invalid_request'],
      ['null', 'null', 'invalid_request'],
      ['no jsonrpc', '{"id":1,"method":"a"}', 'invalid_request'],
      ['jsonrpc 1.0', '{"jsonrpc":"1.0","id":1,"method":"a"}', 'invalid_request'],
      ['jsonrpc as a number', '{"jsonrpc":2.0,"id":1,"method":"a"}', 'invalid_request'],
      ['id null', '{"jsonrpc":"2.0","id":null,"method":"a"}', 'invalid_request'],
      ['a fractional id', '{"jsonrpc":"2.0","id":1.5,"method":"a"}', 'invalid_request'],
      ['an object as id', '{"jsonrpc":"2.0","id":{},"method":"a"}', 'invalid_request'],
      ['an id of 2 kB', `{"jsonrpc":"2.0","id":"${'x'.repeat(2000)}","method":"a"}`, 'invalid_request'],
      ['a method that is no string', '{"jsonrpc":"2.0","id":1,"method":1}', 'invalid_request'],
      ['an empty method', '{"jsonrpc":"2.0","id":1,"method":""}', 'invalid_request'],
      ['a lone surrogate in the method', '{"jsonrpc":"2.0","id":1,"method":"a\\ud800"}', 'invalid_request'],
      ['positional params', '{"jsonrpc":"2.0","id":1,"method":"a","params":[1]}', 'invalid_request'],
      ['null params', '{"jsonrpc":"2.0","id":1,"method":"a","params":null}', 'invalid_request'],
      ['an unknown member', '{"jsonrpc":"2.0","id":1,"method":"a","extra":1}', 'invalid_request'],
      ['__proto__ as a member', '{"jsonrpc":"2.0","id":1,"method":"a","__proto__":{}}', 'invalid_request'],
      ['a request with a result', '{"jsonrpc":"2.0","id":1,"method":"a","result":{}}', 'invalid_request'],
      [
        'a response with result and error',
        '{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":""}}',
        'invalid_request',
      ],
      ['a response without id', '{"jsonrpc":"2.0","result":{}}', 'invalid_request'],
      ['an error without code', '{"jsonrpc":"2.0","id":1,"error":{"message":""}}', 'invalid_request'],
      ['an envelope of nothing', '{"jsonrpc":"2.0","id":1}', 'invalid_request'],
      [
        'a lone surrogate in a tool name',
        '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a\\udfff"}}',
        'invalid_params',
      ],
      [
        'a lone surrogate in a reference',
        '{"jsonrpc":"2.0","id":1,"method":"completion/complete","params":{"ref":{"name":"a\\udfff"}}}',
        'invalid_params',
      ],
    ]
    for (const [name, body, kind] of cases) {
      it(`${name}: ${kind}`, async () => expect(await kindOf(read(body))).to.equal(kind))
    }

    it('keeps the id of what is no valid request, and never that of what is no JSON', async () => {
      const idOf = async (body: string) => ((await refusalOf(read(body))) as MessageRefusal).idText
      expect(await idOf('{"jsonrpc":"1.0","id":"a\\u0062","method":"x"}')).to.equal('"a\\u0062"')
      expect(await idOf('{"jsonrpc":"2.0","id":1,"id":2,"method":"x"}')).to.equal(null)
      expect(await idOf('{"jsonrpc":"2.0","id":1.5,"method":"x"}')).to.equal(null)
    })

    it('names rule and offset without the text', async () => {
      const error = await refusalOf(read('{"jsonrpc":"2.0","sekret":1,"sekret":2}'))
      expect(error.message).to.equal('Parse error: an object must not have the same key twice (at offset 28)')
      expect(error.detail).to.contain('duplicate_key').and.not.contain('sekret')
    })

    it('reads a body of the deepest kind allowed', async () => {
      const deep = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"x","arguments":{"a":${'['.repeat(61)}${']'.repeat(61)}}}}`
      expect((await read(deep)).kind).to.equal('request')
      expect(await kindOf(read(deep.replace('[', '[[').replace(']', ']]')))).to.equal('parse_error')
    })
  })

  describe('kinds of message', () => {
    it('tells requests, notifications and responses apart', async () => {
      expect(await read({ jsonrpc: '2.0', id: 'a', method: 'ping' })).to.include({
        kind: 'request',
        idText: '"a"',
      })
      const note = await read({ jsonrpc: '2.0', method: 'notifications/initialized' })
      expect(note).to.include({ kind: 'notification', idText: null, argumentsText: null })
      const result = await read({ jsonrpc: '2.0', id: 3, result: { a: 1 } })
      expect(result).to.include({
        kind: 'response',
        method: 'response',
        idText: '3',
        argumentsText: null,
        era: 'legacy',
      })
      const failure = await read({ jsonrpc: '2.0', id: 3, error: { code: -1, message: 'no' } })
      expect(failure.kind).to.equal('response')
    })

    it('reads GET and DELETE of a session', async () => {
      const headers = {
        accept: 'text/event-stream',
        'mcp-session-id': SESSION,
        'mcp-protocol-version': '2025-11-25',
      }
      const stream = await readFrom(exchangeOf(headOf('GET', headers), ''))
      expect(stream).to.include({
        kind: 'stream',
        method: 'GET',
        era: 'legacy',
        protocolVersion: '2025-11-25',
      })
      expect(stream.session?.upstreamId).to.equal('up-1')
      const end = await readFrom(exchangeOf(headOf('DELETE', { 'mcp-session-id': SESSION }), ''))
      expect(end).to.include({ kind: 'terminate', method: 'DELETE', protocolVersion: '2025-03-26' })
      expect(end.body).to.have.length(0)
    })

    const bodiless: readonly (readonly [string, string, Record<string, string>, string, string | null])[] = [
      ['GET without a session', 'GET', { accept: 'text/event-stream' }, 'method_not_allowed', 'POST'],
      [
        'GET that takes no events',
        'GET',
        { accept: 'text/html', 'mcp-session-id': SESSION },
        'not_acceptable',
        null,
      ],
      [
        'GET of a modern client',
        'GET',
        { accept: '*/*', 'mcp-protocol-version': '2026-07-28' },
        'method_not_allowed',
        'POST',
      ],
      [
        'GET of an unknown revision',
        'GET',
        { accept: '*/*', 'mcp-protocol-version': '2030-01-01' },
        'unsupported_version',
        null,
      ],
      [
        'GET with a body',
        'GET',
        { accept: '*/*', 'mcp-session-id': SESSION, 'content-length': '2' },
        'invalid_request',
        null,
      ],
      ['DELETE without a session', 'DELETE', {}, 'method_not_allowed', 'POST'],
      ['DELETE of a foreign session', 'DELETE', { 'mcp-session-id': 'gws1.x.y' }, 'session_unknown', null],
      ['PUT', 'PUT', {}, 'method_not_allowed', 'GET, POST, DELETE'],
      ['HEAD', 'HEAD', {}, 'method_not_allowed', 'GET, POST, DELETE'],
    ]
    for (const [name, method, headers, kind, allow] of bodiless) {
      it(`${name}: ${kind}`, async () => {
        const error = await refusalOf(readFrom(exchangeOf(headOf(method, headers), '')))
        expect([error.kind, error instanceof MessageRefusal ? error.allow : null]).to.deep.equal([
          kind,
          allow,
        ])
      })
    }
  })

  describe('the era', () => {
    const modern = (method: string, params: object = {}, meta: object = MODERN_META) => ({
      jsonrpc: '2.0',
      id: 7,
      method,
      params: { ...params, _meta: meta },
    })
    const legacy = (method: string, params: object = {}) => ({ jsonrpc: '2.0', id: 7, method, params })
    const note = (params: object = {}) => ({ jsonrpc: '2.0', method: 'notifications/cancelled', params })
    const V = 'mcp-protocol-version'
    const NEW = { [V]: '2026-07-28' }
    const nameOf = (name: string) => `=?base64?${Buffer.from(name).toString('base64')}?=`

    const cases: readonly (readonly [string, object, Record<string, string>, string])[] = [
      ['legacy request without a header', legacy('ping'), {}, 'legacy 2025-03-26'],
      ['legacy request 2025-06-18', legacy('ping'), { [V]: '2025-06-18' }, 'legacy 2025-06-18'],
      ['legacy request 2025-11-25', legacy('ping'), { [V]: '2025-11-25' }, 'legacy 2025-11-25'],
      ['legacy request 2024-11-05', legacy('ping'), { [V]: '2024-11-05' }, 'legacy 2024-11-05'],
      ['legacy request of an unknown revision', legacy('ping'), { [V]: '2024-10-07' }, 'unsupported_version'],
      ['legacy request with an empty header', legacy('ping'), { [V]: '' }, 'unsupported_version'],
      [
        'legacy ignores Mcp-Method and Mcp-Name',
        legacy('tools/call', { name: 'x' }),
        { 'mcp-method': 'ping', 'mcp-name': 'y' },
        'legacy 2025-03-26',
      ],
      ['initialize', legacy('initialize', { protocolVersion: '2025-06-18' }), {}, 'legacy 2025-06-18'],
      [
        'initialize of a revision nobody knows',
        legacy('initialize', { protocolVersion: '2031-01-01' }),
        {},
        'legacy 2031-01-01',
      ],
      ['initialize without a revision', legacy('initialize'), {}, 'legacy null'],
      [
        'initialize with a revision of 1 kB',
        legacy('initialize', { protocolVersion: 'x'.repeat(1000) }),
        {},
        'legacy null',
      ],
      [
        'initialize with a modern header',
        legacy('initialize', { protocolVersion: '2025-11-25' }),
        NEW,
        'header_mismatch',
      ],
      [
        'initialize with a modern claim',
        modern('initialize'),
        { ...NEW, 'mcp-method': 'initialize' },
        'modern 2026-07-28',
      ],
      ['legacy notification', note(), {}, 'legacy 2025-03-26'],
      ['legacy response', { jsonrpc: '2.0', id: 1, result: {} }, { [V]: '2025-11-25' }, 'legacy 2025-11-25'],
      ['modern request', modern('tools/list'), { ...NEW, 'mcp-method': 'tools/list' }, 'modern 2026-07-28'],
      [
        'modern request, version header missing',
        modern('tools/list'),
        { 'mcp-method': 'tools/list' },
        'header_mismatch',
      ],
      [
        'modern request, legacy version header',
        modern('tools/list'),
        { [V]: '2025-11-25', 'mcp-method': 'tools/list' },
        'header_mismatch',
      ],
      ['modern request, method header missing', modern('tools/list'), NEW, 'header_mismatch'],
      [
        'modern request, other method header',
        modern('tools/list'),
        { ...NEW, 'mcp-method': 'ping' },
        'header_mismatch',
      ],
      [
        'modern request, method header in other case',
        modern('tools/list'),
        { ...NEW, 'mcp-method': 'Tools/list' },
        'header_mismatch',
      ],
      [
        'modern call',
        modern('tools/call', { name: 'x' }),
        { ...NEW, 'mcp-method': 'tools/call', 'mcp-name': 'x' },
        'modern 2026-07-28',
      ],
      [
        'modern call, name header missing',
        modern('tools/call', { name: 'x' }),
        { ...NEW, 'mcp-method': 'tools/call' },
        'header_mismatch',
      ],
      [
        'modern call, name header lies',
        modern('tools/call', { name: 'x' }),
        { ...NEW, 'mcp-method': 'tools/call', 'mcp-name': 'y' },
        'header_mismatch',
      ],
      [
        'modern call, name in base64',
        modern('tools/call', { name: 'größe' }),
        { ...NEW, 'mcp-method': 'tools/call', 'mcp-name': nameOf('größe') },
        'modern 2026-07-28',
      ],
      [
        'modern call, another name in base64',
        modern('tools/call', { name: 'x' }),
        { ...NEW, 'mcp-method': 'tools/call', 'mcp-name': nameOf('y') },
        'header_mismatch',
      ],
      [
        'modern call, bad base64',
        modern('tools/call', { name: 'x' }),
        { ...NEW, 'mcp-method': 'tools/call', 'mcp-name': '=?base64?eA?=' },
        'header_mismatch',
      ],
      [
        'modern call without a name',
        modern('tools/call'),
        { ...NEW, 'mcp-method': 'tools/call' },
        'modern 2026-07-28',
      ],
      [
        'modern read, uri in the header',
        modern('resources/read', { uri: 'a:b' }),
        { ...NEW, 'mcp-method': 'resources/read', 'mcp-name': 'a:b' },
        'modern 2026-07-28',
      ],
      [
        'modern task, id in the header',
        modern('tasks/get', { taskId: 't' }),
        { ...NEW, 'mcp-method': 'tasks/get', 'mcp-name': 'u' },
        'header_mismatch',
      ],
      [
        'modern claim of an unknown revision',
        modern('ping', {}, { ...MODERN_META, [VERSION]: '2030-01-01' }),
        { [V]: '2030-01-01' },
        'unsupported_version',
      ],
      [
        'modern claim of a legacy revision',
        modern('ping', {}, { ...MODERN_META, [VERSION]: '2025-11-25' }),
        { [V]: '2025-11-25' },
        'unsupported_version',
      ],
      [
        'modern claim that is no string',
        modern('ping', {}, { ...MODERN_META, [VERSION]: 1 }),
        NEW,
        'invalid_params',
      ],
      [
        'modern request without capabilities',
        modern('ping', {}, { [VERSION]: '2026-07-28' }),
        { ...NEW, 'mcp-method': 'ping' },
        'invalid_params',
      ],
      ['modern header, no claim in a request', legacy('ping'), NEW, 'invalid_params'],
      ['modern header, no claim in a notification', note(), NEW, 'modern 2026-07-28'],
      [
        'modern header on a notification of another method',
        note(),
        { ...NEW, 'mcp-method': 'ping' },
        'header_mismatch',
      ],
      ['modern notification without headers', note({ _meta: MODERN_META }), {}, 'modern 2026-07-28'],
      [
        'modern notification with a legacy header',
        note({ _meta: MODERN_META }),
        { [V]: '2025-11-25' },
        'header_mismatch',
      ],
      ['modern header on a response', { jsonrpc: '2.0', id: 1, result: {} }, NEW, 'invalid_request'],
    ]
    for (const [name, body, headers, expected] of cases) {
      it(`${name}: ${expected}`, async () => {
        const got = await read(body, headers).then(
          (message) => `${message.era} ${message.protocolVersion}`,
          (error: GatewayError) => error.kind,
        )
        expect(got).to.equal(expected)
      })
    }

    it('says which revisions are served', async () => {
      const error = await refusalOf(read(legacy('ping'), { [V]: '1999-01-01' }))
      expect(error.data).to.deep.equal({
        supported: ['2026-07-28', '2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'],
        requested: '1999-01-01',
      })
      expect((error as MessageRefusal).idText).to.equal('7')
    })

    it('offers a claim it does not know only revisions that can be claimed', async () => {
      const claim = modern('server/discover', {}, { ...MODERN_META, [VERSION]: '2030-01-01' })
      const error = await refusalOf(read(claim, { [V]: '2030-01-01' }))
      expect(error.data).to.deep.equal({ supported: ['2026-07-28'], requested: '2030-01-01' })
    })

    it('knows the client by what it says of itself, bounded', async () => {
      const first = await read(legacy('initialize', { clientInfo: { name: 'c'.repeat(500), version: '1' } }))
      expect(first.client).to.deep.equal({ name: 'c'.repeat(128), version: '1' })
      const later = await read(modern('tools/list'), { ...NEW, 'mcp-method': 'tools/list' })
      expect(later.client).to.deep.equal({ name: 'probe', version: '1.2' })
      expect((await read(legacy('initialize', { clientInfo: { name: 1 } }))).client).to.equal(null)
      expect((await read(legacy('initialize', { clientInfo: { name: 'x' } }))).client).to.deep.equal({
        name: 'x',
        version: '',
      })
      expect((await read(legacy('ping', { clientInfo: { name: 'x' } }))).client).to.equal(null)
    })
  })

  describe('sessions', () => {
    it('refuses one that belongs to somebody else, with the id of the request', async () => {
      const foreign = sessions.wrap({ principalId: 'bob', tenant: 'acme', mount: 'github' }, 'up-1')
      const error = await refusalOf(read(call(), { 'mcp-session-id': foreign }))
      expect([error.kind, (error as MessageRefusal).idText]).to.deep.equal(['session_unknown', '7'])
      expect(await kindOf(read(call(), { 'mcp-session-id': 'up-1' }))).to.equal('session_unknown')
      expect(await kindOf(read(call(), { 'mcp-session-id': '' }))).to.equal('session_unknown')
    })
    it('ignores the header in a revision without sessions', async () => {
      const body = { jsonrpc: '2.0', id: 1, method: 'tools/list', params: { _meta: MODERN_META } }
      const headers = {
        'mcp-protocol-version': '2026-07-28',
        'mcp-method': 'tools/list',
        'mcp-session-id': 'nonsense',
      }
      expect((await read(body, headers)).session).to.equal(null)
    })
  })

  it('decodes names from headers strictly', () => {
    expect(decodeNameHeader('plain')).to.equal('plain')
    expect(decodeNameHeader('=?base64?YQ==?=')).to.equal('a')
    expect(decodeNameHeader('=?base64??=')).to.equal('')
    for (const bad of [
      '=?base64?YQ?=',
      '=?base64?Y-_=?=',
      '=?base64?YR==?=',
      '=?base64?/w==?=',
      '=?base64? YQ==?=',
    ]) {
      expect(decodeNameHeader(bad), bad).to.equal(null)
    }
    // No sentinel at all: the value means itself.
    expect(decodeNameHeader('=?BASE64?YQ==?=')).to.equal('=?BASE64?YQ==?=')
    expect(decodeNameHeader('=?base64?=')).to.equal('=?base64?=')
  })
})

describe('the hint for rows of refused callers', () => {
  const hint = (body: string | Buffer, patch: Partial<Exchange> = {}) =>
    readHint({ ...exchangeOf(headOf('POST', POST), body), ...patch })

  it('names method and target of a small body', async () => {
    expect(await hint(JSON.stringify(call({ name: 'drop_table' })))).to.deep.equal({
      method: 'tools/call',
      name: 'drop_table',
    })
    expect(await hint('{"method":"resources/read","params":{"uri":"a:b"}}')).to.deep.equal({
      method: 'resources/read',
      name: 'a:b',
    })
    expect(await hint('{"method":1,"params":[]}')).to.deep.equal({ method: null, name: null })
    expect((await hint(JSON.stringify(call({ name: 'x'.repeat(5000) }))))?.name).to.have.length(256)
  })

  it('is null for anything else, and never throws', async () => {
    for (const body of ['', '{', '[]', '1', '{"a":1,"a":2}', Buffer.from([0xff]), 'x'.repeat(20_000)]) {
      expect(await hint(body)).to.equal(null)
    }
    expect(await hint('{}', { peekBody: () => Promise.reject(new Error('broken')) })).to.equal(null)
    expect(await hint('{}', { peekBody: async () => null })).to.equal(null)
  })
})
