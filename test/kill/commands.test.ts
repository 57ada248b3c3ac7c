import { randomBytes } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { expect } from 'chai'
import { run } from '../../src/cli/run.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

interface Result {
  readonly code: number
  readonly out: string
  readonly err: string
}

describe('gateway kill and unkill', () => {
  let database: TestDatabase
  let folder: string
  let upstream: ScriptedUpstream

  before(async () => {
    database = await createTestDatabase()
    upstream = await startScriptedUpstream({ tools: [{ name: 'echo', inputSchema: { type: 'object' } }] })
    folder = await mkdtemp(join(tmpdir(), 'gateway-kill-'))
    await writeFile(join(folder, 'url'), database.url)
    await writeFile(join(folder, 'migrate-url'), database.migrateUrl)
    await writeFile(join(folder, 'secret'), randomBytes(32).toString('hex'))
    const upstreams = (
      more: string,
    ): string => `database: { url_file: ./url, migrate_url_file: ./migrate-url }
secret_file: ./secret
upstreams:
  support: { url: ${upstream.url} }
${more}`
    await writeFile(join(folder, 'gateway.yaml'), upstreams(''))
    await writeFile(join(folder, 'down.yaml'), upstreams('  down: { url: http://127.0.0.1:9/mcp }\n'))
  })
  afterEach(() => database.ownerPool.query('truncate kill_switches, changes, gateway_processes'))
  after(async () => {
    await upstream?.close()
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  async function gateway(...args: string[]): Promise<Result> {
    const texts = { out: '', err: '' }
    const into = (name: 'out' | 'err') =>
      new Writable({
        write(chunk, _encoding, done) {
          texts[name] += String(chunk)
          done()
        },
      })
    const streams = { stdout: into('out'), stderr: into('err') }
    const config = args.includes('--config') ? [] : ['--config', join(folder, 'gateway.yaml')]
    const code = await run([...args, ...config], streams)
    return { code, ...texts }
  }
  const listed = async (...args: string[]) =>
    JSON.parse((await gateway('kill', 'list', '--json', ...args)).out)

  it('kill, list, unkill: what was done stays listed, with who and why', async () => {
    const killed = await gateway('kill', 'tool', 'echo', '--reason', 'incident 4711', '--for', '1h', '--yes')
    expect(killed.code, killed.err).to.equal(0)
    expect(killed.out).to.match(/^killed tool echo until 20\d\d-/)
    expect(killed.err)
      .to.match(/Next: gateway unkill tool echo/)
      .and.not.match(/check the spelling/)
    const [entry] = await listed()
    expect(entry).to.include({
      kind: 'tool',
      name: 'echo',
      server: null,
      action: 'kill',
      reason: 'incident 4711',
    })
    expect(entry.actor).to.match(/.@./)
    expect(Date.parse(entry.until) - Date.parse(entry.at)).to.equal(3_600_000)
    expect((await gateway('kill', 'list')).out).to.contain('incident 4711')
    const back = await gateway('unkill', 'tool', 'echo', '--yes', '--reason', 'fixed')
    expect({ code: back.code, out: back.out }).to.deep.equal({ code: 0, out: 'unkilled tool echo\n' })
    expect(await listed()).to.deep.equal([])
    expect((await listed('--all')).map((one: any) => [one.action, one.reason])).to.deep.equal([
      ['unkill', 'fixed'],
      ['kill', 'incident 4711'],
    ])
    expect((await gateway('kill', 'list')).err).to.match(/Nothing is stopped/)
  })

  it('--json is for programs, and names the gateways that have and have not applied it', async () => {
    await database.pool.query(
      `insert into gateway_processes (id, name, applied_seq, seen_at)
       values ('a', 'host-a:1', 0, now() + interval '1 hour'), ('b', 'host-b:2', 1000000, now() + interval '1 hour')`,
    )
    const { code, out, err } = await gateway(
      ...['kill', 'tool', 'echo', '--server', 'support', '--reason', 'x', '--yes', '--json'],
    )
    expect({ code, err }).to.deep.equal({ code: 0, err: '' })
    const told = JSON.parse(out)
    expect(told).to.deep.include({
      kind: 'tool',
      name: 'echo',
      server: 'support',
      action: 'kill',
      until: null,
    })
    expect(told).to.deep.include({ known: true, applied: ['host-b:2'], pending: ['host-a:1'] })
    const plain = await gateway('unkill', 'tool', 'echo', '--server', 'support', '--yes')
    expect(plain.err)
      .to.match(/In force on host-b:2/)
      .and.match(/Not confirmed yet by host-a:1/)
  })

  it('takes names it does not know, and says so clearly', async () => {
    const tool = await gateway('kill', 'tool', 'ehco', '--reason', 'x', '--yes')
    expect(tool.code).to.equal(0)
    expect(tool.err).to.match(/No server offers a tool of that name now: check the spelling/)
    const server = await gateway('kill', 'server', 'suport', '--reason', 'x', '--yes')
    expect(server.code).to.equal(0)
    expect(server.err).to.match(/No server of that name is configured here: check the spelling/)
    expect(await listed()).to.have.lengthOf(2)
    const elsewhere = await gateway(
      'kill',
      'tool',
      'echo',
      '--server',
      'x',
      '--reason',
      'x',
      '--yes',
      '--json',
    )
    expect(JSON.parse(elsewhere.out)).to.include({ known: false })
    const asked = ['kill', 'tool', 'ehco', '--reason', 'x', '--yes', '--config', join(folder, 'down.yaml')]
    const unsure = await gateway(...asked)
    expect(unsure.code).to.equal(0)
    expect(unsure.err).to.match(/could not be found out/)
  })

  it('unkill tells what is still stopped, and what was not', async () => {
    await gateway('kill', 'tool', 'echo', '--reason', 'x', '--yes')
    await gateway('kill', 'tool', 'echo', '--server', 'support', '--reason', 'x', '--yes')
    const one = await gateway('unkill', 'tool', 'echo', '--yes')
    expect(one.err).to.match(/Still stopped: tool echo on support\./)
    const again = await gateway('unkill', 'tool', 'echo', '--yes', '--json')
    expect(again.code).to.equal(0)
    expect(JSON.parse(again.out)).to.deep.include({
      was_killed: false,
      still_killed: [{ kind: 'tool', name: 'echo', server: 'support' }],
    })
    expect((await gateway('unkill', 'server', 'support', '--yes')).err).to.match(
      /server support is not stopped/,
    )
  })

  it('refuses wrong use with exit code 2 and changes nothing', async () => {
    const wrong: [string[], RegExp][] = [
      [['kill', 'tool', 'echo', '--yes'], /reason/],
      [['kill', 'tool', 'echo', '--reason', ' ', '--yes'], /--reason/],
      [['kill', 'tool', 'echo', '--reason', 'x'], /--yes/],
      [['kill', 'tool', '--reason', 'x', '--yes'], /name|positional|arguments/i],
      [['kill', 'tool', 'echo', '--reason', 'x', '--for', 'soon', '--yes'], /duration/],
      [['kill', 'tool', 'echo', '--reason', 'x', '--for', '0s', '--yes'], /--for/],
      [['kill', 'server', 'support', '--server', 'x', '--reason', 'x', '--yes'], /server/],
      [['kill'], /tool or server/],
      [['unkill', 'server', 'support'], /--yes/],
      [['kill', 'prompt', 'x', '--reason', 'x', '--yes'], /prompt|tool or server/i],
    ]
    for (const [args, problem] of wrong) {
      const { code, out, err } = await gateway(...args)
      expect(code, args.join(' ')).to.equal(2)
      expect(out).to.equal('')
      expect(err).to.match(problem)
    }
    expect(await listed('--all')).to.deep.equal([])
  })

  it('shows hostile names escaped', async () => {
    const name = 'x\u001b[31m\u202ey'
    const { out, err } = await gateway('kill', 'tool', name, '--reason', 'a\u001b[2Jb', '--yes')
    const list = await gateway('kill', 'list')
    for (const text of [out, err, list.out]) {
      expect(text).to.not.contain('\u001b').and.not.contain('\u202e')
    }
    expect((await listed())[0]).to.include({ name })
  })
})
