import { randomBytes, randomUUID } from 'node:crypto'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { storeRevision } from '../../src/audit/revisions.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import { run } from '../../src/cli/run.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import {
  allowed,
  DICTIONARY,
  denied,
  evaluation,
  newId,
  removeSpools,
  spooling,
  toolsCall,
} from './fixtures.ts'

describe('gateway audit', () => {
  let database: TestDatabase
  let home: string
  const quiet = () => undefined
  // Both ids begin with the same eight digits.
  const at = Math.floor((Date.now() - 3_600_000) / 65_536) * 65_536
  const first = denied({ startedMs: at, message: toolsCall('{"n":9007199254740993}') })
  const second = allowed({ startedMs: at + 1000, target: null })

  before(async () => {
    database = await createTestDatabase()
    home = await mkdtemp(join(tmpdir(), 'gateway-audit-'))
    await mkdir(join(home, 'policies'))
    Object.assign(process.env, environment(database))
    await writeFile(
      join(home, 'gateway.yaml'),
      stringify({
        database: { url: '${AUDIT_TEST_URL}', migrate_url: '${AUDIT_TEST_MIGRATE_URL}' },
        secret: '${AUDIT_TEST_SECRET}',
        upstreams: { github: { url: 'http://127.0.0.1:9/mcp' } },
      }),
    )
    const room = createAuditRoom({
      pool: database.pool,
      writerId: randomUUID(),
      newId,
      clock: { nowMs: Date.now },
      log: { info: quiet, warn: quiet, error: quiet },
      ...spooling(),
    })
    await room.start()
    for (const event of [first, second]) await room.end(event)
    await room.close()
    const { policy } = evaluation()
    await storeRevision(database.pool, {
      ...policy,
      sources: { 'authz/tools.rego': `${'\n'.repeat(23)}deny contains "destructive-without-mfa" if {\n` },
      dictionary: DICTIONARY,
      data: {},
      loadedAt: new Date(at),
    })
  })
  after(async () => {
    for (const name of Object.keys(environment(database))) delete process.env[name]
    await database.drop()
    removeSpools()
    await rm(home, { recursive: true, force: true })
  })

  function environment({ url, migrateUrl }: TestDatabase) {
    const secret = randomBytes(32).toString('base64')
    return { AUDIT_TEST_URL: url, AUDIT_TEST_MIGRATE_URL: migrateUrl, AUDIT_TEST_SECRET: secret }
  }

  async function gateway(...args: string[]) {
    const text = { stdout: '', stderr: '' }
    const stream = (name: keyof typeof text) =>
      new Writable({
        write(chunk, _encoding, done) {
          text[name] += String(chunk)
          done()
        },
      })
    const streams = { stdout: stream('stdout'), stderr: stream('stderr') }
    const code = await run(['audit', ...args, '--config', join(home, 'gateway.yaml')], streams)
    return { code, ...text }
  }

  it('tail lists rows as tab-separated values when piped', async () => {
    const { code, stdout, stderr } = await gateway('tail')
    expect(code, stderr).to.equal(0)
    const lines = stdout.trimEnd().split('\n')
    expect(lines[0]?.split('\t')).to.deep.equal([
      new Date(at).toISOString(),
      'denied_authz',
      '403',
      'anna',
      'acme',
      'tools/call',
      'github',
      'delete_repo',
      'destructive-without-mfa',
      first.call.id,
    ])
    expect(lines).to.have.lengthOf(2)
  })

  it('tail filters, limits, and gives one JSON object per line', async () => {
    const { stdout } = await gateway('tail', '--outcome', 'denied', '--since', '2h', '--json')
    expect(
      stdout
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line).id),
    ).to.deep.equal([first.call.id])
    expect((await gateway('tail', '--since', '1m')).stderr).to.include('No attempt matches.')
    expect((await gateway('tail', '-n', '1')).stderr).to.include('The newest 1')
    for (const args of [
      ['--outcome', 'nope'],
      ['--since', 'whenever'],
      ['--limit', '0'],
    ]) {
      const { code, stderr } = await gateway('tail', ...args)
      expect([code, stderr.includes(args[0] ?? '')]).to.deep.equal([2, true])
    }
  })

  it('show prints the row with all digits', async () => {
    const { stdout } = await gateway('show', first.call.id, '--json')
    expect(stdout).to.include('"n":9007199254740993')
    expect(JSON.parse(stdout)).to.have.nested.property('decision.authz.trace.v', 1)
    expect((await gateway('show', first.call.id)).stdout).to.include('"n": 9007199254740993')
  })

  it('explain takes the beginning of an id', async () => {
    const { code, stdout } = await gateway('explain', first.call.id.slice(0, 13), '--source')
    expect(code).to.equal(0)
    expect(stdout).to.match(
      /^Denied: anna of acme may not call tool delete_repo on github, because of destructive/,
    )
    expect(stdout).to.include('24  deny contains "destructive-without-mfa" if {')
    const { stdout: json } = await gateway('explain', first.call.id, '--json')
    expect(JSON.parse(json)).to.deep.include({
      outcome: 'denied_authz',
      rule: {
        name: 'data.gateway.authz.deny',
        at: 'authz/tools.rego:24',
        title: 'Destructive tools need a second factor',
        role: 'denies',
      },
    })
  })

  it('says what is wrong with an id', async () => {
    const none = await gateway('explain', randomUUID())
    expect(none.code).to.equal(2)
    expect(none.stderr).to.include('No row has an id or request id that begins with')
    const many = await gateway('explain', first.call.id.slice(0, 8))
    expect(many.code).to.equal(2)
    expect(many.stderr).to.include(first.call.id).and.include(second.call.id)
    const nonsense = await gateway('show', 'zz')
    expect([nonsense.code, nonsense.stderr.includes('is no id')]).to.deep.equal([2, true])
  })
})
