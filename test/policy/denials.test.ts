/** Every denial of what is shipped and shown can be explained from its trace alone. */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import type { Call } from '../../src/gateway/types.ts'
import { toAskedCall } from '../../src/policy/asked-call.ts'
import { buildPolicy } from '../../src/policy/build.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'
import { readTables } from '../../src/policy/testing/table-reader.ts'
import { loadTableCheck } from '../../src/policy/testing/table-schema.ts'
import { loadTestFiles } from '../../src/policy/testing/test-files.ts'
import { POLICY_TEMPLATES, writePolicy } from '../../src/setup/policy-templates.ts'
import { blocksOf, filesOf } from './documents.ts'
import { callOf, closeFixture, fixtureCompiler, roomOn, traceOf } from './engine-fixture.ts'
import { unexplained } from './fidelity/denial.ts'
import { createFolders } from './testing/folder.ts'

const HOME = fileURLToPath(new URL('../../', import.meta.url))
const COOKBOOK = join(HOME, 'docs/policies/cookbook')
const FOLDERS = ['policies', 'examples/ownership/policies']

/** A call, and when it is made. */
interface Asked {
  readonly call: Call
  readonly nowNs: bigint
}

/** Calls for policies that have no cases. */
const CALLS: readonly Asked[] = [
  callOf(),
  callOf({ principal: { roles: ['intern'] }, argumentsText: '{"path":"../secret","limit":1000000}' }),
  callOf({ target: { name: 'delete_repo', annotations: { destructiveHint: true } }, argumentsText: null }),
  callOf({
    principal: { roles: [], teams: ['red'], tenant: null },
    argumentsText: '{"ticket":{"tenant":"x"}}',
  }),
].map((call) => ({ call, nowNs: 1_700_000_000_000_000_000n }))

describe('a denial', function () {
  this.timeout(120_000)
  const folders = createFolders('policy-denials-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  /** What the traces of denied calls do not tell, and how many were denied. */
  async function denialsOf(folder: string, calls: readonly Asked[]) {
    const cacheDir = await folders.make({})
    const policy = await buildPolicy(await loadPolicySources(folder), {
      compiler: await fixtureCompiler(),
      cacheDir,
    })
    let now = 0n
    const room = await roomOn(policy, {}, () => now)
    const evaluations = calls.map(({ call, nowNs }) => {
      now = nowNs
      const evaluation = room.decide(call)
      return { call, evaluation, trace: traceOf(evaluation) }
    })
    room.close()
    const denied = evaluations.filter(({ evaluation }) => !evaluation.allow && evaluation.failure === null)
    const mute = denied.flatMap(({ call, trace }) => {
      const why = unexplained(trace, policy.dictionary)
      return why === null ? [] : [`${call.message?.method} ${call.target?.name}: ${why}`]
    })
    return { mute, denied: denied.length }
  }

  async function casesOf(folder: string): Promise<readonly Asked[]> {
    const { cases, errors } = readTables((await loadTestFiles(folder)).tables, await loadTableCheck())
    expect(errors).to.deep.equal([])
    return cases
      .filter(({ phase, skip }) => phase === 'call' && skip === null)
      .map(({ facts, nowNs }) => ({ call: toAskedCall(facts), nowNs }))
  }

  for (const name of FOLDERS) {
    it(`by ${name} shows in every case what failed, or which rule denied, with its values`, async () => {
      const folder = join(HOME, name)
      const { mute, denied } = await denialsOf(folder, [...(await casesOf(folder)), ...CALLS])
      expect(mute).to.deep.equal([])
      expect(denied).to.be.greaterThan(0)
    })
  }

  for (const name of readdirSync(COOKBOOK).filter((file) => file.endsWith('.md') && file !== 'README.md')) {
    it(`by the recipe ${name} does so, too`, async () => {
      const folder = await folders.make(filesOf(blocksOf(readFileSync(join(COOKBOOK, name), 'utf8'))))
      const { mute, denied } = await denialsOf(folder, await casesOf(folder))
      expect(mute).to.deep.equal([])
      expect(denied).to.be.greaterThan(0)
    })
  }

  for (const template of Object.keys(POLICY_TEMPLATES) as (keyof typeof POLICY_TEMPLATES)[]) {
    it(`by the template ${template} does so, too`, async () => {
      const folder = await folders.make({})
      await writePolicy({ folder, name: 'made', template })
      const { mute, denied } = await denialsOf(folder, CALLS)
      expect(mute).to.deep.equal([])
      expect(denied).to.be.greaterThan(0)
    })
  }
})
