import { expect } from 'chai'
import { checkPolicies } from '../../../src/policy/lint/check-policies.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'
import { createFolders } from '../testing/folder.ts'

const AUTHZ = 'package gateway.authz\n\nallow contains "team" if "team" in input.principal.teams\n'

describe('the warning about upstreams that are not configured', function () {
  this.timeout(30_000)
  const folders = createFolders('gateway-upstreams-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  async function warnings(
    files: Readonly<Record<string, string>>,
    upstreams: readonly string[] | null = ['github', 'crm'],
  ) {
    const folder = await folders.make({ 'authz.rego': AUTHZ, ...files })
    const options = { folder, compiler: await fixtureCompiler(), cacheDir: null, offered: null, upstreams }
    return (await checkPolicies(options)).warnings
  }

  it('marks the name in the package clause, once for each upstream', async () => {
    const [one, ...more] = await warnings({
      'server/githup/a.rego':
        '# ours\npackage gateway.server.githup\n\ndeny contains "a" if input.phase == "call"\n',
      'server/githup/b.rego':
        'package gateway.server.githup\n\nallow contains "b" if input.phase == "call"\n',
      'server/crm/a.rego': 'package gateway.server.crm\n\nallow contains "a" if input.phase == "call"\n',
    }).then((all) => all.filter(({ code }) => code === 'unknown_upstream'))
    expect(more).to.deep.equal([])
    expect(one).to.deep.equal({
      ...{ file: 'server/githup/a.rego', row: 2, col: 24, endCol: 30, code: 'unknown_upstream' },
      message: 'gateway.yaml has no upstream githup',
      hint: 'did you mean github?',
      line: 'package gateway.server.githup',
    })
  })

  it('knows a folder that holds data alone, and names in brackets', async () => {
    const found = await warnings({
      'server/billing-eu/data.yaml': 'owner: money\n',
      'server/old-crm/p.rego':
        'package gateway.server["old-crm"]\n\nallow contains "a" if input.principal.id == "a"\n',
    })
    expect(found.map(({ file, row, col, message, hint }) => [file, row, col, message, hint])).to.deep.equal([
      [
        'server/billing-eu/data.yaml',
        0,
        0,
        'gateway.yaml has no upstream billing-eu',
        'upstreams: github, crm',
      ],
      ['server/old-crm/p.rego', 1, 25, 'gateway.yaml has no upstream old-crm', 'upstreams: github, crm'],
    ])
  })

  it('marks members of data that the name of an upstream chooses', async () => {
    const found = await warnings({
      'authz/tools.rego':
        'package gateway.authz\n\nallow contains "listed" if input.target.name in data.tools[input.server.name].read\n',
      'tools/data.yaml': 'github: { read: [search] }\ncmr: { read: [find] }\n',
    })
    expect(found.map(({ file, row, col, hint }) => [file, row, col, hint])).to.deep.equal([
      ['tools/data.yaml', 2, 1, 'did you mean crm?'],
    ])
  })

  it('takes a name in a rule for misspelt when a configured one is near, and for another gateway’s otherwise', async () => {
    const found = await warnings({
      'authz/frozen.rego': `package gateway.authz

deny contains "frozen" if {
	input.server.name in {"githb", "warehouse"}
	input.target.name == "delete_repo"
}
`,
    })
    expect(found.map(({ row, col, message }) => [row, col, message])).to.deep.equal([
      [4, 24, 'gateway.yaml has no upstream githb'],
    ])
  })

  it('says nothing without a configuration, or with one that has no upstreams yet', async () => {
    const files = {
      'server/githup/a.rego':
        'package gateway.server.githup\n\nallow contains "a" if input.principal.id == "a"\n',
    }
    expect(await warnings(files, null)).to.deep.equal([])
    expect(await warnings(files, [])).to.deep.equal([])
  })
})
