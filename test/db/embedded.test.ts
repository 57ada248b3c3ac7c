import type { ChildProcess } from 'node:child_process'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { expect } from 'chai'
import pg from 'pg'
import type { ConnectionParts } from '../../src/db/connection.ts'
import { toConnectionUrl } from '../../src/db/connection.ts'
import { findBinaryPackage } from '../../src/db/embedded/binaries.ts'
import { defaultDataHome } from '../../src/db/embedded/home.ts'
import type { EmbeddedOptions, EmbeddedPostgres } from '../../src/db/embedded.ts'
import { UsageError } from '../../src/errors.ts'
import { makeHome, startTestServer } from '../support/postgres.ts'

const USER_SCRIPT = fileURLToPath(new URL('../support/embedded-user.ts', import.meta.url))

describe('embedded PostgreSQL', function () {
  this.timeout(60_000)
  let prepared: string
  let homes: string[]
  let running: EmbeddedPostgres[]
  let children: ChildProcess[]

  before(async () => {
    prepared = await makeHome()
    await (await startTestServer({ dataHome: prepared })).stop()
  })

  after(async () => {
    await rm(dirname(prepared), { recursive: true, force: true })
  })

  beforeEach(() => {
    homes = []
    running = []
    children = []
  })

  afterEach(async () => {
    await Promise.all(children.map(kill))
    await Promise.all(running.map((server) => server.stop()))
    for (const home of homes) {
      await waitUntil(async () => (await serverPid(home)) === null)
      await rm(dirname(home), { recursive: true, force: true })
    }
  })

  async function newHome(): Promise<string> {
    const home = await makeHome()
    homes.push(home)
    return home
  }

  /** One that holds a database already, made by an earlier run: copying is quicker than making. */
  async function usedHome(): Promise<string> {
    const home = await newHome()
    await promisify(execFile)('cp', ['-a', prepared, home])
    return home
  }

  async function start(dataHome: string, options: Partial<EmbeddedOptions> = {}): Promise<EmbeddedPostgres> {
    const server = await startTestServer({ dataHome, ...options })
    running.push(server)
    return server
  }

  async function failure(options: EmbeddedOptions): Promise<UsageError> {
    const outcome = await startTestServer(options).then(
      (server) => server.stop().then(() => new Error('it started')),
      (error: unknown) => error,
    )
    expect(outcome).to.be.instanceOf(UsageError)
    expect((outcome as UsageError).code).to.equal('embedded_database')
    return outcome as UsageError
  }

  interface Child {
    readonly process: ChildProcess
    readonly lines: AsyncIterator<string>
    readonly ready: Promise<{ isAdopted: boolean; cluster: string; steps: string[] }>
  }

  function startChild(home: string): Child {
    const child = spawn(process.execPath, ['--import=tsx/esm', USER_SCRIPT, home], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    children.push(child)
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]()
    return { process: child, lines, ready: lines.next().then((line) => JSON.parse(String(line.value))) }
  }

  it('makes a database with an owner and a runtime role that is no superuser', async () => {
    const server = await start(await newHome())
    expect(server.isAdopted).to.equal(false)
    const [owner] = await query(server.owner, 'select current_user as role, current_database() as name')
    expect(owner).to.deep.equal({ role: 'gateway_owner', name: 'gateway' })
    const [runtime] = await query(
      server.runtime,
      'select current_user as role, rolsuper or rolcreatedb or rolcreaterole or rolbypassrls as powerful from pg_roles where rolname = current_user',
    )
    expect(runtime).to.deep.equal({ role: 'gateway', powerful: false })
    expect(await rejection(query(server.runtime, 'create table public.mine ()'))).to.match(
      /permission denied/,
    )
    expect(await rejection(query({ ...server.runtime, password: 'x' }, 'select'))).to.match(/password/)
  })

  it('listens on no network, closes its folders to others and checksums its pages', async () => {
    const home = await newHome()
    const server = await start(home)
    const [settings] = await query(
      server.owner,
      `select current_setting('listen_addresses') as listen, current_setting('data_checksums') as checksums,
        current_setting('password_encryption') as passwords`,
    )
    expect(settings).to.deep.equal({ listen: '', checksums: 'on', passwords: 'scram-sha-256' })
    const mode = async (path: string) => ((await stat(path)).mode & 0o777).toString(8)
    expect(await mode(join(home, 'credentials.json'))).to.equal('600')
    expect(await mode(join(home, 'data'))).to.equal('700')
    expect(await mode(server.owner.host)).to.equal('700')
    expect(await mode(join(home, 'server.log'))).to.equal('600')
  })

  it('keeps what statements say out of its log', async () => {
    const home = await usedHome()
    const server = await start(home)
    await rejection(query(server.owner, `select 'hunter2-in-a-statement'::int`))
    await server.stop()
    expect(await readFile(join(home, 'server.log'), 'utf8')).to.not.include('hunter2')
  })

  it('is reached by a URL as well', async () => {
    const server = await start(await usedHome())
    const client = new pg.Client({ connectionString: toConnectionUrl(server.runtime) })
    await client.connect()
    const { rows } = await client.query('select current_user as role')
    await client.end()
    expect(rows).to.deep.equal([{ role: 'gateway' }])
  })

  it('is adopted by a second user and ends with the last one, whoever started it', async () => {
    const home = await usedHome()
    const first = await start(home)
    const second = await start(home)
    expect(second.isAdopted).to.equal(true)
    await first.stop()
    expect(await query(second.runtime, 'select 1 as one')).to.deep.equal([{ one: 1 }])
    const third = await start(home)
    await second.stop()
    expect(await query(third.runtime, 'select 1 as one')).to.deep.equal([{ one: 1 }])
    await third.stop()
    expect(await serverPid(home)).to.equal(null)
    expect(await rejection(query(first.runtime, 'select'))).to.match(/ENOENT/)
  })

  it('is made once when two processes start at once, and survives a kill -9 of either', async () => {
    const home = await newHome()
    const both = [startChild(home), startChild(home)]
    const told = await Promise.all(both.map((child) => child.ready))
    expect(told.map((one) => one.isAdopted).sort()).to.deep.equal([false, true])
    expect(told.flatMap((one) => one.steps).filter((step) => step.startsWith('making'))).to.have.length(1)
    expect(told[0]?.cluster).to.equal(told[1]?.cluster)
    const starter = told[0]?.isAdopted === false ? both[0]! : both[1]!
    const adopter = starter === both[0] ? both[1]! : both[0]!
    await kill(starter.process)
    const mine = await start(home)
    expect(mine.isAdopted).to.equal(true)
    await mine.stop()
    expect(await serverPid(home)).to.not.equal(null)
    adopter.process.stdin?.end()
    expect((await adopter.lines.next()).value).to.equal('{"stopped":true}')
    await waitUntil(async () => (await serverPid(home)) === null)
  })

  it('ends by itself after a kill -9 of its only user, and comes back with its data', async () => {
    const home = await usedHome()
    const child = startChild(home)
    await child.ready
    const visitor = await start(home)
    await query(visitor.owner, 'create table kept as select 42 as answer')
    await visitor.stop()
    const pid = await serverPid(home)
    expect(pid).to.not.equal(null)
    await kill(child.process)
    const again = await start(home)
    expect(again.isAdopted).to.equal(false)
    expect(await serverPid(home)).to.not.equal(pid)
    expect(await query(again.owner, 'select answer from kept')).to.deep.equal([{ answer: 42 }])
  })

  it('starts over a lock file whose pid now belongs to another process', async () => {
    const home = await usedHome()
    const server = await start(home)
    const lockFile = join(home, 'data', 'postmaster.pid')
    const text = await readFile(lockFile, 'utf8')
    await server.stop()
    await writeFile(lockFile, text.replace(/^\d+/, String(process.pid)), { mode: 0o644 })
    const again = await start(home)
    expect(again.isAdopted).to.equal(false)
    expect(await query(again.owner, 'select 1 as one')).to.deep.equal([{ one: 1 }])
  })

  it('recovers when everything was killed at once, leftovers of a half-made database included', async () => {
    const home = await usedHome()
    const child = startChild(home)
    await child.ready
    const server = (await serverPid(home)) as number
    const guard = await guardPid(home)
    for (const pid of [guard, child.process.pid as number, server]) process.kill(pid, 'SIGKILL')
    await mkdir(join(home, 'data.new-0123456789ab'))
    await writeFile(join(home, 'data.new-0123456789ab', 'PG_VERSION'), '15')
    const again = await start(home)
    expect(again.isAdopted).to.equal(false)
    expect(await query(again.owner, 'select 1 as one')).to.deep.equal([{ one: 1 }])
    expect((await readdir(home)).filter((name) => name.startsWith('data'))).to.deep.equal(['data'])
  })

  it('ends a server whose guard was killed and starts it again under a guard', async () => {
    const home = await usedHome()
    const first = await start(home)
    const orphan = await serverPid(home)
    const guard = await guardPid(home)
    // The watching child of the guard first: the guard itself would end it with the server.
    for (const pid of [...(await childrenOf(guard)).filter((pid) => pid !== orphan), guard]) {
      process.kill(pid, 'SIGKILL')
    }
    expect(await query(first.owner, 'select 1 as one')).to.deep.equal([{ one: 1 }])
    const second = await start(home)
    expect(second.isAdopted).to.equal(false)
    expect(await serverPid(home)).to.not.equal(orphan)
    await second.stop()
    expect(await serverPid(home)).to.equal(null)
  })

  it('refuses data of another major version and leaves it untouched', async () => {
    const home = await usedHome()
    await (await start(home)).stop()
    await writeFile(join(home, 'data', 'PG_VERSION'), '13\n')
    const { message } = await failure({ dataHome: home })
    expect(message).to.match(/made by PostgreSQL 13 and opens with no other/)
    expect(message).to.match(/install PostgreSQL 13 .*npm install.* DATABASE_URL .* move .* away/)
    expect(await readFile(join(home, 'data', 'PG_VERSION'), 'utf8')).to.equal('13\n')
  })

  it('names three ways out when there are no programs', async () => {
    const home = await newHome()
    const { message } = await failure({ dataHome: home, system: false, path: '', packageDir: null })
    expect(message).to.match(/no usable PostgreSQL was found/)
    expect(message).to.match(/package manager; .*npm install.* DATABASE_URL/)
    const named = await failure({ dataHome: home, binDir: '/nonexistent/bin' })
    expect(named.message).to.include('/nonexistent/bin')
  })

  it('does not make a new database when the passwords of the old one are missing', async () => {
    const home = await usedHome()
    await (await start(home)).stop()
    await rm(join(home, 'credentials.json'))
    const { message } = await failure({ dataHome: home })
    expect(message).to.match(/credentials\.json is missing/)
  })

  it('says so when the passwords are those of another database', async () => {
    const home = await usedHome()
    const server = await start(home)
    const other = { owner: 'A'.repeat(43), runtime: 'B'.repeat(43) }
    await writeFile(join(home, 'credentials.json'), JSON.stringify(other))
    const { message } = await failure({ dataHome: home })
    expect(message).to.match(/refuses the passwords/)
    expect(message).to.not.include('AAAA')
    expect(await query(server.owner, 'select 1 as one')).to.deep.equal([{ one: 1 }])
  })

  it('puts its socket into a short folder when the path is too long for one, and works with odd paths', async () => {
    const base = await newHome()
    const home = join(dirname(base), `a "quoted", long - ${'x'.repeat(90)}`, 'pg')
    const server = await start(home)
    expect(server.owner.host).to.match(/^\/tmp\/mcp-policy-gateway-[0-9a-f]{12}$/)
    expect(await query(server.owner, 'select 1 as one')).to.deep.equal([{ one: 1 }])
    expect((await start(home)).isAdopted).to.equal(true)
    await Promise.all(running.map((one) => one.stop()))
    await chmod(server.owner.host, 0o755)
    const { message } = await failure({ dataHome: home })
    expect(message).to.match(/not a folder of mode 0700/)
    await rm(server.owner.host, { recursive: true })
  })

  it('runs from a private copy of the npm package when its libraries are not linked', async function () {
    const installed = findBinaryPackage()
    if (installed === null) {
      this.skip() // The optional package for this platform is not installed.
      return
    }
    const folder = await mkdtemp('/tmp/gateway-package-')
    await chmod(folder, 0o700)
    // As npm unpacks it, before (or without) its install script.
    await cp(installed, join(folder, 'native'), {
      recursive: true,
      filter: async (path) => !(await import('node:fs')).lstatSync(path).isSymbolicLink(),
    })
    await writeFile(join(folder, 'package.json'), '{"version":"18.4.0-test"}')
    const home = await newHome()
    const server = await start(home, { system: false, path: '', packageDir: join(folder, 'native') })
    expect(server.version).to.match(/^18\./)
    expect(await readdir(home)).to.include('binaries-18.4.0-test')
    await server.stop()
    await rm(folder, { recursive: true })
    const again = await start(home, { system: false, path: '', packageDir: installed })
    expect(again.version).to.match(/^18\./)
  })

  it('leaves a folder alone that holds other things, and one above it', async () => {
    const folder = dirname(await newHome())
    await writeFile(join(folder, 'thesis.txt'), 'mine')
    const before = (await stat(folder)).mode
    const { message } = await failure({ dataHome: folder })
    expect(message).to.match(/holds other things \("thesis\.txt"\)/)
    expect((await stat(folder)).mode).to.equal(before)
    expect(await readdir(folder)).to.deep.equal(['thesis.txt'])
  })

  it('works under a strict umask', async () => {
    const home = join(dirname(await newHome()), 'made', 'on the way')
    const umask = process.umask(0o077)
    try {
      const server = await start(home)
      expect(await query(server.owner, 'select 1 as one')).to.deep.equal([{ one: 1 }])
    } finally {
      process.umask(umask)
    }
  })

  it('writes to no file that somebody put where a pipe should be', async () => {
    const home = await usedHome()
    const server = await start(home)
    const victim = join(dirname(home), 'victim')
    await writeFile(victim, 'untouched')
    await symlink(victim, join(server.owner.host, 'users.000000000000'))
    await writeFile(join(server.owner.host, 'users.000000000001'), 'untouched')
    expect((await start(home)).isAdopted).to.equal(true)
    expect(await readFile(victim, 'utf8')).to.equal('untouched')
    expect(await readFile(join(server.owner.host, 'users.000000000001'), 'utf8')).to.equal('untouched')
  })

  it('keeps two checkouts apart and a project together', async () => {
    const base = await mkdtemp('/tmp/gateway-projects-')
    await Promise.all([
      mkdir(join(base, 'a', 'gw'), { recursive: true }),
      mkdir(join(base, 'b', 'gw'), { recursive: true }),
    ])
    const [a, again, b] = await Promise.all(
      ['a/gw', 'a/gw/.', 'b/gw'].map((path) => defaultDataHome(join(base, path))),
    )
    await rm(base, { recursive: true })
    expect(a).to.equal(again)
    expect(a).to.not.equal(b)
  })
})

async function query(connection: ConnectionParts, text: string): Promise<unknown[]> {
  const client = new pg.Client({ ...connection })
  client.on('error', () => undefined)
  try {
    await client.connect()
    return (await client.query(text)).rows
  } finally {
    await client.end().catch(() => undefined)
  }
}

async function rejection(promise: Promise<unknown>): Promise<string> {
  return await promise.then(
    () => 'it was fulfilled',
    (error: unknown) => String(error),
  )
}

async function serverPid(home: string): Promise<number | null> {
  const text = await readFile(join(home, 'data', 'postmaster.pid'), 'utf8').catch(() => null)
  return text === null ? null : Number.parseInt(text, 10)
}

/** The parent of the server. */
async function guardPid(home: string): Promise<number> {
  const status = await readFile(`/proc/${await serverPid(home)}/status`, 'utf8')
  return Number(/^PPid:\t(\d+)$/m.exec(status)?.[1])
}

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8')
  return text.trim().split(' ').map(Number)
}

async function kill(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

async function waitUntil(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 20))
}
