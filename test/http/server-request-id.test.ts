import { expect } from 'chai'
import type { AskedOfClient } from '../../src/gateway/types.ts'
import { parseEnvelope } from '../../src/http/envelope.ts'
import { createServerRequestBinder } from '../../src/http/server-request-id.ts'
import { objectMembers, rootSpan } from '../../src/json/span.ts'

const OWNER = { principalId: 'alice', tenant: 'acme', mount: 'desk' }
const ASKED: AskedOfClient = {
  method: 'elicitation/create',
  idText: '9007199254740993',
  session: { upstreamId: 'session-1', hash: 'abc' },
  protocolVersion: '2025-11-25',
}

describe('ids under which clients are asked', () => {
  const binder = createServerRequestBinder(Buffer.alloc(32, 1))

  it('say what was asked, in which session, with every digit of the id', () => {
    for (const asked of [ASKED, { ...ASKED, idText: '"ä\\u0000"', session: null, protocolVersion: null }])
      expect(binder.unwrap(OWNER, binder.wrap(OWNER, asked))).to.deep.equal(asked)
    expect(binder.wrap(OWNER, ASKED), 'the same on a resumed stream').to.equal(binder.wrap(OWNER, ASKED))
  })

  it('are worth nothing to others, at other mounts, with another key or altered', () => {
    const id = binder.wrap(OWNER, ASKED)
    for (const owner of [
      { ...OWNER, principalId: 'bob' },
      { ...OWNER, tenant: 'globex' },
      { ...OWNER, mount: 'wiki' },
    ])
      expect(binder.unwrap(owner, id)).to.equal(null)
    expect(createServerRequestBinder(Buffer.alloc(32, 2)).unwrap(OWNER, id)).to.equal(null)
    const [prefix, facts = '', mac] = id.split('.')
    const other = Buffer.from(facts, 'base64url').toString().replace('elicitation/create', 'roots/list')
    for (const altered of [
      `${prefix}.${Buffer.from(other).toString('base64url')}.${mac}`,
      `${id}x`,
      'gwr1..',
      '7',
      '',
    ])
      expect(binder.unwrap(OWNER, altered), altered).to.equal(null)
  })

  it('can be answered however long those are that upstreams give', () => {
    const longest = {
      ...ASKED,
      idText: JSON.stringify('"'.repeat(510)),
      session: { upstreamId: '"'.repeat(1024), hash: 'a'.repeat(32) },
    }
    const id = `${'u'.repeat(63)}__"${binder.wrap(OWNER, longest)}"`
    const text = JSON.stringify({ jsonrpc: '2.0', id, result: {} })
    const read = parseEnvelope(JSON.parse(text), text, objectMembers(text, rootSpan(text)))
    expect(JSON.parse(read.idText as string)).to.equal(id)
    expect(binder.unwrap(OWNER, id.slice(66, -1))).to.deep.equal(longest)
  })
})
