import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { KillRoom } from '../../src/kill/room.ts'
import { createKillRoom } from '../../src/kill/room.ts'
import type { KillTarget } from '../../src/kill/store.ts'
import { kill, unkill } from '../../src/kill/store.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

const MAX_STALE_MS = 2000

describe('the kill switches of one process', () => {
  let database: TestDatabase
  let nowMs: number
  let confirmedMs: number
  let statements: number
  let isDown: boolean
  let applyChange: () => Promise<void>
  let room: KillRoom

  before(async () => {
    database = await createTestDatabase()
  })
  after(() => database.drop())

  beforeEach(async () => {
    nowMs = 1_000_000
    confirmedMs = nowMs
    statements = 0
    isDown = false
    const query = (async (text: string) => {
      statements += 1
      if (isDown) throw new Error('connection refused')
      return await database.pool.query(text)
    }) as unknown as typeof database.pool.query
    room = createKillRoom({
      db: { query },
      changes: {
        onChange: (_topic, handler) => {
          applyChange = handler
        },
        confirmedAt: () => confirmedMs,
      },
      monotonicMs: () => nowMs,
      maxStaleMs: MAX_STALE_MS,
    })
    await applyChange()
    statements = 0
  })
  afterEach(() => database.ownerPool.query('truncate kill_switches'))

  const set = (target: KillTarget, forMs: number | null = null) =>
    kill(database.pool, { target, reason: 'because', forMs, actor: 'ann' })
  const SERVER: KillTarget = { kind: 'server', name: 'github' }

  it('knows from memory, without a statement, and only what the feed has brought', async () => {
    await set(SERVER)
    expect((await room.current()).ofServer('github')).to.equal(null)
    expect(statements).to.equal(0)
    await applyChange()
    expect((await room.current()).ofServer('github')).to.include({
      what: 'server github',
      reason: 'because',
      actor: 'ann',
    })
    expect((await room.current()).ofServer('gitlab')).to.equal(null)
    expect(room.counts()).to.deep.equal({ tool: 0, server: 1 })
  })

  it('tells a tool on one server from the tool on every server', async () => {
    await set({ kind: 'tool', name: 'rm', server: 'a' })
    await set({ kind: 'tool', name: 'wipe', server: null })
    await applyChange()
    const kills = await room.current()
    expect(kills.ofTool('a', 'rm')).to.include({ what: 'tool rm on a' })
    expect(kills.ofTool('b', 'rm')).to.equal(null)
    expect(kills.ofTool('b', 'wipe')).to.include({ what: 'tool wipe' })
    expect(kills.ofServer('rm')).to.equal(null)
    expect(kills.ofTool('a', 'RM')).to.equal(null)
    expect(kills.ofTool('a', '__proto__')).to.equal(null)
  })

  it('ends a switch when its time is over, by the monotonic clock', async () => {
    await set(SERVER, 3_600_000)
    await applyChange()
    nowMs += 3_599_000
    confirmedMs = nowMs
    expect((await room.current()).ofServer('github')).to.not.equal(null)
    nowMs += 1001
    expect(room.known().ofServer('github')).to.equal(null)
    expect(room.counts()).to.deep.equal({ tool: 0, server: 0 })
  })

  it('asks the database for every call once the feed has been silent for too long', async () => {
    await set(SERVER)
    nowMs += MAX_STALE_MS
    expect((await room.current()).ofServer('github'), 'still in time').to.equal(null)
    nowMs += 1
    expect((await room.current()).ofServer('github')).to.not.equal(null)
    await unkill(database.pool, { target: SERVER, reason: null, actor: 'ann' })
    expect((await room.current()).ofServer('github')).to.equal(null)
    expect(statements).to.equal(2)
  })

  it('shares one statement among all who ask while another is running', async () => {
    nowMs += MAX_STALE_MS + 1
    await Promise.all(Array.from({ length: 200 }, () => room.current()))
    expect(statements).to.be.at.most(2)
  })

  it('refuses when it cannot know: 503, and works again with the database', async () => {
    nowMs += MAX_STALE_MS + 1
    isDown = true
    const thrown = await Promise.resolve(room.current()).catch((error: unknown) => error)
    expect(thrown).to.be.instanceOf(GatewayError).and.include({ kind: 'auth_unavailable' })
    isDown = false
    expect((await room.current()).ofServer('github')).to.equal(null)
  })

  it('keeps what it knows when a reading fails, so that the feed does not confirm', async () => {
    await set(SERVER)
    await applyChange()
    isDown = true
    expect(await applyChange().catch((error: Error) => error.message)).to.equal('connection refused')
    expect(room.known().ofServer('github')).to.not.equal(null)
  })
})
