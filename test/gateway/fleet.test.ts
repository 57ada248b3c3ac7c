import { once } from 'node:events'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { Writable } from 'node:stream'
import { expect } from 'chai'
import type { KeySettings } from '../../src/auth/key-settings.ts'
import { createKey } from '../../src/auth/key-store.ts'
import { run } from '../../src/cli/run.ts'
import type { GatewayProcess } from '../support/gateway-process.ts'
import { makeGatewayFolder, startGatewayProcess } from '../support/gateway-process.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "has-a-role" if count(input.principal.roles) > 0
`
/** `auth.max_stale_s` of the gateways here. */
const MAX_STALE_S = 2

describe('three gateways on one database', function () {
  this.timeout(20_000)
  let folder: string
  let database: TestDatabase
  let upstream: ScriptedUpstream
  const members: GatewayProcess[] = []

  before(async function () {
    this.timeout(60_000)
    database = await createTestDatabase()
    upstream = await startScriptedUpstream({
      tools: ['echo', 'wipe'].map((name) => ({ name, inputSchema: { type: 'object' } })),
    })
    const settings = `policies: ./policies
auth: { max_stale_s: ${MAX_STALE_S}, throttle: { max_failures: 1000 } }
upstreams: { up: { url: ${upstream.url} } }
`
    folder = await makeGatewayFolder(database, settings, POLICY)
    await makeKey('first')
    // The first one compiles; the others find its build.
    members.push(await startMember())
    members.push(...(await Promise.all([startMember(), startMember()])))
  })
  after(async () => {
    for (const { process: child } of members) {
      if (child.exitCode !== null || child.signalCode !== null) continue
      child.kill('SIGCONT')
      child.kill('SIGKILL')
      await once(child, 'close')
    }
    await upstream?.close()
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  const startMember = (): Promise<GatewayProcess> => startGatewayProcess(join(folder, 'gateway.yaml'))

  async function makeKey(name: string): Promise<{ id: string; text: string }> {
    const settings: KeySettings = {
      ...{ name, kind: 'user' as const, roles: ['developer'] },
      ...{ tenant: null, teams: [], scopes: [], claims: {}, expiresAt: null },
    }
    const { key, text } = await createKey(database.pool, settings, Date.now())
    return { id: key.id, text }
  }

  async function gateway(...args: string[]): Promise<any> {
    const texts = { out: '', err: '' }
    const into = (name: 'out' | 'err') =>
      new Writable({
        write(chunk, _encoding, done) {
          texts[name] += String(chunk)
          done()
        },
      })
    const streams = { stdout: into('out'), stderr: into('err') }
    const code = await run([...args, '--yes', '--json', '--config', join(folder, 'gateway.yaml')], streams)
    expect(code, texts.err).to.equal(0)
    return JSON.parse(texts.out)
  }

  const statuses = async (key: string, tool = 'echo'): Promise<number[]> =>
    (await Promise.all(members.map(({ mcp }) => call(mcp, tool, {}, { key })))).map((reply) => reply.status)
  const names = (): string[] => members.map((member) => member.name).sort()

  it('a key made anywhere works on all, and a revoked one on none when the command returns', async () => {
    const key = await makeKey('ada')
    expect(await statuses(key.text)).to.deep.equal([200, 200, 200])
    const report = await gateway('keys', 'revoke', key.id)
    expect(report.applied.sort()).to.deep.equal(names())
    expect(report.pending).to.deep.equal([])
    expect(await statuses(key.text)).to.deep.equal([401, 401, 401])
  })

  it('a tool that is killed is refused and hidden by all when the command returns, until unkill', async () => {
    const { text } = await makeKey('bob')
    const report = await gateway('kill', 'tool', 'wipe', '--reason', 'incident', '--for', '1h')
    expect(report.applied.sort()).to.deep.equal(names())
    expect(report).to.deep.include({ known: true, pending: [] })
    expect(await statuses(text, 'wipe')).to.deep.equal([403, 403, 403])
    const list = '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}'
    for (const { mcp } of members) {
      const { json } = await post(mcp, list, legacy({ key: text }))
      expect(json.result.tools.map((tool: any) => tool.name)).to.deep.equal(['echo'])
    }
    await gateway('unkill', 'tool', 'wipe')
    expect(await statuses(text, 'wipe')).to.deep.equal([200, 200, 200])
  })

  it('one that was stopped and goes on serves no call with a key that was revoked meanwhile', async () => {
    const revoked = await makeKey('carol')
    const { text: good } = await makeKey('dave')
    expect(await statuses(revoked.text)).to.deep.equal([200, 200, 200])
    const [stopped] = members as [GatewayProcess]
    stopped.process.kill('SIGSTOP')
    const stoppedAt = performance.now()
    const waiting: Promise<RpcReply>[] = []
    try {
      const report = await gateway('keys', 'revoke', revoked.id)
      expect(report.pending, 'named after two seconds').to.deep.equal([stopped.name])
      expect(report.applied).to.have.lengthOf(2)
      await gateway('kill', 'tool', 'wipe', '--reason', 'while it slept')
      // What reaches it while it is stopped waits in the socket and is the first that it sees.
      for (let at = 0; at < 20; at += 1) waiting.push(call(stopped.mcp, 'echo', {}, { key: revoked.text }))
      waiting.push(call(stopped.mcp, 'wipe', {}, { key: good }))
      await until('it to be out of date', () => performance.now() - stoppedAt > MAX_STALE_S * 1000 + 100)
    } finally {
      stopped.process.kill('SIGCONT')
    }
    const replies = await Promise.all(waiting)
    expect(replies.pop()?.status).to.equal(403)
    expect(replies.map((reply) => reply.status)).to.deep.equal(replies.map(() => 401))
    for (let at = 0; at < 50; at += 1) {
      expect((await call(stopped.mcp, 'echo', {}, { key: revoked.text })).status).to.equal(401)
    }
    expect((await call(stopped.mcp, 'echo', {}, { key: good })).status).to.equal(200)
    const again = await gateway('unkill', 'tool', 'wipe')
    expect(again.applied.sort(), 'it has caught up').to.deep.equal(names())
    const { rows } = await database.pool.query(
      `select outcome from audit_events where principal_id = 'carol' and outcome = 'allowed'`,
    )
    expect(rows).to.have.lengthOf(members.length)
  })

  it('those whose LISTEN connection is cut still learn of changes in time, by reading', async () => {
    const { text } = await makeKey('erin')
    expect(await statuses(text)).to.deep.equal([200, 200, 200])
    let cut = 0
    let isCutting = true
    const cutting = (async () => {
      while (isCutting) {
        const { rowCount } = await database.pool.query(
          `select pg_terminate_backend(pid) from pg_stat_activity
           where application_name = 'mcp-policy-gateway/changes' and datname = current_database()`,
        )
        cut += rowCount ?? 0
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
    })()
    try {
      await until('all of them to be cut', () => cut >= members.length)
      const report = await gateway('kill', 'server', 'up', '--reason', 'incident')
      expect(report.applied.sort()).to.deep.equal(names())
      expect(await statuses(text)).to.deep.equal([403, 403, 403])
      await gateway('unkill', 'server', 'up')
      expect(await statuses(text)).to.deep.equal([200, 200, 200])
    } finally {
      isCutting = false
      await cutting
    }
    expect(members.map((member) => member.process.exitCode)).to.deep.equal([null, null, null])
  })

  it('SIGHUP has one read its policies, changed or not; a signal to stop ends it in order', async () => {
    const { text } = await makeKey('finn')
    const [one] = members as [GatewayProcess]
    one.process.kill('SIGHUP')
    await until('it to read them', () => /"unchanged".*SIGHUP/.test(one.log()), 15_000)
    await writeFile(
      join(folder, 'policies/rules.rego'),
      `${POLICY}\ndeny contains "no-echo" if input.target.name == "echo"\n`,
    )
    one.process.kill('SIGHUP')
    await until(
      'the new policy on all',
      async () => (await statuses(text)).every((status) => status === 403),
      15_000,
    )
    const { rows } = await database.pool.query('select distinct revision from policy_revisions')
    expect(rows).to.have.lengthOf(2)
    const last = members.pop() as GatewayProcess
    last.process.kill('SIGTERM')
    const [code] = await once(last.process, 'close')
    expect(code).to.equal(0)
    const { rows: left } = await database.pool.query('select name from gateway_processes order by name')
    expect(left.map((row) => row.name)).to.deep.equal(names())
  })
})
