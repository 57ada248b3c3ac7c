import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { CLIENTS } from '../../src/setup/clients.ts'
import { runCli, withEnvironment } from '../support/cli.ts'

const PAGE = readFileSync(new URL('../../docs/clients/setup.md', import.meta.url), 'utf8')

/** A command, and the block that follows it. */
const EXAMPLE = /^```sh\nnpx gateway (connect [^\n]+)\n```\n\n```\w+\n([\s\S]*?)^```$/gm

describe('docs/clients/setup.md', () => {
  const examples = [...PAGE.matchAll(EXAMPLE)].map(([, command = '', block]) => ({ command, block }))

  it('has every client that gateway connect knows, in its order', () => {
    expect(examples.map(({ command }) => command.split(' ')[1])).to.deep.equal(CLIENTS)
  })

  for (const { command, block } of examples) {
    it(`shows what gateway ${command} prints`, async () => {
      const homes = { HOME: '/home/you', CODEX_HOME: undefined, XDG_CONFIG_HOME: undefined }
      const result = await withEnvironment(homes, () => runCli(command.split(' ')))
      expect(result.out).to.equal(block)
      const [, file = ''] = /^It belongs into (\S+);/m.exec(result.err) ?? []
      const name = file.split('/').at(-1) ?? ''
      expect(name).to.not.equal('')
      const [section = ''] = PAGE.split(/^## /m).filter((part) => part.includes(command))
      expect(section, 'the file').to.contain(name)
    })
  }
})
