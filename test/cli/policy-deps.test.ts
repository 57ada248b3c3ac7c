import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { gateway } from './policy-fixture.ts'

const POLICY = `package gateway.authz

allow contains "role" if {
	some role in input.principal.roles
	data.org.roles[role]
}

deny contains "no-mfa" if {
	destroys
	not input.principal.claims.mfa
}

deny contains "whole-arguments" if count(input.arguments) > 10

destroys if listed(input.target.name)

listed(name) if name in data.org.destructive

unused if input.client.name == "x"
`

describe('gateway policy deps', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-deps-')
  let folder: string
  before(async () => {
    folder = await folders.make({
      'authz/a.rego': POLICY,
      'org/data.yaml': 'roles: { dev: true }\ndestructive: [drop]\n',
    })
  })
  after(() => folders.remove())

  const deps = (...args: string[]) => gateway(['policy', 'deps', '--policies', folder, ...args])
  const read = async (...args: string[]) =>
    JSON.parse((await deps(...args, '--json')).stdout) as Record<string, any>[]
  const places = async (reference: string) =>
    (await read(reference)).map(({ rule, row, reads, via }) => [rule.split('.').at(-1), row, reads, via])

  it('says of every definition what it reads, and which none leads to', async () => {
    const { code, stdout } = await deps()
    expect(code).to.equal(0)
    expect(stdout).to.include(
      [
        'data.gateway.authz.deny  authz/a.rego:8',
        '  input    input.principal.claims.mfa',
        '  rules    destroys',
      ].join('\n'),
    )
    expect(stdout).to.match(/^data\.gateway\.authz\.unused {2}authz\/a\.rego:19 {2}no decision leads to it$/m)
    for (const line of stdout.split('\n')) expect(line.length).to.be.at.most(100)
  })

  it('says of one rule also what it reads through others', async () => {
    const { code, stdout } = await deps('deny')
    expect(code).to.equal(0)
    expect(stdout).to.include('  through  input.target.name, data.org.destructive')
    expect(stdout).to.not.include('data.gateway.authz.allow')
    const [first, second] = await read('data.gateway.authz.deny')
    expect(first).to.deep.include({
      rules: ['data.gateway.authz.destroys'],
      all_input: ['input.principal.claims.mfa', 'input.target.name'],
      all_data: ['data.org.destructive'],
      reachable: true,
    })
    expect(second).to.deep.include({ input: ['input.arguments'], all_input: ['input.arguments'] })
  })

  it('says which definitions read a field, themselves or through rules', async () => {
    expect(await places('input.principal.claims.mfa')).to.deep.equal([
      ['deny', 8, ['input.principal.claims.mfa'], []],
    ])
    expect(await places('input.target.name')).to.deep.equal([
      ['deny', 8, [], ['data.gateway.authz.destroys']],
      ['destroys', 15, ['input.target.name'], []],
    ])
    expect((await deps('input.target.name')).stdout).to.include('  through  destroys')
  })

  it('takes what is read whole for read in all its parts, and the other way round', async () => {
    expect((await places('input.arguments.path')).map(([, row]) => row)).to.deep.equal([13])
    expect((await places('input.principal')).map(([, row]) => row)).to.deep.equal([3, 8])
    expect((await places('data.org')).map(([name]) => name)).to.deep.equal([
      'allow',
      'deny',
      'destroys',
      'listed',
    ])
    expect(await places('data.org.rolesque')).to.deep.equal([])
  })

  it('says that nothing reads a field: exit code 0, an empty list', async () => {
    const { code, stdout, stderr } = await deps('input.request.ip')
    expect([code, stdout]).to.deep.equal([0, ''])
    expect(stderr).to.include('No rule reads input.request.ip.')
    expect(await read('input.request.ip')).to.deep.equal([])
  })

  it('is exit code 2 for a field that the input cannot have, and for a rule that is not there', async () => {
    const field = await deps('input.principal.clams.mfa')
    expect(field.code).to.equal(2)
    expect(field.stderr).to.include('Did you mean input.principal.claims?')
    const rule = await deps('destroy')
    expect(rule.code).to.equal(2)
    expect(rule.stderr).to.include('Did you mean destroys?')
  })

  it('is exit code 1 for policies that do not build', async () => {
    const broken = await folders.make({ 'a.rego': 'package a\n\nx if input.usr\n' })
    const { code, stdout } = await gateway(['policy', 'deps', '--policies', broken])
    expect(code).to.equal(1)
    expect(stdout).to.include('P101')
  })
})
