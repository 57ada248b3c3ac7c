import { mkdir, mkdtemp, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { expect } from 'chai'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call, legacy, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

/** Allows everything to whoever has a role; the reason tells which edition decided. */
const edition = (name: string, more = ''): string => `package gateway.authz

allow contains "${name}" if count(input.principal.roles) > 0
${more}`

const NO_SLOW = 'deny contains "no-slow" if input.target.name == "slow"\n'
const NO_STREAM = 'deny contains "no-stream" if input.request.method == "GET"\n'
const BROKEN = 'package gateway.authz\n\nallow contains "x" if input.usr == "a"\n'

describe('policies that change while the gateway runs', function () {
  this.timeout(20_000)
  let base: string
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    base = await mkdtemp(join(tmpdir(), 'gateway-reload-'))
    upstream = await startScriptedUpstream({
      sessions: true,
      tools: ['echo', 'slow'].map((name) => ({ name, inputSchema: { type: 'object' } })),
    })
  })
  afterEach(() => upstream.handle((_request, reply) => reply.result({ content: [] })))
  after(async () => {
    await upstream?.close()
    await rm(base, { recursive: true, force: true })
  })

  /** A gateway on a folder of policies; files by name. */
  async function serve(folder: string, files: Readonly<Record<string, string>>): Promise<void> {
    for (const [name, text] of Object.entries(files)) await put(join(folder, name), text)
    await open(folder)
  }
  async function open(folder: string): Promise<void> {
    gateway = await startTestGateway({
      upstreams: { up: upstream.url },
      // Gateway, upstream and callers share one process here: that it is late says nothing.
      settings: { policies: folder },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/up`
  }
  async function put(file: string, text: string): Promise<void> {
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, text)
  }
  async function rowOf(reply: RpcReply): Promise<Row> {
    return (await gateway.rowsOf(reply.requestId))[0] as Row
  }
  /** The reason by which a call is allowed now: the edition in force. */
  async function reasonNow(): Promise<string> {
    const { decision, outcome, reason } = await rowOf(await call(mcp, 'echo', {}, { key }))
    expect(decision, `${outcome} ${reason}`).to.have.property('authz')
    return decision['authz'].allowed_by[0]
  }
  const inForce = (name: string) => until(`edition ${name}`, async () => (await reasonNow()) === name, 15_000)
  async function policyCheck(): Promise<any> {
    const response = await fetch(`${gateway.adminUrl}/readyz`)
    const { checks } = (await response.json()) as any
    return { status: response.status, ...checks.policy }
  }
  async function metric(line: RegExp): Promise<string | undefined> {
    const admin = await gateway.key({ name: 'ops', scopes: ['gateway:admin'] })
    const headers = { authorization: `Bearer ${admin}` }
    const text = await (await fetch(`${gateway.adminUrl}/metrics`, { headers })).text()
    return text.split('\n').find((one) => line.test(one))
  }

  describe('in a folder of files', () => {
    let folder: string
    let file: string

    before(async () => {
      folder = join(base, 'plain')
      file = join(folder, 'authz/rules.rego')
      await serve(folder, { 'authz/rules.rego': edition('one') })
    })
    after(() => gateway?.close())

    it('are in force soon after a file is saved, and every row names its revision', async () => {
      const before = await policyCheck()
      expect(before).to.include({ state: 'ok', pending: null })
      const first = await rowOf(await call(mcp, 'echo', {}, { key }))
      expect(first['policy_revision']).to.equal(before.revision)
      await writeFile(file, edition('two', NO_SLOW))
      await inForce('two')
      const denied = await call(mcp, 'slow', {}, { key })
      expect(denied.status).to.equal(403)
      const after = await policyCheck()
      expect(after.revision).to.not.equal(before.revision)
      expect((await rowOf(denied))['policy_revision']).to.equal(after.revision)
      const { rows } = await gateway.database.pool.query('select revision, sources from policy_revisions')
      expect(rows.map((row) => row.revision)).to.have.members([before.revision, after.revision])
      const stored = rows.find((row) => row.revision === after.revision)
      expect(stored.sources['authz/rules.rego']).to.contain('no-slow')
      expect(await metric(/^gateway_policy_info/)).to.contain(`revision="${after.revision}"`)
    })

    it('also after an editor has put a new file in the place of the old one', async () => {
      await put(join(folder, 'authz/.rules.rego.swp'), edition('three'))
      await rename(join(folder, 'authz/.rules.rego.swp'), file)
      await inForce('three')
    })

    it('also when only data change, with which the module stays the same', async () => {
      const ruled = 'allow contains data.labels.edition if count(input.principal.roles) > 0\n'
      await writeFile(file, `package gateway.authz\n\n${ruled}`)
      await put(join(folder, 'labels/data.json'), '{"edition": "from-data"}')
      await inForce('from-data')
      const { digest } = await policyCheck()
      await put(join(folder, 'labels/data.json'), '{"edition": "from-other-data"}')
      await inForce('from-other-data')
      expect((await policyCheck()).digest).to.equal(digest)
      await rm(join(folder, 'labels'), { recursive: true })
      await writeFile(file, edition('four'))
      await inForce('four')
    })

    it('that do not check leave the last good ones, and readiness, log and metric say so until they are mended', async () => {
      const good = await policyCheck()
      await writeFile(file, BROKEN)
      const failed = await until('the failure', async () => {
        const check = await policyCheck()
        return check.pending === null ? null : check
      })
      expect(failed).to.include({ status: 200, state: 'ok', revision: good.revision })
      expect(failed.pending.error).to.match(/^authz\/rules\.rego:3:\d+: /)
      expect(Date.parse(failed.pending.failed_since)).to.be.closeTo(Date.now(), 10_000)
      expect(gateway.log()).to.match(/"level":"error".*usr.*the last good ones stay/)
      expect(await metric(/^gateway_policy_reload_failed/)).to.equal('gateway_policy_reload_failed 1')
      expect(await reasonNow()).to.equal('four')
      // Another mistake does not move the moment since when it lasts.
      await writeFile(file, 'package gateway.authz\n\nallow contains\n')
      const still = await until('the other failure', async () => {
        const check = await policyCheck()
        return check.pending.error === failed.pending.error ? null : check
      })
      expect(still.pending.failed_since).to.equal(failed.pending.failed_since)
      await writeFile(file, edition('five'))
      await inForce('five')
      expect(await policyCheck()).to.include({ pending: null })
      expect(await metric(/^gateway_policy_reload_failed/)).to.equal('gateway_policy_reload_failed 0')
      expect(await metric(/reloads_total\{result="failed"\}/)).to.match(/ [12]$/)
    })

    it('a folder that is taken away leaves the last good ones; put back, nothing has to be built anew', async () => {
      const good = await policyCheck()
      await rename(folder, `${folder}-away`)
      await until('the failure', async () => (await policyCheck()).pending !== null)
      expect(await reasonNow()).to.equal('five')
      await rename(`${folder}-away`, folder)
      await until('the end of it', async () => (await policyCheck()).pending === null)
      expect((await policyCheck()).revision).to.equal(good.revision)
      await writeFile(file, edition('six'))
      await inForce('six')
    })

    it('no call fails while they change, and none sees two of them', async () => {
      let stop = false
      const replies: RpcReply[] = []
      const caller = async (): Promise<void> => {
        while (!stop) {
          const list = '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{}}'
          replies.push(await call(mcp, 'slow', {}, { key }), await post(mcp, list, legacy({ key })))
        }
      }
      const callers = Array.from({ length: 4 }, caller)
      for (const name of ['seven', 'nine']) {
        await writeFile(file, edition(name))
        await inForce(name)
      }
      stop = true
      await Promise.all(callers)
      expect(replies.map((reply) => reply.status).filter((status) => status !== 200)).to.deep.equal([])
      const { rows } = await gateway.database.pool.query<Row>(
        `select policy_revision, decision->'authz'->'allowed_by'->>0 as reason,
           array(select jsonb_path_query(decision, '$.listed[*].allowed_by[0]')#>>'{}') as listed
         from audit_events where method in ('tools/list', 'tools/call')`,
      )
      const editions = new Map<string, Set<string>>()
      for (const row of rows) {
        const seen = editions.get(row['policy_revision']) ?? new Set()
        editions.set(row['policy_revision'], seen)
        for (const reason of [row.reason, ...row['listed']]) if (reason !== null) seen.add(reason)
      }
      for (const [revision, reasons] of editions) expect([...reasons], revision).to.have.lengthOf.at.most(1)
    })

    it('a list that was asked for before is cut down by the policy that allowed it', async () => {
      const tools = { tools: [{ name: 'echo', inputSchema: { type: 'object' } }] }
      let answer = (): void => undefined
      upstream.handle((_request, reply) => {
        answer = () => reply.result({ resources: [{ uri: 'file:///a', name: 'a' }], ...tools })
      })
      const asked = upstream.waitFor('resources/list')
      const list = '{"jsonrpc":"2.0","id":1,"method":"resources/list","params":{}}'
      const pending = post(mcp, list, legacy({ key }))
      await asked
      const { revision } = await policyCheck()
      await writeFile(
        file,
        edition('ten', 'deny contains "no-resources" if input.target.kind == "resource"\n'),
      )
      await until('the new policy', async () => (await policyCheck()).revision !== revision)
      answer()
      const reply = await pending
      expect(reply.json.result.resources).to.have.lengthOf(1)
      const row = await rowOf(reply)
      expect(row['policy_revision']).to.equal(revision)
      expect(row.decision['listed'][0].allowed_by).to.deep.equal(['nine'])
    })

    it('open streams that the new policy does not allow end, and the row shows its decision', async () => {
      upstream.handle((_request, reply) => void reply.stream().raw(': open\n\n'))
      const init = {
        ...{ jsonrpc: '2.0', id: 1, method: 'initialize' },
        params: { protocolVersion: '2025-11-25', capabilities: {}, clientInfo: { name: 't', version: '1' } },
      }
      const session =
        (await post(mcp, JSON.stringify(init), legacy({ key }))).headers.get('mcp-session-id') ?? ''
      const stream = await fetch(mcp, {
        headers: { authorization: `Bearer ${key}`, accept: 'text/event-stream', 'mcp-session-id': session },
      })
      expect(stream.status).to.equal(200)
      await writeFile(file, edition('eleven', NO_STREAM))
      await stream.text()
      const rows = await until('the row', async () => {
        const found = await gateway.rowsOf(stream.headers.get('x-request-id'))
        return found.length > 0 ? found : null
      })
      expect(rows[0]).to.include({ outcome: 'denied_authz', reason: 'policy_denied' })
      expect(rows[0]?.decision['authz'].denied_by).to.deep.equal(['no-stream'])
      expect(rows[0]?.['policy_revision']).to.equal((await policyCheck()).revision)
    })
  })

  describe('in a mounted volume whose link is exchanged', () => {
    const folder = (): string => join(base, 'volume')

    async function mount(version: number, text: string): Promise<void> {
      await put(join(folder(), `..v${version}/rules.rego`), text)
      await symlink(`..v${version}`, join(folder(), '..data_tmp'))
      await rename(join(folder(), '..data_tmp'), join(folder(), '..data'))
    }

    before(async () => {
      await mount(1, edition('first'))
      await symlink('..data/rules.rego', join(folder(), 'rules.rego'))
      await open(folder())
    })
    after(() => gateway?.close())

    it('are in force soon after each exchange', async () => {
      expect(await reasonNow()).to.equal('first')
      for (const [version, name] of [
        [2, 'second'],
        [3, 'third'],
      ] as const) {
        await mount(version, edition(name))
        await rm(join(folder(), `..v${version - 1}`), { recursive: true })
        await inForce(name)
      }
    })
  })

  describe('behind a link to the current release', () => {
    before(async () => {
      await put(join(base, 'r1/rules.rego'), edition('release-1'))
      await put(join(base, 'r2/rules.rego'), edition('release-2'))
      await symlink('r1', join(base, 'current'))
      await open(join(base, 'current'))
    })
    after(() => gateway?.close())

    it('are in force soon after the link points elsewhere', async () => {
      expect(await reasonNow()).to.equal('release-1')
      await symlink('r2', join(base, 'next'))
      await rename(join(base, 'next'), join(base, 'current'))
      await inForce('release-2')
    })
  })
})
