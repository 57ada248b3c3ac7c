import { expect } from 'chai'
import type { Link } from '../../src/upstream/stdio/link.ts'
import type { StdioSession } from '../../src/upstream/stdio/session.ts'
import { createSession } from '../../src/upstream/stdio/session.ts'
import type { Sessions } from '../../src/upstream/stdio/sessions.ts'
import { createSessions } from '../../src/upstream/stdio/sessions.ts'

const clock = { monotonicMs: () => 0 }

describe('sessions of a stdio upstream', () => {
  let sessions: Sessions
  /** Servers that have been told to end, and have not. */
  let ending: (() => void)[]

  beforeEach(() => {
    ending = []
    sessions = createSessions({
      maxOwn: 2,
      maxShared: 2,
      idleMs: 60_000,
      clock,
      onSharedEnd: () => undefined,
    })
  })
  afterEach(async () => {
    const closed = sessions.close()
    for (const end of ending) end()
    await closed
  })

  async function open(id: string, caller: string): Promise<StdioSession> {
    const place = await sessions.reserve(true, caller)
    const server = { close: () => new Promise<void>((resolve) => ending.push(resolve)) }
    const session = { ...createSession(id, server as Link, clock), isIdle: () => false }
    sessions.add(session, place)
    return session
  }

  it('one that is ending still is no longer one that its caller has', async () => {
    await open('a1', 'ada')
    await open('a2', 'ada')
    const ben = open('b1', 'ben')
    const refused = await open('c1', 'eve').catch((thrown: { kind: string }) => thrown)
    expect(refused).to.include({ kind: 'overloaded' })
    for (const end of ending) end()
    await ben
    expect(['a1', 'a2', 'b1'].map((id) => sessions.find(id)?.id)).to.deep.equal([undefined, 'a2', 'b1'])
  })
})
