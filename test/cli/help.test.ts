import { expect } from 'chai'
import { MESSAGE_KINDS } from '../../src/policy/message.ts'
import { errorOf, runCli } from '../support/cli.ts'

describe('gateway help', () => {
  it('lists all messages, alone and with the flags that every command has', async () => {
    for (const args of [['help'], ['help', '--no-color'], ['help', 'all']]) {
      const { code, out, err } = await runCli(args)
      expect(code, err).to.equal(0)
      const ids = out
        .trim()
        .split('\n')
        .map((line) => line.split('\t')[0])
      expect(ids).to.deep.equal(MESSAGE_KINDS.map(({ id }) => id))
    }
    const { code, out } = await runCli(['help', '--json'])
    expect(code).to.equal(0)
    expect(JSON.parse(out)).to.deep.equal(MESSAGE_KINDS)
  })

  it('shows the page of one message, whatever the case of its letters, within 100 columns', async () => {
    for (const { id, title } of MESSAGE_KINDS) {
      const { code, out } = await runCli(['help', id.toLowerCase()])
      expect(code, id).to.equal(0)
      expect(out.split('\n')[0]).to.include(`${id} ${title}`)
      for (const line of out.split('\n')) {
        // Examples stand as they are.
        if (!line.startsWith('      | ')) expect([...line].length, line).to.be.at.most(100)
      }
    }
    const { out } = await runCli(['help', 'P101'])
    expect(out).to.match(/\nwrong\n {2}authz\.rego\n {6}\| package gateway\.authz\n/)
    expect(out).to.include('not input.principal.clams.mfa').and.include('not input.principal.claims.mfa')
  })

  it('gives programs the page as it is', async () => {
    const { out } = await runCli(['help', 'P302', '--json'])
    const page = JSON.parse(out) as Record<string, unknown>
    expect(page).to.include({ id: 'P302', title: 'unknown key', severity: 'error' })
    expect(Object.keys(page['wrong'] as object)).to.deep.equal(['authz.rego', 'cases/first.yaml'])
  })

  it('is exit code 2 for an id that does not exist, and names one that is near', async () => {
    const unknown = await runCli(['help', 'P999', '--json'])
    expect([unknown.code, errorOf(unknown).code]).to.deep.equal([2, 'not_found'])
    expect((await runCli(['help', 'P1O1'])).err).to.include('Did you mean P101?')
    expect((await runCli(['help', 'unknown keyy'])).err).to.include('Did you mean unknown key?')
    expect((await runCli(['help', 'unknown key'])).out).to.match(/^P302 unknown key/)
  })

  it('leaves the help of the program and of its commands alone', async () => {
    expect((await runCli(['--help'])).out).to.include('gateway help [id]')
    expect((await runCli(['policy', 'help'])).out).to.include('gateway policy check [dir]')
    expect((await runCli(['help', '--help'])).out).to.include('All messages')
  })
})
