import { expect } from 'chai'
import { countRows, DIMENSIONS } from '../../src/audit/stats.ts'
import { ANNA, allowed, call, denied, evaluation, refused } from '../audit/fixtures.ts'
import { errorOf } from '../support/cli.ts'
import type { AuditPlace } from './audit-fixture.ts'
import { createAuditPlace } from './audit-fixture.ts'

const BOB = { ...ANNA, id: 'bob', tenant: null }
const HOUR_MS = 3_600_000

describe('gateway audit stats', () => {
  let place: AuditPlace
  const at = Date.now() - HOUR_MS
  before(async () => {
    place = await createAuditPlace()
    const two = evaluation({ deniedBy: ['destructive-without-mfa', 'frozen'] })
    await place.store(
      ...[1, 2, 3, 4, 5, 6].map((step) => allowed({ startedMs: at + step })),
      denied({ startedMs: at + 10 }),
      denied({ startedMs: at + 11, evaluation: two, principal: BOB }),
      denied({ startedMs: at + 12, evaluation: evaluation({ deniedBy: [], trace: { rules: 7 } }) }),
      { call: call({ startedMs: at + 13, principal: BOB }), ending: refused('rate_limited') },
      { call: call({ startedMs: at + 14, principal: null, server: null }), ending: refused('parse_error') },
      denied({ startedMs: at - 30 * 24 * HOUR_MS }),
    )
  })
  after(() => place.remove())

  const by = async (dimension: string, ...args: string[]) => {
    const { code, out, err } = await place.run('stats', '--by', dimension, '--json', ...args)
    expect(code, err).to.equal(0)
    return JSON.parse(out)
  }
  const pairs = (counts: { counts: { key: string; attempts: number }[] }) =>
    counts.counts.map(({ key, attempts }) => [key, attempts])

  it('counts the last day by outcome, with shares and latencies', async () => {
    const counts = await by('outcome')
    expect(counts.attempts).to.equal(11)
    expect(pairs(counts)).to.deep.equal([
      ['allowed', 6],
      ['denied_authz', 3],
      ['invalid', 1],
      ['rate_limited', 1],
    ])
    expect(counts.counts[0]).to.deep.include({ allowed: 6, denied: 0, p50_ms: 43.5, p95_ms: 43.5 })
    expect(counts.counts[0].share).to.be.closeTo(6 / 11, 1e-9)
  })

  it('counts by principal, told apart by tenant, and by tool', async () => {
    expect(pairs(await by('principal'))).to.deep.equal([
      ['anna of acme', 8],
      ['bob', 2],
      [null, 1],
    ])
    expect(pairs(await by('tool', '--outcome', 'denied'))).to.deep.equal([['github delete_repo', 3]])
    expect(pairs(await by('tenant', '--principal', 'bob'))).to.deep.equal([[null, 2]])
  })

  it('counts why: an attempt with two reasons for each of them', async () => {
    const counts = await by('reason')
    expect(counts.attempts).to.equal(5)
    expect(pairs(counts)).to.deep.equal([
      ['destructive-without-mfa', 2],
      ['frozen', 1],
      ['parse_error', 1],
      ['policy_denied', 1],
      ['rate_limited', 1],
    ])
    expect(counts.counts[0].share).to.equal(0.4)
  })

  it('counts by which rule: the one that held, with its place; none where nothing allowed it', async () => {
    expect(pairs(await by('rule'))).to.deep.equal([
      ['data.gateway.authz.deny  authz/tools.rego:24', 2],
      [null, 1],
    ])
    const { out } = await place.run('stats', '--by', 'rule')
    expect(out).to.include('(no rule allowed it)\t1\t33.3 %')
  })

  it('tells who, why and by which rule when asked about nothing in particular', async () => {
    const { code, out } = await place.run('stats', '--json')
    expect(code).to.equal(0)
    const { outcomes, denied: refusals } = JSON.parse(out)
    expect(outcomes.attempts).to.equal(11)
    expect(pairs(refusals.principals)).to.deep.equal([
      ['anna of acme', 2],
      ['bob', 2],
    ])
    expect(refusals.rules.counts[0].key).to.include('tools.rego:24')
    expect((await place.run('stats')).out).to.include('allowed\t6\t54.5 %\t6\t0\t43.5\t43.5')
  })

  it('takes filters and times, and says when there is nothing or more', async () => {
    expect((await by('outcome', '--since', '60d')).attempts).to.equal(12)
    expect((await by('outcome', '--since', '60d', '--until', '7d')).attempts).to.equal(1)
    expect((await place.run('stats', '--tenant', 'nobody')).err).to.include('No attempt matches since 24h.')
    expect((await place.run('stats', '--by', 'reason', '-n', '1')).err).to.include('1 of 5 shown (--limit)')
    for (const args of [
      ['--by', 'colour'],
      ['--since', 'x'],
      ['-n', '0'],
    ]) {
      const result = await place.run('stats', ...args, '--json')
      expect([result.code, errorOf(result).code]).to.deep.equal([2, 'usage'])
    }
  })

  it('takes values of filters for values', async () => {
    for (const dimension of DIMENSIONS) {
      const counts = await countRows(place.database.pool, { tool: "x' or '1'='1" }, dimension, 5)
      expect(counts, dimension).to.deep.equal({ by: dimension, attempts: 0, keys: 0, counts: [] })
    }
  })
})
