import { expect } from 'chai'
import { DEFAULT_POLICY_LIMITS } from '../../../src/policy/engine.ts'
import type { Coverage } from '../../../src/policy/testing/coverage.ts'
import { runPolicyTests } from '../../../src/policy/testing/run-tests.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'
import { createFolders } from './folder.ts'

const HEAD = `fixtures:
  principals: { eng: { roles: [eng] }, ops: { roles: [ops] } }
  tools: { read: { server: s }, drop: { server: s, annotations: { destructiveHint: true } } }
`

describe('coverage of policies by their tests', function () {
  this.timeout(60_000)
  const folders = createFolders('policy-coverage-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  async function cover(
    files: Readonly<Record<string, string>>,
    filter: RegExp | null = null,
  ): Promise<Coverage> {
    const options = { compiler: await fixtureCompiler(), cacheDir: null, limits: DEFAULT_POLICY_LIMITS }
    const run = { ...options, folder: await folders.make(files), filter, coverage: true }
    const { coverage } = await runPolicyTests({ ...run, monotonicMs: () => 0 })
    if (coverage === null) throw new Error('no coverage')
    return coverage
  }
  /** `row state reached/held <- row behind`. */
  const states = ({ files }: Coverage) =>
    files.flatMap(({ items }) =>
      items.map(
        ({ row, state, reached, held, behind }) =>
          `${row} ${state} ${reached}/${held}${behind === null ? '' : ` <- ${behind}`}`,
      ),
    )
  const reasons = ({ unproduced }: Coverage) =>
    unproduced.map(({ rule, reason, file, row }) => `${rule} ${reason} ${file}:${row}`)

  const POLICY = `package gateway.authz

allow contains "eng" if "eng" in input.principal.roles

allow contains "always"

deny contains "destructive" if {
	input.target.annotations.destructiveHint == true
	not input.principal.claims.mfa
}

deny contains "frozen" if {
	data.freeze.active
	input.target.name == "read"
	input.principal.id != "root"
}

limits contains {"name": "n", "key": [], "limit": 1, "window_s": 1} if helper("x")

helper(name) if name == "never asked"
`

  it('tells expressions that held, never held and were never reached apart, each with its reason', async () => {
    const coverage = await cover({
      'authz/p.rego': POLICY,
      'freeze/data.yaml': 'active: false\n',
      'cases/a.yaml': `${HEAD}cases: [{ name: a, principal: [eng, ops], tool: read, expect: { allow: true } }]`,
    })
    expect(states(coverage)).to.deep.equal([
      '3 covered 2/1',
      '5 covered 2/2',
      '8 never_true 2/0',
      '9 never_reached 0/0 <- 8',
      '13 never_true 2/0',
      '14 never_reached 0/0 <- 13',
      '15 never_reached 0/0 <- 14',
      '18 never_true 2/0',
      '20 never_true 2/0',
    ])
    expect(coverage.counts).to.deep.equal({
      ...{ expressions: 9, covered: 2, neverTrue: 4, neverReached: 3 },
      percent: (2 / 9) * 100,
    })
    expect(reasons(coverage)).to.deep.equal([
      'deny destructive authz/p.rego:7',
      'deny frozen authz/p.rego:12',
    ])
  })

  it('adds up what tables and rules test_.. cover, and does not count tests as policy', async () => {
    const files = {
      'authz/p.rego': POLICY,
      'cases/a.yaml': `${HEAD}cases: [{ name: a, principal: ops, tool: drop, expect: { denied_by: [destructive] } }]`,
      'authz/p_test.rego': `package p_test

import data.gateway.authz

test_frozen if "frozen" in authz.deny with data.freeze.active as true with input as {"target": {"name": "read"}, "principal": {"id": "a", "roles": []}}

test_helper if authz.helper("never asked")
`,
    }
    const coverage = await cover(files)
    expect(coverage.files.map(({ file }) => file)).to.deep.equal(['authz/p.rego'])
    const uncovered = coverage.files[0]?.items.filter(({ state }) => state !== 'covered')
    expect(uncovered?.map(({ row, state }) => `${row} ${state}`)).to.deep.equal([
      '3 never_true',
      '18 never_true',
    ])
    expect(reasons(coverage)).to.deep.equal(['allow eng authz/p.rego:3'])

    const some = await cover(files, /test_helper/)
    expect(states(some).filter((line) => line.includes(' covered'))).to.deep.equal(['20 covered 1/1'])
  })

  it('counts every evaluation, however many there are, and also those of lists', async () => {
    const coverage = await cover({
      'authz/p.rego': `package gateway.authz

allow contains "all" if {
	some n in numbers.range(1, 5000)
	n > 4999
}

deny contains "listed" if input.phase == "list"
`,
      'cases/a.yaml': `${HEAD}cases: [{ name: a, phase: list, principal: eng, tool: read }]`,
    })
    expect(states(coverage)).to.deep.equal(['4 covered 1/5000', '5 covered 5000/1 <- 4', '8 covered 1/1'])
  })

  it('looks into both sides of or, and of a not with a body', async () => {
    const coverage = await cover({
      'authz/p.rego': `package gateway.authz

import future.keywords.not
import future.keywords.or

allow contains "sides" if {
	input.principal.id == "nobody" or input.principal.id == "eng"
	input.principal.id == "eng" or input.principal.id == "nobody"
	not {
		input.principal.id == "ops"
		input.principal.kind == "robot"
	}
}
`,
      'cases/a.yaml': `${HEAD}cases: [{ name: a, principal: eng, tool: read, expect: { allow: true } }]`,
    })
    expect(states(coverage)).to.deep.equal([
      '7 covered 1/1',
      '7 never_true 1/0',
      '7 covered 1/1',
      '8 covered 1/1 <- 7',
      '8 covered 1/1',
      '8 never_reached 0/0',
      '9 covered 1/1 <- 8',
      '10 never_true 1/0',
      '11 never_reached 0/0 <- 10',
    ])
  })

  it('looks into comprehensions and every', async () => {
    const coverage = await cover({
      'authz/p.rego': `package gateway.authz

allow contains "names" if {
	count([role |
		some role in input.principal.roles
		role != "eng"
	]) == 0
}

deny contains "every" if {
	every role in input.principal.roles {
		role == "nobody"
		startswith(role, "n")
	}
}

deny contains reason if {
	some reason in input.principal.claims.reasons
}
`,
      'cases/a.yaml': `${HEAD}cases: [{ name: a, principal: eng, tool: read, expect: { allow: true } }]`,
    })
    expect(states(coverage)).to.deep.equal([
      '4 covered 1/1',
      '5 covered 1/1',
      '6 never_true 1/0 <- 5',
      '11 never_true 1/0',
      '12 never_true 1/0',
      '13 never_reached 0/0 <- 12',
      '18 never_true 1/0',
    ])
    // A reason that is no constant is known by its definition.
    expect(reasons(coverage)).to.deep.equal(['deny every authz/p.rego:10', 'deny null authz/p.rego:17'])
  })
})
