import { expect } from 'chai'
import pg from 'pg'
import type { KeySettings } from '../../src/auth/key-settings.ts'
import { createKey, revokeKey, rotateKey } from '../../src/auth/key-store.ts'
import type { AuthRoom, AuthRoomOptions } from '../../src/auth/room.ts'
import { createAuthRoom } from '../../src/auth/room.ts'
import type { ThrottledWindow } from '../../src/auth/throttle.ts'
import type { ChangeFeed } from '../../src/db/change-feed.ts'
import { createChangeFeed } from '../../src/db/change-feed.ts'
import type { ConnectionParts } from '../../src/db/connection.ts'
import { guardPool } from '../../src/db/pools.ts'
import { ENDINGS, GatewayError } from '../../src/errors.ts'
import type { Credential, Principal } from '../../src/gateway/types.ts'
import type { TestDatabase, TestServer } from '../support/postgres.ts'
import { createTestDatabase, startServer } from '../support/postgres.ts'
import { until } from '../support/until.ts'

const HOUR = 3_600_000
const HOME = '192.0.2.1'

const PLAIN: KeySettings = {
  name: 'ada',
  kind: 'user',
  roles: ['developer'],
  tenant: 'acme',
  teams: ['web'],
  scopes: ['a:b'],
  claims: { mfa: true },
  expiresAt: null,
}

interface OpenRoom {
  readonly room: AuthRoom
  readonly feed: ChangeFeed
  readonly pool: pg.Pool
  readonly windows: ThrottledWindow[]
  /** Statements of the room itself, without the feed's. */
  readonly statements: () => number
  /** How often the room has asked the feed to read. */
  readonly refreshes: () => number
  close(): Promise<void>
}

/** A room with a change feed and a pool of its own: what one gateway process has. */
async function openRoom(
  connection: ConnectionParts,
  options: Partial<AuthRoomOptions> & { pollMs?: number; isDeaf?: boolean } = {},
): Promise<OpenRoom> {
  const pool = new pg.Pool({ ...connection, max: 4, connectionTimeoutMillis: 2000 })
  guardPool(pool, () => undefined)
  let statements = 0
  const db = {
    query: (...args: unknown[]) => {
      statements += 1
      return (pool.query as (...all: unknown[]) => unknown).apply(pool, args)
    },
  } as unknown as pg.Pool
  const password = options.isDeaf === true ? 'wrong' : connection.password
  const feed = createChangeFeed({
    db: pool,
    openClient: () => new pg.Client({ ...connection, password }),
    process: { id: String(Math.random()), name: 'test' },
    monotonicMs: () => performance.now(),
    pollMs: options.pollMs ?? HOUR,
  })
  const windows: ThrottledWindow[] = []
  let refreshes = 0
  const changes = {
    ...feed,
    refresh() {
      refreshes += 1
      return feed.refresh()
    },
  }
  const room = createAuthRoom({
    db,
    changes,
    clock: { nowMs: () => Date.now(), monotonicMs: () => performance.now() },
    anonymous: null,
    maxStaleMs: HOUR,
    throttle: { maxFailures: 1000, windowMs: 60_000, maxAddresses: 1000 },
    onThrottledWindow: (window) => void windows.push(window),
    ...options,
  })
  await feed.refresh()
  return {
    room,
    feed,
    pool,
    windows,
    statements: () => statements,
    refreshes: () => refreshes,
    async close() {
      room.close()
      await feed.close()
      await pool.end()
    },
  }
}

const bearer = (secret: string): Credential => ({ scheme: 'bearer', secret })

async function attempt(room: AuthRoom, secret: string | null, ip = HOME): Promise<Principal | GatewayError> {
  try {
    return await room.authenticate(secret === null ? null : bearer(secret), ip)
  } catch (error) {
    if (error instanceof GatewayError) return error
    throw error
  }
}

async function kindOf(room: AuthRoom, secret: string | null, ip = HOME): Promise<string> {
  const outcome = await attempt(room, secret, ip)
  return outcome instanceof GatewayError ? outcome.kind : 'let in'
}

