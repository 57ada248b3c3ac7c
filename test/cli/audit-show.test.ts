import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { call, denied, evaluation, newId, refused, toolsCall } from '../audit/fixtures.ts'
import { createFolders } from '../policy/testing/folder.ts'
import { errorOf, runCli } from '../support/cli.ts'
import type { AuditPlace } from './audit-fixture.ts'
import { createAuditPlace } from './audit-fixture.ts'

const POLICY = `package gateway.authz

allow contains "developers-may-call" if "developer" in input.principal.roles

deny contains "destructive-without-mfa" if {
	input.target.annotations.destructiveHint == true
	not input.principal.claims.mfa
}
`
/** With fixtures of the same names: what comes from a row must not clash with them. */
const OTHERS = `fixtures:
  principals: { anna: { roles: [] } }
  servers: { github: { labels: { env: prod } } }
  tools: { delete_repo: { server: github } }
`

describe('gateway audit show --as-case', function () {
  this.timeout(60_000)
  let place: AuditPlace
  let home: string
  const folders = createFolders('gateway-as-case-')
  const startedMs = Date.now() - 60_000
  const id = newId(startedMs)
  const input = {
    phase: 'call',
    request: { id, time: '2026-11-21T10:00:00.000Z', method: 'tools/call', ip: '10.1.2.3' },
    principal: {
      ...{ id: 'anna', kind: 'user', roles: ['developer'], tenant: 'acme', teams: ['core'], scopes: [] },
      ...{ claims: {}, auth_method: 'api_key' },
    },
    server: { name: 'github', labels: { env: 'test' } },
    target: { kind: 'tool', name: 'delete_repo', annotations: { destructiveHint: true } },
  }
  const asked = evaluation({ inputText: JSON.stringify(input) })
  const incident = denied({ id, startedMs, evaluation: asked, message: toolsCall('{"repo":"site"}') })
  const secret = denied({ evaluation: asked, message: toolsCall('{"password":"hunter2-x"}') })
  const unasked = { call: call(), ending: refused('parse_error') }
  before(async () => {
    place = await createAuditPlace()
    home = await mkdtemp(join(tmpdir(), 'gateway-as-case-'))
    await place.store(incident, secret, unasked)
  })
  after(async () => {
    await place.remove()
    await folders.remove()
    await rm(home, { recursive: true, force: true })
  })

  async function test(table: string, policy = POLICY) {
    const folder = await folders.make({ 'authz/tools.rego': policy, 'cases/fixtures.yaml': OTHERS })
    await writeFile(join(folder, 'cases', 'incident.yaml'), table)
    return await runCli(['policy', 'test', folder, '--no-color'])
  }

  it('makes a table that passes on the policy that decided, in any folder', async () => {
    const { code, out, err } = await place.run('show', id, '--as-case')
    expect(code, err).to.equal(0)
    const passed = await test(out)
    expect(passed.code, passed.out + passed.err).to.equal(0)
    expect(passed.out).to.include('1 passed')
  })

  it('and fails on one that decides differently', async () => {
    const { out } = await place.run('show', id, '--as-case')
    const failed = await test(
      out,
      POLICY.replace('not input.principal.claims.mfa', 'input.arguments.repo == "x"'),
    )
    expect(failed.code).to.equal(1)
    expect(failed.out).to.include('destructive-without-mfa')
  })

  it('is skipped, and says why, where the row does not hold what was decided on', async () => {
    const { out, err, code } = await place.run('show', secret.call.id, '--as-case')
    expect(code).to.equal(0)
    expect(err).to.include('request /params/arguments/password (secret)')
    const skipped = await test(out)
    expect(skipped.out).to.include('1 skipped').and.include('fill in, then remove this line')
    expect(skipped.out).to.not.include('1 passed')
    const { out: json } = await place.run('show', secret.call.id, '--as-case', '--json')
    expect(JSON.parse(json)).to.deep.include({ fill_in: ['request /params/arguments/password (secret)'] })
  })

  it('has nothing to make of a row whose call no policy was asked about', async () => {
    const result = await place.run('show', unasked.call.id, '--as-case', '--json')
    expect([result.code, errorOf(result).code]).to.deep.equal([1, 'check_failed'])
  })
})
