/**
 * Real gateways, a real PostgreSQL, real load, and `kill -9` at random moments; the database is stopped at once and started
 * again in between. At the end every call that was answered must have exactly one row, whatever died meanwhile.
 */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import pg from 'pg'
import { stringify } from 'yaml'
import { verifyLog } from '../../src/audit/verify.ts'
import { createKey } from '../../src/auth/key-store.ts'
import { toConnectionUrl } from '../../src/db/connection.ts'
import type { TestServer } from '../support/postgres.ts'
import { startServer } from '../support/postgres.ts'
import { until } from '../support/until.ts'
import type { RawUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'
import type { Findings } from './judge.ts'
import { judge } from './judge.ts'
import type { Ledger } from './load.ts'
import { startLoad } from './load.ts'

/** What one run does. */
export interface CrashOptions {
  readonly mode: 'batch' | 'durable' | 'blocking'
  readonly kills: number
  readonly databaseStops: number
  /** Gateways on one database and one spool folder. */
  readonly gateways: number
  readonly clients: number
  /** What runs `gateway`: arguments of Node; absent = the sources. */
  readonly program?: readonly string[]
  /** Same seed, same moments. */
  readonly seed: number
  readonly onProgress?: (text: string) => void
}

/** What came of it. */
export interface CrashReport extends Findings {
  readonly mode: string
  readonly kills: number
  readonly databaseStops: number
  readonly seconds: number
}

const FROM_SOURCE = ['--import=tsx/esm', fileURLToPath(new URL('../../src/cli/gateway.ts', import.meta.url))]
const POLICY = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0

deny contains "no-wiping" if input.target.name == "wipe"
`
const SECRET = 'Vn5sQ2xk8Rz1Lw7Yc3Tb9Jh4Gd6Fm0PaSeUiOqXvKtB='
const WRITER_FOLDER = /^[0-9a-f]{12}$/
/** Between two kills; the gateways that live share the load meanwhile. */
const LIFE_MS = { least: 30, most: 700 }
const OUTAGE_MS = { least: 100, most: 1500 }

/** Runs one mode from start to verdict; leaves nothing behind. */
export async function crashRun(options: CrashOptions): Promise<CrashReport> {
  const from = performance.now()
  const folder = await mkdtemp(join(tmpdir(), 'gateway-crash-'))
  const server = await startServer()
  const upstream = await startUpstream()
  const members: Member[] = []
  try {
    const key = await configure(folder, options.mode, server, upstream)
    for (let index = 0; index < options.gateways; index += 1)
      members.push(new Member(folder, options.program ?? FROM_SOURCE))
    await Promise.all(members.map((member) => member.start()))
    const load = startLoad({
      urls: () => members.flatMap(({ url }) => url ?? []),
      key,
      clients: options.clients,
    })
    await torment(options, members, server)
    await servedByAll(load.ledger, options)
    await load.stop()
    await recovered(folder, members)
    for (const member of members) await member.stop()
    const left = await spoolsOf(folder)
    const findings = await verdict(server, load.ledger, upstream, left.length)
    const { mode, kills, databaseStops } = options
    return { mode, kills, databaseStops, seconds: (performance.now() - from) / 1000, ...findings }
  } finally {
    for (const member of members) await member.kill()
    await upstream.close()
    await server.dispose()
    await rm(folder, { recursive: true, force: true })
  }
}

async function startUpstream(): Promise<RawUpstream> {
  const tools = ['echo', 'wipe'].map((name) => ({ name, inputSchema: { type: 'object' } }))
  const upstream = await startScriptedUpstream({ tools })
  let count = 0
  upstream.handle((_request, reply) => {
    count += 1
    // Some are under way when the process dies.
    setTimeout(() => reply.result({ content: [{ type: 'text', text: 'ok' }] }), count % 10 === 0 ? 40 : 0)
  })
  return upstream
}

async function configure(
  folder: string,
  mode: string,
  server: TestServer,
  upstream: RawUpstream,
): Promise<string> {
  await mkdir(join(folder, 'policies'))
  await writeFile(join(folder, 'policies/rules.rego'), POLICY)
  await writeFile(join(folder, 'url'), toConnectionUrl(server.runtime))
  await writeFile(join(folder, 'migrate-url'), toConnectionUrl(server.owner))
  await writeFile(join(folder, 'secret'), SECRET, { mode: 0o600 })
  await writeFile(
    join(folder, 'gateway.yaml'),
    stringify({
      listen: '127.0.0.1:0',
      admin: { listen: 'off' },
      policies: './policies',
      database: { url_file: './url', migrate_url_file: './migrate-url' },
      secret_file: './secret',
      auth: { max_stale_s: 60 },
      audit: { mode, spool_dir: './spool' },
      log: { level: 'error' },
      upstreams: { up: { url: upstream.url } },
    }),
  )
  const settings = {
    kind: 'service',
    roles: ['developer'],
    tenant: null,
    teams: [],
    scopes: [],
    claims: {},
  } as const
  const client = new pg.Pool({ ...server.runtime, max: 1 })
  try {
    return (await createKey(client, { name: 'load', ...settings, expiresAt: null }, Date.now())).text
  } finally {
    await client.end()
  }
}

/** One gateway process, started again after each death. */
class Member {
  url: string | null = null
  /** The last it has said on stderr. */
  said = ''
  readonly #folder: string
  readonly #program: readonly string[]
  #child: ChildProcess | null = null

  constructor(folder: string, program: readonly string[]) {
    this.#folder = folder
    this.#program = program
  }

  async start(): Promise<void> {
    const args = [...this.#program, 'serve', '--json', '--config', join(this.#folder, 'gateway.yaml')]
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] })
    this.#child = child
    const texts = { out: '', err: '' }
    child.stdout.on('data', (chunk) => {
      texts.out += String(chunk)
    })
    child.stderr.on('data', (chunk) => {
      texts.err = `${texts.err}${String(chunk)}`.slice(-4000)
      this.said = texts.err
    })
    this.url = await until(
      'a gateway to listen',
      () => {
        if (child.exitCode !== null || child.signalCode !== null)
          throw new Error(`a gateway ended: ${texts.err}`)
        return texts.out.includes('\n')
          ? ((JSON.parse(texts.out) as { mounts: string[] }).mounts[0] ?? null)
          : null
      },
      60_000,
    )
  }

  async kill(): Promise<void> {
    await this.#end('SIGKILL')
  }

  async stop(): Promise<void> {
    await this.#end('SIGTERM')
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    this.#child = null
    this.url = null
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const closed = once(child, 'close')
    child.kill(signal)
    await closed
  }
}

/** Kills and stops, spread over the run. A gateway cannot start without its database, so it is back before the next one. */
async function torment(options: CrashOptions, members: readonly Member[], server: TestServer): Promise<void> {
  const random = randomFrom(options.seed)
  const between = ({ least, most }: { readonly least: number; readonly most: number }): Promise<void> =>
    new Promise((resolve) => setTimeout(resolve, least + random() * (most - least)))
  const starting: Promise<void>[] = []
  const stopEvery = options.kills / Math.max(1, options.databaseStops)
  let stops = 0
  for (let kill = 1; kill <= options.kills; kill += 1) {
    await between(LIFE_MS)
    const alive = members.filter(({ url }) => url !== null)
    const victim = alive[Math.floor(random() * alive.length)] ?? members[0]
    if (victim === undefined) throw new Error('there is no gateway to kill')
    const withDatabase = kill >= stopEvery * (stops + 0.5) && stops < options.databaseStops
    if (withDatabase) {
      stops += 1
      await Promise.all(starting.splice(0))
      await server.stop('immediate')
      await between(OUTAGE_MS)
    }
    await victim.kill()
    if (withDatabase) {
      await between({ least: 0, most: 200 })
      await server.restart()
    }
    const back = victim.start()
    back.catch(() => undefined)
    starting.push(back)
    await until('a gateway that serves', () => members.some(({ url }) => url !== null), 60_000)
    if (kill % 10 === 0) options.onProgress?.(`${options.mode}: ${kill} of ${options.kills} kills`)
  }
  await Promise.all(starting)
}

/** A small, good enough generator (mulberry32): the moments of a run can be had again. */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The callers go round, so some calls later each of the gateways that were started last has rows of its own. */
async function servedByAll({ allowed }: Ledger, { clients }: CrashOptions): Promise<void> {
  const enough = allowed.size + clients * 4
  await until('gateways that serve after the last kill', () => allowed.size >= enough, 60_000)
}

/** What the dead have left behind is taken over at a start: one more of each, and nothing is left. */
async function recovered(folder: string, members: readonly Member[]): Promise<void> {
  for (const member of members) {
    await member.kill()
    await member.start()
  }
  const areEmptied = async (): Promise<boolean> => (await spoolsOf(folder)).length <= members.length
  await until('the spools of the dead to be emptied', areEmptied, 45_000).catch(async (error: unknown) => {
    const left = await readdir(join(folder, 'spool'), { recursive: true })
    throw new Error(`${String(error)}: ${left.join(' ')}; ${members.map((member) => member.said).join('')}`)
  })
}

/** Folders of writers, also those inside of others. */
async function spoolsOf(folder: string): Promise<readonly string[]> {
  const names = await readdir(join(folder, 'spool'), { recursive: true })
  return names.filter((name) => WRITER_FOLDER.test(name.split('/').at(-1) ?? ''))
}

async function verdict(
  server: TestServer,
  ledger: Ledger,
  upstream: RawUpstream,
  leftSpools: number,
): Promise<Findings> {
  const client = new pg.Client(server.runtime)
  await client.connect()
  try {
    const findings = await judge(client, { ledger, upstreamCalls: upstream.calls(), leftSpools })
    return { ...findings, violations: [...findings.violations, ...(await brokenChains(client))] }
  } finally {
    await client.end()
  }
}

/** Also rows that another process has stored, or that came twice, stand in the chain of their writer. */
async function brokenChains(client: pg.Client): Promise<readonly string[]> {
  const everything = { since: null, until: null, anchors: null, publicKeys: null }
  const { findings, unchained } = await verifyLog({ db: client, ...everything })
  const texts = findings.slice(0, 3).map(({ text }) => `the chain does not verify: ${text}`)
  return unchained === 0 ? texts : [...texts, `${unchained} rows are not chained`]
}
