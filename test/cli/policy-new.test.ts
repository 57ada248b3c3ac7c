import { readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { POLICY_TEMPLATES } from '../../src/setup/policy-templates.ts'
import { createFolders } from '../policy/testing/folder.ts'
import { gateway } from './policy-fixture.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const ALLOW = 'package gateway.authz\n\nallow contains "all" if input.principal.id\n'
const NAMES = Object.keys(POLICY_TEMPLATES)

describe('gateway policy new', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-new-')
  after(() => folders.remove())

  const make = (folder: string, name: string, template: string, ...more: string[]) =>
    gateway(['policy', 'new', name, '--template', template, '--policies', folder, ...more])

  it('has a folder for every template, and no other', () => {
    expect(readdirSync(join(ROOT, 'templates/policies')).sort()).to.deep.equal([...NAMES].sort())
  })

  it('writes policies that are right as they stand: no message, formatted, tests that pass, all in one folder', async () => {
    const folder = await folders.make({ 'authz/all.rego': ALLOW })
    for (const template of NAMES) {
      const { code, stderr } = await make(folder, `my-${template}`, template)
      expect(code, stderr).to.equal(0)
    }
    const checked = await gateway(['policy', 'check', folder, '--json'])
    expect([checked.code, JSON.parse(checked.stdout)]).to.deep.equal([0, []])
    expect((await gateway(['policy', 'fmt', folder, '--check'])).code).to.equal(0)
    const tested = await gateway(['policy', 'test', folder, '--json'])
    expect(tested.code, tested.stdout).to.equal(0)
    for (const template of NAMES) expect(tested.stdout).to.include(`authz/my-${template}_test.rego`)
  })

  it('says what to run next, and tells programs what it made', async () => {
    const folder = await folders.make({ 'authz/all.rego': ALLOW })
    const { stdout, stderr } = await make(folder, 'night', 'business-hours')
    expect(stdout).to.equal(`created  ${folder}/authz/night.rego\ncreated  ${folder}/authz/night_test.rego\n`)
    expect(stderr).to.include(`Next: gateway policy test ${folder} --run night`)
    const made = JSON.parse((await make(folder, 'day', 'business-hours', '--json')).stdout)
    expect(made.files).to.deep.equal(['authz/day.rego', 'authz/day_test.rego'])
    const text = readFileSync(join(folder, 'authz/night.rego'), 'utf8')
    expect(text).to.include('deny contains "night" if').and.not.include('@')
  })

  it('writes nothing over, not even half of it', async () => {
    const folder = await folders.make({ 'authz/all.rego': ALLOW, 'authz/night_test.rego': 'package mine\n' })
    const { code, stderr } = await make(folder, 'night', 'role')
    expect(code).to.equal(2)
    expect(stderr).to.include('authz/night_test.rego is there already')
    expect(() => statSync(join(folder, 'authz/night.rego'))).to.throw('ENOENT')
    expect(readFileSync(join(folder, 'authz/night_test.rego'), 'utf8')).to.equal('package mine\n')
  })

  it('refuses names that could not be a reason, a rule or a file', async () => {
    const folder = await folders.make({ 'authz/all.rego': ALLOW })
    for (const name of ['Night', '../x', 'a/b', 'a_b', '1a', 'a-', 'gwtr', 'gwtr-a', 'a'.repeat(65), 'ü']) {
      const { code, stderr } = await make(folder, name, 'role')
      expect([code, stderr.includes('is no name for a policy')], name).to.deep.equal([2, true])
    }
    expect(readdirSync(join(folder, 'authz'))).to.deep.equal(['all.rego'])
  })

  it('needs a template that there is, and a folder', async () => {
    const folder = await folders.make({ 'authz/all.rego': ALLOW })
    const other = await make(folder, 'a', 'nonsense')
    expect(other.code).to.equal(2)
    expect(other.stderr).to.include('argument-bounds')
    expect((await gateway(['policy', 'new', 'a', '--policies', folder])).code).to.equal(2)
    expect((await make('/nowhere/at/all', 'a', 'role')).stderr).to.include('gateway init')
    writeFileSync(join(folder, 'file'), '')
    expect((await make(join(folder, 'file'), 'a', 'role')).code).to.equal(2)
  })

  it('lists the templates in its help', async () => {
    const { stdout } = await gateway(['policy', 'new', '--help'])
    for (const [name, about] of Object.entries(POLICY_TEMPLATES))
      expect(stdout).to.include(`${name.padEnd(18)}${about}`)
  })
})
