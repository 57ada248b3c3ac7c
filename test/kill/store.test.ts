import { expect } from 'chai'
import { UsageError } from '../../src/errors.ts'
import type { KillOrder, KillTarget } from '../../src/kill/store.ts'
import { kill, listKills, loadActiveKills, unkill } from '../../src/kill/store.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

describe('kill switches in the database', () => {
  let database: TestDatabase

  before(async () => {
    database = await createTestDatabase()
  })
  afterEach(() => database.ownerPool.query('truncate kill_switches, changes'))
  after(() => database.drop())

  const ECHO: KillTarget = { kind: 'tool', name: 'echo', server: null }
  const order = (more: Partial<KillOrder> = {}): KillOrder => ({
    ...{ target: ECHO, reason: 'why', forMs: null, actor: 'ann@ops' },
    ...more,
  })
  const active = async () =>
    (await loadActiveKills(database.pool)).map(({ target, reason }) => [target, reason])

  it('a switch is in force from the moment it is stored, and announced in the same statement', async () => {
    const { seq, until } = await kill(database.pool, order())
    expect(until).to.equal(null)
    expect(await active()).to.deep.equal([[ECHO, 'why']])
    const { rows } = await database.pool.query('select seq, topic, subject from changes')
    expect(rows).to.deep.equal([{ seq: String(seq), topic: 'kills', subject: 'tool echo' }])
  })

  it('a second one takes the place of the first; a tool on one server is a target of its own', async () => {
    await kill(database.pool, order({ forMs: 3_600_000 }))
    await kill(database.pool, order({ reason: 'worse', forMs: 60_000 }))
    await kill(database.pool, order({ target: { kind: 'tool', name: 'echo', server: 'a' } }))
    await kill(database.pool, order({ target: { kind: 'server', name: 'echo' } }))
    expect(await active()).to.have.lengthOf(3)
    const [echo] = (await loadActiveKills(database.pool)).filter(
      ({ target }) => target.kind === 'tool' && target.server === null,
    )
    expect(echo?.reason).to.equal('worse')
    expect(echo?.remainingMs).to.be.within(50_000, 60_000)
  })

  it('unkill ends exactly its target, and says when there was nothing to end', async () => {
    await kill(database.pool, order())
    const on = (server: string | null) => ({ kind: 'tool', name: 'echo', server }) as const
    const by = { reason: 'fixed', actor: 'bob@ops' }
    expect(await unkill(database.pool, { target: on('a'), ...by })).to.equal(null)
    expect(await unkill(database.pool, { target: { kind: 'server', name: 'echo' }, ...by })).to.equal(null)
    expect(await unkill(database.pool, { target: on(null), ...by })).to.be.a('bigint')
    expect(await unkill(database.pool, { target: on(null), ...by })).to.equal(null)
    expect(await active()).to.deep.equal([])
  })

  it('keeps who did what, when and why, and the runtime role cannot change it', async () => {
    await kill(database.pool, order({ forMs: 3_600_000 }))
    await unkill(database.pool, { target: ECHO, reason: 'fixed', actor: 'bob@ops' })
    const history = await listKills(database.pool, { includeEnded: true })
    expect(
      history.map(({ action, actor, reason, isActive }) => ({ action, actor, reason, isActive })),
    ).to.deep.equal([
      { action: 'unkill', actor: 'bob@ops', reason: 'fixed', isActive: false },
      { action: 'kill', actor: 'ann@ops', reason: 'why', isActive: false },
    ])
    expect(history[0]?.dbUser).to.equal(database.runtime.user)
    expect(await listKills(database.pool, { includeEnded: false })).to.deep.equal([])
    for (const statement of [
      `update kill_switches set actor = 'nobody'`,
      'delete from kill_switches',
      'truncate kill_switches',
    ]) {
      const refused = await database.pool.query(statement).catch((error: { code: string }) => error.code)
      expect(refused, statement).to.equal('42501')
    }
  })

  it('one whose time is over is not in force any more', async () => {
    await kill(database.pool, order({ forMs: 60_000 }))
    await database.ownerPool.query(`update kill_switches set until = now() - interval '1 second'`)
    expect(await active()).to.deep.equal([])
    expect(await unkill(database.pool, { target: ECHO, reason: null, actor: 'x' })).to.equal(null)
    expect((await listKills(database.pool, { includeEnded: true })).map((one) => one.isActive)).to.deep.equal(
      [false],
    )
  })

  it('many at once on one target end in the state of the last one committed', async () => {
    await Promise.all(
      Array.from({ length: 20 }, (_, at) =>
        at % 2 === 0
          ? kill(database.pool, order({ reason: `r${at}` }))
          : unkill(database.pool, { target: ECHO, reason: null, actor: 'x' }),
      ),
    )
    const [newest] = await listKills(database.pool, { includeEnded: true })
    expect((await active()).length).to.equal(newest?.action === 'kill' ? 1 : 0)
  })

  it('refuses what cannot be stored or would be forgotten', async () => {
    const wrong: [Partial<KillOrder>, RegExp][] = [
      [{ reason: '  ' }, /--reason/],
      [{ reason: 'x'.repeat(1001) }, /--reason/],
      [{ reason: 'a\0b' }, /--reason/],
      [{ forMs: 0 }, /--for/],
      [{ forMs: Number.NaN }, /--for/],
      [{ forMs: 400 * 24 * 3_600_000 }, /--for/],
      [{ target: { kind: 'tool', name: '', server: null } }, /name of a tool/],
      [{ target: { kind: 'tool', name: 'x'.repeat(1025), server: null } }, /name of a tool/],
      [{ target: { kind: 'tool', name: '\ud800', server: null } }, /name of a tool/],
      [{ target: { kind: 'tool', name: 'x', server: '' } }, /name of a server/],
      [{ target: { kind: 'server', name: 'x'.repeat(513) } }, /name of a server/],
    ]
    for (const [more, problem] of wrong) {
      const error = await kill(database.pool, order(more)).catch((thrown: unknown) => thrown)
      expect(error, JSON.stringify(more)).to.be.instanceOf(UsageError)
      expect((error as UsageError).message).to.match(problem)
    }
    expect(await active()).to.deep.equal([])
    await kill(database.pool, order({ reason: `  ${'é'.repeat(1000)} ` }))
    await kill(
      database.pool,
      order({ target: { kind: 'tool', name: '🔥'.repeat(256), server: 'x'.repeat(512) } }),
    )
    expect(await active()).to.have.lengthOf(2)
  })
})
