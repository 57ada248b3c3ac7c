import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { expect } from 'chai'
import { run } from '../../src/cli/run.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

interface Result {
  readonly code: number
  readonly out: string
  readonly err: string
}

describe('gateway keys', () => {
  let database: TestDatabase
  let folder: string

  before(async () => {
    database = await createTestDatabase()
    folder = await mkdtemp('/tmp/gateway-keys-')
    await writeFile(join(folder, 'url'), database.url)
    await writeFile(join(folder, 'migrate-url'), database.migrateUrl)
    await writeFile(join(folder, 'secret'), randomBytes(32).toString('hex'))
    await writeFile(
      join(folder, 'gateway.yaml'),
      `database: { url_file: ./url, migrate_url_file: ./migrate-url }
secret_file: ./secret
upstreams:
  support: { url: http://127.0.0.1:9/mcp }
`,
    )
  })

  afterEach(async () => {
    await database.ownerPool.query('truncate api_keys, changes, gateway_processes')
  })

  after(async () => {
    await database.drop()
    await rm(folder, { recursive: true, force: true })
  })

  async function keys(...args: string[]): Promise<Result> {
    const texts = { out: '', err: '' }
    const into = (name: 'out' | 'err') =>
      new Writable({
        write(chunk, _encoding, done) {
          texts[name] += String(chunk)
          done()
        },
      })
    const streams = { stdout: into('out'), stderr: into('err') }
    const code = await run(['keys', ...args, '--config', join(folder, 'gateway.yaml')], streams)
    return { code, ...texts }
  }

  it('create shows the key once, alone on stdout', async () => {
    const { code, out, err } = await keys(
      ...['create', '--name', 'ada', '--kind', 'user', '--role', 'admin', '--role', 'developer'],
      ...['--tenant', 'acme', '--team', 'web', '--scope', 'gateway:admin', '--expires', '30d'],
      ...['--claim', 'mfa=true', '--claim', 'level=3', '--claim', 'desk=sales', '--claim', 'code="7"'],
    )
    expect(err).to.match(/key [a-z0-9]{12} \(ada\), roles: admin, developer, expires 20/)
    expect(code).to.equal(0)
    expect(out).to.match(/^gwk_[a-z0-9]{12}_[A-Za-z0-9_-]{43}\n$/)
    expect(err).to.not.include(out.trim())
    const listed = await keys('list', '--json')
    const [key] = JSON.parse(listed.out)
    expect(key).to.deep.include({ name: 'ada', kind: 'user', tenant: 'acme', state: 'active' })
    expect(key.claims).to.deep.equal({ mfa: true, level: 3, desk: 'sales', code: '7' })
    expect(key).to.deep.include({ roles: ['admin', 'developer'], teams: ['web'], scopes: ['gateway:admin'] })
    const days = (Date.parse(key.expires_at) - Date.now()) / 86_400_000
    expect(Math.round(days)).to.equal(30)
    expect(listed.out + listed.err).to.not.include(out.trim().slice(17))
  })

  it('create --json is for programs', async () => {
    const { code, out, err } = await keys('create', '--role', 'developer', '--json')
    expect({ code, err }).to.deep.equal({ code: 0, err: '' })
    const made = JSON.parse(out)
    expect(made.key).to.match(new RegExp(`^gwk_${made.id}_`))
    expect(made).to.include({ state: 'active', name: null, expires_at: null })
  })

  it('create says when a key can do nothing', async () => {
    const { code, err } = await keys('create')
    expect(code).to.equal(0)
    expect(err).to.match(/has no role/)
  })

  it('create refuses what is against the rules with exit code 2 and makes nothing', async () => {
    const wrong: [string[], RegExp][] = [
      [['--role', 'Admin'], /role "Admin": must begin/],
      [['--kind', 'robot'], /robot/],
      [['--claim', 'mfa'], /NAME=VALUE/],
      [['--claim', '__proto__=1'], /NAME=VALUE/],
      [['--claim', 'a=1', '--claim', 'a=2'], /twice/],
      [['--expires', 'tomorrow'], /duration such as 30d/],
      [['--expires', '2020-01-01T00:00:00Z'], /future/],
      [['--expires', '2027-02-31T99:00:00Z'], /duration such as 30d/],
      [['--rolle', 'admin'], /rolle/],
    ]
    for (const [args, problem] of wrong) {
      const { code, out, err } = await keys('create', ...args)
      expect(code, args.join(' ')).to.equal(2)
      expect(out).to.equal('')
      expect(err).to.match(problem)
    }
    expect(JSON.parse((await keys('list', '--all', '--json')).out)).to.deep.equal([])
  })

  it('list says what to do when there is no key', async () => {
    const { code, err } = await keys('list')
    expect(code).to.equal(0)
    expect(err).to.match(/no active key/)
    expect(err).to.match(/gateway keys create/)
  })

  it('revoke ends the key named by the beginning of its id, and asks unless told not to', async () => {
    const made = JSON.parse((await keys('create', '--role', 'developer', '--json')).out)
    const asked = await keys('revoke', made.id.slice(0, 6))
    expect(asked.code).to.equal(2)
    expect(asked.err).to.match(/--yes/)
    const { code, out } = await keys('revoke', made.id.slice(0, 6), '--yes')
    expect({ code, out }).to.deep.equal({ code: 0, out: `revoked ${made.id}\n` })
    const again = await keys('revoke', made.id, '--yes')
    expect({ code: again.code, out: again.out }).to.deep.equal({ code: 0, out: '' })
    expect(again.err).to.match(/was revoked before/)
    expect((await keys('list')).out).to.equal('')
    expect((await keys('list', '--all')).out).to.include('revoked')
  })

  it('revoke names the gateways that have not confirmed', async () => {
    await database.pool.query(
      `insert into gateway_processes (id, name, applied_seq, seen_at)
       values ('a', 'host-a 1', 0, now() + interval '1 hour'), ('b', 'host-b 2', 1000000, now() + interval '1 hour')`,
    )
    const made = JSON.parse((await keys('create', '--role', 'developer', '--json')).out)
    const { code, out } = await keys('revoke', made.id, '--yes', '--json')
    expect(code).to.equal(0)
    expect(JSON.parse(out)).to.deep.equal({
      id: made.id,
      was_active: true,
      applied: ['host-b 2'],
      pending: ['host-a 1'],
    })
  })

  it('rotate shows the new key once and keeps id and rights', async () => {
    const made = JSON.parse((await keys('create', '--name', 'ada', '--role', 'admin', '--json')).out)
    const { code, out, err } = await keys('rotate', made.id, '--overlap', '1d')
    expect(code).to.equal(0)
    expect(out).to.match(new RegExp(`^gwk_${made.id}_[A-Za-z0-9_-]{43}\n$`))
    expect(out.trim()).to.not.equal(made.key)
    expect(err).to.match(/old secret stays good until/)
    const [key] = JSON.parse((await keys('list', '--json')).out)
    expect(key).to.deep.include({ id: made.id, name: 'ada', roles: ['admin'] })
  })

  it('never echoes a whole key that was given in place of its id', async () => {
    const made = JSON.parse((await keys('create', '--role', 'developer', '--json')).out)
    for (const verb of ['revoke', 'rotate']) {
      const { code, out, err } = await keys(verb, made.key, ...(verb === 'revoke' ? ['--yes'] : []))
      expect(code).to.equal(2)
      expect(out + err).to.not.include(made.key.slice(17))
    }
    const unknown = await keys('revoke', 'zzzz', '--yes', '--json')
    expect(unknown.code).to.equal(2)
    expect(JSON.parse(unknown.err).code).to.equal('not_found')
  })
})
