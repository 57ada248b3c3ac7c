import { expect } from 'chai'
import { loadInputSchema, toBuildRequest } from '../../../src/policy/build.ts'
import { lintUnreachable } from '../../../src/policy/lint/unreachable.ts'
import { closeFixture, fixtureCompiler } from '../engine-fixture.ts'

const ALLOW = 'package gateway.authz\n\nallow contains "all" if input.principal.id\n'

describe('the warning about rules without effect', function () {
  this.timeout(30_000)
  after(closeFixture)

  async function warnings(files: Readonly<Record<string, string>>) {
    const rego = { 'a.rego': ALLOW, ...files }
    const { instrument: _, ...request } = toBuildRequest({ rego, data: {} }, await loadInputSchema())
    const read = await (await fixtureCompiler()).dependencies(request)
    if (!read.ok) throw new Error(JSON.stringify(read.errors))
    return lintUnreachable(read.rules, request.sources)
  }

  it('names the rule, marks its head and says which one was meant', async () => {
    const [one, ...more] = await warnings({
      'b.rego': 'package gateway.authz\n\n# a\ndenyed contains "x" if input.target.name == "a"\n',
    })
    expect(more).to.deep.equal([])
    expect(one).to.deep.equal({
      ...{ file: 'b.rego', row: 4, col: 1, endCol: 20, code: 'unreachable_rule' },
      message: 'no decision leads to data.gateway.authz.denyed',
      hint: 'did you mean deny? allow, deny, limits, obligations and mask decide, and what they use: use the rule there, or remove it',
      line: 'denyed contains "x" if input.target.name == "a"',
    })
  })

  it('says where rules of that name decide', async () => {
    const [one] = await warnings({
      'b.rego': 'package authz\n\ndeny contains "x" if input.target.name == "a"\n',
    })
    expect(one).to.deep.include({
      message: 'no decision leads to data.authz.deny',
      hint: 'rules of this name decide in package gateway.authz',
    })
  })

  it('says it once for each rule, and not of what only such rules use', async () => {
    const found = await warnings({
      'b.rego':
        'package org\n\ndefault top := false\n\ntop if low(input.phase)\n\ntop if input.target.name == "a"\n\nlow(x) if x == "call"\n',
    })
    expect(found.map(({ message, row }) => [message, row])).to.deep.equal([
      ['no decision leads to data.org.top', 3],
    ])
  })

  it('says nothing of rules that are used, in however many steps and however they are named', async () => {
    const found = await warnings({
      'b.rego':
        'package gateway.authz\n\nimport data.org\n\ndeny contains "x" if org.bad[input.target.name].now\n',
      'org.rego':
        'package org\n\nbad[name] := entry if some name, entry in table\n\ntable := {"a": {"now": is_now}}\n\nis_now := true if input.phase == "call"\n\nelse := false\n',
    })
    expect(found).to.deep.equal([])
  })
})
