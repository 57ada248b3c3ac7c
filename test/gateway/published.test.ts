import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { createKey } from '../../src/auth/key-store.ts'
import { makeBundle } from '../../src/policy/bundle.ts'
import { packArchive } from '../../src/policy/bundle-archive.ts'
import { publishRelease } from '../../src/releases/store.ts'
import { contentOf, edition, filesOf, makeKeys } from '../policy/bundle-fixture.ts'
import { runCli } from '../support/cli.ts'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { makeGatewayFolder, startGatewayProcess } from '../support/gateway-process.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import { call } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

/** Schemas of tools are compiled in processes of their own; this is about policies. */
const COMPILER_STARTED = /STARTED A CHILD .*runner\.mjs/

describe('policies published for three gateways', function () {
  this.timeout(60_000)
  const keys = makeKeys()
  const members: GatewayProcess[] = []
  let folder: string
  let database: TestDatabase
  let upstream: ScriptedUpstream
  let apiKey: string

  before(async () => {
    database = await createTestDatabase()
    upstream = await startScriptedUpstream({ tools: [{ name: 'echo', inputSchema: { type: 'object' } }] })
    const settings = `policies: "postgres:"
policy_keys: [./release.pub.pem]
upstreams: { up: { url: ${upstream.url} } }
`
    folder = await makeGatewayFolder(database, settings, edition('one'))
    for (const name of ['one', 'two', 'broken']) await mkdir(join(folder, name))
    await writeFile(join(folder, 'one/rules.rego'), edition('one'))
    await writeFile(join(folder, 'two/rules.rego'), edition('two'))
    await writeFile(
      join(folder, 'broken/rules.rego'),
      'package gateway.authz\n\nallow contains "x" if input.usr\n',
    )
    await writeFile(join(folder, 'release.pem'), keys.privatePem, { mode: 0o600 })
    await writeFile(join(folder, 'other.pem'), makeKeys().privatePem, { mode: 0o600 })
    await writeFile(join(folder, 'release.pub.pem'), keys.publicPem)
    const { text } = await createKey(
      database.pool,
      {
        name: 'a',
        kind: 'user',
        roles: ['dev'],
        tenant: null,
        teams: [],
        scopes: [],
        claims: {},
        expiresAt: null,
      },
      Date.now(),
    )
    apiKey = text
  })
  after(async () => {
    await Promise.all(members.map((member) => member.stop()))
    await upstream?.close()
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  async function cli(...args: string[]): Promise<{ code: number; json: any; err: string }> {
    const { code, out, err } = await runCli([...args, '--json', '--config', join(folder, 'gateway.yaml')])
    return { code, err, json: out === '' ? null : JSON.parse(out) }
  }
  const publish = (...args: string[]) => cli('policy', 'publish', ...args)
  const at = (name: string): string => join(folder, name)
  async function readiness(member: GatewayProcess): Promise<any> {
    const response = await fetch(`${member.adminUrl}/readyz`)
    return ((await response.json()) as any).checks.policy
  }
  /** By which reason each lets a call pass. */
  async function reasons(): Promise<string[]> {
    const replies = await Promise.all(members.map(({ mcp }) => call(mcp, 'echo', {}, { key: apiKey })))
    return await Promise.all(
      replies.map(async ({ requestId }) => {
        const { rows } = await database.pool.query(
          `select decision->'authz'->'allowed_by'->>0 as reason from audit_events where request_id = $1`,
          [requestId],
        )
        return rows[0].reason
      }),
    )
  }
  const names = (): string[] => members.map(({ name }) => name).sort()
  /** What somebody with the database's URL can do. */
  async function plant(bundle: Uint8Array, sequence: number): Promise<void> {
    const told = { sequence, revision: 'planted', digest: 'sha256:0', isSigned: true, rollbackOf: null }
    await publishRelease(database.pool, { ...told, bundle, actor: 'mallory' })
  }
  /** All of them have looked at the newest and still serve what they served. */
  async function allRefuse(why: RegExp, reason: string): Promise<void> {
    for (const member of members) {
      const check = await until('the refusal', async () => {
        const { pending, ...rest } = await readiness(member)
        return pending !== null && why.test(pending.error) ? { pending, ...rest } : null
      })
      expect(check).to.include({ state: 'ok' })
    }
    expect(await reasons()).to.deep.equal(members.map(() => reason))
  }

  it('a gateway does not start before something was published, and says so', async () => {
    const error = await startGatewayProcess(at('gateway.yaml')).catch((thrown: Error) => thrown)
    expect(String(error)).to.include('ended with 2').and.include('no policies have been published')
  })

  it('is signed by default: without a key, or with one that the gateways do not know, nothing is stored', async () => {
    expect(await publish(at('one'))).to.deep.include({ code: 2, json: null })
    expect((await publish(at('one'))).err).to.include('--key FILE')
    expect((await publish(at('one'), '--unsigned')).err).to.include('policy_keys')
    expect(await publish(at('one'), '--key', at('other.pem'))).to.deep.include({ code: 1 })
    expect(await publish(at('broken'), '--key', at('release.pem'))).to.deep.include({ code: 1 })
    expect(await publish(at('nowhere'), '--key', at('release.pem'))).to.deep.include({ code: 2 })
    expect((await cli('policy', 'history')).json).to.deep.equal([])
  })

  it('they serve what was published, without a compiler', async () => {
    expect((await publish(at('one'), '--key', at('release.pem'))).json).to.deep.include({
      ...{ sequence: 1, signed: true, serving: [], other: [], pending: [] },
    })
    members.push(...(await Promise.all([1, 2, 3].map(() => startGatewayProcess(at('gateway.yaml'))))))
    expect(await reasons()).to.deep.equal(['one', 'one', 'one'])
    for (const member of members) {
      expect(await readiness(member)).to.deep.include({ state: 'ok', sequence: 1, pending: null })
      expect(member.log()).to.not.match(COMPILER_STARTED)
    }
  })

  it('all switch before the command returns, within a second', async () => {
    const from = performance.now()
    const { code, json } = await publish(at('two'), '--key', at('release.pem'))
    const tookMs = performance.now() - from
    expect(code).to.equal(0)
    expect(json).to.deep.include({ sequence: 2, other: [], pending: [] })
    expect(json.serving.sort()).to.deep.equal(names())
    expect(await reasons()).to.deep.equal(['two', 'two', 'two'])
    const { rows } = await database.pool.query(
      `select extract(epoch from max(a.at) - max(b.at)) * 1000 as ms from policy_accepted a, policy_bundles b
       where a.sequence = 2 and b.sequence = 2`,
    )
    expect(Number(rows[0].ms), `${tookMs} ms in all`).to.be.lessThan(1000)
    for (const member of members) expect(member.log()).to.not.match(COMPILER_STARTED)
  })

  it('what somebody with the database puts there is refused: unsigned, altered, of another key', async () => {
    const content = await contentOf({ 'rules.rego': edition('planted') })
    await plant(await makeBundle({ ...content, sequence: 50 }, null), 50)
    await allRefuse(/not signed/, 'two')
    await plant(await makeBundle({ ...content, sequence: 51 }, makeKeys().signer), 51)
    await allRefuse(/none of policy_keys/, 'two')
    const files = await filesOf(await makeBundle({ ...content, sequence: 52 }, keys.signer))
    files.set('data.json', Buffer.from('{"a":1}'))
    await plant(await packArchive(files), 52)
    await allRefuse(/not those that were signed/, 'two')
  })

  it('an older bundle of the right key is refused when it is put there again, under whatever number', async () => {
    const { rows } = await database.pool.query('select bundle from policy_bundles where sequence = 1')
    await plant(rows[0].bundle, 60)
    await allRefuse(/its sequence 1 is lower than 2/, 'two')
    const reuse = await makeBundle(
      { ...(await contentOf({ 'rules.rego': edition('reuse') })), sequence: 2 },
      keys.signer,
    )
    await plant(reuse, 61)
    await allRefuse(/sequence 2 was in force with another content/, 'two')
  })

  it('the runtime role can neither change the history nor lower what was accepted', async () => {
    for (const sql of [
      'update policy_bundles set revision = $$x$$',
      'delete from policy_bundles',
      'update policy_accepted set sequence = 1',
      'delete from policy_accepted',
    ]) {
      const error = await database.pool.query(sql).catch((thrown: Error) => thrown)
      expect(String(error)).to.include('permission denied')
    }
  })

  it('also after a restart the last good one serves, whatever was put on top of it', async () => {
    const [first] = members.splice(0, 1)
    await first?.stop()
    members.unshift(await startGatewayProcess(at('gateway.yaml')))
    expect(await reasons()).to.deep.equal(['two', 'two', 'two'])
    expect((members[0] as GatewayProcess).log()).to.include('the newest policies do not serve')
  })

  it('rollback brings earlier content back under a new signed sequence, and the history keeps it all', async () => {
    expect((await cli('policy', 'rollback', '1')).code).to.equal(2)
    expect((await cli('policy', 'rollback', '99', '--key', at('release.pem'))).code).to.equal(2)
    const planted = await cli('policy', 'rollback', '50', '--key', at('release.pem'))
    expect(planted.code, 'nobody’s content is signed').to.equal(1)
    const moved = await cli('policy', 'rollback', '60', '--key', at('release.pem'))
    expect(moved.code).to.equal(1)
    expect(moved.err).to.include('holds the bundle of release 1')
    expect((await cli('policy', 'rollback', '6', '--key', at('release.pem'))).code).to.equal(2)
    const { code, json } = await cli('policy', 'rollback', '1', '--key', at('release.pem'))
    expect(code).to.equal(0)
    expect(json).to.deep.include({ sequence: 62, rollback_of: 1, other: [], pending: [] })
    expect(await reasons()).to.deep.equal(['one', 'one', 'one'])
    for (const member of members)
      expect(await readiness(member)).to.deep.include({ sequence: 62, pending: null })
    const history = (await cli('policy', 'history')).json
    expect(history[0]).to.deep.include({ sequence: 62, rollback_of: 1, signed: true })
    expect(history.map((one: any) => one.sequence)).to.deep.equal([62, 61, 60, 52, 51, 50, 2, 1])
  })

  it('a signed bundle is published as it is, once', async () => {
    const content = await contentOf({ 'rules.rego': edition('three') })
    await writeFile(at('b.tar.gz'), await makeBundle({ ...content, sequence: 70 }, keys.signer))
    expect((await publish(at('b.tar.gz'))).json).to.deep.include({ sequence: 70, signed: true, other: [] })
    expect(await reasons()).to.deep.equal(['three', 'three', 'three'])
    expect((await publish(at('b.tar.gz'))).err).to.include('"exists"')
    await writeFile(at('b.tar.gz'), await makeBundle({ ...content, sequence: 69 }, keys.signer))
    expect(await publish(at('b.tar.gz'))).to.deep.include({ code: 1 })
    await writeFile(at('b.tar.gz'), await makeBundle({ ...content, sequence: 0 }, null))
    expect(await publish(at('b.tar.gz'))).to.deep.include({ code: 2 })
  })

  it('the sources and data of each that served are there, so that old rows can be decided again', async () => {
    const { rows } = await database.pool.query('select revision, data_json from policy_revisions')
    expect(rows).to.have.lengthOf(3)
    expect(rows.map((row) => row.data_json)).to.deep.equal(['{}', '{}', '{}'])
    const stored = await database.pool.query(
      `select revision from policy_revisions where sources->>'rules.rego' like '%"two"%'`,
    )
    const revision = stored.rows[0].revision as string
    const { code, json } = await cli('policy', 'diff', revision, at('one'), '--rows', '5')
    expect(code).to.equal(1)
    expect(json.rules).to.deep.equal([
      {
        kind: 'changed',
        rule: 'data.gateway.authz.allow',
        before: ['rules.rego:3'],
        after: ['rules.rego:3'],
      },
    ])
    expect(json.rows).to.deep.include({ asked: 5, not_whole: 0 })
    expect(json.rows.changes).to.have.lengthOf(5)
    expect(json.rows.changes[0].before[0].allowedBy).to.deep.equal(['two'])
    expect(json.rows.changes[0].after[0].allowedBy).to.deep.equal(['one'])
    expect((await cli('policy', 'diff', revision, revision)).code).to.equal(0)
    expect((await cli('policy', 'diff', '0000', revision)).code).to.equal(2)
  })
})
