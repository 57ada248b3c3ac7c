import { expect } from 'chai'
import type { OfferedTools } from '../../../src/policy/lint/offered-tools.ts'
import { lintOfferedTools } from '../../../src/policy/lint/offered-tools.ts'
import { buildFixture, closeFixture } from '../engine-fixture.ts'

const OFFERED: OfferedTools = new Map([
  ['github', new Set(['delete_repo', 'create_issue'])],
  ['files', new Set(['read_file'])],
])

describe('the warning about tools that no upstream offers', function () {
  this.timeout(30_000)
  after(closeFixture)

  async function warnings(body: string, offered = OFFERED, dataFiles: Readonly<Record<string, object>> = {}) {
    const data = Object.fromEntries(
      Object.entries(dataFiles).map(([file, value]) => [file.split('/')[0] ?? '', value]),
    )
    const { dictionary, sources } = await buildFixture(body, data)
    const texts = Object.fromEntries(
      Object.entries(dataFiles).map(([file, value]) => [file, JSON.stringify(value, null, 2)]),
    )
    return lintOfferedTools({ dictionary, sources, data, dataFiles: texts }, offered)
  }

  it('marks the name and says which tool was meant', async () => {
    const [one, ...more] = await warnings(
      'deny contains "x" if {\n\tinput.server.name == "github"\n\tinput.target.name == "delete_repos"\n}',
    )
    expect(more).to.deep.equal([])
    expect(one).to.deep.equal({
      ...{ file: 'authz/policy.rego', row: 5, col: 23, endCol: 37, code: 'unknown_tool' },
      message: 'github offers no tool delete_repos',
      hint: 'did you mean delete_repo?',
      line: '\tinput.target.name == "delete_repos"',
    })
  })

  it('finds names in sets and lists, over several lines, the other way round, and inside closures', async () => {
    const found = await warnings(
      [
        'deny contains "a" if input.target.name in {\n\t"delete_repo",\n\t"delete_everything",\n}',
        'deny contains "b" if "nothing" == input.target.name',
        'deny contains "c" if not input.target.name in ["read_file", "write_file"]',
        'deny contains "d" if count([x | x := input.principal.id; input.target.name == "inner"]) == 1',
      ].join('\n\n'),
    )
    expect(found.map(({ row, col, message }) => [row, col, message])).to.deep.equal([
      [5, 2, 'no upstream offers a tool delete_everything'],
      [8, 22, 'no upstream offers a tool nothing'],
      [10, 61, 'no upstream offers a tool write_file'],
      [12, 79, 'no upstream offers a tool inner'],
    ])
  })

  it('looks for a tool at the upstream that the rule names, else at all of them', async () => {
    expect(
      await warnings(
        'deny contains "x" if {\n\tinput.server.name == "files"\n\tinput.target.name == "delete_repo"\n}',
      ),
    ).to.have.length(1)
    expect(await warnings('deny contains "x" if input.target.name == "delete_repo"')).to.deep.equal([])
  })

  it('says nothing where it is not certain', async () => {
    const rule = 'deny contains "x" if input.target.name == "other"'
    expect(await warnings(rule, new Map([...OFFERED, ['down', null]]))).to.deep.equal([])
    expect(await warnings(rule, new Map())).to.deep.equal([])
    for (const other of [
      'deny contains "x" if {\n\tinput.server.name == "elsewhere"\n\tinput.target.name == "other"\n}',
      'deny contains "x" if {\n\tinput.target.kind == "prompt"\n\tinput.target.name == "other"\n}',
      'deny contains "x" if {\n\tinput.target.kind in {"resource", "prompt"}\n\tinput.target.name == "other"\n}',
      'deny contains "x" if startswith(input.target.name, "other")',
      'deny contains "x" if input.client.name == "other"',
    ]) {
      expect(await warnings(other), other).to.deep.equal([])
    }
  })

  it('finds names in data, where a rule looks the tool up in them', async () => {
    const servers = {
      github: { tools: { read: ['create_issue', 'list_issues'], write: ['delete_repo'] } },
      unknown: { tools: { read: ['anything'] } },
    }
    const found = await warnings(
      'allow contains "x" if {\n\tsome kind in ["read", "write"]\n\tinput.target.name in data.servers[input.server.name].tools[kind]\n}',
      OFFERED,
      { 'servers/data.json': servers },
    )
    expect(found.map(({ file, row, message, line }) => [file, row, message, line?.trim()])).to.deep.equal([
      ['servers/data.json', 6, 'github offers no tool list_issues', '"list_issues"'],
    ])
  })

  it('names the path in the data when the file is too large for places', async () => {
    const [one] = await warnings('allow contains "x" if input.target.name in data.open.tools', OFFERED, {
      'open/data.json': { tools: ['nothing'], padding: 'x'.repeat(600 * 1024) },
    })
    expect(one).to.deep.include({
      file: '',
      row: 0,
      message: 'no upstream offers a tool nothing (data.open.tools.0)',
    })
  })

  it('leaves data alone that no rule looks a tool up in', async () => {
    const found = await warnings('allow contains "x" if input.principal.id in data.people.listed', OFFERED, {
      'people/data.json': { listed: ['ada'] },
    })
    expect(found).to.deep.equal([])
  })
})
