import { readFileSync, writeFileSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Ajv } from 'ajv'
import { expect } from 'chai'
import { DEFAULT_POLICY_LIMITS } from '../../src/policy/engine.ts'
import { checkPolicies } from '../../src/policy/lint/check-policies.ts'
import { runPolicyTests } from '../../src/policy/testing/run-tests.ts'
import { gateway, normalised } from '../cli/policy-fixture.ts'
import { blocksOf, filesOf } from './documents.ts'
import { buildFixture, closeFixture, fixtureCompiler } from './engine-fixture.ts'
import { createFolders } from './testing/folder.ts'

const pathOf = (page: string) => fileURLToPath(new URL(`../../docs/policies/${page}`, import.meta.url))

describe('the examples in docs/policies', function () {
  this.timeout(60_000)
  const folders = createFolders('documents-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  /** Output of the commands of a console block, with the lines of the commands. */
  async function played(text: string, folder: string): Promise<string> {
    const commands = text.split('\n').filter((line) => line.startsWith('$ gateway '))
    const shown: string[] = []
    for (const command of commands) {
      const args = command.slice('$ gateway '.length).split(' ')
      const { code, stdout, stderr } = await gateway(args.map((arg) => (arg === 'policies' ? folder : arg)))
      expect(code, stderr).to.be.at.most(1)
      // What takes long says that it is at work; how long it takes is no part of the page.
      const errors = stderr.replace(/^.* \.\.\.\n/gm, '')
      shown.push(command, `${stdout}${errors}`.replaceAll(folder, 'policies').trimEnd())
    }
    return `${shown.join('\n')}\n`
  }

  for (const page of ['tutorial.md', 'reading-a-trace.md']) {
    it(`${page}: what the commands print is what stands there`, async () => {
      const text = readFileSync(pathOf(page), 'utf8')
      const root = await folders.make({})
      const folder = join(root, 'policies')
      let [updated, from] = ['', 0]
      for (const { file, language, text: shown, row, offset } of blocksOf(text)) {
        if (file !== '') {
          await mkdir(dirname(join(root, file)), { recursive: true })
          await writeFile(join(root, file), shown)
        } else if (language === 'console') {
          const printed = await played(shown, folder)
          updated += `${text.slice(from, offset)}${printed}`
          from = offset + shown.length
          // UPDATE_GOLDEN=1 writes the page instead.
          if (process.env['UPDATE_GOLDEN'] !== '1')
            expect(normalised(printed, folder), `${page}:${row}`).to.equal(normalised(shown, folder))
        } else throw new Error(`${page}:${row}: what is this?`)
      }
      if (process.env['UPDATE_GOLDEN'] === '1') writeFileSync(pathOf(page), updated + text.slice(from))
    })
  }

  it('contract.md: the policy holds its cases, the input is of the schema', async () => {
    const blocks = blocksOf(readFileSync(pathOf('contract.md'), 'utf8'))
    const folder = await folders.make(filesOf(blocks))
    const options = {
      folder,
      compiler: await fixtureCompiler(),
      cacheDir: await folders.make({}),
      offered: null,
      upstreams: null,
    }
    expect((await checkPolicies(options)).warnings).to.deep.equal([])
    const run = { limits: DEFAULT_POLICY_LIMITS, filter: null, monotonicMs: () => performance.now() }
    const { results } = await runPolicyTests({ ...options, ...run })
    expect(results.filter(({ outcome }) => outcome !== 'passed')).to.deep.equal([])
    expect(results).to.have.length(4)
    const [input, ...more] = blocks.filter(({ file }) => file === '')
    expect([input?.language, more]).to.deep.equal(['json', []])
    const schema = JSON.parse(await readFile('schemas/policy-input.schema.json', 'utf8')) as object
    const validate = new Ajv({ strict: false }).compile(schema)
    expect(validate(JSON.parse(input?.text ?? '')), JSON.stringify(validate.errors)).to.equal(true)
  })

  it('performance.md: every rule builds', async () => {
    const blocks = blocksOf(readFileSync(pathOf('performance.md'), 'utf8')).filter(
      ({ language }) => language === 'rego',
    )
    expect(blocks.length).to.be.greaterThan(2)
    for (const { text } of blocks) await buildFixture(text)
  })

  it('lead to pages that are there', () => {
    for (const page of [
      'tutorial.md',
      'contract.md',
      'reading-a-trace.md',
      'performance.md',
      'cookbook/README.md',
    ]) {
      const links = [...readFileSync(pathOf(page), 'utf8').matchAll(/\]\(([^)#:]+)(?:#[\w-]+)?\)/g)]
      for (const [, target = ''] of links) {
        const file = join(dirname(pathOf(page)), target)
        expect(() => readFileSync(file), `${page} -> ${target}`).not.to.throw()
      }
    }
  })
})
