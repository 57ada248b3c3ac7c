/**
 * Real PostgreSQL for tests: one embedded server for the whole run, started when the first test asks for it, and a fresh
 * migrated database for every test file, cloned from a template in milliseconds.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdtemp, readFile, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Pool } from 'pg'
import pg from 'pg'
import type { ConnectionParts } from '../../src/db/connection.ts'
import { toConnectionUrl } from '../../src/db/connection.ts'
import type { EmbeddedOptions, EmbeddedPostgres } from '../../src/db/embedded.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { guardPool } from '../../src/db/pools.ts'

/** Nothing of a test outlives a crash of the machine: no need to wait for the disk. (One of the server it may well.) */
const FAST = { fsync: 'off', full_page_writes: 'off' }
const TEMPLATE = 'gateway_template'

/** A migrated database of one test file's own. */
export interface TestDatabase {
  readonly name: string
  readonly owner: ConnectionParts
  readonly runtime: ConnectionParts
  /** `runtime` and `owner` as `database.url` and `database.migrate_url` take them. */
  readonly url: string
  readonly migrateUrl: string
  /** As the runtime role, like the gateway itself. */
  readonly pool: Pool
  /** As the role that owns the tables. */
  readonly ownerPool: Pool
  drop(): Promise<void>
}

let shared: Promise<EmbeddedPostgres> | null = null

/** A fresh, migrated database on the server shared by all tests of the run. Drop it in `after`. */
export async function createTestDatabase(): Promise<TestDatabase> {
  shared ??= startShared()
  const server = await shared
  const name = `test_${randomBytes(6).toString('hex')}`
  await administrate(server, `create database ${name} template ${TEMPLATE}`)
  const owner = { ...server.owner, database: name }
  const runtime = { ...server.runtime, database: name }
  const pool = openPool(runtime)
  const ownerPool = openPool(owner)
  return {
    name,
    owner,
    runtime,
    url: toConnectionUrl(runtime),
    migrateUrl: toConnectionUrl(owner),
    pool,
    ownerPool,
    async drop() {
      await Promise.all([pool.end(), ownerPool.end()])
      await administrate(server, `drop database if exists ${name} with (force)`)
    },
  }
}

/** Ends the shared server if any test has started it. Called by the root hook. */
export async function stopSharedServer(): Promise<void> {
  const server = await shared
  shared = null
  if (server === null) return
  await server.stop()
  await rm(dirname(server.dataHome), { recursive: true, force: true })
}

/** A server that a test may stop and start as it likes. Migrated. */
export interface TestServer {
  readonly home: string
  readonly owner: ConnectionParts
  readonly runtime: ConnectionParts
  /** `immediate` = as if the machine had died; clients see broken connections. Resolves when the process has ended. */
  stop(mode: 'fast' | 'immediate'): Promise<void>
  /** Starts it again on the same data. Nothing to do when it runs. */
  restart(): Promise<void>
  /** Ends it and removes its data. */
  dispose(): Promise<void>
}

/** Starts a server of the test's own. Takes about a second: for tests about outages only. */
export async function startServer(): Promise<TestServer> {
  const home = await makeHome()
  let server: EmbeddedPostgres | null = await startTestServer({ dataHome: home })
  await migrate({ owner: server.owner, runtime: server.runtime })
  const { owner, runtime } = server
  return {
    home,
    owner,
    runtime,
    async stop(mode) {
      if (server === null) return
      await signalServer(server, mode === 'fast' ? 'SIGINT' : 'SIGQUIT')
      await server.stop()
      server = null
    },
    async restart() {
      server ??= await startTestServer({ dataHome: home })
    },
    async dispose() {
      await server?.stop()
      server = null
      await rm(dirname(home), { recursive: true, force: true })
    },
  }
}

/** A place for an embedded server in a fresh folder of its own, which an unprivileged server user can enter. */
export async function makeHome(): Promise<string> {
  const home = await mkdtemp('/tmp/gateway-test-')
  await chmod(home, 0o711)
  return join(home, 'pg')
}

/** An embedded server with the settings of tests. */
export async function startTestServer(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const settings = { ...FAST, max_connections: '100', ...options.settings }
  return await startEmbeddedPostgres({ path: process.env['PATH'] ?? '', ...options, settings })
}

async function startShared(): Promise<EmbeddedPostgres> {
  const server = await startTestServer({ dataHome: await makeHome() })
  await administrate(server, `create database ${TEMPLATE}`)
  const template = { owner: { ...server.owner, database: TEMPLATE } }
  await migrate({ owner: template.owner, runtime: { ...server.runtime, database: TEMPLATE } })
  return server
}

async function administrate(server: EmbeddedPostgres, statement: string): Promise<void> {
  const client = new pg.Client({ ...server.owner, database: 'postgres' })
  await client.connect()
  try {
    await client.query(statement)
  } finally {
    await client.end()
  }
}

async function signalServer(server: EmbeddedPostgres, signal: 'SIGINT' | 'SIGQUIT'): Promise<void> {
  const file = join(server.dataHome, 'data', 'postmaster.pid')
  const pid = Number.parseInt(await readFile(file, 'utf8'), 10)
  process.kill(pid, signal)
  while (isAlive(pid)) await new Promise((resolve) => setTimeout(resolve, 5))
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}

function openPool(connection: ConnectionParts): Pool {
  const pool = new pg.Pool({ ...connection, max: 5 })
  guardPool(pool, () => undefined)
  return pool
}