describe('authentication by key', () => {
  let database: TestDatabase
  let open: OpenRoom[]

  before(async () => {
    database = await createTestDatabase()
  })

  beforeEach(() => {
    open = []
  })

  afterEach(async () => {
    await Promise.all(open.map((one) => one.close()))
    await database.ownerPool.query('truncate api_keys, changes, gateway_processes')
  })

  after(async () => {
    await database.drop()
  })

  async function openOne(options: Parameters<typeof openRoom>[1] = {}): Promise<OpenRoom> {
    const one = await openRoom(database.runtime, options)
    open.push(one)
    return one
  }

  const create = (settings: Partial<KeySettings> = {}) =>
    createKey(database.pool, { ...PLAIN, ...settings }, Date.now())

  it('turns a key into the principal it stands for, without a statement and without waiting', async () => {
    const { key, text } = await create()
    const { room, statements } = await openOne()
    const before = statements()
    const principal = room.authenticate(bearer(text), HOME)
    expect(principal).to.deep.equal({
      id: 'ada',
      kind: 'user',
      roles: ['developer'],
      tenant: 'acme',
      teams: ['web'],
      scopes: ['a:b'],
      claims: { mfa: true },
      authMethod: 'api_key',
      apiKeyId: key.id,
    })
    expect(room.authenticate({ scheme: 'api_key', secret: text }, HOME)).to.equal(principal)
    expect(statements()).to.equal(before)
  })

  it('calls a nameless principal by its key id', async () => {
    const { key, text } = await create({ name: null })
    const { room } = await openOne()
    expect(((await attempt(room, text)) as Principal).id).to.equal(key.id)
  })

  it('answers missing, malformed, unknown, revoked, expired and old keys alike, and tells them apart inside', async () => {
    const revoked = await create()
    await revokeKey(database.pool, revoked.key.id)
    const rotated = await create()
    const fresh = await rotateKey(database.pool, rotated.key.id, { overlapMs: 0 }, Date.now())
    const expired = await create()
    await database.ownerPool.query(`update api_keys set expires_at = now() - interval '1 s' where id = $1`, [
      expired.key.id,
    ])
    const { room } = await openOne()
    const unknown = revoked.text.replace(/^gwk_.{12}/, 'gwk_aaaaaaaaaaaa')
    const cases: [string | null, RegExp][] = [
      [null, /^no credential$/],
      ['', /form of a key/],
      ['Bearer x', /form of a key/],
      [`${fresh.text} `, /form of a key/],
      [`${fresh.text}\n`, /form of a key/],
      [fresh.text.toUpperCase(), /form of a key/],
      ['x'.repeat(1_000_000), /form of a key/],
      [unknown, /^no key aaaaaaaaaaaa$/],
      [revoked.text, /is revoked$/],
      [expired.text, /has expired$/],
      [rotated.text, /^wrong secret for key/],
    ]
    for (const [secret, detail] of cases) {
      const error = (await attempt(room, secret)) as GatewayError
      expect(error).to.be.instanceOf(GatewayError)
      expect(error.kind).to.equal('unauthenticated')
      expect(error.message).to.equal(ENDINGS.unauthenticated.message)
      expect(error.data).to.deep.equal({})
      expect(error.detail).to.match(detail)
      if (secret !== null && secret.length > 17) expect(error.detail).to.not.include(secret.slice(17))
    }
    expect(await kindOf(room, fresh.text)).to.equal('let in')
  })

  it('accepts the old secret until the overlap ends, by the clock it is given', async () => {
    const { key, text } = await create()
    const fresh = await rotateKey(database.pool, key.id, { overlapMs: 60_000 }, Date.now())
    let now = Date.now()
    const clock = { nowMs: () => now, monotonicMs: () => performance.now() }
    const { room } = await openOne({ clock })
    expect([await kindOf(room, text), await kindOf(room, fresh.text)]).to.deep.equal(['let in', 'let in'])
    now += 61_000
    expect([await kindOf(room, text), await kindOf(room, fresh.text)]).to.deep.equal([
      'unauthenticated',
      'let in',
    ])
  })

  it('ends a key at its moment, without hearing of it', async () => {
    const { text } = await create({ expiresAt: new Date(Date.now() + 60_000) })
    let now = Date.now()
    const clock = { nowMs: () => now, monotonicMs: () => performance.now() }
    const { room } = await openOne({ clock })
    const principal = (await attempt(room, text)) as Principal
    expect(room.isLive(principal)).to.equal(true)
    now += 60_001
    expect(await kindOf(room, text)).to.equal('unauthenticated')
    expect(room.isLive(principal)).to.equal(false)
  })

  it('knows a key that was made a moment ago elsewhere, although it has not been told yet', async () => {
    const { room } = await openOne({ isDeaf: true })
    const { text } = await create()
    expect(await kindOf(room, text)).to.equal('let in')
    const rotated = await rotateKey(database.pool, (await create()).key.id, { overlapMs: 0 }, Date.now())
    expect(await kindOf(room, rotated.text)).to.equal('let in')
  })

  it('reads at most once per 100 ms, however many unknown keys come in', async () => {
    const { text } = await create()
    const { room, statements, refreshes } = await openOne({ isDeaf: true })
    const before = statements()
    const unknown = Array.from({ length: 2000 }, (_, at) =>
      text.replace(/^gwk_.{12}/, `gwk_${String(at).padStart(12, 'a')}`),
    )
    const kinds = await Promise.all(unknown.map((secret, at) => kindOf(room, secret, `192.0.2.${at}`)))
    expect(new Set(kinds)).to.deep.equal(new Set(['unauthenticated']))
    expect(refreshes()).to.equal(1)
    expect(statements()).to.equal(before)
    expect(await kindOf(room, text)).to.equal('let in')
  })

  it('refuses a key revoked by another process within two seconds, told or not', async function () {
    this.timeout(5000)
    const { key, text } = await create()
    const rooms = await Promise.all([openOne({ pollMs: 1000 }), openOne({ pollMs: 1000, isDeaf: true })])
    for (const { room } of rooms) expect(await kindOf(room, text)).to.equal('let in')
    await revokeKey(database.pool, key.id)
    for (const { room } of rooms)
      await until('the revocation', async () => (await kindOf(room, text)) === 'unauthenticated')
  })

  it('works with thousands of keys, and keeps those that ended long ago out of memory', async () => {
    await database.ownerPool.query(
      `insert into api_keys (id, kind, secret_sha256, revoked_at)
       select 'k' || lpad(n::text, 11, '0'), 'agent', sha256(n::text::bytea),
         case when n > 11000 then now() - interval '40 days' end
       from generate_series(1, 12000) n`,
    )
    const { text } = await create()
    const long = await create()
    await database.ownerPool.query(
      `update api_keys set revoked_at = now() - interval '31 days' where id = $1`,
      [long.key.id],
    )
    const { room } = await openOne()
    expect(await kindOf(room, text)).to.equal('let in')
    expect(((await attempt(room, long.text)) as GatewayError).detail).to.match(/^no key/)
  })

  describe('from an address that keeps failing', () => {
    const throttle = { maxFailures: 3, windowMs: 60_000, maxAddresses: 100 }
    const bad = 'gwk_aaaaaaaaaaaa_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA'

    it('is refused for a while without asking the database, and reported once', async () => {
      let now = Date.now()
      const clock = { nowMs: () => now, monotonicMs: () => performance.now() }
      const { room, windows, refreshes } = await openOne({ throttle, clock })
      for (const secret of [null, 'malformed', bad]) {
        expect(await kindOf(room, secret)).to.equal('unauthenticated')
      }
      expect(refreshes()).to.equal(1)
      for (const secret of [null, 'malformed', bad]) {
        const error = (await attempt(room, secret)) as GatewayError
        expect(error.kind).to.equal('address_throttled')
        expect(error.data).to.deep.equal({ retryAfterSeconds: 60 })
      }
      expect(refreshes()).to.equal(1)
      expect(await kindOf(room, bad, '192.0.2.99')).to.equal('unauthenticated')
      now += 60_000
      expect(await kindOf(room, bad)).to.equal('unauthenticated')
      expect(windows).to.deep.equal([{ address: HOME, count: 3, fromMs: now - 60_000, toMs: now }])
    })

    it('still lets a valid key in: others live behind the same address', async () => {
      const { text } = await create()
      const { room } = await openOne({ throttle })
      for (let time = 0; time < 5; time += 1) await attempt(room, bad)
      expect(await kindOf(room, bad)).to.equal('address_throttled')
      expect(await kindOf(room, text)).to.equal('let in')
      expect(await kindOf(room, bad)).to.equal('address_throttled')
    })

    it('reports what is open when the gateway stops', async () => {
      const { room, windows } = await openOne({ throttle })
      for (let time = 0; time < 10; time += 1) await attempt(room, null)
      room.close()
      expect(windows.map(({ address, count }) => [address, count])).to.deep.equal([[HOME, 7]])
    })
  })

  describe('without a credential', () => {
    it('is an anonymous principal only when configured', async () => {
      const { room } = await openOne({ anonymous: { roles: ['admin'] } })
      const principal = (await attempt(room, null)) as Principal
      expect(principal).to.deep.include({
        id: 'anonymous',
        kind: 'anonymous',
        authMethod: 'none',
        roles: ['admin'],
        apiKeyId: null,
      })
      expect(room.isLive(principal)).to.equal(true)
      expect(await kindOf(room, 'something wrong')).to.equal('unauthenticated')
      const strict = await openOne()
      expect(strict.room.isLive(principal)).to.equal(false)
    })
  })

  describe('when the change feed confirms nothing any more', () => {
    it('asks the database about every call', async () => {
      const { key, text } = await create()
      // A feed that reads once and never again.
      const { room } = await openOne({ isDeaf: true, maxStaleMs: 0 })
      expect(await kindOf(room, text)).to.equal('let in')
      await revokeKey(database.pool, key.id)
      expect(await kindOf(room, text)).to.equal('unauthenticated')
      const fresh = await create()
      expect(await kindOf(room, fresh.text)).to.equal('let in')
    })

    it('asks once for all who come at the same time', async () => {
      const { text } = await create()
      const { room, statements } = await openOne({ isDeaf: true, maxStaleMs: 0 })
      const before = statements()
      const kinds = await Promise.all(Array.from({ length: 500 }, () => kindOf(room, text)))
      expect(new Set(kinds)).to.deep.equal(new Set(['let in']))
      expect(statements() - before).to.be.at.most(2)
    })
  })
})

