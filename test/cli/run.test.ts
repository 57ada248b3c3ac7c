import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'chai'
import { run } from '../../src/cli/run.ts'

const PROGRAM = fileURLToPath(new URL('../../src/cli/gateway.ts', import.meta.url))
const ROOT = fileURLToPath(new URL('../..', import.meta.url))

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

async function gateway(...args: string[]): Promise<Ran> {
  const streams = { stdout: new PassThrough(), stderr: new PassThrough() }
  const code = await run(args, streams)
  return { code, stdout: String(streams.stdout.read() ?? ''), stderr: String(streams.stderr.read() ?? '') }
}

describe('the command line', function () {
  this.timeout(30_000)
  let folder: string

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-cli-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const write = (text: string): string => {
    writeFileSync(join(folder, 'gateway.yaml'), text)
    return join(folder, 'gateway.yaml')
  }
  const GOOD = `policies: ${ROOT}/policies\nupstreams: { a: { url: "http://127.0.0.1:1/mcp" } }\n`

  it('refuses what it does not know with exit code 2, and says what to do', async () => {
    for (const args of [
      [],
      ['nonsense'],
      ['config'],
      ['config', 'nonsense'],
      ['serve', '--nonsense'],
      ['keys', 'create', '--config'],
    ]) {
      const { code, stderr } = await gateway(...args)
      expect(code, args.join(' ')).to.equal(2)
      expect(stderr).to.match(/^error: .+\n(.*\n)*See: gateway --help\n$/)
    }
  })

  it('proposes the command that was meant', async () => {
    expect((await gateway('serv')).stderr).to.include('serve')
  })

  it('tells a wrong use as one JSON line under --json', async () => {
    const { code, stderr } = await gateway('nonsense', '--json')
    expect(code).to.equal(2)
    expect(JSON.parse(stderr)).to.include({ code: 'usage' })
  })

  it('has help with examples for every command, and hides what is not for people', async () => {
    const program = (...args: string[]) =>
      promisify(execFile)(process.execPath, ['--import=tsx/esm', PROGRAM, ...args], { cwd: ROOT })
    const { stdout } = await program('-h')
    for (const command of ['serve', 'keys', 'audit', 'policy', 'config', 'db'])
      expect(stdout).to.include(`gateway ${command}`)
    expect(stdout).to.include('Examples:').and.not.include('demo-keys')
    expect((await program('config', 'show', '--help')).stdout).to.include('gateway config show --json')
    expect((await program('--version')).stdout).to.match(/^\d+\.\d+\.\d+\n$/)
  })

  describe('config check', () => {
    it('is content with a good file', async () => {
      const file = write(GOOD)
      expect(await gateway('config', 'check', '--config', file)).to.deep.include({ code: 0, stderr: '' })
      const { stdout } = await gateway('config', 'check', '--config', file, '--json')
      expect(JSON.parse(stdout)).to.deep.include({ ok: true, file, settings: 2 })
    })

    it('exits with 1 and tells every place', async () => {
      const file = write('listen: nonsense\nnothing: 1\nupstreams: { a: { url: "http://x" } }\n')
      const { code, stderr } = await gateway('config', 'check', '--config', file)
      expect(code).to.equal(1)
      expect(stderr).to.include('gateway.yaml:1:9').and.include('gateway.yaml:2:1')
    })

    it('looks for the policies folder', async () => {
      const file = write('upstreams: { a: { url: "http://x" } }\n')
      const { code, stderr } = await gateway('config', 'check', '--config', file)
      expect(code).to.equal(1)
      expect(stderr).to.include('there is no folder')
    })

    it('exits with 2 when there is no file', async () => {
      expect((await gateway('config', 'check', '--config', join(folder, 'none.yaml'))).code).to.equal(2)
    })
  })

  it('shows the configuration with origins', async () => {
    const file = write(`log: { level: warn }\n${GOOD}`)
    const { stdout } = await gateway('config', 'show', '--config', file)
    expect(stdout).to.match(/^log\.level\twarn\t.*gateway\.yaml:1:8$/m)
    expect(stdout).to.match(/^limits\.max_in_flight\t1000\tdefault$/m)
    const { stdout: json } = await gateway('config', 'show', '--config', file, '--json')
    expect(JSON.parse(json)).to.be.an('array').with.length.greaterThan(20)
  })

  describe('policy check', () => {
    it('is content with the shipped policies', async () => {
      expect((await gateway('policy', 'check', join(ROOT, 'policies'))).code).to.equal(0)
    })

    it('exits with 1 and shows place, line and way out', async () => {
      writeFileSync(
        join(folder, 'x.rego'),
        'package gateway.authz\n\nallow contains "x" if input.principal.rols\n',
      )
      const { code, stdout, stderr } = await gateway('policy', 'check', folder)
      expect(code).to.equal(1)
      expect(stdout).to.include('x.rego:3').and.include('input.principal.rols')
      expect(stderr).to.match(/^error: 1 error in /m)
      const { stdout: json } = await gateway('policy', 'check', folder, '--json')
      expect(JSON.parse(json)[0]).to.include({ file: 'x.rego', row: 3 })
    })
  })

  it('names a database that cannot be reached, without its password', async () => {
    const file = write(`secret: \${S:-kq8m2Xw0vQe7Tz4RbN1yLs6Ud9Jh3Gf5PaCoKiMeWxYz}\n${GOOD}`)
    const previous = process.env['DATABASE_URL']
    process.env['DATABASE_URL'] = 'postgres://nobody:hunter2@127.0.0.1:1/none'
    try {
      const { code, stderr } = await gateway('db', 'status', '--config', file)
      expect(code).to.equal(2)
      expect(stderr).to.include('cannot be used').and.not.include('hunter2')
    } finally {
      if (previous === undefined) delete process.env['DATABASE_URL']
      else process.env['DATABASE_URL'] = previous
    }
  })
})
