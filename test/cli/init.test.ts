import { execFile } from 'node:child_process'
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { parse } from 'yaml'
import { loadConfig } from '../../src/config/load.ts'
import { parseSecret } from '../../src/secret.ts'
import { VERSION } from '../../src/version.ts'
import { errorOf, runCli } from '../support/cli.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const SECRETS = [
  'secret',
  'audit-key.pem',
  'database/gateway-password',
  'database/gateway-url',
  'database/owner-password',
  'database/owner-url',
]

interface Service {
  readonly image: string
  readonly user?: string
  readonly environment: Record<string, string>
  readonly volumes: readonly string[]
  readonly secrets: readonly string[]
  readonly ports?: readonly string[]
  readonly healthcheck: { readonly test: readonly string[] }
  readonly [member: string]: unknown
}

interface Compose {
  readonly services: { readonly gateway: Service; readonly postgres: Service }
  readonly secrets: Record<string, { readonly file: string }>
  readonly networks: Record<string, { readonly internal?: boolean }>
}

describe('gateway init', function () {
  this.timeout(60_000)
  let folder: string
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-init-'))
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const read = (name: string): string => readFileSync(join(folder, name), 'utf8')
  const compose = (): Compose => parse(read('compose.yaml')) as Compose

  it('makes a folder in which configuration and policies are right as they stand', async () => {
    const { code, out, err } = await runCli(['init', folder])
    expect(code, err).to.equal(0)
    expect(out).to.match(/^created {2}/)
    expect(err).to.match(/Next: .*gateway keys create --name admin/)
    const config = ['--config', join(folder, 'gateway.yaml')]
    expect((await runCli(['config', 'check', ...config])).code).to.equal(0)
    const checked = await runCli(['policy', 'check', ...config])
    expect(checked.code, checked.out + checked.err).to.equal(0)
  })

  it('tells programs what it has made', async () => {
    const { code, out, err } = await runCli(['init', folder, '--json'])
    expect({ code, err }).to.deep.equal({ code: 0, err: '' })
    const made = JSON.parse(out) as { folder: string; files: string[]; next: string }
    expect(made.folder).to.equal(folder)
    expect(made.files).to.include.members(['gateway.yaml', 'compose.yaml', '.gitignore', ...SECRETS])
    for (const file of made.files) expect(statSync(join(folder, file)).isFile(), file).to.equal(true)
  })

  it('makes fresh secrets that only their owner can read and that version control leaves alone', async () => {
    const other = join(folder, 'other')
    await runCli(['init', folder])
    await runCli(['init', other])
    const ignored = read('.gitignore')
      .split('\n')
      .filter((line) => line.startsWith('/'))
      .map((line) => new RegExp(`^${line.slice(1).replace('*', '[^/]*')}$`))
    for (const name of SECRETS) {
      expect(statSync(join(folder, name)).mode & 0o777, name).to.equal(0o600)
      expect(read(name), name).to.not.equal(readFileSync(join(other, name), 'utf8'))
      expect(
        ignored.some((pattern) => pattern.test(name)),
        name,
      ).to.equal(true)
    }
    expect(ignored.some((pattern) => pattern.test('.env'))).to.equal(true)
    expect(parseSecret(read('secret'))).to.have.length(44)
    expect(read('database/gateway-url')).to.include(read('database/gateway-password').trim())
    expect(read('database/owner-url')).to.include(read('database/owner-password').trim())
  })

  it('writes nothing over: it lists what is there and leaves everything as it was', async () => {
    mkdirSync(join(folder, 'policies/authz'), { recursive: true })
    writeFileSync(join(folder, 'policies/authz/tools.rego'), 'package mine\n')
    symlinkSync('/nowhere', join(folder, 'secret'))
    const { code, err } = await runCli(['init', folder])
    expect(code).to.equal(2)
    expect(err).to.include('\n  policies/authz/tools.rego\n').and.include('\n  secret\n')
    expect(err).to.include('Nothing is written over')
    expect(read('policies/authz/tools.rego')).to.equal('package mine\n')
    expect(() => statSync(join(folder, 'gateway.yaml'))).to.throw('ENOENT')
    expect(errorOf(await runCli(['init', folder, '--json']))).to.include({ code: 'exists' })
  })

  it('takes the name and the address of the first server', async () => {
    const args = ['--server', 'on', '--url', 'https://mcp.example.com/on?x=1']
    expect((await runCli(['init', folder, ...args])).code).to.equal(0)
    const { config } = loadConfig({ file: join(folder, 'gateway.yaml'), environment: {} })
    expect(config.upstreams['on']?.url).to.equal('https://mcp.example.com/on?x=1')
    const { config: moved } = loadConfig({
      file: join(folder, 'gateway.yaml'),
      environment: { ON_URL: 'http://127.0.0.1:7/mcp' },
    })
    expect(moved.upstreams['on']?.url).to.equal('http://127.0.0.1:7/mcp')
    expect(Object.keys(parse(read('policies/servers/on/data.yaml')) as object)).to.deep.equal(['tools'])
  })

  it('refuses names and addresses that it could not write down', async () => {
    for (const args of [
      ['--server', 'A b'],
      ['--server', '../up'],
      ['--url', 'ftp://example.com'],
      ['--url', 'http://user:pass@example.com'],
      ['--url', 'http://example.com/?a=}"'],
      ['--url', 'nonsense'],
    ]) {
      const { code, err } = await runCli(['init', folder, ...args])
      expect(code, args.join(' ')).to.equal(2)
      expect(err).to.match(/^error: --(server|url): /)
    }
    expect(() => statSync(join(folder, 'gateway.yaml'))).to.throw('ENOENT')
  })

  it('says so when it may not write there', async () => {
    if (process.getuid?.() === 0) {
      writeFileSync(join(folder, 'file'), '')
      const { code, err } = await runCli(['init', join(folder, 'file')])
      expect(code).to.equal(2)
      expect(err).to.match(/cannot be written|holds already/)
      return
    }
    chmodSync(folder, 0o500)
    const { code, err } = await runCli(['init', folder])
    chmodSync(folder, 0o700)
    expect(code).to.equal(2)
    expect(err).to.include('cannot be written (EACCES)')
  })

  it('describes cases in the shape of the published schema, about tools that are listed', async () => {
    await runCli(['init', folder])
    const text = readFileSync(`${ROOT}/schemas/policy-case.schema.json`, 'utf8')
    const { $schema: _dialect, ...schema } = JSON.parse(text) as Record<string, unknown>
    const validate = new Ajv2020({ strict: false }).compile(schema)
    const table: unknown = parse(read('policies/cases/first.yaml'))
    expect(validate(table), JSON.stringify(validate.errors)).to.equal(true)
  })

  describe('its compose file', () => {
    beforeEach(async () => {
      await runCli(['init', folder])
    })

    it('hardens both containers and publishes nothing but the gateway, on loopback', () => {
      const { services, networks } = compose()
      for (const service of Object.values(services)) {
        expect(service).to.include({ read_only: true, init: true, restart: 'unless-stopped' })
        expect(service['cap_drop']).to.deep.equal(['ALL'])
        expect(service['security_opt']).to.deep.equal(['no-new-privileges:true'])
        expect(service.healthcheck.test[0]).to.equal('CMD')
      }
      for (const port of services.gateway.ports ?? []) expect(port).to.match(/^127\.0\.0\.1:/)
      expect(services.gateway.ports).to.have.length(2)
      expect(services.postgres).to.not.have.property('ports')
      expect(services.postgres['networks']).to.deep.equal(['database'])
      expect(networks['database']?.internal).to.equal(true)
    })

    it('hands secrets over as files, and none in its text or environment', () => {
      const { services, secrets } = compose()
      for (const { file } of Object.values(secrets)) {
        expect(SECRETS).to.include(file.replace('./', ''))
        expect(read('compose.yaml') + read('.env')).to.not.include(read(file).trim())
      }
      for (const service of Object.values(services)) {
        for (const name of service.secrets) expect(Object.keys(secrets)).to.include(name)
        for (const [name, value] of Object.entries(service.environment)) {
          const [, secret] = /^\/run\/secrets\/(.*)$/.exec(value) ?? []
          if (/SECRET|PASSWORD|DATABASE_.*URL/.test(name)) expect(service.secrets, name).to.include(secret)
        }
      }
    })

    it('gives the gateway a configuration that is right', () => {
      const { environment } = compose().services.gateway
      const set = Object.fromEntries(
        Object.entries(environment).map(([name, value]) => [
          name,
          value
            .replace('/run/secrets/gateway_secret', join(folder, 'secret'))
            .replace('/run/secrets/audit_key', join(folder, 'audit-key.pem'))
            .replace('/run/secrets/gateway_url', join(folder, 'database/gateway-url'))
            .replace('/run/secrets/owner_url', join(folder, 'database/owner-url'))
            .replace(/^\$\{\w+:-(.*)\}$/, '$1'),
        ]),
      )
      const { config } = loadConfig({ file: join(folder, 'gateway.yaml'), environment: set })
      expect(config.listen).to.deep.equal({ host: '0.0.0.0', port: 8080 })
      expect(config.admin.listen).to.deep.equal({ host: '0.0.0.0', port: 8081 })
      expect(config.database.url).to.match(
        /^postgresql:\/\/gateway_runtime:[\w-]{43}@postgres:5432\/gateway$/,
      )
      expect(config.database.migrateUrl).to.match(/^postgresql:\/\/gateway_owner:/)
      expect(config.upstreams['example']?.url).to.equal('http://host.docker.internal:9000/mcp')
      expect(config.publicUrl).to.equal('http://127.0.0.1:8080')
    })

    it('fits the Dockerfile: image, program, health check, mounts', () => {
      const dockerfile = readFileSync(`${ROOT}/Dockerfile`, 'utf8')
      const { image, volumes, healthcheck, command } = compose().services.gateway as Service & {
        command: string[]
      }
      expect(image).to.equal(`\${IMAGE:-mcp-policy-gateway:${VERSION}}`)
      expect(dockerfile).to.include(`org.opencontainers.image.version="${VERSION}"`)
      expect(command).to.deep.equal(['serve'])
      expect(dockerfile).to.include('ENTRYPOINT ["node", "/app/dist/cli/gateway.js"]')
      expect(dockerfile).to.include('USER 65532:65532')
      expect(dockerfile).to.include(`CMD ["node", "${healthcheck.test.at(-1)}"]`)
      const [, workdir] = /^WORKDIR (\/gateway)$/m.exec(dockerfile) ?? []
      for (const volume of volumes)
        expect(volume).to.match(new RegExp(`^\\./spool:${workdir}/spool$|:${workdir}/[a-z.]+:ro$`))
    })

    it('has a folder for audit rows that wait, which only the user of the container can enter', () => {
      const spool = statSync(join(folder, 'spool'))
      expect([spool.mode & 0o777, spool.uid]).to.deep.equal([0o700, statSync(join(folder, 'secret')).uid])
      expect(read('.gitignore')).to.include('/spool/')
      expect(compose().services.gateway.environment['GATEWAY_AUDIT_SPOOL_DIR']).to.equal('/gateway/spool')
    })

    it('runs as whoever owns the secrets, never as root', () => {
      const owner = statSync(join(folder, 'secret'))
      const [, uid, gid] = /^RUN_AS=(\d+):(\d+)$/m.exec(read('.env')) ?? []
      expect([Number(uid), Number(gid)]).to.deep.equal([owner.uid, owner.gid])
      expect(uid).to.not.equal('0')
      expect(read('.env')).to.equal(read('.env.example'))
    })
  })

  describe('the script that makes the gateway’s role', () => {
    let database: TestDatabase
    before(async function () {
      const found = await promisify(execFile)('psql', ['--version']).catch(() => null)
      if (found === null) this.skip() // there is no psql on this machine
      database = await createTestDatabase()
    })
    after(async () => {
      await database?.ownerPool.query('drop role if exists gateway_runtime')
      await database?.drop()
    })

    it('makes a role that may log in and nothing more', async () => {
      await runCli(['init', folder])
      const { host, port, user, password, database: name } = database.owner
      const env = {
        ...{ PATH: process.env['PATH'], PGHOST: host, PGPORT: String(port), PGPASSWORD: password },
        ...{ POSTGRES_USER: user, POSTGRES_DB: name, GATEWAY_PASSWORD: "it's" },
      }
      await promisify(execFile)('bash', [join(folder, 'database/roles.sh')], { env })
      const { rows } = await database.ownerPool.query(
        `select rolcanlogin, rolsuper, rolcreaterole, rolcreatedb, rolbypassrls from pg_roles
         where rolname = 'gateway_runtime'`,
      )
      expect(rows).to.deep.equal([
        {
          ...{ rolcanlogin: true, rolsuper: false, rolcreaterole: false },
          ...{ rolcreatedb: false, rolbypassrls: false },
        },
      ])
    })
  })
})

describe('the health check of the container', () => {
  const check = async (env: Record<string, string>): Promise<number> => {
    const program = `${ROOT}/scripts/healthcheck.mjs`
    return await promisify(execFile)(process.execPath, [program], { env }).then(
      () => 0,
      (error: { code: number }) => error.code,
    )
  }

  it('is 0 when the gateway lives, 1 when it does not', async () => {
    const { createServer } = await import('node:http')
    const server = createServer((request, response) => {
      response.writeHead(request.url === '/livez' ? 200 : 404).end()
    })
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve)
    })
    const { port } = server.address() as { port: number }
    expect(await check({ GATEWAY_ADMIN_LISTEN: `0.0.0.0:${port}` })).to.equal(0)
    server.closeAllConnections()
    await new Promise((resolve) => server.close(resolve))
    expect(await check({ GATEWAY_ADMIN_LISTEN: `0.0.0.0:${port}` })).to.equal(1)
  })
})
