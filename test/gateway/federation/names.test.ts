import { expect } from 'chai'
import fc from 'fast-check'
import { createCursorSeal } from '../../../src/gateway/federation/cursor.ts'
import { answerEventId, parseEventId, sessionEventId } from '../../../src/gateway/federation/event-id.ts'
import {
  decodeNameHeader,
  nameHeader,
  namePrefix,
  splitName,
  splitToken,
  splitUri,
  uriPrefix,
} from '../../../src/gateway/federation/names.ts'
import { outwardAnswer, outwardEvent } from '../../../src/gateway/federation/outward.ts'
import {
  mergedCapabilities,
  mergedInstructions,
  parseProfile,
} from '../../../src/gateway/federation/profile.ts'
import type { UpstreamAnswer } from '../../../src/gateway/types.ts'

const upstreamName = fc.stringMatching(/^[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?$/)

function answer(result: string): UpstreamAnswer {
  const text = `{"jsonrpc":"2.0","id":1,"result":${result}}`
  return {
    head: { status: 200, headers: {}, sessionId: null, stream: false },
    message: Buffer.from(text),
    parsed: JSON.parse(text),
    frame: null,
    report: {
      server: 'a',
      status: 200,
      jsonRpcError: null,
      toolIsError: false,
      ms: 0,
      bytes: 0,
      sha256: null,
    },
  }
}

describe('names on the merged mount', () => {
  it('lead back to the upstream and its own name, whatever that is', () => {
    fc.assert(
      fc.property(upstreamName, fc.string({ minLength: 1 }), (upstream, bare) => {
        expect(splitName(namePrefix(upstream) + bare)).to.deep.equal({ upstream, bare })
        expect(splitUri(uriPrefix(upstream) + bare)).to.deep.equal({ upstream, bare })
      }),
    )
  })

  it("that nobody can have are nobody's", () => {
    for (const name of [
      '',
      'echo',
      '__echo',
      'a__',
      'A__x',
      'a_b__x',
      'a/b__x',
      7,
      null,
      undefined,
      ['a__b'],
    ])
      expect(splitName(name), String(name)).to.equal(null)
    for (const uri of ['file:///a', 'mcp+a', 'mcp+a+', 'MCP+a+x', 'mcp++x', 'xmcp+a+x', {}])
      expect(splitUri(uri), String(uri)).to.equal(null)
    for (const token of ['a__', 'a__x', 'a__{}', 'a__1.5', 'a__ 1', 'a__"x', 'a__null', 'a__01'])
      expect(splitToken(token), token).to.equal(null)
    expect(splitToken('a__"x__1"')).to.deep.equal({ upstream: 'a', bare: '"x__1"' })
  })

  it('go into a header as every reader of the protocol decodes it', () => {
    fc.assert(
      fc.property(fc.string({ minLength: 1, unit: 'grapheme' }), (name) => {
        const header = nameHeader(name)
        expect(header).to.match(/^[\x20-\x7e]+$/)
        expect(decodeNameHeader(header)).to.equal(name)
      }),
    )
    expect(decodeNameHeader(nameHeader('=?base64?eA==?='))).to.equal('=?base64?eA==?=')
  })

  it('are put where clients read them, and nothing else is touched', () => {
    const before =
      '{ "content":[{"type":"resource_link","uri":"x:\\u0031","n":1.0},{"type":"text","text":"uri"},{"type":"resource","resource":{"uri":"y:2"}}], "structuredContent":{"uri":"z","taskId":"t"},"task":{"taskId":"t1"}, "_meta":{"io.modelcontextprotocol/related-task":{"taskId":"t1"},"big":9007199254740993} }'
    const after = before
      .replace('"x:\\u0031"', '"mcp+a+x:\\u0031"')
      .replace('"y:2"', '"mcp+a+y:2"')
      .replaceAll('"t1"', '"a__t1"')
    expect(outwardAnswer('a', answer(before)).message?.toString()).to.equal(answer(after).message?.toString())
    const plain = answer('{"content":[{"type":"text","text":"{\\"uri\\":1}"}]}')
    expect(outwardAnswer('a', plain).message).to.equal(plain.message)
  })

  it('an answer in which two readers could find two names is none', () => {
    const twice = answer('{"content":[{"type":"resource_link","uri":"x:1","uri":"x:2"}]}')
    expect(() => outwardAnswer('a', twice))
      .to.throw()
      .with.property('kind', 'upstream_failed')
  })

  it("requests to the client get ids and tokens of their upstream; its own progress keeps the client's", () => {
    const said = (data: string) =>
      outwardEvent('a', { raw: Buffer.from('x'), data, id: null, event: null, retry: null }).data
    expect(
      said('{"jsonrpc":"2.0","id":1,"method":"roots/list","params":{"_meta":{"progressToken":"p"}}}'),
    ).to.equal(
      '{"jsonrpc":"2.0","id":"a__1","method":"roots/list","params":{"_meta":{"progressToken":"a__\\"p\\""}}}',
    )
    expect(said('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}')).to.contain(
      '"a__1"',
    )
    const progress =
      '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}'
    expect(said(progress)).to.equal(progress)
  })
})

describe('event ids on the merged mount', () => {
  it('say whose event it was', () => {
    expect(parseEventId(answerEventId('a', 'id 1'))).to.deep.equal({
      kind: 'answer',
      upstream: 'a',
      id: 'id 1',
    })
    const ids = new Map([
      ['a', '1'],
      ['b', '2'],
    ])
    expect(parseEventId(sessionEventId(ids))).to.deep.equal({ kind: 'session', ids })
    expect([answerEventId('a', null), answerEventId('a', '')]).to.deep.equal([null, ''])
  })

  it('are left out when they would be too long, and are nothing when they are made up', () => {
    expect(answerEventId('a', 'x'.repeat(4000))).to.equal(null)
    const made = (value: unknown) => `s.${Buffer.from(JSON.stringify(value)).toString('base64url')}`
    const forged = [
      '',
      'x',
      's.',
      's.%',
      made({}),
      made([['a']]),
      made([['A b', '1']]),
      made([['a', 'x\r\ny: z']]),
      made([['a', 1]]),
    ]
    for (const id of [...forged, undefined, ['s.x']]) expect(parseEventId(id), String(id)).to.equal(null)
  })
})

describe('cursors of the merged mount', () => {
  const seal = createCursorSeal(Buffer.alloc(32, 1))
  const owner = ['acme', 'ada', 'tools/list']
  const places = { a: 'next', b: null }

  it('open for the same owner on every replica, and for nobody else', () => {
    const cursor = seal.seal(owner, places)
    expect(createCursorSeal(Buffer.alloc(32, 1)).open(owner, cursor)).to.deep.equal(places)
    const others = [
      ['acme', 'bob', 'tools/list'],
      ['other', 'ada', 'tools/list'],
      ['acme', 'ada', 'prompts/list'],
    ]
    for (const other of others)
      expect(() => seal.open(other, cursor))
        .to.throw()
        .with.property('kind', 'invalid_params')
    const foreign = createCursorSeal(Buffer.alloc(32, 2))
    expect(() => foreign.open(owner, cursor))
      .to.throw()
      .with.property('kind', 'invalid_params')
  })

  it('are refused when a bit of them has changed, or they are none', () => {
    const bytes = Buffer.from(seal.seal(owner, places), 'base64url')
    for (let at = 0; at < bytes.length; at += 1) {
      const changed = Buffer.from(bytes)
      changed[at] = (changed[at] as number) ^ 4
      expect(() => seal.open(owner, changed.toString('base64url'))).to.throw()
    }
    for (const none of ['', 'AAAA', 7, null, {}, bytes.subarray(0, 20).toString('base64url')])
      expect(() => seal.open(owner, none))
        .to.throw()
        .with.property('kind', 'invalid_params')
  })
})

describe('what the merged mount says of itself', () => {
  it('promises what at least one upstream serves, and only what is passed on', () => {
    const merged = mergedCapabilities([
      { capabilities: { tools: {}, resources: { subscribe: true }, experimental: { x: {} } } },
      {
        capabilities: {
          resources: {},
          tasks: { list: {}, requests: { tools: { call: {} } } },
          extensions: { other: {} },
        },
      },
      { capabilities: { tasks: { cancel: {}, requests: { x: {} } } } },
    ])
    expect(merged).to.deep.equal({
      tools: { listChanged: true },
      resources: { subscribe: true, listChanged: true },
      tasks: { list: {}, cancel: {}, requests: { tools: { call: {} }, x: {} } },
    })
  })

  it('bounds what it keeps of what an upstream says', () => {
    const result = {
      protocolVersion: '2025-11-25',
      instructions: 'x'.repeat(10_000),
      capabilities: { tools: { x: 'y'.repeat(5000) }, junk: {} },
    }
    const profile = parseProfile(answer(JSON.stringify(result)))
    expect(profile?.capabilities).to.deep.equal({ tools: {} })
    expect(profile?.instructions).to.have.length.lessThan(4200)
    const many = new Map(
      Array.from({ length: 20 }, (_, at) => [`u${at}`, profile as NonNullable<typeof profile>]),
    )
    expect(mergedInstructions(many)).to.have.length.lessThan(33_000)
    for (const broken of [
      '{}',
      '{"capabilities":{}}',
      '{"capabilities":[],"protocolVersion":"2025-11-25"}',
      '{"capabilities":{},"protocolVersion":"x\\r\\ny"}',
    ])
      expect(parseProfile(answer(broken)), broken).to.equal(null)
  })
})
