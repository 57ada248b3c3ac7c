import { expect } from 'chai'
import { parseOpening, toSessionId, withSessions } from '../../../src/gateway/federation/opening.ts'

const OPENING = {
  ...{ id: 'o1', protocolVersion: '2025-11-25', capabilities: { roots: {} } },
  clientInfo: { name: 'ada', version: '1' },
}
const session = (upstreamId: string) => ({ upstreamId, hash: 'h' })

describe('the session id of the merged mount', () => {
  it('holds what the client said, and the sessions opened for it', () => {
    const opening = withSessions({ ...OPENING, at: {} }, new Map([['desk', ['s1', '2025-06-18']]]))
    expect(parseOpening(session(toSessionId(opening)))).to.deep.equal({
      ...OPENING,
      at: { desk: ['s1', '2025-06-18'] },
    })
  })

  it('of an earlier version, without such sessions, goes on', () => {
    const id = Buffer.from(JSON.stringify(OPENING)).toString('base64url')
    expect(parseOpening(session(id))).to.deep.equal({ ...OPENING, at: {} })
  })

  it('takes no more sessions than fit in a header', () => {
    const many = Array.from({ length: 500 }, (_, at) => [`u${at}`, [`s${at}`, '2025-06-18']] as const)
    const opening = withSessions({ ...OPENING, at: {} }, new Map(many))
    expect(Object.keys(opening.at).length).to.be.within(10, 499)
    expect(toSessionId(opening)).to.have.length.at.most(4096)
  })
})
