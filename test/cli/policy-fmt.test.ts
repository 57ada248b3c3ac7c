import { chmodSync, lstatSync, readdirSync, readFileSync, statSync, symlinkSync } from 'node:fs'
import { join } from 'node:path'
import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { gateway } from './policy-fixture.ts'

const UGLY = 'package gateway.authz\nallow contains "all" if {input.principal.id}\n'
const PRETTY = 'package gateway.authz\n\nallow contains "all" if input.principal.id\n'

describe('gateway policy fmt', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-fmt-')
  after(() => folders.remove())

  const read = (folder: string, name: string) => readFileSync(join(folder, name), 'utf8')
  const make = () =>
    folders.make({
      'a.rego': PRETTY,
      'authz/b.rego': UGLY,
      'b_test.rego': 'package b_test\ntest_a if {true}\n',
    })

  it('writes what is not formatted, tests too, names it, and leaves nothing else behind', async () => {
    const folder = await make()
    const before = statSync(join(folder, 'a.rego')).mtimeMs
    const { code, stdout } = await gateway(['policy', 'fmt', folder])
    expect(code).to.equal(0)
    expect(stdout).to.equal('authz/b.rego\nb_test.rego\n')
    expect(read(folder, 'authz/b.rego')).to.equal(PRETTY)
    expect(read(folder, 'b_test.rego')).to.equal('package b_test\n\ntest_a := true\n')
    expect(statSync(join(folder, 'a.rego')).mtimeMs).to.equal(before)
    expect(readdirSync(join(folder, 'authz'))).to.deep.equal(['b.rego'])
    const again = await gateway(['policy', 'fmt', folder, '--check'])
    expect(again).to.deep.include({ code: 0, stdout: '' })
    expect(again.stderr).to.include('3 files are formatted as they stand')
  })

  it('writes nothing with --check, lists the files, and is exit code 1', async () => {
    const folder = await make()
    const { code, stdout, stderr } = await gateway(['policy', 'fmt', folder, '--check'])
    expect([code, stdout]).to.deep.equal([1, 'authz/b.rego\nb_test.rego\n'])
    expect(stderr).to.include('2 of 3 files are not formatted')
    expect(read(folder, 'authz/b.rego')).to.equal(UGLY)
  })

  it('shows a patch with --diff and writes nothing; with --check it is exit code 1 as well', async () => {
    const folder = await make()
    const { code, stdout } = await gateway(['policy', 'fmt', folder, '--diff'])
    expect(code).to.equal(0)
    expect(stdout).to.include(
      [
        '--- authz/b.rego',
        '+++ authz/b.rego',
        '@@ -1,2 +1,3 @@',
        ' package gateway.authz',
        '-allow contains "all" if {input.principal.id}',
        '+',
        '+allow contains "all" if input.principal.id',
      ].join('\n'),
    )
    expect(read(folder, 'authz/b.rego')).to.equal(UGLY)
    expect((await gateway(['policy', 'fmt', folder, '--diff', '--check'])).code).to.equal(1)
  })

  it('tells programs which files, and with --diff what changes', async () => {
    const folder = await make()
    const { stdout } = await gateway(['policy', 'fmt', folder, '--check', '--json'])
    expect(JSON.parse(stdout)).to.deep.equal([{ file: 'authz/b.rego' }, { file: 'b_test.rego' }])
    const [first] = JSON.parse((await gateway(['policy', 'fmt', folder, '--diff', '--json'])).stdout)
    expect(first.diff).to.include('+allow contains "all" if input.principal.id')
  })

  it('leaves every file as it is when one cannot be parsed, and names the place', async () => {
    const folder = await folders.make({ 'a.rego': UGLY, 'b.rego': 'package b\n\nx if {\n' })
    const { code, stdout, stderr } = await gateway(['policy', 'fmt', folder])
    expect(code).to.equal(1)
    expect(stdout).to.match(/^P105 syntax error +b\.rego:4:1\n/)
    expect(stderr).to.include('Nothing was written.')
    expect(read(folder, 'a.rego')).to.equal(UGLY)
  })

  it('keeps the mode of a file, and a link a link', async () => {
    const folder = await folders.make({ 'real/a.rego': UGLY })
    symlinkSync('real/a.rego', join(folder, 'b.rego'))
    chmodSync(join(folder, 'real/a.rego'), 0o640)
    expect((await gateway(['policy', 'fmt', folder])).code).to.equal(0)
    expect(lstatSync(join(folder, 'b.rego')).isSymbolicLink()).to.equal(true)
    expect(statSync(join(folder, 'real/a.rego')).mode & 0o777).to.equal(0o640)
    expect(read(folder, 'real/a.rego')).to.equal(PRETTY)
  })

  it('shows hostile characters of a source escaped', async () => {
    const folder = await folders.make({ 'a.rego': 'package a\n# \u001b[2J\u202e\nx if {true}\n' })
    const { stdout } = await gateway(['policy', 'fmt', folder, '--diff'])
    expect(stdout).to.include('\\u{001b}[2J\\u{202e}')
    for (const hidden of ['\u001b', '\u202e']) expect(stdout).to.not.include(hidden)
  })

  it('is exit code 1 for a folder that cannot be read', async () => {
    expect((await gateway(['policy', 'fmt', '/nowhere/at/all'])).code).to.equal(1)
  })
})
