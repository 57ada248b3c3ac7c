import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { expectGolden, gateway } from './policy-fixture.ts'
import { CASES, INPUT, LIST, POLICY } from './question-fixture.ts'

describe('gateway policy explain', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-explain-')
  let folder: string
  before(async () => {
    folder = await folders.make({ 'authz/tools.rego': POLICY, 'cases/tools.yaml': CASES })
  })
  after(() => folders.remove())

  const explain = (...args: string[]) => gateway(['policy', 'explain', '--policies', folder, ...args])
  const save = async (name: string, value: unknown) => {
    await writeFile(join(folder, name), JSON.stringify(value))
    return join(folder, name)
  }

  it('says why a call is denied, in the words of the audit log', async () => {
    const { code, stdout, stderr } = await explain(await save('input.json', INPUT))
    expect(code, stderr).to.equal(0)
    expectGolden('explain-denied', stdout, folder)
  })

  it('says why one is allowed, and which rule came closest when none allows it', async () => {
    const read = { ...INPUT, target: LIST.targets[1] }
    const allowed = await explain(await save('read.json', read))
    expect(allowed.code).to.equal(0)
    expectGolden('explain-allowed', allowed.stdout, folder)
    const other = await explain(
      await save('other.json', { ...read, principal: { ...INPUT.principal, roles: [] } }),
    )
    expectGolden('explain-not-allowed', other.stdout, folder)
  })

  it('says of each element of a list why it is shown or hidden', async () => {
    const { code, stdout } = await explain(await save('list.json', LIST))
    expect(code).to.equal(0)
    expectGolden('explain-list', stdout, folder)
  })

  it('takes a case of a table, and shows the source on demand', async () => {
    const { code, stdout } = await explain('cases/tools.yaml:5', '--source')
    expect(code).to.equal(0)
    expect(stdout).to.match(
      /^Denied: eng may not call tool delete_repo on github, because of destructive-without-mfa\.\n/,
    )
    expect(stdout).to.include('>    9  ')
  })

  it('gives programs the explanation beside the question and the decision', async () => {
    const { stdout } = await explain(await save('input.json', INPUT), '--json')
    const answer = JSON.parse(stdout)
    expect(answer.explanation.sentence).to.equal(
      'Denied: ada of acme may not call tool delete_repo on github, because of destructive-without-mfa.',
    )
    expect(answer.explanation.rule).to.include({ at: 'authz/tools.rego:7', role: 'denies' })
    expect(answer.explanation.line).to.include({ at: 'authz/tools.rego:9', ok: true })
    expect(answer.decision.denied_by).to.deep.equal(['destructive-without-mfa'])
    const list = JSON.parse((await explain(await save('list.json', LIST), '--json')).stdout)
    expect(
      list.explanations.map(({ sentence }: { sentence: string }) => sentence.split(':')[0]),
    ).to.deep.equal(['Hidden', 'Shown'])
  })

  it('says that an evaluation failed, and is exit code 0: it has been explained', async () => {
    const bad = await folders.make({
      'a.rego': 'package gateway.authz\n\nallow contains "Not A Reason" if input.principal.id\n',
    })
    const { code, stdout } = await gateway([
      'policy',
      'explain',
      await save('input.json', INPUT),
      '--policies',
      bad,
    ])
    expect(code).to.equal(0)
    expect(stdout).to.match(
      /^Denied: the policy gave no decision when ada of acme tried to call tool delete_repo/,
    )
  })

  it('is exit code 2 for what is no question', async () => {
    for (const [subject, text] of [
      ['nothing at all', 'is no file, no id of a row, and no case'],
      ['cases/tools.yaml:99', 'No case is called'],
      [await save('bad.json', { phase: 'call' }), 'is no policy input'],
      [folder, 'cannot be read'],
    ] as const) {
      const { code, stderr } = await explain(subject)
      expect([code, stderr.includes(text)], `${subject}: ${stderr}`).to.deep.equal([2, true])
    }
    expect((await gateway(['policy', 'explain'])).code).to.equal(2)
  })

  it('is exit code 1 for policies that do not build', async () => {
    const broken = await folders.make({ 'a.rego': 'package a\n\nx if input.usr\n' })
    const { code, stderr } = await gateway([
      'policy',
      'explain',
      await save('input.json', INPUT),
      '--policies',
      broken,
    ])
    expect(code).to.equal(1)
    expect(stderr).to.include('Nothing was evaluated.')
  })
})
