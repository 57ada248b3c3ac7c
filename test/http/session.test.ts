import { expect } from 'chai'
import fc from 'fast-check'
import { createSessionBinder } from '../../src/http/session.ts'

const KEY = Buffer.alloc(32, 7)
const ALICE = { principalId: 'alice', tenant: 'acme', mount: 'github' }
const sessions = createSessionBinder(KEY)

describe('session binding', () => {
  it('gives back what it wrapped, to the same principal at the same mount', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[\x21-\x7e]{1,512}$/), (id) => {
        const wrapped = sessions.wrap(ALICE, id)
        expect(wrapped).to.match(/^[\x21-\x7e]+$/)
        expect(sessions.unwrap(ALICE, wrapped)?.upstreamId).to.equal(id)
      }),
      { numRuns: 100 },
    )
  })

  it("knows nobody else's session", () => {
    const wrapped = sessions.wrap(ALICE, 'abc')
    expect(sessions.unwrap({ ...ALICE, principalId: 'bob' }, wrapped)).to.equal(null)
    expect(sessions.unwrap({ ...ALICE, tenant: 'globex' }, wrapped)).to.equal(null)
    expect(sessions.unwrap({ ...ALICE, tenant: null }, wrapped)).to.equal(null)
    expect(sessions.unwrap({ ...ALICE, mount: 'files' }, wrapped)).to.equal(null)
    expect(createSessionBinder(Buffer.alloc(32, 8)).unwrap(ALICE, wrapped)).to.equal(null)
    // The parts do not run into each other.
    expect(sessions.unwrap({ ...ALICE, principalId: 'alice","acme","github', mount: '' }, wrapped)).to.equal(
      null,
    )
  })

  it('refuses forged and malformed ids', () => {
    const wrapped = sessions.wrap(ALICE, 'abc')
    const [prefix = '', id = '', mac = ''] = wrapped.split('.')
    const other = Buffer.from('abd').toString('base64url')
    const forged = [
      ...[
        '',
        'abc',
        prefix,
        `${prefix}.${id}`,
        `${prefix}.${other}.${mac}`,
        `${prefix}.${id}.${'A'.repeat(43)}`,
      ],
      ...[
        `${prefix}..${mac}`,
        `${wrapped}x`,
        ` ${wrapped}`,
        `${prefix}.${id}.${mac.slice(1)}`,
        `gws2.${id}.${mac}`,
      ],
      ...[`${prefix}.${'A'.repeat(5000)}.${mac}`, 'gws1.é.é'],
    ]
    for (const presented of forged) expect(sessions.unwrap(ALICE, presented), presented).to.equal(null)
  })

  it('shows policies and rows a hash that is stable, keyed and different for each owner', () => {
    const hash = (owner = ALICE, binder = sessions) => binder.unwrap(owner, binder.wrap(owner, 'abc'))?.hash
    expect(hash()).to.match(/^[0-9a-f]{32}$/)
    expect(hash()).to.equal(hash())
    expect(hash({ ...ALICE, principalId: 'bob' })).to.not.equal(hash())
    expect(hash(ALICE, createSessionBinder(Buffer.alloc(32, 8)))).to.not.equal(hash())
  })

  it('refuses what an upstream must not issue', () => {
    for (const id of ['', 'a b', 'a\n', 'é', '\u0000', 'x'.repeat(4097)]) {
      expect(() => sessions.wrap(ALICE, id))
        .to.throw()
        .with.property('kind', 'upstream_failed')
    }
  })

  it('wants a key that is worth the name', () => {
    expect(() => createSessionBinder(Buffer.alloc(31))).to.throw(RangeError)
  })
})