describe('authentication when the database goes away', function () {
  this.timeout(30_000)
  let server: TestServer
  let one: OpenRoom

  before(async () => {
    server = await startServer()
  })

  after(async () => {
    await one.close()
    await server.dispose()
  })

  it('goes on for max_stale, then answers 503 and never 401, and recovers by itself', async () => {
    let passed = 0
    const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() + passed }
    one = await openRoom(server.runtime, { pollMs: 50, maxStaleMs: 600_000, clock })
    const { text } = await createKey(one.pool, PLAIN, Date.now())
    await one.feed.refresh()
    await server.stop('immediate')
    expect(await kindOf(one.room, text)).to.equal('let in')
    const unknown = text.replace(/^gwk_.{12}/, 'gwk_aaaaaaaaaaaa')
    expect(await kindOf(one.room, unknown)).to.equal('auth_unavailable')
    expect(await kindOf(one.room, null)).to.equal('unauthenticated')
    passed = 700_000
    const error = (await attempt(one.room, text)) as GatewayError
    expect(error.kind).to.equal('auth_unavailable')
    expect(error.message).to.equal(ENDINGS.auth_unavailable.message)
    await server.restart()
    await until('the recovery', async () => (await kindOf(one.room, text)) === 'let in')
    expect(await kindOf(one.room, unknown)).to.equal('unauthenticated')
  })
})
