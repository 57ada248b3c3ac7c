/** docs/policies/testing.md: its files are tested by its commands, and what it shows is what the program prints. */
import { readFileSync } from 'node:fs'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'chai'
import { createFolders } from '../policy/testing/folder.ts'
import { gateway, normalised } from './policy-fixture.ts'

const page = readFileSync(new URL('../../docs/policies/testing.md', import.meta.url), 'utf8')

/** Indented blocks without their indentation. */
function blocks(): readonly string[] {
  const found = page.match(/(?:^ {4}.*\n(?:\n(?= {4}))?)+/gm) ?? []
  return found.map((block) => block.replace(/^ {4}/gm, '').trimEnd())
}

/** `# policies/PATH` and what follows, up to the next. */
function files(): Readonly<Record<string, string>> {
  const parts = blocks().flatMap((block) => block.split(/(?=^# policies\/)/m))
  const named = parts.flatMap((part) => {
    const [, name, text] = /^# policies\/(\S+)\n([\s\S]*)$/.exec(part) ?? []
    return name === undefined || text === undefined ? [] : [[name, `${text.trimEnd()}\n`] as const]
  })
  return Object.fromEntries(named)
}

/** `$ gateway ..` and what it prints. */
function commands(): readonly { readonly words: readonly string[]; readonly printed: string }[] {
  return blocks().flatMap((block) => {
    const [, line = '', printed = ''] = /^\$ gateway (.*)\n([\s\S]*)$/.exec(block) ?? []
    return line === '' ? [] : [{ words: line.split(' '), printed }]
  })
}

describe('the page about testing policies', function () {
  this.timeout(60_000)
  const folders = createFolders('gateway-page-')
  after(() => folders.remove())

  it('shows what its commands print on its files', async () => {
    const made = files()
    expect(Object.keys(made)).to.have.length(4)
    const folder = await folders.make(made)
    const [all, covered, updated] = commands()
    for (const command of [all, covered]) {
      const words = command?.words.map((word) => (word === './policies' ? folder : word)) ?? []
      const { code, stdout } = await gateway(words)
      expect(code).to.equal(0)
      expect(normalised(stdout.replaceAll(folder, './policies'), folder).trimEnd()).to.equal(command?.printed)
    }
    const policy = join(folder, 'authz/refunds.rego')
    const text = await readFile(policy, 'utf8')
    await writeFile(policy, text.replace(/\n\tnot "lead".*/, ''))
    const { code, stdout } = await gateway(['policy', 'test', folder, '--update', '--run', 'refunds.yaml'])
    expect(updated?.words).to.deep.equal(['policy', 'test', './policies', '--update'])
    expect([code, stdout.trimEnd()]).to.deep.equal([0, updated?.printed])
  })

  it('names options that there are', async () => {
    const { stdout } = await gateway(['policy', 'test', '--help'])
    for (const [option] of page.matchAll(/(?<![-|\w])--[a-z][a-z-]*/g)) {
      if (option !== '--as-case') expect(stdout).to.include(option)
    }
  })
})
