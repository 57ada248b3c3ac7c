/** docs/audit/reading.md: every command in it runs, and what it prints is what the program prints. */
import { readFileSync } from 'node:fs'
import { expect } from 'chai'
import { allowed, denied } from '../audit/fixtures.ts'
import type { AuditPlace } from './audit-fixture.ts'
import { createAuditPlace } from './audit-fixture.ts'

const at = (path: string) => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

describe('the page about reading the audit log', () => {
  let place: AuditPlace
  const page = at('docs/audit/reading.md')
  const incident = denied({ startedMs: Date.now() - 60_000 })
  before(async () => {
    place = await createAuditPlace()
    await place.store(incident, allowed({ startedMs: Date.now() - 50_000 }))
  })
  after(async () => {
    await place.remove()
  })

  it('has commands that work', async () => {
    const commands = [...page.matchAll(/^ {4}gateway audit (.*)$/gm)].map(([, words = '']) => words)
    expect(commands.length).to.be.greaterThan(9)
    for (const words of commands) {
      const args = words
        .replace('ID', incident.call.id)
        .replace('november', `${place.home}/november`)
        .split(' ')
      const { code, err } = await place.run(...args)
      expect(code, `${words}: ${err}`).to.equal(0)
    }
  })

  it('shows what explain prints', () => {
    const printed = at('test/golden/audit/explain-denied.txt').trimEnd()
    const indented = printed.split('\n').map((line) => `    ${line}`.trimEnd())
    expect(page).to.include(indented.join('\n'))
  })

  it('names the dimensions, formats and options that there are', async () => {
    const { out: stats } = await place.run('stats', '--help')
    const { out: exports } = await place.run('export', '--help')
    const choices = (help: string) => /choices: ([^\]]+)/.exec(help)?.[1]?.match(/\w+/g) ?? []
    for (const name of [...choices(stats), ...choices(exports)]) expect(page).to.include(`\`${name}\``)
    for (const [, option = ''] of page.matchAll(/(?<![-|])(--[a-z][a-z-]*)/g))
      expect([
        '--config',
        '--source',
        '--full',
        '--json',
        '--as-case',
        '--server',
        '--tool',
        '--principal',
        '--tenant',
        '--outcome',
        '--since',
        '--until',
        '--by',
        '--format',
        '--after',
      ]).to.include(option)
  })
})
