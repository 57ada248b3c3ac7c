import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { stringify } from 'yaml'
import { createKey, revokeKey } from '../../src/auth/key-store.ts'
import { kill, unkill } from '../../src/kill/store.ts'
import type { CliResult } from '../support/cli.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const POLICY = `package gateway.authz

allow contains "developers-read" if {
	"developer" in input.principal.roles
	input.target.annotations.readOnlyHint == true
}

allow contains "admins-may" if "admin" in input.principal.roles

deny contains "foreign-tenant" if {
	input.principal.tenant != input.server.labels.tenant
}
`
const SECRET = 'kq8m2Xw0vQe7Tz4RbN1yLs6Ud9Jh3Gf5PaCoKiMeWxYz'
const object = { type: 'object' }

describe('gateway tools list', () => {
  let desk: ScriptedUpstream
  let hostile: ScriptedUpstream
  let database: TestDatabase
  let folder: string

  before(async () => {
    desk = await startScriptedUpstream({
      tools: [
        { name: 'search', inputSchema: object, annotations: { readOnlyHint: true, openWorldHint: false } },
        { name: 'delete', inputSchema: object, annotations: { destructiveHint: true } },
        { name: 'odd', inputSchema: { type: 'object', $ref: 'https://example.com/schema' } },
        { name: 'twin', inputSchema: object },
        { name: 'twin', inputSchema: object },
      ],
    })
    hostile = await startScriptedUpstream({
      tools: [
        { name: '\u001b[2Jevil\u202e\ntool', inputSchema: object, annotations: { title: '\u001b[31m' } },
      ],
    })
    database = await createTestDatabase()
    folder = await mkdtemp(join(tmpdir(), 'gateway-tools-'))
    await mkdir(join(folder, 'policies/authz'), { recursive: true })
    await writeFile(join(folder, 'policies/authz/all.rego'), POLICY)
    await configure({})
  })

  after(async () => {
    await desk?.close()
    await hostile?.close()
    await database?.drop()
    await rm(folder, { recursive: true, force: true })
  })

  async function configure(upstreams: Record<string, unknown>): Promise<void> {
    const labels = { tenant: 'acme' }
    await writeFile(
      join(folder, 'gateway.yaml'),
      stringify({
        database: { url: '${T_URL}', migrate_url: '${T_MIGRATE_URL}' },
        secret: '${T_SECRET}',
        upstreams: { desk: { url: desk.url, labels }, hostile: { url: hostile.url, labels }, ...upstreams },
      }),
    )
  }

  async function tools(args: readonly string[], isTerminal = false): Promise<CliResult> {
    const environment = { T_URL: database.url, T_MIGRATE_URL: database.migrateUrl, T_SECRET: SECRET }
    return await withEnvironment(environment, () =>
      runCli(['tools', 'list', '--config', join(folder, 'gateway.yaml'), ...args], isTerminal),
    )
  }

  const listed = (result: CliResult) => JSON.parse(result.out) as Record<string, any>[]

  it('shows every tool, its hints and what is wrong with it, without a database or a policy', async () => {
    const { code, out, err } = await tools(['--server', 'desk'])
    // What takes longer than a second is announced.
    expect(err).to.match(/^(asking the upstreams \.\.\.\n)?$/)
    expect(code).to.equal(0)
    expect(
      out
        .trimEnd()
        .split('\n')
        .map((line) => line.split('\t')),
    ).to.deep.equal([
      ['desk', 'search', 'read-only,not open-world', 'ok'],
      ['desk', 'delete', 'destructive', 'ok'],
      ['desk', 'odd', '', 'unchecked: it refers to something outside itself, or cannot be compiled'],
      ['desk', 'twin', '', 'unusable: the name is listed twice'],
    ])
  })

  it('shows names from upstreams escaped', async () => {
    for (const isTerminal of [true, false]) {
      const { out } = await tools(['--server', 'hostile'], isTerminal)
      expect(out).to.contain('\\u{001b}[2Jevil\\u{202e}\\ntool')
      for (const raw of ['\u001b[2J', '\u202e']) expect(out).not.to.contain(raw)
    }
  })

  it('tells for a role what the list would show, why, and by which line', async () => {
    const result = await tools(['--server', 'desk', '--role', 'developer', '--tenant', 'acme'])
    expect(result.code).to.equal(0)
    expect(result.err).to.contain('Kill switches were not looked at')
    const rows = result.out
      .trimEnd()
      .split('\n')
      .map((line) => line.split('\t').slice(1))
    expect(rows[0]).to.deep.equal([
      ...['search', 'read-only,not open-world', 'ok', 'allow', 'developers-read', 'authz/all.rego:3'],
    ])
    expect(rows[1]?.slice(0, 5)).to.deep.equal([
      ...['delete', 'destructive', 'ok', 'deny', 'nothing allows it'],
    ])
    expect(rows[1]?.[5], 'the rule that came closest').to.equal('authz/all.rego:3')
    expect(rows[3]).to.deep.equal(['twin', '', 'unusable: the name is listed twice'])
  })

  it('names the rule that denies although another allows', async () => {
    const [server] = listed(
      await tools(['--server', 'desk', '--role', 'admin', '--tenant', 'other', '--json']),
    )
    expect(server).to.include({ server: 'desk', status: 'up', error: null, url: desk.url })
    expect(server?.['tools'][1]).to.deep.include({
      name: 'delete',
      verdict: 'deny',
      allowed_by: ['admins-may'],
      denied_by: ['foreign-tenant'],
      failure: null,
      rules: [{ name: 'data.gateway.authz.deny', at: 'authz/all.rego:10' }],
    })
    expect(server?.['unusable']).to.deep.equal([{ name: 'twin', reason: 'the name is listed twice' }])
  })

  it('tells the same for the holder of a key, kill switches included', async () => {
    const holder = { name: 'ada', kind: 'user', roles: ['admin'], tenant: 'acme' } as const
    const settings = { ...holder, teams: [], scopes: [], claims: {}, expiresAt: null }
    const { key } = await createKey(database.pool, settings, Date.now())
    const target = { kind: 'tool', server: null, name: 'delete' } as const
    await kill(database.pool, { target, reason: 'test', actor: 'test', forMs: null })
    const [server] = listed(await tools(['--server', 'desk', '--as', key.id, '--json']))
    expect(server?.['tools'].map((tool: any) => [tool.name, tool.verdict])).to.deep.equal([
      ...[
        ['search', 'allow'],
        ['delete', 'killed'],
        ['odd', 'allow'],
      ],
    ])
    await unkill(database.pool, { target, reason: null, actor: 'test' })
    await revokeKey(database.pool, key.id)
    const revoked = await tools(['--server', 'desk', '--as', key.id])
    expect(revoked.code).to.equal(0)
    expect(revoked.err).to.contain('This key is revoked')
  })

  it('lists what it can and ends with 2 when an upstream cannot be read', async () => {
    await configure({ gone: { url: 'http://127.0.0.1:1/mcp?key=s3cret' } })
    const result = await tools(['--json'])
    expect(result.code).to.equal(2)
    expect(errorOf(result)).to.include({ code: 'unreachable' })
    expect(errorOf(result).message).to.contain('gone (http://127.0.0.1:1/mcp): ').and.contain('ECONNREFUSED')
    expect(
      listed(result).map((server) => [server['server'], server['status'], server['tools'].length]),
    ).to.deep.equal([
      ['desk', 'up', 3],
      ['hostile', 'up', 1],
      ['gone', 'down', 0],
    ])
    expect(result.out + result.err).not.to.contain('s3cret')
    await configure({})
  })

  it('refuses what cannot be meant', async () => {
    const wrong: [readonly string[], string, RegExp][] = [
      [['--server', 'nowhere'], 'not_found', /No upstream is named nowhere\. Configured: desk, hostile/],
      [['--as', 'zzzz'], 'not_found', /No key/],
      [['--as', 'zzzz', '--role', 'admin'], 'usage', /leave the other options out/],
      [['--role', 'Not A Role'], 'usage', /role/],
    ]
    for (const [args, code, message] of wrong) {
      const result = await tools([...args, '--json'])
      expect(result.code).to.equal(2)
      expect(errorOf(result).code).to.equal(code)
      expect(errorOf(result).message).to.match(message)
    }
  })

  it('says what is wrong with a policy that would not be served', async () => {
    await writeFile(
      join(folder, 'policies/authz/broken.rego'),
      'package gateway.authz\n\ndeny contains 1 if input.usr\n',
    )
    const result = await tools(['--role', 'admin', '--json'])
    await rm(join(folder, 'policies/authz/broken.rego'))
    expect(result.code).to.equal(2)
    expect(errorOf(result)).to.include({ code: 'policy' })
    expect(errorOf(result).message).to.contain('authz/broken.rego:3')
  })
})
