import { expect } from 'chai'
import type { KeySettings } from '../../src/auth/key-settings.ts'
import {
  countKeys,
  createKey,
  findKey,
  keyState,
  listKeys,
  revokeKey,
  revokeKeysNamed,
  rotateKey,
} from '../../src/auth/key-store.ts'
import { parseKey } from '../../src/auth/key-text.ts'
import { UsageError } from '../../src/errors.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

const PLAIN: KeySettings = {
  name: null,
  kind: 'agent',
  roles: ['developer'],
  tenant: null,
  teams: [],
  scopes: [],
  claims: {},
  expiresAt: null,
}

describe('the key store', () => {
  let database: TestDatabase
  const now = Date.now()

  before(async () => {
    database = await createTestDatabase()
  })

  afterEach(async () => {
    await database.ownerPool.query('truncate api_keys, changes')
  })

  after(async () => {
    await database.drop()
  })

  const create = (settings: Partial<KeySettings> = {}) =>
    createKey(database.pool, { ...PLAIN, ...settings }, now)

  async function refusal(promise: Promise<unknown>): Promise<UsageError> {
    const error = await promise.then(
      () => new Error('it was fulfilled'),
      (thrown: unknown) => thrown,
    )
    expect(error).to.be.instanceOf(UsageError)
    return error as UsageError
  }

  it('makes a key of the documented form and keeps only its hash', async () => {
    const { key, text } = await create({ name: 'ada', claims: { mfa: true, level: 3 }, teams: ['web'] })
    expect(text).to.match(new RegExp(`^gwk_${key.id}_[A-Za-z0-9_-]{43}$`))
    expect(key).to.deep.include({ name: 'ada', kind: 'agent', roles: ['developer'], teams: ['web'] })
    expect(key.claims).to.deep.equal({ mfa: true, level: 3 })
    const { rows } = await database.ownerPool.query(
      'select row_to_json(k)::text as all, secret_sha256 from api_keys k',
    )
    expect(rows[0].secret_sha256.equals(parseKey(text)?.sha256)).to.equal(true)
    expect(rows[0].all).to.not.include(text.slice(17))
    const everything = await database.ownerPool.query('select c::text as all from changes c')
    expect(JSON.stringify(everything.rows)).to.not.include(text.slice(17))
  })

  it('never makes the same secret twice, nor an id outside its alphabet', async () => {
    const made = await Promise.all(Array.from({ length: 50 }, () => create()))
    expect(new Set(made.map((one) => one.text)).size).to.equal(50)
    expect(new Set(made.map((one) => one.key.id)).size).to.equal(50)
  })

  it('announces every change in order, with the id as subject', async () => {
    const { key, changeSeq } = await create()
    const rotated = await rotateKey(database.pool, key.id, { overlapMs: 0 }, now)
    const revoked = await revokeKey(database.pool, key.id)
    const { rows } = await database.pool.query('select seq, topic, subject from changes order by seq')
    expect(rows).to.deep.equal(
      [changeSeq, rotated.changeSeq, revoked].map((seq) => ({
        seq: String(seq),
        topic: 'keys',
        subject: key.id,
      })),
    )
  })

  it('refuses settings against the rules, names rule and setting, and stores nothing', async () => {
    const deep = JSON.parse('['.repeat(20) + ']'.repeat(20)) as unknown
    const wrong: [Partial<KeySettings>, RegExp][] = [
      [{ roles: ['Admin'] }, /^role "Admin": must begin with a small letter/],
      [{ roles: ['a b'] }, /^role/],
      [{ roles: ['dev', 'dev'] }, /given twice/],
      [{ roles: Array.from({ length: 65 }, (_, at) => `r${at}`) }, /at most 64/],
      [{ name: '' }, /^name ""/],
      [{ name: 'x'.repeat(129) }, /^name/],
      [{ name: 'a\nb' }, /^name/],
      [{ tenant: '../x' }, /^tenant/],
      [{ teams: ['a\u202eb'] }, /^team/],
      [{ scopes: ['gateway admin'] }, /^scope/],
      [{ kind: 'robot' as 'agent' }, /^kind robot: must be one of user, service, agent/],
      [{ claims: { deep } }, /nested deeper/],
      [{ claims: { big: 'x'.repeat(9000) } }, /bytes/],
      [{ claims: { nul: 'a\0b' } }, /NUL/],
      [{ claims: { half: '\ud800' } }, /surrogate/],
      [{ claims: { n: Number.POSITIVE_INFINITY } }, /finite/],
      [{ expiresAt: new Date(now - 1) }, /future/],
      [{ expiresAt: new Date(Number.NaN) }, /future/],
    ]
    for (const [settings, rule] of wrong) {
      const error = await refusal(create(settings))
      expect(error.code).to.equal('usage')
      expect(error.message).to.match(rule)
    }
    expect(await listKeys(database.pool, { includeEnded: true })).to.deep.equal([])
  })

  it('lists active keys newest first and ended ones when asked, nothing secret in either', async () => {
    const first = await create({ name: 'first' })
    const second = await create({ name: 'second', expiresAt: new Date(now + 60_000) })
    const third = await create({ name: 'third' })
    await revokeKey(database.pool, third.key.id)
    await database.ownerPool.query(
      `update api_keys set expires_at = now() - interval '1 s' where name = 'second'`,
    )
    const active = await listKeys(database.pool, { includeEnded: false })
    expect(active.map((key) => key.name)).to.deep.equal(['first'])
    const all = await listKeys(database.pool, { includeEnded: true })
    expect(all.map((key) => [key.name, keyState(key, Date.now())])).to.deep.equal([
      ['third', 'revoked'],
      ['second', 'expired'],
      ['first', 'active'],
    ])
    const text = JSON.stringify(all)
    for (const { text: secret } of [first, second, third]) {
      expect(text).to.not.include(parseKey(secret)?.sha256.toString('hex'))
      expect(text).to.not.include(secret.slice(17))
    }
    expect(await countKeys(database.pool)).to.equal(1)
  })

  it('finds a key by the beginning of its id and refuses an ambiguous one', async () => {
    const { key, text } = await create()
    expect((await findKey(database.pool, key.id.slice(0, 8))).id).to.equal(key.id)
    expect((await findKey(database.pool, `gwk_${key.id}`)).id).to.equal(key.id)
    expect((await refusal(findKey(database.pool, 'zzzzzzzzzzz0'))).code).to.equal('not_found')
    await database.ownerPool.query(
      `insert into api_keys (id, kind, secret_sha256) select 'samestart' || n, 'agent', sha256('') from generate_series(100, 104) n`,
    )
    expect((await refusal(findKey(database.pool, 'samestart'))).message).to.match(/Several keys .*give more/)
    for (const bad of [text, '%', '_', '', "';--"]) {
      const error = await refusal(findKey(database.pool, bad))
      expect(error.message).to.not.include(bad === '' ? 'nothing' : text.slice(17))
    }
  })

  it('rotates: same id and settings, another secret, the old one only for the overlap', async () => {
    const { key, text } = await create({ name: 'ada', roles: ['admin'] })
    const rotated = await rotateKey(database.pool, key.id, { overlapMs: 3_600_000 }, now)
    expect(rotated.text).to.not.equal(text)
    expect(rotated.key).to.deep.include({ id: key.id, name: 'ada', roles: ['admin'] })
    expect(rotated.key.overlapUntil?.getTime()).to.be.greaterThan(now + 3_500_000)
    const again = await rotateKey(database.pool, key.id, { overlapMs: 0 }, now)
    expect(again.key.overlapUntil).to.equal(null)
    const { rows } = await database.ownerPool.query('select previous_sha256 from api_keys')
    expect(rows[0].previous_sha256).to.equal(null)
  })

  it('changes the end of life only when told to', async () => {
    const expiresAt = new Date(now + 3_600_000)
    const { key } = await create({ expiresAt })
    const kept = await rotateKey(database.pool, key.id, { overlapMs: 0 }, now)
    expect(kept.key.expiresAt).to.deep.equal(expiresAt)
    const never = await rotateKey(database.pool, key.id, { overlapMs: 0, expiresAt: null }, now)
    expect(never.key.expiresAt).to.equal(null)
  })

  it('rotates no ended key, and none for longer than it should', async () => {
    const { key } = await create()
    for (const overlapMs of [-1, Number.NaN, 31 * 24 * 3_600_000]) {
      expect((await refusal(rotateKey(database.pool, key.id, { overlapMs }, now))).message).to.match(
        /30 days/,
      )
    }
    await revokeKey(database.pool, key.id)
    const error = await refusal(rotateKey(database.pool, key.id, { overlapMs: 0 }, now))
    expect(error.code).to.equal('not_found')
    expect(await revokeKey(database.pool, key.id)).to.equal(null)
  })

  it('revokes all keys of a principal and leaves the others', async () => {
    await create({ name: 'ada' })
    await create({ name: 'ada' })
    await create({ name: 'bob' })
    expect(await revokeKeysNamed(database.pool, 'ada')).to.have.length(2)
    const left = await listKeys(database.pool, { includeEnded: false })
    expect(left.map((key) => key.name)).to.deep.equal(['bob'])
  })
})
