import { chmod, lstat, readFile, stat, symlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { writeTable } from '../../src/cli/policy-test-files.ts'
import { UsageError } from '../../src/errors.ts'
import { createFolders } from '../policy/testing/folder.ts'
import { gateway } from './policy-fixture.ts'

const POLICY = `package gateway.authz

allow contains "eng" if "eng" in input.principal.roles
`
const TABLE = `# who may read
fixtures:
  principals: { eng: { roles: [eng] }, ops: {} }
  tools: { read: { server: s } }
cases:
  - name: engineers # of all teams
    principal: eng
    tool: read
    expect: { denied_by: [no-reason] }
  - { name: ops, principal: ops, tool: read }
`
const AFTER = TABLE.replace('{ denied_by: [no-reason] }', '{ allow: true, denied_by: [] }')

describe('gateway policy test --update', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-update-')
  after(() => folders.remove())
  const update = (folder: string, ...args: readonly string[]) =>
    gateway(['policy', 'test', folder, '--update', ...args])

  it('shows the difference, writes it, and the tests pass: exit code 0', async () => {
    const folder = await folders.make({ 'authz/p.rego': POLICY, 'cases/a.yaml': TABLE })
    const file = join(folder, 'cases/a.yaml')
    await chmod(file, 0o640)
    const { code, stdout } = await update(folder)
    expect(code).to.equal(0)
    expect(stdout).to.equal(`cases/a.yaml
  -    9      expect: { denied_by: [no-reason] }
  +    9      expect: { allow: true, denied_by: [] }
1 test updated in 1 file. Read the difference: it is what the policies say, right or wrong.
`)
    expect(await readFile(file, 'utf8')).to.equal(AFTER)
    expect((await stat(file)).mode & 0o777).to.equal(0o640)
    expect((await gateway(['policy', 'test', folder])).code).to.equal(0)
    const again = await update(folder)
    expect([again.code, again.stdout]).to.deep.equal([0, 'Nothing was updated.\n'])
    expect(await readFile(file, 'utf8')).to.equal(AFTER)
  })

  it('tells what no table can mend: exit code 1', async () => {
    const folder = await folders.make({
      'authz/p.rego': POLICY,
      'cases/a.yaml': TABLE,
      'p_test.rego': 'package p_test\n\ntest_a if 1 == 2\n',
    })
    const { code, stdout, stderr } = await update(folder)
    expect(code).to.equal(1)
    expect(stdout).to.include(
      '  not updated  p_test.rego:3 test_a: a rule test_.. is written by hand\n1 test updated',
    )
    expect(stderr).to.include('error: 1 of 3 tests fail')
    expect(await readFile(join(folder, 'cases/a.yaml'), 'utf8')).to.equal(AFTER)
  })

  it('speaks JSON to programs', async () => {
    const folder = await folders.make({ 'authz/p.rego': POLICY, 'cases/a.yaml': TABLE })
    const { code, stdout } = await update(folder, '--json')
    expect(code).to.equal(0)
    expect(JSON.parse(stdout)).to.deep.equal({
      files: [
        {
          file: 'cases/a.yaml',
          hunks: [
            {
              row: 9,
              removed: ['    expect: { denied_by: [no-reason] }'],
              added: ['    expect: { allow: true, denied_by: [] }'],
            },
          ],
          updated: [{ row: 6, name: 'engineers', labels: ['eng', 'read'] }],
        },
      ],
      not_updated: [],
    })
  })

  it('writes nothing when the policies do not build', async () => {
    const folder = await folders.make({
      'authz/p.rego': `${POLICY}\nx if input.usr\n`,
      'cases/a.yaml': TABLE,
    })
    const { code, stdout } = await update(folder)
    expect([code, stdout.slice(0, 4)]).to.deep.equal([1, 'P101'])
    expect(await readFile(join(folder, 'cases/a.yaml'), 'utf8')).to.equal(TABLE)
  })

  it('writes through a link, and leaves the link', async () => {
    const folder = await folders.make({
      'authz/p.rego': POLICY,
      'shared/a.yaml': TABLE,
      'cases/x.yaml': 'cases: []\n',
    })
    await symlink('../shared/a.yaml', join(folder, 'cases/a.yaml'))
    await writeFile(join(folder, 'cases/x.yaml'), TABLE)
    expect((await update(folder)).code).to.equal(0)
    expect((await lstat(join(folder, 'cases/a.yaml'))).isSymbolicLink()).to.equal(true)
    expect(await readFile(join(folder, 'shared/a.yaml'), 'utf8')).to.equal(AFTER)
  })

  it('does not write over what somebody has changed meanwhile', async () => {
    const folder = await folders.make({ 'cases/a.yaml': 'mine' })
    const table = { file: 'cases/a.yaml', before: TABLE, after: AFTER, hunks: [], updated: [] }
    try {
      await writeTable(folder, table)
      throw new Error('it was written')
    } catch (error) {
      expect(error).to.be.instanceOf(UsageError)
      expect(String(error)).to.include('has changed meanwhile')
    }
    expect(await readFile(join(folder, 'cases/a.yaml'), 'utf8')).to.equal('mine')
  })
})
