/** A whole gateway on real parts: configuration file, compiled policies, PostgreSQL, HTTP. For tests of what a caller sees. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { Writable } from 'node:stream'
import { stringify } from 'yaml'
import type { KeySettings } from '../../src/auth/key-settings.ts'
import { createKey } from '../../src/auth/key-store.ts'
import { loadConfig } from '../../src/config/load.ts'
import { createLog } from '../../src/log.ts'
import type { RunningGateway } from '../../src/main.ts'
import { startGateway } from '../../src/main.ts'
import type { TestDatabase } from './postgres.ts'
import { createTestDatabase } from './postgres.ts'
import { sharedSchemas } from './schemas.ts'

/** One row of `audit_events`, JSON columns parsed. */
export interface Row {
  readonly id: string
  readonly request_id: string
  readonly outcome: string
  readonly status_code: number
  readonly reason: string | null
  readonly decision: Record<string, any>
  readonly [column: string]: any
}

export interface TestGatewayOptions {
  /** Policy files by name under the policies folder; absent = everybody with a role may do everything. */
  readonly policies?: Readonly<Record<string, string>>
  readonly upstreams: Readonly<Record<string, string | Readonly<Record<string, unknown>>>>
  /** Further settings of gateway.yaml. */
  readonly settings?: Readonly<Record<string, unknown>>
  readonly nowMs?: () => number
  /** Further environment variables for `${NAME}` in the settings. */
  readonly environment?: Readonly<Record<string, string>>
  /** Use this database instead of one of its own (kept when the gateway closes). */
  readonly database?: Pick<TestDatabase, 'url' | 'migrateUrl' | 'pool'>
}

export interface TestGateway {
  /** `http://127.0.0.1:port` */
  readonly url: string
  readonly adminUrl: string
  readonly database: Pick<TestDatabase, 'url' | 'migrateUrl' | 'pool'>
  /** Everything logged so far. */
  log(): string
  /** Makes a key; returns its text. */
  key(settings?: Partial<KeySettings>): Promise<string>
  rows(): Promise<readonly Row[]>
  /** The rows of one exchange, by X-Request-Id. */
  rowsOf(requestId: string | null): Promise<readonly Row[]>
  /** Stops the gateway and keeps the database, so that what was written last can be read. */
  stop(): Promise<void>
  close(): Promise<void>
}

const ALLOW_ALL = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0
`

export const SECRET = 'Vn5sQ2xk8Rz1Lw7Yc3Tb9Jh4Gd6Fm0PaSeUiOqXvKtB='

export async function startTestGateway(options: TestGatewayOptions): Promise<TestGateway> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-e2e-'))
  const owned = options.database === undefined ? await createTestDatabase() : null
  const database = options.database ?? (owned as TestDatabase)
  const lines: string[] = []
  let running: RunningGateway | null = null
  try {
    await writePolicies(folder, options.policies ?? { 'authz/all.rego': ALLOW_ALL })
    await createKey(database.pool, keySettings({ name: 'first' }), Date.now())
    running = await start(folder, options, database, lines)
  } catch (error) {
    await owned?.drop()
    throw error
  }
  const gateway = running
  return {
    url: `http://127.0.0.1:${gateway.address.port}`,
    adminUrl: `http://127.0.0.1:${gateway.adminAddress?.port}`,
    database,
    log: () => lines.join(''),
    async key(settings = {}) {
      // A key that has expired was made before that.
      const madeAt = Math.min(Date.now(), (settings.expiresAt?.getTime() ?? Number.POSITIVE_INFINITY) - 1000)
      return (await createKey(database.pool, keySettings(settings), madeAt)).text
    },
    rows: () => readRows(database, '', []),
    rowsOf: (requestId) => readRows(database, 'where request_id = $1', [requestId]),
    stop: () => gateway.close(),
    async close() {
      await gateway.close()
      await owned?.drop()
      await rm(folder, { recursive: true, force: true })
    },
  }
}

async function start(
  folder: string,
  options: TestGatewayOptions,
  database: Pick<TestDatabase, 'url' | 'migrateUrl'>,
  lines: string[],
): Promise<RunningGateway> {
  const upstreams = Object.entries(options.upstreams).map(([name, value]) => [
    name,
    typeof value === 'string' ? { url: value } : value,
  ])
  const file = join(folder, 'gateway.yaml')
  await writeFile(
    file,
    stringify({
      listen: '127.0.0.1:0',
      admin: { listen: '127.0.0.1:0' },
      policies: './policies',
      database: { url: '${TEST_URL}', migrate_url: '${TEST_MIGRATE_URL}' },
      secret: '${TEST_SECRET}',
      upstreams: Object.fromEntries(upstreams),
      ...options.settings,
      // Tests read a call's row as soon as it has been answered.
      audit: { mode: 'blocking', spool_dir: './spool', ...auditSettings(options) },
    }),
  )
  const environment = {
    TEST_URL: database.url,
    TEST_MIGRATE_URL: database.migrateUrl,
    TEST_SECRET: SECRET,
    ...options.environment,
  }
  const { config } = loadConfig({ file, environment })
  const stream = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk))
      done()
    },
  })
  const log = createLog({ level: 'info', stream })
  const schemas = sharedSchemas()
  return await startGateway(config, { log, schemas, ...(options.nowMs && { nowMs: options.nowMs }) })
}

function auditSettings({ settings }: TestGatewayOptions): object {
  const audit = settings?.['audit']
  return typeof audit === 'object' && audit !== null ? audit : {}
}

async function writePolicies(folder: string, policies: Readonly<Record<string, string>>): Promise<void> {
  for (const [name, text] of Object.entries(policies)) {
    const file = join(folder, 'policies', name)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  }
}

export function keySettings(settings: Partial<KeySettings>): KeySettings {
  return {
    name: 'alice',
    kind: 'user',
    roles: ['developer'],
    tenant: 'acme',
    teams: [],
    scopes: [],
    claims: {},
    expiresAt: null,
    ...settings,
  }
}

async function readRows(
  database: Pick<TestDatabase, 'pool'>,
  where: string,
  values: readonly unknown[],
): Promise<readonly Row[]> {
  const { rows } = await database.pool.query<Row>(
    `select * from audit_events ${where} order by ts, seq`,
    values as unknown[],
  )
  return rows
}
