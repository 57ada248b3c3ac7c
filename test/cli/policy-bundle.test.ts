import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect } from 'chai'
import { edition, makeKeys } from '../policy/bundle-fixture.ts'
import { errorOf, runCli } from '../support/cli.ts'

const CASES = `fixtures:
  principals: { eng: { roles: [engineer] }, guest: {} }
  tools: { echo: { server: up } }
  servers: { up: {} }
cases:
  - { name: engineers may, principal: eng, tool: echo, expect: { allow: true } }
  - { name: guests may not, principal: guest, tool: echo }
`

describe('gateway policy build, verify and diff', function () {
  this.timeout(60_000)
  const keys = makeKeys()
  let folder: string
  const at = (name: string): string => join(folder, name)

  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'gateway-bundle-cli-'))
    await put('one/authz/rules.rego', edition('one'))
    await put('one/mfa/data.yaml', 'required: [prod]\nkept: 1\n')
    await put('one/cases/tools.yaml', CASES)
    await put('broken/rules.rego', 'package gateway.authz\n\nallow contains "x" if input.usr\n')
    await put('release.pem', keys.privatePem)
    await put('release.pub.pem', keys.publicPem)
    await put('rsa.pem', makeKeys('rsa').privatePem)
    await put('other.pub.pem', makeKeys().publicPem)
  })
  after(() => rm(folder, { recursive: true, force: true }))

  async function put(name: string, text: string): Promise<void> {
    await mkdir(join(at(name), '..'), { recursive: true })
    await writeFile(at(name), text)
  }
  const build = (...args: string[]) => runCli(['policy', 'build', ...args])

  it('writes the same bytes twice and says what is in it', async () => {
    const first = await build(at('one'), '-o', at('a.tar.gz'))
    expect(first).to.include({ code: 0 })
    expect(first.out).to.match(/^built .*a\.tar\.gz {2}[0-9a-f]{12} {2}5 files, no sequence, not signed\n$/)
    const { out } = await build(at('one'), '-o', at('b.tar.gz'), '--json')
    expect(JSON.parse(out)).to.deep.include({ sequence: 0, signature: 'none', opa: '1.22.0' })
    expect(JSON.parse(out).files).to.have.keys([
      ...['<product>/gateway.rego', 'authz/rules.rego', 'data.json', 'dictionary.json', 'policy.wasm'],
    ])
    expect((await readFile(at('a.tar.gz'))).equals(await readFile(at('b.tar.gz')))).to.equal(true)
  })

  it('signs with a key and a sequence, and with nothing less', async () => {
    const file = at('signed.tar.gz')
    const signing = ['--sign', '--key', at('release.pem'), '--sequence', '7']
    expect((await build(at('one'), '-o', file, ...signing)).out).to.include('sequence 7, signed (ES256)')
    const rsa = await build(
      at('one'),
      '-o',
      at('rsa.tar.gz'),
      '--sign',
      '--key',
      at('rsa.pem'),
      '--sequence',
      '7',
    )
    expect(rsa.out).to.include('signed (RS256)')
    for (const wrong of [
      ['--sign'],
      ['--sign', '--key', at('release.pem')],
      ['--key', at('release.pem')],
      ['--sign', '--key', at('release.pem'), '--sequence', '0'],
      ['--sign', '--key', at('release.pem'), '--sequence', '9007199254740993'],
      ['--sign', '--key', at('release.pub.pem'), '--sequence', '7'],
      ['--sign', '--key', at('nowhere.pem'), '--sequence', '7'],
    ]) {
      const result = await build(at('one'), '-o', at('never.tar.gz'), ...wrong, '--json')
      expect(result, wrong.join(' ')).to.include({ code: 2, out: '' })
      expect(errorOf(result).code).to.equal('usage')
    }
    expect(await readFile(at('never.tar.gz')).catch(() => null)).to.equal(null)
  })

  it('writes nothing when the policies do not build, or the file cannot be written', async () => {
    const broken = await build(at('broken'), '-o', at('never.tar.gz'))
    expect(broken).to.include({ code: 1 })
    expect(broken.out).to.include('rules.rego:3')
    expect(await readFile(at('never.tar.gz')).catch(() => null)).to.equal(null)
    expect(await build(at('one'), '-o', at('nowhere/b.tar.gz'))).to.include({ code: 2 })
    expect(await build(at('a.tar.gz'))).to.include({ code: 2 })
  })

  it('verify ends with 1 for a bundle that a gateway would refuse', async () => {
    const verify = (...args: string[]) => runCli(['policy', 'verify', ...args])
    const good = await verify(
      at('signed.tar.gz'),
      '--key',
      at('other.pub.pem'),
      '--key',
      at('release.pub.pem'),
    )
    expect(good).to.include({ code: 0 })
    expect(good.out).to.include('sequence 7, signature verified')
    expect((await verify(at('signed.tar.gz'))).out).to.include('no key to check it with')
    const wrong = await verify(at('signed.tar.gz'), '--key', at('other.pub.pem'), '--json')
    expect(wrong).to.include({ code: 1, out: '' })
    expect(errorOf(wrong)).to.include({ code: 'check_failed' })
    expect(await verify(at('a.tar.gz'), '--key', at('release.pub.pem'))).to.include({ code: 1 })
    expect(await verify(at('release.pem'))).to.include({ code: 1 })
    expect(await verify(at('one'))).to.include({ code: 2 })
    expect(await verify(at('nowhere'))).to.include({ code: 2 })
    expect(await verify(at('signed.tar.gz'), '--key', at('release.pem'))).to.include({ code: 2 })
  })

  it('diff finds nothing between a folder and its bundle, whatever the layout and the comments', async () => {
    expect(await runCli(['policy', 'diff', at('a.tar.gz'), at('one')])).to.include({ code: 0 })
    await put(
      'two/authz/rules.rego',
      edition('one').replace('if count', 'if   count').replace('\n\nallow', '\n\n\n# why\nallow'),
    )
    await put('two/mfa/data.yaml', 'kept: 1\nrequired: [prod]\n')
    const { code, out } = await runCli(['policy', 'diff', at('one'), at('two'), '--json'])
    expect(code, 'the file differs').to.equal(1)
    expect(JSON.parse(out)).to.deep.include({
      rules: [],
      data: [],
      files: [{ kind: 'changed', name: 'authz/rules.rego' }],
    })
  })

  it('diff names rules added, removed and changed, data, and the cases that come out otherwise', async () => {
    await put(
      'three/authz/rules.rego',
      `package gateway.authz

default helper := false

helper if input.target.name == "echo"

allow contains "one" if count(input.principal.roles) > 1

deny contains "no-echo" if helper
`,
    )
    await put('three/mfa/data.yaml', 'required: [prod, test]\nmore: 1\n')
    const { code, out, err } = await runCli([
      'policy',
      'diff',
      at('a.tar.gz'),
      at('three'),
      '--cases',
      at('one'),
    ])
    expect(code, err).to.equal(1)
    expect(out.split('\n').slice(1).join('\n')).to.equal(`rules: 3 differences
  ~ data.gateway.authz.allow  authz/rules.rego:3 -> authz/rules.rego:7
  + data.gateway.authz.deny  authz/rules.rego:9
  + data.gateway.authz.helper  authz/rules.rego:5 authz/rules.rego:3
data: 3 differences
  - data.mfa.kept
  + data.mfa.more
  ~ data.mfa.required
files: 1 difference
  ~ authz/rules.rego
cases: 2 asked, 2 differences
  cases/tools.yaml:6[eng,echo] engineers may: allow (one) -> deny (no-echo)
  cases/tools.yaml:7[guest,echo] guests may not: deny -> deny (no-echo)
recorded decisions: 0 asked, no difference
`)
    const back = await runCli(['policy', 'diff', at('three'), at('one'), '--json'])
    expect(JSON.parse(back.out).rules.map((one: any) => one.kind)).to.deep.equal([
      'changed',
      'removed',
      'removed',
    ])
  })

  it('diff says what it cannot compare', async () => {
    for (const args of [
      [at('one'), 'no-such-thing'],
      [at('one'), at('three'), '--rows', 'many'],
      [at('one'), at('three'), '--rows', '10001'],
      [at('one')],
    ])
      expect((await runCli(['policy', 'diff', ...args])).code, args.join(' ')).to.equal(2)
    expect((await runCli(['policy', 'diff', at('one'), at('broken')])).code).to.equal(1)
    expect((await runCli(['policy', 'diff', at('one'), at('release.pem')])).code).to.equal(1)
  })
})
