import { resolve } from 'node:path'
import { expect } from 'chai'
import type { Evaluation, Target } from '../../src/gateway/types.ts'
import { PolicyBuildError, toMessageDocuments } from '../../src/policy/build-error.ts'
import { DEFAULT_POLICY_LIMITS } from '../../src/policy/engine.ts'
import { lintListPhase } from '../../src/policy/lint/list-phase.ts'
import { ownershipErrors, upstreamsWithPackage } from '../../src/policy/ownership.ts'
import { productModule } from '../../src/policy/product-module.ts'
import { runPolicyTests } from '../../src/policy/testing/run-tests.ts'
import { ruleName } from '../../src/trace/shape.ts'
import { buildFixture, callOf, closeFixture, fixtureCompiler, roomOn, traceOf } from './engine-fixture.ts'
import { createFolders } from './testing/folder.ts'

type Files = Readonly<Record<string, string>>

const file = (upstream: string, body: string): Files => ({
  [`server/${upstream}/p.rego`]: `package gateway.server[${JSON.stringify(upstream)}]\n\n${body}\n`,
})

describe('policies with many owners', function () {
  this.timeout(60_000)
  const folders = createFolders('ownership-')
  after(async () => {
    await folders.remove()
    await closeFixture()
  })

  async function decide(files: Files, server: string, organisation = ''): Promise<Evaluation> {
    const room = await roomOn(await buildFixture(organisation, {}, files))
    return room.decide(callOf({ server: { name: server } }))
  }

  async function refused(files: Files, data = {}): Promise<readonly string[]> {
    try {
      await buildFixture('allow contains "x" if input.principal.id == "nobody"', data, files)
    } catch (error) {
      if (!(error instanceof PolicyBuildError)) throw error
      return toMessageDocuments(error.errors).map((document) => {
        const {
          id,
          file: at,
          row,
          message,
        } = document as { id: string; file: string; row: number; message: string }
        return `${id} ${at}:${row} ${message}`
      })
    }
    throw new Error('it was accepted')
  }

  describe('what the owners of an upstream say', () => {
    const files = {
      ...file(
        'my-upstream',
        'allow contains "mine"\n\nobligations contains {"kind": "audit_payload", "level": "metadata"}',
      ),
      ...file('other', 'deny contains "closed"\n\nallow contains "theirs"'),
    }

    it('allows at their upstream', async () => {
      const evaluation = await decide(files, 'my-upstream')
      expect(evaluation).to.include({ allow: true, failure: null })
      expect(evaluation.allowedBy).to.deep.equal(['mine'])
      expect(evaluation.obligations).to.have.length(1)
    })

    it('denies at their upstream, whoever allows', async () => {
      const evaluation = await decide(files, 'other', 'allow contains "organisation"')
      expect(evaluation.allow).to.equal(false)
      expect(evaluation.allowedBy).to.deep.equal(['organisation', 'theirs'])
      expect(evaluation.deniedBy).to.deep.equal(['closed'])
    })

    it('is outweighed by a deny of the organisation', async () => {
      const evaluation = await decide(files, 'my-upstream', 'deny contains "organisation"')
      expect(evaluation.allow).to.equal(false)
      expect(evaluation.allowedBy).to.deep.equal(['mine'])
      expect(evaluation.deniedBy).to.deep.equal(['organisation'])
    })

    it('says nothing about any other upstream, not even one whose name begins alike', async () => {
      for (const name of ['third', 'my-upstream2', 'my', 'MY-UPSTREAM', '']) {
        const evaluation = await decide(files, name)
        expect([
          evaluation.allow,
          evaluation.allowedBy,
          evaluation.deniedBy,
          evaluation.obligations,
        ]).to.deep.equal([false, [], [], []], name)
      }
    })

    it('adds limits that have counters of their own', async () => {
      const limit = '{"name": "calls", "key": [input.principal.id], "limit": 3, "window_s": 60}'
      const both = {
        ...file('a', `allow contains "x"\n\nlimits contains ${limit}`),
        ...file('b', `allow contains "x"\n\nlimits contains ${limit}`),
      }
      const keys = async (server: string) =>
        (await decide(both, server, `limits contains ${limit}`)).limits.map(({ key }) => key)
      expect(await keys('a')).to.deep.equal([['alice'], ['server', 'a', 'alice']])
      expect(await keys('b')).to.deep.equal([['alice'], ['server', 'b', 'alice']])
      expect(await keys('c')).to.deep.equal([['alice']])
    })

    it('denies at their upstream alone when a limit has a wrong shape', async () => {
      for (const limit of [
        '"calls"',
        '{"name": "x"}',
        '{"name": "x", "key": "k", "limit": 1, "window_s": 1}',
        'input.principal',
      ]) {
        const wrong = file('a', `allow contains "x"\n\nlimits contains ${limit}`)
        expect((await decide(wrong, 'a')).failure?.kind, limit).to.equal('policy_malformed')
        expect((await decide(wrong, 'b', 'allow contains "y"')).allow, limit).to.equal(true)
      }
    })

    it('masks rows of their upstream', async () => {
      const masked = file('a', 'allow contains "x"\n\nmask contains "/arguments/card"')
      expect((await decide(masked, 'a')).masks).to.deep.equal([{ op: 'remove', path: ['arguments', 'card'] }])
      expect((await decide(masked, 'b')).masks).to.deep.equal([])
    })

    it('shows tools in the lists of their upstream alone', async () => {
      const listed = file(
        'a',
        'allow contains "reads" if startswith(input.target.name, "read")\n\ndeny contains "secret" if input.target.name == "read_secret"',
      )
      const room = await roomOn(await buildFixture('', {}, listed))
      const targets = ['read_file', 'read_secret', 'write'].map(
        (name): Target => ({ kind: 'tool', name, annotations: {}, schemaDigest: null }),
      )
      const shown = async (name: string) =>
        (await room.visible(callOf({ server: { name } }), targets)).map(({ allow }) => allow)
      expect(await shown('a')).to.deep.equal([true, false, false])
      expect(await shown('b')).to.deep.equal([false, false, false])
    })

    it('is in the trace with its file and package, and rules of others are not even entered', async () => {
      const [rule, ...more] = traceOf(await decide(files, 'my-upstream')).rules
      expect(rule).to.include({
        rule: 'data.gateway.server["my-upstream"].allow',
        at: 'server/my-upstream/p.rego:3',
      })
      expect(more.map((one) => one.rule)).to.deep.equal(['data.gateway.server["my-upstream"].obligations'])
      expect(ruleName(rule ?? { rule: '' })).to.equal('allow')
    })

    it('is warned of when it is true for want of arguments', async () => {
      const policy = await buildFixture(
        '',
        {},
        file('my-upstream', 'deny contains "x" if not input.arguments.confirm'),
      )
      expect(lintListPhase(policy.dictionary, policy.sources).map(({ hint }) => hint)).to.deep.equal([
        'add input.phase == "call" to the rule deny (server/my-upstream/p.rego:3)',
      ])
    })
  })

  describe('an owner who reaches for more', () => {
    const outside: readonly (readonly [what: string, clause: string, body?: string])[] = [
      ['for the organisation', 'package gateway.authz', 'allow contains "x"'],
      ['for another upstream', 'package gateway.server.b', 'allow contains "x"'],
      ['for another upstream, quoted', 'package gateway.server["b"]', 'allow contains "x"'],
      ['for another upstream, with an escape', 'package gateway.server["\\u0062"]', 'allow contains "x"'],
      [
        'for another upstream, after a comment',
        '# package gateway.server.a\npackage gateway.server.b',
        'allow contains "x"',
      ],
      ['for all upstreams', 'package gateway.server', 'b.allow contains "x"'],
      ['for the gateway', 'package gateway', 'allow := true'],
      ['for a helper of the organisation', 'package lib.people', 'staff contains "mallory"'],
      ['for data of the organisation', 'package organisation', 'roles := {}'],
      ['with a clause over two lines', 'package\n\tgateway.server.a', 'allow contains "x"'],
      ['with a byte order mark', '\ufeffpackage gateway.server.a', 'allow contains "x"'],
      ['with a name that begins alike', 'package gateway.server.ab', 'allow contains "x"'],
      ['with a test package that serves', 'package gateway.server.a_test', 'allow contains "x"'],
    ]
    for (const [what, clause, body = ''] of outside) {
      it(`is refused: ${what}`, async () => {
        const [message, ...more] = await refused({ 'server/a/p.rego': `${clause}\n\n${body}\n` })
        expect(message).to.match(
          /^P107 server\/a\/p\.rego:\d+ server\/a\/ belongs to the owners of one upstream/,
        )
        expect(more).to.deep.equal([])
      })
    }

    it('is refused in a folder below, too', async () => {
      const [message] = await refused({
        'server/a/deep/er/p.rego': 'package gateway.authz\n\nallow contains "x"\n',
      })
      expect(message).to.include('server/a/ belongs to the owners')
    })

    it('is refused when the folder is named as no upstream can be', async () => {
      const [message] = await refused({ 'server/A b/p.rego': 'package gateway.server["A b"]\n' })
      expect(message).to.equal('P107 server/A b/p.rego:1 no upstream can be named A b')
    })

    it('may not make the decision depend on itself', async () => {
      const [message] = await refused(file('a', 'allow contains "x" if data.gateway.decision.allow'))
      expect(message).to.match(/^P111 /)
    })

    it('changes nothing elsewhere by asking the organisation’s rules under another name', async () => {
      const files = file(
        'a',
        'allow contains "x" if "all" in data.gateway.authz.allow with input.server as {"name": "b", "labels": {}}',
      )
      const organisation = 'allow contains "all" if input.server.name == "b"'
      expect((await decide(files, 'a', organisation)).allowedBy).to.deep.equal(['x'])
      expect((await decide(files, 'c', organisation)).allow).to.equal(false)
    })

    it('breaks the calls to that upstream and no other', async () => {
      const broken: readonly string[] = [
        'v := 1 if input.phase\n\nv := 2 if input.phase\n\nallow contains "x" if v',
        'allow contains "x" if count([1 | some a in numbers.range(1, 3000); some b in numbers.range(1, 3000); a == b]) > 0',
        'allow contains upper(input.principal.id)',
        'deny contains sprintf("x%d", [n]) if some n in numbers.range(1, 100)',
      ]
      for (const body of broken) {
        expect((await decide(file('a', body), 'a', 'allow contains "y"')).allow, body).to.equal(false)
        const elsewhere = await decide(file('a', body), 'b', 'allow contains "y"')
        expect([elsewhere.allow, elsewhere.failure], body).to.deep.equal([true, null])
      }
    }).timeout(60_000)
  })

  describe('what would be passed over in silence is refused:', () => {
    const silent: readonly (readonly [what: string, body: string])[] = [
      ['a deny that is a value', 'deny := "x" if input.phase'],
      ['a deny that is true', 'deny if input.phase == "call"'],
      ['a deny that is a function', 'deny(x) if x == 1'],
      ['a deny below a name', 'deny.x contains "y"'],
      ['a deny by key', 'deny[reason] := true if some reason in ["x"]'],
      ['a default alone', 'default deny := {"x"}'],
      ['an allow that is a list', 'allow := ["x"]'],
    ]
    for (const [what, body] of silent) {
      it(what, async () => {
        const messages = await refused(file('my-upstream', body))
        expect(messages.join('\n')).to.match(
          /^P107 server\/my-upstream\/p\.rego:3 .*is not a set of reasons$/,
        )
      })
    }

    it('a package below that hides a rule', async () => {
      const [message] = await refused({
        'server/a/p.rego': 'package gateway.server.a.deny\n\nx contains "y"\n',
      })
      expect(message).to.include('is not a set of reasons')
    })

    it('a package of the organisation’s for an upstream, written so that it is not found', async () => {
      const [message] = await refused({ 'p.rego': 'package\ngateway.server.a\n\ndeny contains "x"\n' })
      expect(message).to.match(/^P1/)
    })

    it('a package for a name that no upstream has, and one for none', async () => {
      expect(
        await refused({ 'p.rego': 'package gateway.server.my_upstream\n\ndeny contains "x"\n' }),
      ).to.deep.equal(['P107 p.rego:1 no upstream can be named my_upstream'])
      expect(await refused({ 'p.rego': 'package gateway.server\n\na.deny contains "x"\n' })).to.deep.equal([
        'P107 p.rego:1 the package names no upstream',
      ])
    })

    it('data in the place of an upstream’s rules', async () => {
      const data = { gateway: { server: { 'my-upstream': { allow: ['x'] } } } }
      expect(await refused(file('my-upstream', 'deny contains "x"'), data)).to.deep.equal([
        'P107 :0 data.gateway.server.my-upstream.allow belongs to the gateway',
      ])
    })
  })

  it('costs nothing where no upstream has a package', () => {
    expect(
      upstreamsWithPackage({ 'a.rego': 'package gateway.authz\n', 'b.rego': 'package p.gateway.server.a\n' }),
    ).to.deep.equal([])
    expect(productModule([])).not.to.include('server')
  })

  it('lets tests of an upstream stand beside its policy, in its package or one named after it', () => {
    const tests = (clause: string) => ownershipErrors({ 'server/my-up/p_test.rego': `package ${clause}\n` })
    expect(tests('gateway.server["my-up"]')).to.deep.equal([])
    expect(tests('gateway.server["my-up_test"]')).to.deep.equal([])
    expect(tests('gateway.server.other_test')).to.have.length(1)
    expect(tests('gateway.authz')).to.have.length(1)
    expect(tests('authz_test')).to.have.length(1)
  })

  it('refuses tests of one owner that would add to those of another', async () => {
    const folder = await folders.make({
      'authz/p.rego': 'package gateway.authz\n\nallow contains "x"\n',
      'server/a/p_test.rego': 'package authz_test\n\ntest_x if true\n',
    })
    const options = { folder, compiler: await fixtureCompiler(), cacheDir: null, filter: null }
    const thrown = await runPolicyTests({
      ...options,
      limits: DEFAULT_POLICY_LIMITS,
      monotonicMs: () => 0,
    }).catch((error: unknown) => error)
    expect(thrown).to.be.instanceOf(PolicyBuildError)
    expect(String(thrown)).to.include('server/a/p_test.rego:1')
  })

  it('is shown by an example whose tests hold', async () => {
    const options = { folder: resolve('examples/ownership/policies'), compiler: await fixtureCompiler() }
    const report = await runPolicyTests({
      ...options,
      cacheDir: null,
      limits: DEFAULT_POLICY_LIMITS,
      monotonicMs: () => 0,
      filter: null,
    })
    expect(report.results.filter(({ outcome }) => outcome !== 'passed')).to.deep.equal([])
    expect(report.results.length).to.be.greaterThan(20)
  })
})
