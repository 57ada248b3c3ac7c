import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { expect } from 'chai'
import { allowed, denied } from '../audit/fixtures.ts'
import { errorOf, runCli, withEnvironment } from '../support/cli.ts'
import { until } from '../support/until.ts'
import type { AuditPlace } from './audit-fixture.ts'
import { createAuditPlace } from './audit-fixture.ts'

describe('gateway audit tail', function () {
  this.timeout(30_000)
  let place: AuditPlace
  const at = Date.now() - 3_600_000
  const hostile = 'a\u001b[31mred\u202eevil\tname'
  before(async () => {
    place = await createAuditPlace()
    await place.store(
      denied({ startedMs: at }),
      allowed({
        startedMs: at + 1000,
        server: { name: 'files', labels: {} },
        target: { kind: 'tool', name: hostile, annotations: {}, schemaDigest: null },
      }),
    )
  })
  after(() => place.remove())

  const terminal = (...args: string[]) =>
    withEnvironment({ ...place.environment, NO_COLOR: undefined, FORCE_COLOR: undefined }, () =>
      runCli(['audit', 'tail', ...args, '--config', place.configFile], true),
    )

  it('is coloured on a terminal, never when piped or told not to, and never by what callers sent', async () => {
    const { out, err } = await terminal()
    expect(out).to.include('\u001b[31mdenied_authz').and.include('\u001b[32mallowed')
    expect(out).to.not.include('\u001b[31mred').and.not.include('\u202e')
    expect(err).to.include('gateway audit explain')
    expect((await terminal('--no-color')).out).to.not.include('\u001b')
    const { out: piped } = await place.run('tail')
    expect(piped).to.not.include('\u001b')
    expect(piped.split('\n')[1]?.split('\t')).to.have.lengthOf(10)
    expect(piped).to.include('a\\u{001b}[31mred\\u{202e}evil\\tname')
  })

  it('filters by upstream and by the end of a time', async () => {
    expect((await place.run('tail', '--server', 'files')).out.split('\n')).to.have.lengthOf(2)
    const { out } = await place.run('tail', '--until', new Date(at + 500).toISOString(), '--json')
    expect(JSON.parse(out).outcome).to.equal('denied_authz')
    const wrong = await place.run('tail', '--since', '2h', '--until', '3h', '--json')
    expect([wrong.code, errorOf(wrong).code]).to.deep.equal([2, 'usage'])
  })

  it('goes on with -f until it is interrupted, each row once', async () => {
    const program = new URL('../../src/cli/gateway.ts', import.meta.url).pathname
    const child = spawn(
      process.execPath,
      ['--import', 'tsx/esm', program, 'audit', 'tail', '-f', '--json', '--config', place.configFile],
      { env: { ...process.env, ...place.environment }, stdio: ['ignore', 'pipe', 'pipe'] },
    )
    const text = { out: '', err: '' }
    child.stdout.on('data', (chunk) => (text.out += String(chunk)))
    child.stderr.on('data', (chunk) => (text.err += String(chunk)))
    const rows = () => text.out.split('\n').filter(Boolean)
    try {
      await until('the rows that are there', () => rows().length === 2)
      const late = denied({ startedMs: at - 60_000 })
      const fresh = allowed({ startedMs: Date.now() })
      await place.store(fresh)
      await place.store(late)
      await until('the rows that come in', () => rows().length >= 4)
      const ids = rows().map((line) => JSON.parse(line).id)
      expect(ids.slice(2)).to.have.members([fresh.call.id, late.call.id])
    } finally {
      child.kill('SIGINT')
    }
    const [code] = await once(child, 'exit')
    expect([code, text.err]).to.deep.equal([0, ''])
  })
})
