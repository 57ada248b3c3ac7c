import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { createKey } from '../../src/auth/key-store.ts'
import type { CliResult } from '../support/cli.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import { SECRET } from '../support/gateway.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { until } from '../support/until.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const POLICY = 'package gateway.authz\n\nallow contains "role" if count(input.principal.roles) > 0\n'

describe('gateway serve', function () {
  this.timeout(60_000)
  let database: TestDatabase
  let folder: string
  const children: ChildProcess[] = []

  before(async () => {
    database = await createTestDatabase()
  })
  after(async () => {
    await database.drop()
  })
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-serve-'))
    mkdirSync(join(folder, 'policies'))
    writeFileSync(join(folder, 'policies', 'all.rego'), POLICY)
    writeFileSync(join(folder, 'url'), database.url)
    writeFileSync(join(folder, 'migrate-url'), database.migrateUrl)
    writeFileSync(join(folder, 'secret'), SECRET)
    await database.ownerPool.query('truncate api_keys')
    configure()
  })
  afterEach(() => {
    for (const child of children.splice(0)) child.kill('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  })

  function configure(settings: Readonly<Record<string, unknown>> = {}): void {
    const document = {
      listen: '127.0.0.1:0',
      admin: { listen: '127.0.0.1:0' },
      audit: { spool_dir: './spool' },
      database: { url_file: './url', migrate_url_file: './migrate-url' },
      secret_file: './secret',
      upstreams: { desk: { url: 'http://127.0.0.1:9/mcp' } },
      log: { level: 'error' },
      ...settings,
    }
    writeFileSync(join(folder, 'gateway.yaml'), stringify(document))
  }

  async function makeKey(): Promise<void> {
    const lists = { roles: ['developer'], teams: [], scopes: [] }
    const settings = {
      name: 'ada',
      kind: 'user',
      tenant: null,
      claims: {},
      expiresAt: null,
      ...lists,
    } as const
    await createKey(database.pool, settings, Date.now())
  }

  /** For what ends by itself. */
  async function fails(...args: string[]): Promise<CliResult> {
    return await withEnvironment({ DATABASE_URL: undefined }, () =>
      runCli(['serve', ...args, '--config', join(folder, 'gateway.yaml')]),
    )
  }

  /** For what runs until a signal comes: a process of its own, and its first line. */
  async function start(...args: string[]): Promise<{ child: ChildProcess; first: string }> {
    const program = join(ROOT, 'src/cli/gateway.ts')
    const all = ['--import=tsx/esm', program, 'serve', '--config', join(folder, 'gateway.yaml'), ...args]
    const { DATABASE_URL: _, ...env } = process.env
    const child = spawn(process.execPath, all, { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'pipe'] })
    children.push(child)
    child.stderr.resume()
    const [first] = (await once(createInterface({ input: child.stdout }), 'line')) as [string]
    return { child, first }
  }

  async function stop(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
    const ended = once(child, 'exit')
    child.kill(signal)
    const [code] = (await ended) as [number | null]
    return code
  }

  it('says where it listens, answers there, and ends with 0 on a signal', async () => {
    await makeKey()
    const { child, first } = await start('--json')
    const told = JSON.parse(first) as {
      event: string
      front: string
      admin: string
      mounts: string[]
      dev: boolean
    }
    expect(told).to.include({ event: 'listening', dev: false })
    expect(told.mounts).to.deep.equal([`${told.front}/mcp/desk`, `${told.front}/mcp`])
    expect((await fetch(`${told.admin}/livez`)).status).to.equal(200)
    expect((await fetch(told.mounts[0] ?? '', { method: 'POST' })).status).to.equal(401)
    expect(await stop(child, 'SIGTERM')).to.equal(0)
  })

  it('starts without a key under --dev, and says what it has opened', async () => {
    const { child, first } = await start('--dev', '--json')
    expect(JSON.parse(first)).to.include({ dev: true })
    expect(await stop(child, 'SIGINT')).to.equal(0)
  })

  it('does not start without any key', async () => {
    const refused = await fails('--json')
    expect(refused).to.include({ code: 2, out: '' })
    expect(errorOf(refused)).to.include({ code: 'config' })
    expect(errorOf(refused).message).to.include('gateway keys create')
  })

  it('does not start without a configuration, or with a wrong one', async () => {
    configure({ nonsense: 1 })
    expect(errorOf(await fails('--json'))).to.include({ code: 'config' })
    rmSync(join(folder, 'gateway.yaml'))
    const missing = await fails()
    expect(missing.code).to.equal(2)
    expect(missing.err).to.include('cannot read').and.include('gateway.yaml')
  })

  it('does not start with policies that do not build, and shows the place', async () => {
    await makeKey()
    writeFileSync(
      join(folder, 'policies', 'all.rego'),
      'package gateway.authz\n\nallow contains "x" if input.usr\n',
    )
    const refused = await fails()
    expect(refused).to.include({ code: 2, out: '' })
    expect(refused.err).to.include('all.rego:3:')
    expect(errorOf(await fails('--json'))).to.include({ code: 'policy' })
    mkdirSync(join(folder, 'empty'))
    expect((await fails('--policies', join(folder, 'empty'))).err).to.include('no .rego file')
  })

  it('does not start on an address that is taken, and closes what it has opened', async () => {
    await makeKey()
    const server = createServer().listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      configure({ listen: `127.0.0.1:${(server.address() as AddressInfo).port}` })
      const refused = await fails('--json')
      expect(refused.code).to.equal(2)
      expect(errorOf(refused)).to.include({ code: 'unreachable' })
      expect(errorOf(refused).message).to.include('another program uses it')
      await until('all connections to be closed', async () => {
        const { rows } = await database.ownerPool.query(
          `select 1 from pg_stat_activity
           where datname = current_database() and application_name like 'mcp-policy-gateway/%'`,
        )
        return rows.length === 0
      })
    } finally {
      server.close()
    }
  })
})
