import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { DEFAULT_POLICY_LIMITS } from '../../src/policy/engine.ts'
import { checkPolicies } from '../../src/policy/lint/check-policies.ts'
import { runPolicyTests } from '../../src/policy/testing/run-tests.ts'
import { readTables } from '../../src/policy/testing/table-reader.ts'
import { loadTableCheck } from '../../src/policy/testing/table-schema.ts'
import { blocksOf, filesOf } from './documents.ts'
import { closeFixture, fixtureCompiler } from './engine-fixture.ts'
import { createFolders } from './testing/folder.ts'

const COOKBOOK = new URL('../../docs/policies/cookbook/', import.meta.url)
const pageOf = (name: string) => readFileSync(fileURLToPath(new URL(name, COOKBOOK)), 'utf8')
const names = readdirSync(fileURLToPath(COOKBOOK)).filter(
  (name) => name.endsWith('.md') && name !== 'README.md',
)

describe('the cookbook', function () {
  this.timeout(60_000)
  const folders = createFolders('cookbook-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  it('has more than twenty recipes, all of them in its contents', () => {
    expect(names.length).to.be.greaterThan(20)
    const listed = [...pageOf('README.md').matchAll(/\]\(([\w-]+\.md)\)/g)].map(([, name]) => name)
    expect([...listed].sort()).to.deep.equal([...names].sort())
  })

  for (const name of names) {
    it(`${name}: builds without a warning, allows, denies, and its cases hold`, async () => {
      const blocks = blocksOf(pageOf(name))
      expect(blocks.filter(({ file }) => file === '')).to.deep.equal([])
      const files = filesOf(blocks)
      expect(Object.keys(files)).to.have.length(blocks.length)
      const folder = await folders.make(files)
      const options = {
        folder,
        compiler: await fixtureCompiler(),
        cacheDir: await folders.make({}),
        offered: null,
        upstreams: null,
      }
      const { warnings } = await checkPolicies(options)
      expect(warnings).to.deep.equal([])
      const run = { limits: DEFAULT_POLICY_LIMITS, filter: null, monotonicMs: () => performance.now() }
      const { results } = await runPolicyTests({ ...options, ...run })
      const failed = results.filter(({ outcome }) => outcome !== 'passed')
      expect(
        failed.map(({ name: test, labels, failure }) => [test, labels, failure?.mismatches]),
      ).to.deep.equal([])
      const tables = Object.fromEntries(Object.entries(files).filter(([file]) => file.startsWith('cases/')))
      const { cases } = readTables(tables, await loadTableCheck())
      expect(new Set(cases.map((one) => one.expect.allow))).to.deep.equal(new Set([true, false]))
    })
  }
})
