import { createPrivateKey, generateKeyPairSync, randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { createAnchors } from '../../src/audit/anchors.ts'
import { createSigner } from '../../src/audit/signing.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import type { CliResult } from '../support/cli.ts'
import { runCli } from '../support/cli.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { allowed, denied, newId, removeSpools, spooling } from './fixtures.ts'

const quiet = () => undefined
const log = { info: quiet, warn: quiet, error: quiet }

describe('gateway audit verify and erase', () => {
  let database: TestDatabase
  let home: string
  const pem = String(generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }))
  const signer = createSigner(createPrivateKey(pem))
  const events = Array.from({ length: 6 }, (_, at) =>
    (at % 2 === 0 ? denied : allowed)({ startedMs: Date.now() - 60_000 + at }),
  )

  beforeEach(async () => {
    database = await createTestDatabase()
    home = await mkdtemp(join(tmpdir(), 'gateway-verify-'))
    await mkdir(join(home, 'policies'))
    await configure({ signing_key_file: './key.pem' })
    const files = {
      url: database.url,
      'migrate-url': database.migrateUrl,
      'key.pem': pem,
      'key.pub': signer.publicKey,
    }
    for (const [name, text] of Object.entries({ ...files, secret: randomBytes(32).toString('base64') }))
      await writeFile(join(home, name), text, { mode: 0o600 })
    const anchors = createAnchors({ targets: [{ kind: 'file', file: join(home, 'anchors') }], log })
    const room = createAuditRoom({
      ...{ pool: database.pool, writerId: randomUUID(), newId, clock: { nowMs: Date.now }, log, signer },
      onCheckpoint: anchors.record,
      ...spooling(),
    })
    await room.start()
    for (const event of events) await room.end(event)
    await room.close()
    await anchors.close()
  })
  afterEach(async () => {
    await database.drop()
    removeSpools()
    await rm(home, { recursive: true, force: true })
  })

  async function configure(audit: object): Promise<void> {
    const database = { url_file: './url', migrate_url_file: './migrate-url' }
    const upstreams = { github: { url: 'http://127.0.0.1:9/mcp' } }
    await writeFile(
      join(home, 'gateway.yaml'),
      stringify({ database, secret_file: './secret', audit, upstreams }),
    )
  }

  const gateway = (...args: string[]): Promise<CliResult> =>
    runCli(['audit', ...args, '--config', join(home, 'gateway.yaml')])
  const outside = () => ['--anchor', join(home, 'anchors'), '--public-key', join(home, 'key.pub')]

  it('says what is proven and what is not', async () => {
    const { code, out, err } = await gateway('verify')
    expect(code, err).to.equal(0)
    expect(out).to.match(/^ok {2}every row is what was stored\n {4}6 rows of 1 writers, /)
    expect(out).to.include('1 signed checkpoints').and.include('--public-key').and.include('--anchor')
    const strict = await gateway('verify', ...outside())
    expect(strict.code, strict.err).to.equal(0)
    expect(strict.out).to.include('1 anchors agree').and.not.include('not proven')
  })

  it('ends with 1 and names the row when one was edited', async () => {
    const id = events[2]?.call.id ?? ''
    await database.ownerPool.query(`update audit_events set principal_id = 'mallory\u202e' where id = $1`, [
      id,
    ])
    const { code, out, err } = await gateway('verify')
    expect([code, out.includes(id), err.includes('1 finding.')]).to.deep.equal([1, true, true])
    const json = await gateway('verify', '--json')
    expect(json.code).to.equal(1)
    expect(JSON.parse(json.out)).to.have.nested.property('findings[0].kind', 'edited')
    expect(JSON.parse(json.err)).to.have.property('code', 'check_failed')
  })

  it('finds with an anchor what was cut off', async () => {
    await database.ownerPool.query('delete from audit_events where seq > 4')
    await database.ownerPool.query('delete from audit_checkpoints')
    expect((await gateway('verify')).code).to.equal(0)
    const { code, out } = await gateway('verify', ...outside())
    expect([code, out.includes('Rows 5 to 6 are missing')]).to.deep.equal([1, true])
  })

  it('refuses files that are none', async () => {
    await writeFile(join(home, 'x'), 'x')
    for (const args of [
      ['--anchor', join(home, 'x')],
      ['--anchor', join(home, 'none')],
      ['--public-key', join(home, 'x')],
      ['--public-key', join(home, 'none')],
      ['--since', 'whenever'],
    ]) {
      expect((await gateway('verify', ...args)).code, args.join(' ')).to.equal(2)
    }
  })

  it('erases a row, then all of a principal, and verify goes on to agree', async () => {
    const id = events[1]?.call.id ?? ''
    const one = await gateway('erase', '--id', id, '--reason', 'ticket 4711', '--yes', '--json')
    expect(one.code, one.err).to.equal(0)
    expect(JSON.parse(one.out)).to.deep.equal({ erased: 1 })
    const all = await gateway('erase', '--principal', 'anna', '--reason', 'asked for', '--yes')
    expect(all.out).to.include('5 rows without payload now')
    const { code, out } = await gateway('verify', ...outside())
    expect([code, out.includes('6 rows whose payload was erased')]).to.deep.equal([0, true])
    expect((await gateway('explain', id)).code).to.equal(0)
    expect((await gateway('erase', '--principal', 'anna', '--reason', 'x', '--yes')).code).to.equal(2)
  })

  it('does not erase without a reason, a yes, or a key', async () => {
    const id = events[1]?.call.id ?? ''
    expect((await gateway('erase', '--id', id, '--reason', ' ', '--yes')).code).to.equal(2)
    expect((await gateway('erase', '--id', id, '--reason', 'x')).code).to.equal(2)
    expect((await gateway('erase', '--reason', 'x', '--yes')).code).to.equal(2)
    await configure({})
    const { code, err } = await gateway('erase', '--id', id, '--reason', 'x', '--yes')
    expect([code, err.includes('audit.signing_key_file')]).to.deep.equal([2, true])
    const { rows } = await database.pool.query('select count(*)::int as count from audit_erasures')
    expect(rows).to.deep.equal([{ count: 0 }])
  })

  it('is configured with a key that is one, and with places that are told apart; their addresses are not shown', async () => {
    const anchors = [{ file: './a' }, { log: true }, { url: 'https://x.example/?token=hunter2' }]
    await configure({ signing_key_file: './key.pem', anchors })
    const shown = await runCli(['config', 'show', '--json', '--config', join(home, 'gateway.yaml')])
    expect(shown.code, shown.err).to.equal(0)
    expect(shown.out).to.not.include('hunter2').and.not.include('PRIVATE KEY')
    for (const audit of [
      { signing_key_file: './secret' },
      { anchors: [{}] },
      { anchors: [{ file: './a', log: true }] },
      { anchors: [{ log: false }] },
      { anchors: [{ url: 'ftp://x' }] },
    ]) {
      await configure(audit)
      const { code } = await runCli(['config', 'check', '--config', join(home, 'gateway.yaml')])
      expect(code, JSON.stringify(audit)).to.equal(1)
    }
  })
})
