import { generateKeyPairSync } from 'node:crypto'
import { once } from 'node:events'
import { chmodSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import type { KeySettings } from '../../src/auth/key-settings.ts'
import { createKey } from '../../src/auth/key-store.ts'
import { loadConfig } from '../../src/config/load.ts'
import { openDatabase } from '../../src/database.ts'
import { checkDatabase } from '../../src/doctor/database.ts'
import type { Finding } from '../../src/doctor/finding.ts'
import { spanText } from '../../src/doctor/finding.ts'
import { checkNode } from '../../src/doctor/own.ts'
import { createLog } from '../../src/log.ts'
import { startGateway } from '../../src/main.ts'
import type { CliResult } from '../support/cli.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import { SECRET } from '../support/gateway.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const DAY_MS = 86_400_000
const SIGNING_KEY = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' })
const TOKEN = 'hunter2-upstream-token'
const POLICY = 'package gateway.authz\n\nallow contains "role" if count(input.principal.roles) > 0\n'

interface Report {
  readonly ok: boolean
  readonly failed: number
  readonly warnings: number
  readonly findings: readonly Finding[]
}

describe('gateway doctor', function () {
  this.timeout(60_000)
  let folder: string
  let database: TestDatabase
  let upstream: ScriptedUpstream
  let ports: readonly number[]

  before(async () => {
    database = await createTestDatabase()
    upstream = await startScriptedUpstream({ tools: [{ name: 'find' }, { name: 'edit\u202e' }] })
  })
  after(async () => {
    await upstream.close()
    await database.drop()
  })
  beforeEach(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-doctor-'))
    ports = [await freePort(), await freePort()]
    await database.ownerPool.query('truncate api_keys, gateway_processes')
    await key({ scopes: ['gateway:admin'] })
    await runCli(['init', folder])
    writeFileSync(join(folder, 'url'), database.url, { mode: 0o600 })
    writeFileSync(join(folder, 'migrate-url'), database.migrateUrl, { mode: 0o600 })
    writeFileSync(join(folder, 'secret'), SECRET)
    writeFileSync(join(folder, 'audit-key'), SIGNING_KEY, { mode: 0o600 })
    rmSync(join(folder, 'policies'), { recursive: true })
    putPolicy(POLICY)
    configure()
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  function configure(settings: Readonly<Record<string, unknown>> = {}): void {
    const document = {
      listen: `127.0.0.1:${ports[0]}`,
      admin: { listen: `127.0.0.1:${ports[1]}` },
      database: { url_file: './url', migrate_url_file: './migrate-url' },
      secret_file: './secret',
      audit: { signing_key_file: './audit-key', spool_dir: './spool' },
      upstreams: { desk: { url: upstream.url } },
      ...settings,
    }
    writeFileSync(join(folder, 'gateway.yaml'), stringify(document))
  }

  function putPolicy(text: string, name = 'policies'): void {
    mkdirSync(join(folder, name), { recursive: true })
    writeFileSync(join(folder, name, 'all.rego'), text)
  }

  async function key(settings: Partial<KeySettings> = {}): Promise<void> {
    const plain = {
      name: 'ada',
      kind: 'user',
      roles: ['developer'],
      tenant: null,
      teams: [],
      scopes: [],
    } as const
    await createKey(database.pool, { ...plain, claims: {}, expiresAt: null, ...settings }, Date.now())
  }

  async function doctor(...args: string[]): Promise<CliResult> {
    const result = await withEnvironment({ DATABASE_URL: undefined, DESK_TOKEN: TOKEN }, () =>
      runCli(['doctor', ...args, '--config', join(folder, 'gateway.yaml')]),
    )
    for (const secret of [TOKEN, SECRET, database.owner.password, database.runtime.password]) {
      expect(result.out + result.err).to.not.include(secret)
    }
    return result
  }

  async function report(...args: string[]): Promise<Report & { readonly code: number }> {
    const { code, out } = await doctor(...args, '--json')
    return { ...(JSON.parse(out) as Report), code }
  }

  const find = ({ findings }: Report, check: string, subject = ''): Finding => {
    const found = findings.find((one) => one.check === check && one.subject === subject)
    if (found === undefined) throw new Error(`no finding for ${check} ${subject}`)
    return found
  }

  it('is content when everything is as it should be', async () => {
    const { code, out, err } = await doctor()
    expect(code, out + err).to.equal(0)
    const lines = out.trimEnd().split('\n')
    expect(lines.map((line) => line.slice(0, 8))).to.deep.equal(lines.map(() => '  ok    '))
    expect(out).to.match(/ok {4}node \d+\.\d+\.\d+ +>= 20\.19\n/)
    expect(out).to.match(/ok {4}policies [0-9a-f]{12} +1 file, OPA [\d.]+, no builtin the host lacks\n/)
    expect(out).to.match(/ok {4}postgres 1\d\S* +[\d.]+ ms, schema \d of \d, clock skew -?\d+ ms\n/)
    expect(out).to.match(/ok {4}role \S+ +may add and read audit rows, not change them\n/)
    expect(out).to.match(/ok {4}upstream desk +2 tools, MCP 2026-07-28, \d+ ms\n/)
    expect(out).to.match(/ok {4}keys +1 live, 1 with gateway:admin\n/)
    expect(out)
      .to.include(`listen 127.0.0.1:${ports[0]}`)
      .and.match(/admin 127\.0\.0\.1:\d+ +free\n/)
  })

  it('tells more with -v, and shows names of foreign origin escaped', async () => {
    const { code, out } = await doctor('upstream', 'desk', '-v')
    expect(code).to.equal(0)
    expect(out).to.include('tool find').and.include('tool edit\\u{202e}').and.include('gateway.yaml:')
    expect(out).to.not.include('postgres')
  })

  it('looks at one thing when asked for one', async () => {
    const { findings } = await report('keys')
    expect(findings.map(({ check }) => check)).to.deep.equal(['keys'])
    expect((await report('node')).findings.map(({ check }) => check)).to.deep.equal(['node'])
    expect((await report('listen')).findings.map(({ check }) => check)).to.deep.equal(['listen', 'listen'])
  })

  it('refuses checks and upstreams that do not exist', async () => {
    const wrong = await doctor('postgers')
    expect(wrong.code).to.equal(2)
    expect(wrong.err).to.include('Did you mean postgres?')
    expect((await doctor('nonsense')).err).to.include('There are: node, config')
    expect((await doctor('keys', 'desk')).err).to.include('Only upstreams have names')
    const unknown = await doctor('upstream', 'dask', '--json')
    expect(unknown.code).to.equal(2)
    expect(errorOf(unknown)).to.include({ code: 'not_found' })
  })

  it('writes nothing: a database that is not migrated stays so', async () => {
    const before = await database.ownerPool.query('select * from schema_migrations order by id')
    await database.ownerPool.query(
      'delete from schema_migrations where id = (select max(id) from schema_migrations)',
    )
    try {
      const postgres = find(await report('postgres'), 'postgres')
      expect(postgres.state).to.equal('warn')
      expect(postgres.summary).to.include('not up to date').and.include(`of ${before.rows.length}`)
      expect(postgres.fix).to.include('gateway db migrate')
      const { rows } = await database.ownerPool.query('select * from schema_migrations')
      expect(rows).to.have.length(before.rows.length - 1)
    } finally {
      const last = before.rows.at(-1) as { id: number; name: string }
      await database.ownerPool.query('insert into schema_migrations (id, name) values ($1, $2)', [
        last.id,
        last.name,
      ])
    }
  })

  describe('the first FAIL is the one to fix, with exit code 1:', () => {
    it('a configuration that cannot be used, and nothing else is looked at', async () => {
      configure({ listen: 'nonsense', nothing: 1 })
      const { code, out, err } = await doctor('-v')
      expect(code).to.equal(1)
      expect(out).to.match(/FAIL {2}config +2 problems, the first at .*gateway\.yaml:1:9\n/)
      expect(out)
        .to.include('gateway config check')
        .and.match(/-- {4}postgres +not looked at/)
      expect(err).to.include('error: 1 failed. Fix the FAIL first: gateway doctor config -v\n')
      rmSync(join(folder, 'gateway.yaml'))
      expect((await doctor()).out).to.include('gateway init makes a folder with one')
    })

    it('policies that do not build', async () => {
      putPolicy('package gateway.authz\n\nallow contains "x" if input.principal.rols\n')
      const found = await report()
      expect(found).to.include({ ok: false, code: 1, failed: 1 })
      expect(find(found, 'policies')).to.include({ state: 'fail' })
      expect(find(found, 'policies').summary).to.include('all.rego:3')
      expect(find(found, 'policies').fix).to.include('gateway policy check')
      expect(find(found, 'keys').state).to.equal('ok')
    })

    it('a database that cannot be reached, and what stands in it is not looked at', async () => {
      writeFileSync(join(folder, 'url'), 'postgres://gw:hunter2@127.0.0.1:1/none')
      const { code, out, err } = await doctor()
      expect(code).to.equal(1)
      expect(out).to.match(/FAIL {2}postgres +The database cannot be used: .*ECONNREFUSED/)
      expect(out).to.match(/-- {4}audit +not looked at: the database comes first/)
      expect(out + err).to.not.include('hunter2')
      expect(err).to.include('gateway doctor postgres -v')
    })

    it('a role that can change audit rows, also on a single day', async () => {
      const day = '2031-01-01'
      for (const [grant, revoke] of [
        [`grant update on audit_events to ${database.runtime.user}`, `revoke update on audit_events from`],
        [
          `create table audit_extra partition of audit_events for values from ('${day}') to ('2031-01-02');
           grant update on audit_extra to ${database.runtime.user}`,
          'drop table audit_extra; revoke update on audit_events from',
        ],
      ] as const) {
        await database.ownerPool.query(grant)
        try {
          const role = find(await report('postgres'), 'postgres', 'role')
          expect(role).to.include({ state: 'fail' })
          expect(role.summary).to.equal('may UPDATE audit rows')
          expect(role.fix).to.include('revoke UPDATE')
        } finally {
          await database.ownerPool.query(`${revoke} ${database.runtime.user}`)
        }
      }
    })

    it('a role that owns them, or is a superuser', async () => {
      writeFileSync(join(folder, 'url'), database.migrateUrl)
      const role = find(await report('postgres'), 'postgres', 'role')
      expect(role).to.include({ state: 'fail', summary: 'is a superuser' })
      expect(role.fix).to.include('database.migrate_url')
    })

    it('a role that may not add them', async () => {
      await database.ownerPool.query(`revoke insert on audit_events from ${database.runtime.user}`)
      try {
        const role = find(await report('postgres'), 'postgres', 'role')
        expect(role).to.include({ state: 'fail', summary: 'may not add and read audit rows' })
      } finally {
        await database.ownerPool.query(`grant insert on audit_events to ${database.runtime.user}`)
      }
    })

    it('clocks that are far apart', async () => {
      const { config } = loadConfig({ file: join(folder, 'gateway.yaml'), environment: {} })
      const opened = await openDatabase(config)
      const skewed = async (ms: number) => (await checkDatabase(opened, () => Date.now() + ms)).findings[0]
      expect(await skewed(0)).to.include({ state: 'ok' })
      expect(await skewed(-5000)).to.include({ state: 'warn' })
      expect(await skewed(600_000)).to.include({ state: 'fail' })
      expect((await skewed(600_000))?.summary).to.match(
        /^the clocks differ, .*clock skew -(599|600)\d{3} ms$/,
      )
    })

    it('no key at all', async () => {
      await database.ownerPool.query('truncate api_keys')
      const keys = find(await report('keys'), 'keys')
      expect(keys).to.include({ state: 'fail' })
      expect(keys.fix).to.match(/^gateway keys create .*--scope gateway:admin/)
    })

    it('an address that another program has', async () => {
      const server = createServer().listen(ports[0], '127.0.0.1')
      await once(server, 'listening')
      try {
        const found = await report('listen')
        expect(find(found, 'listen', 'front')).to.include({
          state: 'fail',
          summary: 'another program listens there',
        })
        expect(find(found, 'listen', 'front').fix).to.match(/listen \(.*gateway\.yaml:1:1\)/)
        expect(find(found, 'listen', 'admin').state).to.equal('ok')
      } finally {
        server.close()
      }
    })

    it('an upstream that refuses us: names the variable and the line, never the value', async () => {
      const closed = await startScriptedUpstream()
      const guarded = createHttp((request, response) => {
        const status = request.headers.authorization === 'Bearer right' ? 500 : 401
        response.writeHead(status, { 'www-authenticate': 'Bearer' }).end(`no: ${TOKEN}`)
      }).listen(0, '127.0.0.1')
      await once(guarded, 'listening')
      const url = `http://127.0.0.1:${(guarded.address() as AddressInfo).port}/mcp`
      try {
        await closed.close()
        writeFileSync(join(folder, 'stale-token'), TOKEN, { mode: 0o600 })
        configure({
          upstreams: {
            guarded: { url: `${url}?token=hunter2`, headers: { Authorization: 'Bearer ${DESK_TOKEN}' } },
            open: { url },
            stale: { url, credential: { token_file: './stale-token' } },
            broken: { url, headers: { authorization: 'Bearer ${RIGHT:-right}' } },
            gone: { url: closed.url },
            desk: { url: upstream.url },
          },
        })
        const found = await report('upstream')
        expect(find(found, 'upstream', 'stale')).to.include({ state: 'fail', summary: `401 from ${url}` })
        expect(find(found, 'upstream', 'stale').fix).to.match(
          /^Check upstreams\.stale\.credential \(.*gateway\.yaml:\d+:\d+\)$/,
        )
        expect(find(found, 'upstream', 'guarded')).to.include({ state: 'fail', summary: `401 from ${url}` })
        expect(find(found, 'upstream', 'guarded').fix).to.match(
          /^Set DESK_TOKEN to a credential that it accepts \(.*gateway\.yaml:\d+:\d+\)$/,
        )
        expect(find(found, 'upstream', 'open').fix).to.match(
          /^Give it a credential: upstreams\.open\.headers/,
        )
        expect(find(found, 'upstream', 'broken').summary).to.equal(`500 from ${url}`)
        expect(find(found, 'upstream', 'gone').summary).to.equal(
          `no connection to ${closed.url} (ECONNREFUSED)`,
        )
        expect(find(found, 'upstream', 'desk').state).to.equal('ok')
        expect(JSON.stringify(found)).to.not.include('hunter2')
        const { err } = await doctor()
        expect(err).to.include('error: 5 failed. Fix the FAIL first: gateway doctor upstream guarded -v\n')
      } finally {
        guarded.closeAllConnections()
        guarded.close()
      }
    })
  })

  describe('warnings leave the exit code at 0:', () => {
    it('an upstream without tools, or with tools that nobody can use', async () => {
      const empty = await startScriptedUpstream({ tools: [], era: 'legacy' })
      const double = await startScriptedUpstream({ tools: [{ name: 'a' }, { name: 'a' }, { name: 'b' }] })
      try {
        configure({ upstreams: { empty: { url: empty.url }, double: { url: double.url } } })
        const found = await report('upstream', '-v')
        expect(found).to.include({ ok: true, code: 0, warnings: 2 })
        expect(find(found, 'upstream', 'empty').summary).to.match(/^it offers no tools, 0 tools, MCP 2025-/)
        expect(find(found, 'upstream', 'double').summary).to.match(/^1 tool cannot be used, 1 tool, MCP/)
        expect(find(found, 'upstream', 'double').details.join()).to.include('listed twice')
      } finally {
        await empty.close()
        await double.close()
      }
    })

    it('keys that end soon, and none for /metrics', async () => {
      await database.ownerPool.query('truncate api_keys')
      await key({ expiresAt: new Date(Date.now() + 3 * DAY_MS) })
      await key({ name: 'bob', expiresAt: new Date(Date.now() + 90 * DAY_MS) })
      const keys = find(await report('keys'), 'keys')
      expect(keys.state).to.equal('warn')
      expect(keys.summary).to.equal(
        'none can read /metrics, 1 ends soon (the first in 3 days), 2 live, 0 with gateway:admin',
      )
      expect(keys.details).to.have.length(1)
      configure({ admin: { listen: 'off' } })
      const { code, out, err } = await doctor('keys')
      expect(code).to.equal(0)
      expect(err).to.include('nothing failed, 1 warning\n')
      expect(out)
        .to.match(/WARN {2}keys +1 ends soon/)
        .and.match(/gateway keys rotate [a-z0-9]{12}/)
    })

    it('audit that is off', async () => {
      configure({ audit: { enabled: false } })
      expect(find(await report('audit'), 'audit')).to.include({
        state: 'warn',
        summary: 'off: nothing is recorded',
      })
    })

    it('no tables for the days to come while a gateway runs', async () => {
      const { rows } = await database.ownerPool.query<{ name: string }>(
        `select relname as name from pg_inherits join pg_class on pg_class.oid = inhrelid
         where inhparent = 'audit_events'::regclass`,
      )
      for (const { name } of rows) await database.ownerPool.query(`drop table ${name}`)
      const idle = find(await report('audit', '-v'), 'audit')
      expect(idle).to.include({ state: 'ok', summary: 'no row yet, 0 days ahead, mode batch' })
      expect(idle.details).to.include('no gateway is running on this database')
      await database.ownerPool.query(
        `insert into gateway_processes (id, name, applied_seq, seen_at) values ('a', 'host:1', 0, now() + interval '1 hour')`,
      )
      expect(find(await report('audit'), 'audit')).to.include({ state: 'warn' })
      await database.pool.query(
        "select audit_create_day((now() at time zone 'UTC')::date + n) from generate_series(0, 3) n",
      )
      expect(find(await report('audit'), 'audit')).to.include({
        state: 'ok',
        summary: 'no row yet, 3 days ahead, mode batch',
      })
    })

    it('days that are older than they have to be kept', async () => {
      const day = "((now() at time zone 'UTC')::date - 93)"
      await database.pool.query(`select audit_create_day(${day} + n) from generate_series(0, 1) n`)
      const audit = find(await report('audit', '-v'), 'audit')
      expect(audit).to.include({ state: 'warn' })
      expect(audit.summary).to.include('1 day older than audit.retention_days')
      expect(audit.fix).to.include('gateway audit prune')
      expect(audit.details).to.include('days kept: 90')
      configure({ audit: { retention_days: null } })
      expect(find(await report('audit'), 'audit').summary).not.to.include('older')
      configure({})
      await database.ownerPool.query(
        `do $$ begin execute format('drop table audit_events_%s, audit_events_%s', to_char(${day}, 'YYYYMMDD'), to_char(${day} + 1, 'YYYYMMDD')); end $$`,
      )
    })

    it('a secret that everybody can read', async () => {
      chmodSync(join(folder, 'secret'), 0o644)
      const config = find(await report('config'), 'config')
      expect(config).to.include({ state: 'warn', fix: `chmod 600 ${join(folder, 'secret')}` })
    })
  })

  it('does not make an embedded database that is not there yet', async () => {
    configure({ database: { data_dir: './pg' } })
    const found = await report()
    expect(find(found, 'postgres')).to.include({ state: 'ok', summary: 'embedded, made at the first start' })
    expect(find(found, 'audit').state).to.equal('skipped')
    expect(find(found, 'keys').state).to.equal('fail')
    expect(existsSync(join(folder, 'pg'))).to.equal(false)
  })

  it('knows its own gateway, its readiness, and that it serves other policies than the folder holds', async () => {
    const { config } = loadConfig({ file: join(folder, 'gateway.yaml'), environment: {} })
    const log = createLog({ level: 'silent' })
    const gateway = await startGateway(config, { log })
    try {
      const found = await report()
      expect(found.ok, JSON.stringify(found.findings)).to.equal(true)
      expect(find(found, 'listen', 'front').summary).to.equal('the gateway listens')
      expect(find(found, 'listen', 'admin').summary).to.equal('the gateway listens, ready')
      expect(find(found, 'listen', 'admin').details).to.include('database: ok')
      expect(find(found, 'audit').summary).to.match(/^no row yet, 7 days ahead/)
      putPolicy(`${POLICY}# another\n`, 'other')
      configure({ policies: './other' })
      const differs = find(await report('policies'), 'policies', 'serving')
      expect(differs.state).to.equal('warn')
      expect(differs.summary).to.include(`serves ${gateway.policy.revision}, the folder holds`)
      const { rows } = await database.pool.query('select 1 from audit_events')
      expect(rows, 'looking leaves no audit row').to.have.length(0)
    } finally {
      await gateway.close()
    }
  })

  it('asks for a Node that is new enough', () => {
    expect(checkNode('20.18.9')).to.include({ state: 'fail', title: 'node 20.18.9' })
    for (const version of ['20.19.0', '22.0.0', '25.1.0'])
      expect(checkNode(version).state, version).to.equal('ok')
  })

  it('writes spans as people say them', () => {
    const spans = [0, 41_000, 119_000, 180_000, 3 * 3_600_000, 12 * DAY_MS]
    expect(spans.map(spanText)).to.deep.equal(['0 s', '41 s', '119 s', '3 min', '3 h', '12 days'])
  })
})

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise((resolve) => server.close(resolve))
  return port
}
