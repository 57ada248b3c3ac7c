import { mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import pg from 'pg'
import { toConnectionUrl } from '../../src/db/connection.ts'
import { UsageError } from '../../src/errors.ts'
import { makeBundle } from '../../src/policy/bundle.ts'
import { packArchive } from '../../src/policy/bundle-archive.ts'
import { BundleRefused } from '../../src/policy/bundle-error.ts'
import { contentOf, edition, filesOf, makeKeys } from '../policy/bundle-fixture.ts'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { TestDatabase, TestServer } from '../support/postgres.ts'
import { createTestDatabase, startServer } from '../support/postgres.ts'
import { call } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

describe('a gateway on a bundle file', function () {
  this.timeout(60_000)
  const keys = makeKeys()
  let folder: string
  let file: string
  let upstream: ScriptedUpstream
  let database: TestDatabase
  let gateway: TestGateway | null = null
  let key: string

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-bundle-file-'))
    file = join(folder, 'bundle.tar.gz')
    await writeFile(join(folder, 'release.pub.pem'), keys.publicPem)
    upstream = await startScriptedUpstream({ tools: [{ name: 'echo', inputSchema: { type: 'object' } }] })
    database = await createTestDatabase()
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  const bundle = async (name: string, sequence: number, signer = keys.signer): Promise<Buffer> =>
    await makeBundle({ ...(await contentOf({ 'rules.rego': edition(name) })), sequence }, signer)
  async function put(content: Uint8Array): Promise<void> {
    await writeFile(`${file}.new`, content)
    await rename(`${file}.new`, file)
  }
  async function start(settings: Readonly<Record<string, unknown>> = {}): Promise<void> {
    gateway = await startTestGateway({
      upstreams: { up: upstream.url },
      settings: {
        policies: file,
        policy_keys: [join(folder, 'release.pub.pem')],
        limits: { max_delay_ms: null },
        ...settings,
      },
      database,
    })
    key = await gateway.key()
  }
  const serving = (): TestGateway => gateway as TestGateway
  async function reason(): Promise<string> {
    const { requestId } = await call(`${serving().url}/mcp/up`, 'echo', {}, { key })
    const [row] = await serving().rowsOf(requestId)
    return row?.decision['authz'].allowed_by[0]
  }
  async function policyCheck(): Promise<any> {
    const response = await fetch(`${serving().adminUrl}/readyz`)
    return ((await response.json()) as any).checks.policy
  }
  async function refused(why: RegExp): Promise<void> {
    await until('the refusal', async () => why.test((await policyCheck()).pending?.error ?? ''))
  }

  it('serves it, and a new one that is moved in its place', async () => {
    await put(await bundle('one', 1))
    await start()
    expect(await reason()).to.equal('one')
    expect(await policyCheck()).to.include({ state: 'ok', sequence: 1, pending: null })
    await put(await bundle('two', 2))
    await until('the new one', async () => (await reason()) === 'two')
    const check = await until('the sequence', async () => {
      const found = await policyCheck()
      return found.sequence === 2 ? found : null
    })
    const { rows } = await database.pool.query('select sequence, revision from policy_accepted order by 1')
    expect(rows.map((row) => Number(row.sequence))).to.deep.equal([1, 2])
    expect(rows[1].revision).to.equal(check.revision)
    const admin = await serving().key({ scopes: ['gateway:admin'] })
    const metrics = await fetch(`${serving().adminUrl}/metrics`, {
      headers: { authorization: `Bearer ${admin}` },
    })
    expect(await metrics.text()).to.match(/^gateway_policy_sequence 2$/m)
  })

  it('keeps the last good one for one that is unsigned, altered, older, half written, of another key, or gone', async () => {
    const files = await filesOf(await bundle('three', 3))
    files.set('authz/more.rego', Buffer.from('package gateway.authz'))
    const whole = await bundle('three', 3)
    const cases: readonly (readonly [Uint8Array, RegExp])[] = [
      [
        await makeBundle({ ...(await contentOf({ 'rules.rego': edition('three') })), sequence: 3 }, null),
        /not signed/,
      ],
      [await packArchive(files), /not those that were signed/],
      [await bundle('older', 1), /its sequence 1 is lower than 2/],
      [await bundle('unnumbered', 0), /without a sequence/],
      [await bundle('twice', 2), /another content/],
      [whole.subarray(0, whole.length / 2), /no gzip file/],
      [await bundle('three', 3, makeKeys().signer), /none of policy_keys/],
    ]
    for (const [content, why] of cases) {
      await put(content)
      await refused(why)
      expect(await reason()).to.equal('two')
      expect(await policyCheck()).to.include({ state: 'ok', sequence: 2 })
    }
    await rm(file)
    await refused(/log says why/)
    expect(await reason()).to.equal('two')
    await put(whole)
    await until('the good one', async () => (await policyCheck()).pending === null)
    expect(await reason()).to.equal('three')
    expect(serving().log()).to.include('the last good ones stay')
  })

  it('the same content under a higher number is a release of its own', async () => {
    await put(await bundle('three', 4))
    await until('the sequence', async () => (await policyCheck()).sequence === 4)
    expect(await reason()).to.equal('three')
  })

  it('does not start on an older one after a restart, nor on a folder; with the right one it does', async () => {
    await serving().stop()
    await put(await bundle('older', 3))
    const older = await start().catch((thrown: unknown) => thrown)
    expect(older).to.be.instanceOf(BundleRefused)
    expect(String(older)).to.include('lower than 4')
    const onFolder = await start({ policies: './policies' }).catch((thrown: unknown) => thrown)
    expect(onFolder).to.be.instanceOf(UsageError)
    expect(String(onFolder)).to.include('is no bundle')
    await put(await bundle('three', 4))
    await start()
    expect(await reason()).to.equal('three')
  })

  it('without keys it serves any bundle, and says that nothing is verified', async () => {
    await serving().stop()
    await put(
      await makeBundle({ ...(await contentOf({ 'rules.rego': edition('plain') })), sequence: 0 }, null),
    )
    await start({ policy_keys: [] })
    expect(await reason()).to.equal('plain')
    expect(serving().log()).to.include('policies are not verified')
  })
})

describe('a database that goes away while policies change', function () {
  this.timeout(90_000)

  it('leaves the last good ones; when it is back the published ones are in force, and a file is remembered', async () => {
    const keys = makeKeys()
    const folder = await mkdtemp(join(tmpdir(), 'gateway-bundle-outage-'))
    const upstream = await startScriptedUpstream({
      tools: [{ name: 'echo', inputSchema: { type: 'object' } }],
    })
    const server: TestServer = await startServer()
    const pool = new pg.Pool({ ...server.runtime, max: 2 })
    pool.on('error', () => undefined)
    let gateway: TestGateway | null = null
    try {
      const file = join(folder, 'bundle.tar.gz')
      const bundle = async (name: string, sequence: number): Promise<Buffer> =>
        await makeBundle({ ...(await contentOf({ 'rules.rego': edition(name) })), sequence }, keys.signer)
      await writeFile(file, await bundle('one', 1))
      await writeFile(join(folder, 'release.pub.pem'), keys.publicPem)
      gateway = await startTestGateway({
        upstreams: { up: upstream.url },
        settings: {
          policies: file,
          policy_keys: [join(folder, 'release.pub.pem')],
          limits: { max_delay_ms: null },
        },
        database: {
          url: toConnectionUrl(server.runtime),
          migrateUrl: toConnectionUrl(server.owner),
          pool,
        },
      })
      const { adminUrl } = gateway
      const policy = async (): Promise<any> =>
        ((await (await fetch(`${adminUrl}/readyz`)).json()) as any).checks.policy
      const first = await policy()
      await server.stop('immediate')
      await writeFile(`${file}.new`, await bundle('two', 2))
      await rename(`${file}.new`, file)
      const failed = await until('the failure', async () => {
        const check = await policy()
        return check.pending === null ? null : check
      })
      expect(failed).to.include({ revision: first.revision, sequence: 1 })
      expect(failed.pending.error).to.include('the log says why')
      await server.restart()
      await until('the new one', async () => (await policy()).sequence === 2, 30_000)
      expect(await policy()).to.include({ pending: null })
    } finally {
      await gateway?.close()
      await upstream.close()
      await pool.end()
      await server.dispose()
      await rm(folder, { recursive: true, force: true })
    }
  })
})
