import { expect } from 'chai'
import { toAuditRow, toInterruptedRow } from '../../src/audit/event.ts'
import { factsOf } from '../../src/audit/facts.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { gapRow } from '../../src/audit/row.ts'
import { sentenceOf } from '../../src/audit/sentence.ts'
import type { EndingKind } from '../../src/errors.ts'
import { ENDINGS } from '../../src/errors.ts'
import { storedJson } from '../../src/json/stored-text.ts'
import { expectGoldenText } from '../support/golden.ts'
import { allowed, call, denied, evaluation, NOW_MS, refused } from './fixtures.ts'

const ID = '019aa5f0-4a7b-7001-8abc-0123456789ab'

function sentence(row: AuditRow): string {
  const stored = { ...row, ts: new Date(row.ts), writer: ID, seq: '1', leaf: null }
  return sentenceOf(stored, factsOf(stored))
}

/** As the stages of the gateway word it. */
const DETAILS: Partial<Record<EndingKind, string>> = {
  host_refused: 'Host is evil.example',
  address_throttled: '12 attempts of 10.1.2.3 were refused between 09:59 and 10:00',
  overloaded: 'no place at the upstream in time',
  ambiguous_credentials: 'both Authorization and X-API-Key',
  unauthenticated: 'the key k3v9 has expired',
  body_too_large: 'more than 4194304 bytes',
  invalid_arguments: 'Invalid arguments: /owner: type; /: required',
  killed: 'tool delete_repo on github was stopped by ops: incident 42.',
  policy_error: 'division by zero',
  policy_budget: 'fuel exhausted',
  policy_malformed: 'allow must be a boolean',
  upstream_failed: 'connection refused',
  upstream_timeout: 'no answer within 30000 ms',
  limiter_unavailable: 'limits cannot be counted',
  client_closed: 'the client left while sending its body',
  internal_error: 'TypeError: x is not a function',
}

const FAILURES = ['policy_error', 'policy_budget', 'policy_malformed'] as const

function ended(kind: EndingKind): AuditRow {
  const { stage } = ENDINGS[kind]
  const failure = FAILURES.find((one) => one === kind)
  const asked = stage === 'authz' && kind !== 'killed' && !kind.startsWith('unknown_')
  const made =
    failure === undefined
      ? evaluation()
      : evaluation({ deniedBy: [], failure: { kind: failure, message: DETAILS[kind] ?? '' } })
  const known = stage === 'admit' || stage === 'auth' ? { principal: null, message: null, target: null } : {}
  const details = failure === undefined ? DETAILS[kind] : undefined
  return toAuditRow({
    call: call({ stage, evaluation: asked ? made : null, ...known }),
    ending: refused(kind, details),
  })
}

function limited(limit: object): AuditRow {
  const row = ended('rate_limited')
  const rate = { limits: [{ name: 'other', limit: 5, consumed: 1, refused: false }, limit] }
  return { ...row, decision: storedJson({ ...JSON.parse(row.decision), rate }) }
}

describe('audit/sentence', () => {
  it('says of every way to end what became of whose attempt at what, and why', () => {
    const told: [string, AuditRow][] = [
      ['allowed', toAuditRow(allowed())],
      ...(Object.keys(ENDINGS) as EndingKind[]).map((kind) => [kind, ended(kind)] as [string, AuditRow]),
      [
        'policy_denied, nothing allowed it',
        toAuditRow(denied({ evaluation: evaluation({ allowedBy: [], deniedBy: [] }) })),
      ],
      [
        'rate_limited by a limit',
        limited({ name: 'per-tool', limit: 30, consumed: 30, window_s: 60, reset_ms: 40_900, refused: true }),
      ],
      [
        'rate_limited for the day',
        limited({
          name: 'budget',
          limit: 9,
          consumed: 9,
          calendar: 'day',
          reset_ms: 50_399_000,
          refused: true,
        }),
      ],
      ['interrupted', toInterruptedRow(call({ stage: 'upstream' }), NOW_MS + 5)],
      ['gap', gapRow(ID, NOW_MS, { why: 'spool_full', count: 12, fromMs: NOW_MS - 5000, toMs: NOW_MS })],
    ]
    const lines = told.map(([kind, row]) => `${kind}\n    ${sentence(row)}`)
    expectGoldenText('audit/sentences', lines.join('\n'))
    for (const [kind, row] of told) {
      expect(sentence(row), kind)
        .to.match(/^[A-Z][a-z ]+: .*[^.]\.$/)
        .and.not.match(/undefined|null|\[object|NaN/)
    }
  })

  it('has one for rows whose decision says nothing', () => {
    for (const kind of Object.keys(ENDINGS) as EndingKind[]) {
      const text = sentence({ ...ended(kind), decision: storedJson({}), error_message: null, reason: null })
      expect(text, kind)
        .to.match(/^[A-Z].*\.$/)
        .and.not.match(/undefined|null|NaN/)
    }
  })
})
