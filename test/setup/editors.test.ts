import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import { expect } from 'chai'
import { parse } from 'yaml'
import { POLICY_CONTRACT } from '../../src/policy/build.ts'
import { runCli } from '../support/cli.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const MODELINE = /^# yaml-language-server: \$schema=(\S+)$/m

describe('the schema of test tables', () => {
  const schema = JSON.parse(readFileSync(join(ROOT, 'schemas/policy-case.schema.json'), 'utf8')) as object
  const validate = new Ajv({ strict: false }).compile(schema)

  /** All tables that are shipped, but for those of working folders: their schema is beside them only there. */
  const tables = ['policies', 'examples', 'docs'].flatMap((folder) =>
    readdirSync(join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter((name) => /(^|\/)cases\/[^/]+\.ya?ml$/.test(name))
      .map((name) => join(ROOT, folder, name)),
  )

  it('accepts every table that is shipped, and each names it for editors', () => {
    expect(tables.length).to.be.greaterThan(4)
    for (const file of tables) {
      const text = readFileSync(file, 'utf8')
      expect(validate(parse(text)), `${file}: ${JSON.stringify(validate.errors)}`).to.equal(true)
      const [, named = ''] = MODELINE.exec(text) ?? []
      expect(resolve(dirname(file), named), file).to.equal(join(ROOT, 'schemas/policy-case.schema.json'))
    }
  })

  it('refuses what the tests would refuse, at every level', () => {
    const fine = { name: 'a', principal: 'ada', tool: 'x', expect: { allow: true } }
    expect(validate({ cases: [fine] })).to.equal(true)
    for (const wrong of [
      { case: [fine] },
      { cases: [] },
      { cases: [{ ...fine, name: undefined, nam: 'a' }] },
      { cases: [{ ...fine, expect: { alow: true } }] },
      { cases: [{ ...fine, expect: { denied_by: ['Not A Reason'] } }] },
      { cases: [{ ...fine, phase: 'listing' }] },
      { cases: [{ ...fine, now: 'yesterday' }] },
      { fixtures: { principals: { ada: { role: ['x'] } } } },
      { fixtures: { tools: { x: { annotations: true } } } },
      { cases: [{ name: 'group', cases: [{ ...fine, tool: 7 }] }] },
    ]) {
      expect(validate(wrong), JSON.stringify(wrong)).to.equal(false)
    }
  })
})

describe('a new working folder, as editors see it', function () {
  this.timeout(60_000)
  let folder: string
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'gateway-editors-'))
    expect((await runCli(['init', folder, '--server', 'github'])).code).to.equal(0)
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  const read = (name: string): string => readFileSync(join(folder, name), 'utf8')
  /** What a setting points to. */
  const target = (value: string) => resolve(folder, value.replace('${workspaceFolder}', '.'))

  it('has settings that point to what is there', () => {
    const settings = JSON.parse(read('.vscode/settings.json')) as Record<string, any>
    expect(settings['opa.roots'].map(target)).to.deep.equal([join(folder, 'policies')])
    expect(target(settings['opa.schema'])).to.equal(join(folder, 'schemas/policy-input.schema.json'))
    for (const path of [
      ...settings['opa.roots'],
      settings['opa.schema'],
      ...Object.keys(settings['yaml.schemas']),
    ])
      expect(() => statSync(target(path)), path).to.not.throw()
    expect(read('.gitignore')).to.include(`\n/${settings['coverage-gutters.coverageBaseDir']}/\n`)
    const { recommendations } = JSON.parse(read('.vscode/extensions.json'))
    expect(recommendations).to.include('tsandall.opa')
  })

  it('holds the very schemas of this version, and names them in the files they are for', () => {
    for (const name of readdirSync(join(folder, 'schemas')))
      expect(read(`schemas/${name}`), name).to.equal(readFileSync(join(ROOT, 'schemas', name), 'utf8'))
    for (const file of ['gateway.yaml', 'policies/cases/first.yaml']) {
      const [, named = ''] = MODELINE.exec(read(file)) ?? []
      expect(() => statSync(resolve(folder, dirname(file), named)), file).to.not.throw()
    }
  })

  it('tells Regal where the policies are and what is different in them', () => {
    const { project, rules } = parse(read('.regal/config.yaml')) as Record<string, any>
    expect(project).to.deep.equal({ 'rego-version': 1, roots: ['policies'] })
    expect(statSync(join(folder, project.roots[0])).isDirectory()).to.equal(true)
    expect(rules.idiomatic['directory-package-mismatch']).to.deep.equal({ level: 'ignore' })
    for (const name of POLICY_CONTRACT.sets) expect(read('.regal/config.yaml')).to.include(name)
  })

  it('is still a folder of policies that are right: none of it is taken for one', async () => {
    const checked = await runCli(['policy', 'check', join(folder, 'policies'), '--json'])
    expect([checked.code, checked.out.trim()], checked.err).to.deep.equal([0, '[]'])
  })
})
