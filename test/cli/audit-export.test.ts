import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { readdir, readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expect } from 'chai'
import { ANNA, allowed, denied, toolsCall } from '../audit/fixtures.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import type { AuditPlace } from './audit-fixture.ts'
import { createAuditPlace } from './audit-fixture.ts'

const ROWS = 450

describe('gateway audit export', function () {
  this.timeout(30_000)
  let place: AuditPlace
  const at = Date.now() - 3_600_000
  const events = Array.from({ length: ROWS }, (_, index) => {
    const changes = { startedMs: at + index * 10, message: toolsCall('{"n":9007199254740993}') }
    return index % 3 === 0
      ? denied(changes)
      : allowed({ ...changes, principal: { ...ANNA, id: `p${index}` } })
  })
  const ids = events.map((event) => event.call.id)
  before(async () => {
    place = await createAuditPlace()
    await place.store(...events)
  })
  after(() => place.remove())

  const lines = (text: string) => text.trimEnd().split('\n')
  const idsIn = (text: string) => lines(text).map((line) => JSON.parse(line).id)
  const parts = async () => (await readdir(place.home)).filter((name) => name.endsWith('.part'))

  it('writes whole rows, oldest first, over many pages, each once', async () => {
    const { code, out, err } = await place.run('export')
    expect(code, err).to.equal(0)
    expect(idsIn(out)).to.deep.equal(ids)
    expect(err).to.include('450 rows.')
    const [first = ''] = lines(out)
    expect(first).to.match(/"n": ?9007199254740993/)
    expect(JSON.parse(first)).to.have.nested.property('decision.authz.trace.v', 1)
  })

  it('takes the filters that tail takes', async () => {
    const count = async (...args: string[]) => idsIn((await place.run('export', ...args)).out).length
    expect(await count('--outcome', 'denied')).to.equal(150)
    expect(await count('--principal', 'p1')).to.equal(1)
    const middle = new Date(at + 2000).toISOString()
    expect(await count('--since', middle)).to.equal(250)
    expect(await count('--until', middle)).to.equal(200)
    expect((await place.run('export', '--server', 'nowhere')).out).to.equal('')
  })

  it('goes on behind a row', async () => {
    const { out } = await place.run('export', '--after', ids[399] ?? '')
    expect(idsIn(out)).to.deep.equal(ids.slice(400))
    expect((await place.run('export', '--format', 'csv', '--after', ids[448] ?? '')).out).to.not.include(
      'ts,id,',
    )
  })

  it('writes CSV and OCSF', async () => {
    const { out: csv } = await place.run('export', '--format', 'csv')
    expect(csv.trimEnd().split('\r\n')).to.have.lengthOf(ROWS + 1)
    expect(csv).to.match(/^ts,id,request_id,outcome,/)
    const { out: ocsf } = await place.run('export', '--format', 'ocsf', '--outcome', 'denied')
    expect(lines(ocsf).map((line) => JSON.parse(line).class_uid)).to.deep.equal(Array(150).fill(6003))
  })

  it('gives a file its name when it is complete, packed by its name, for its owner alone', async () => {
    const file = join(place.home, 'all.ndjson.gz')
    const { code, out } = await place.run('export', '-o', file, '--json')
    expect(code).to.equal(0)
    expect(JSON.parse(out)).to.deep.equal({ file, rows: ROWS })
    expect(idsIn(gunzipSync(await readFile(file)).toString())).to.deep.equal(ids)
    expect((await stat(file)).mode & 0o777).to.equal(0o600)
    expect(await parts()).to.deep.equal([])
  })

  it('does not write over a file unless told to', async () => {
    const file = join(place.home, 'there.csv')
    await writeFile(file, 'mine')
    const refused = await place.run('export', '-o', file, '--json')
    expect([refused.code, errorOf(refused).code]).to.deep.equal([2, 'exists'])
    expect(await readFile(file, 'utf8')).to.equal('mine')
    expect((await place.run('export', '-o', file, '--force')).code).to.equal(0)
    expect(idsIn(await readFile(file, 'utf8'))).to.have.lengthOf(ROWS)
    const nowhere = await place.run('export', '-o', join(place.home, 'no', 'x'), '--json')
    expect([nowhere.code, errorOf(nowhere).code]).to.deep.equal([2, 'usage'])
  })

  it('keeps what was written when it cannot go on, and tells how to get the rest', async () => {
    const file = join(place.home, 'cut.ndjson')
    // The server ends the session on the second page.
    const { ownerPool } = place.database
    await ownerPool.query(`create function refuse() returns boolean language plpgsql as
      $$ begin raise exception 'broken' using errcode = '57P01'; end $$`)
    await ownerPool.query('alter table audit_events enable row level security')
    await ownerPool.query(
      `create policy broken on audit_events using (case when ts > '${new Date(at + 3000).toISOString()}' then refuse() else true end)`,
    )
    try {
      const { code, err } = await place.run('export', '-o', file)
      expect(code).to.equal(2)
      expect(err).to.include('The server cannot serve now').and.not.include('fault of the gateway')
      const [part = ''] = await parts()
      const kept = await readFile(join(place.home, part), 'utf8')
      expect(err).to.match(/200 rows were exported and are in .*\.part\. The rest:/)
      expect(idsIn(kept)).to.deep.equal(ids.slice(0, 200))
      expect(err).to.match(new RegExp(`gateway audit export .*--until \\S+ --after ${ids[199]}`))
      expect(await readdir(place.home)).to.not.include('cut.ndjson')
    } finally {
      await ownerPool.query('alter table audit_events disable row level security')
      await ownerPool.query('drop policy broken on audit_events')
    }
  })

  it('refuses what it cannot mean', async () => {
    for (const [args, code] of [
      [['--format', 'xml'], 'usage'],
      [['--since', 'whenever'], 'usage'],
      [['--until', '2026-02-30'], 'usage'],
      [['--since', '1h', '--until', '2h'], 'usage'],
      [['--after', randomUUID()], 'not_found'],
      [['--after', 'zz'], 'usage'],
    ] as const) {
      const result = await place.run('export', ...args, '--json')
      expect([result.code, errorOf(result).code, result.out], args.join(' ')).to.deep.equal([2, code, ''])
    }
  })

  it('says when the database is down', async () => {
    const nowhere = 'postgres://x:y@127.0.0.1:9/z'
    const environment = { ...place.environment, AUDIT_PLACE_URL: nowhere, AUDIT_PLACE_MIGRATE_URL: nowhere }
    for (const command of ['export', 'stats', 'tail']) {
      const result = await withEnvironment(environment, () =>
        runCli(['audit', command, '--json', '--config', place.configFile]),
      )
      expect([result.code, errorOf(result).code, result.out]).to.deep.equal([2, 'unreachable', ''])
    }
  })

  function start() {
    const program = new URL('../../src/cli/gateway.ts', import.meta.url).pathname
    return spawn(
      process.execPath,
      ['--import', 'tsx/esm', program, 'audit', 'export', '--config', place.configFile],
      { env: { ...process.env, ...place.environment }, stdio: ['ignore', 'pipe', 'pipe'] },
    )
  }

  it('ends after a whole row when it is interrupted, and tells how to get the rest', async () => {
    const child = start()
    const text = { out: '', err: '' }
    child.stderr.on('data', (chunk) => {
      text.err += String(chunk)
    })
    // Nobody reads yet: the program stands in its first page, which is larger than the pipe.
    await once(child.stdout, 'readable')
    child.kill('SIGINT')
    child.stdout.on('data', (chunk) => {
      text.out += String(chunk)
    })
    const [code] = await once(child, 'close')
    const got = idsIn(text.out)
    expect(code, text.err).to.equal(130)
    expect(got.length).to.be.within(1, ROWS - 1)
    expect(got).to.deep.equal(ids.slice(0, got.length))
    expect(text.err).to.include(`--after ${got.at(-1)}`)
  })

  it('ends in peace when the reader has seen enough', async () => {
    const child = start()
    let err = ''
    child.stderr.on('data', (chunk) => (err += String(chunk)))
    await once(child.stdout, 'data')
    child.stdout.destroy()
    const [code] = await once(child, 'exit')
    expect([code, err]).to.deep.equal([0, ''])
  })
})
