import { expect } from 'chai'
import { toAuditRow } from '../../src/audit/event.ts'
import type { Explanation } from '../../src/audit/explain.ts'
import { explainRow } from '../../src/audit/explain.ts'
import type { StoredRow } from '../../src/audit/query.ts'
import type { StoredPolicy } from '../../src/audit/revisions.ts'
import { gapRow, placeholder } from '../../src/audit/row.ts'
import { layoutExplanation } from '../../src/cli/audit-explain-lines.ts'
import { textWidth } from '../../src/cli/text.ts'
import type { EndingKind } from '../../src/errors.ts'
import { ENDINGS, GatewayError } from '../../src/errors.ts'
import { target } from '../../src/gateway/targets.ts'
import type { AuditEvent, Call, CallPart } from '../../src/gateway/types.ts'
import { parseExact, stringifyExact } from '../../src/json/exact.ts'
import { expectGoldenText } from '../support/golden.ts'
import {
  allowed,
  answered,
  call,
  DENY_TRACE,
  DICTIONARY,
  denied,
  evaluation,
  message,
  NO_ALLOW_TRACE,
  NOW_MS,
  refused,
  toolsCall,
} from './fixtures.ts'

const ID = '019aa5f0-4a7b-7001-8abc-0123456789ab'
const SOURCE = `package gateway.authz



allow contains "admins-may-call" if {
	"admin" in input.principal.roles
	input.server.labels.env in data.open_envs
}
${'\n'.repeat(14)}
deny contains "destructive-without-mfa" if {
	input.target.annotations.destructiveHint == true
	not input.principal.claims.mfa
}


deny contains "frozen" if {
	input.server.labels.env == "prod"
	data.freeze.active
}`
const POLICY: StoredPolicy = { sources: { 'authz/tools.rego': SOURCE }, dictionary: DICTIONARY }

function store(row: ReturnType<typeof toAuditRow>): StoredRow {
  return { ...row, ts: new Date(row.ts), writer: ID, seq: '1', leaf: null, id: ID, request_id: ID }
}

const rowOf = (event: AuditEvent): StoredRow => store(toAuditRow(event))
const FOLDED = { policy: null, source: false, full: false }
const sentence = (row: StoredRow): string => explainRow(row, FOLDED).sentence

function print(row: StoredRow, explanation: Explanation, full = false): string {
  const plain = { style: (_look: string, text: string) => text }
  const lines = layoutExplanation(row, explanation, plain, { full, source: false, siblings: [] })
  if (!full) for (const line of lines) expect(textWidth(line), line).to.be.at.most(100)
  return lines.join('\n')
}

const explain = (event: AuditEvent, policy: StoredPolicy | null = POLICY, source = false): string => {
  const row = rowOf(event)
  return print(row, explainRow(row, { policy, source, full: false }))
}

const ALLOW_TRACE = {
  v: 1,
  truncated: false,
  dropped: 0,
  rules: [
    {
      rule: 'data.gateway.authz.deny',
      at: 'authz/tools.rego:30',
      outcome: 'undefined',
      steps: [
        {
          at: 'authz/tools.rego:31',
          expr: 'input.server.labels.env == "prod"',
          ok: false,
          vars: {},
          reads: { 'input.server.labels.env': 'test' },
        },
      ],
    },
    {
      rule: 'data.gateway.authz.allow',
      at: 'authz/tools.rego:12',
      outcome: 'defined',
      value: ['developers-may-call'],
      steps: [
        {
          at: 'authz/tools.rego:13',
          expr: 'some role in input.principal.roles',
          ok: true,
          vars: { role: 'developer' },
        },
      ],
    },
  ],
}

describe('audit/explain prints', () => {
  it('a denial: the rule that denied, what made it hold, the tree', () => {
    expectGoldenText('audit/explain-denied', explain(denied()))
  })

  it('with --full also the insides of rules that did not decide, and what was not reached', () => {
    const row = rowOf(denied())
    const whole = print(row, explainRow(row, { policy: POLICY, source: false, full: true }), true)
    expectGoldenText('audit/explain-full', whole)
  })

  it('a denial because nothing allowed it: the rule that came furthest and the line that failed', () => {
    const none = evaluation({ allowedBy: [], deniedBy: [], trace: NO_ALLOW_TRACE })
    expectGoldenText(
      'audit/explain-not-allowed',
      explain({ call: call({ evaluation: none }), ending: refused('policy_denied') }),
    )
  })

  it('an allowed call', () => {
    const trace = evaluation({ allow: true, deniedBy: [], trace: ALLOW_TRACE })
    expectGoldenText('audit/explain-allowed', explain(allowed({ evaluation: trace })))
  })

  describe('a list', () => {
    const verdict = (name: string, deniedBy: string[] | null) => ({
      ...{ name, allow: deniedBy === null, allowedBy: deniedBy === null ? ['has-a-role'] : [] },
      deniedBy: deniedBy ?? [],
    })
    const listing = (changes: Partial<Call>): AuditEvent => {
      const trace = evaluation({ allow: true, allowedBy: ['has-a-role'], deniedBy: [], trace: ALLOW_TRACE })
      const body = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
      const asked = { message: message(body, { method: 'tools/list', params: {}, argumentsText: null }) }
      return allowed({ ...asked, target: target('server', 'github'), evaluation: trace, ...changes })
    }
    const part = (name: string, changes: Partial<Call>, refusal: GatewayError | null = null): CallPart => ({
      call: call({ server: { name, labels: {} }, evaluation: null, upstream: null, ...changes }),
      refusal,
    })

    it('of one upstream: what of it was hidden, and why', () => {
      const hidden = ['wipe', 'a', 'b', 'c', 'd', 'e'].map((name) =>
        verdict(name, name === 'wipe' ? ['no-wipe'] : []),
      )
      const row = rowOf(listing({ listed: [verdict('echo', null), ...hidden] }))
      expect(explainRow(row, FOLDED)).to.deep.include({
        listed:
          '1 of 7 shown; hidden: wipe (no-wipe), a (no rule allows it), b (no rule allows it), c (no rule allows it), d (no rule allows it) and 1 more',
        parts: [],
      })
    })

    it('of all upstreams (/mcp): what became of it at each, hidden ones too', () => {
      const allows = evaluation({ allow: true, allowedBy: ['has-a-role'], deniedBy: [] })
      const denies = evaluation({ allow: false, allowedBy: [], deniedBy: ['not-yours'] })
      const nothing = evaluation({ allow: false, allowedBy: [], deniedBy: [] })
      const failed = { ...nothing, failure: { kind: 'policy_budget' as const, message: 'fuel exhausted' } }
      const denied = new GatewayError('policy_denied')
      const parts = [
        part('desk', { evaluation: allows, listed: [verdict('echo', null), verdict('wipe', ['no-wipe'])] }),
        part(
          'files',
          { evaluation: allows },
          new GatewayError('upstream_timeout', { detail: 'it had no share within 500 ms' }),
        ),
        part('hr', { evaluation: denies }, denied),
        part('ops', { evaluation: nothing }, denied),
        part('slow', { evaluation: failed }, new GatewayError('policy_budget')),
        part('wiki', {}, new GatewayError('killed', { detail: 'server wiki was stopped by ann: leak' })),
      ]
      const row = rowOf(listing({ merged: 'all', server: { name: '*', labels: {} }, parts }))
      const explanation = explainRow(row, FOLDED)
      expect(explanation.parts).to.deep.equal([
        {
          server: 'desk',
          sentence: 'has a share, because of has-a-role: 1 of 2 shown; hidden: wipe (no-wipe)',
        },
        { server: 'files', sentence: 'left out: upstream timeout: it had no share within 500 ms' },
        { server: 'hr', sentence: 'hidden, because of not-yours' },
        { server: 'ops', sentence: 'hidden: no rule allows it' },
        { server: 'slow', sentence: 'hidden: the policy gave no decision (policy budget)' },
        { server: 'wiki', sentence: 'stopped by a kill switch: server wiki was stopped by ann: leak' },
      ])
      const printed = print(row, explanation)
      expect(printed)
        .to.contain('all upstreams (/mcp)')
        .and.match(/^ {2}at {8}hr: hidden, because of not-yours$/m)
    })

    it('of very many upstreams: as many as fit a screen, and all with --full', () => {
      const parts = Array.from({ length: 40 }, (_, at) =>
        part(`up-${at}`, {}, new GatewayError('policy_denied')),
      )
      const row = rowOf(listing({ merged: 'all', server: { name: '*', labels: {} }, parts }))
      expect(print(row, explainRow(row, FOLDED)))
        .to.contain('28 more upstreams: --full')
        .and.not.contain('up-39')
      expect(print(row, explainRow(row, FOLDED), true)).to.contain('up-39: left out: policy denied')
    })
  })

  it('a 401: why, and what the caller tried', () => {
    const unknown = call({
      stage: 'auth',
      principal: null,
      server: null,
      message: null,
      target: null,
      hint: { method: 'tools/call', name: 'delete_repo' },
    })
    expectGoldenText(
      'audit/explain-unauthenticated',
      explain({ call: unknown, ending: refused('unauthenticated', 'the key k3v9 has expired') }, null),
    )
  })

  it('an exceeded budget: where the evaluation ended', () => {
    const exceeded = evaluation({
      allowedBy: [],
      deniedBy: [],
      failure: { kind: 'policy_budget', message: 'fuel exhausted' },
      trace: {
        v: 1,
        truncated: true,
        dropped: 4210,
        rules: [
          {
            rule: 'data.gateway.authz.deny',
            at: 'authz/join.rego:4',
            outcome: 'aborted',
            steps: [
              { at: 'authz/join.rego:5', expr: 'some i, j', ok: true, vars: {} },
              { at: 'authz/join.rego:6', expr: 'a[i].id == b[j].id', ok: false, aborted: true, vars: {} },
            ],
          },
        ],
      },
    })
    expectGoldenText(
      'audit/explain-budget',
      explain({ call: call({ evaluation: exceeded }), ending: refused('policy_budget', 'fuel exhausted') }),
    )
  })

  it('the source lines of that policy, around the line that decided and of each rule', () => {
    expectGoldenText('audit/explain-source', explain(denied(), POLICY, true))
    const row = rowOf(denied())
    expect(print(row, explainRow(row, { policy: POLICY, source: true, full: true }))).to.include(`
    x   31    input.server.labels.env == "prod"             input.server.labels.env = "test"
    .   32    data.freeze.active`)
    expect(explain(denied(), null, true)).to.include('is not stored any more')
  })

  it('the line as the policy of that day has it, and without that the expression of the trace', () => {
    const sources = { 'authz/tools.rego': SOURCE.replace('claims.mfa', 'claims.mfa # set at login') }
    expect(explain(denied(), { ...POLICY, sources })).to.include(
      'line 26: not input.principal.claims.mfa # set at login',
    )
    expect(explain(denied(), null)).to.include('line 26: not input.principal.claims.mfa\n')
  })

  it('one screen, however many rules there are', () => {
    const others = Array.from({ length: 60 }, (_, at) => ({
      ...DENY_TRACE.rules[2],
      at: `authz/more.rego:${10 * at + 1}`,
    }))
    const trace = { ...DENY_TRACE, rules: [...DENY_TRACE.rules, ...others] }
    const lines = explain(denied({ evaluation: evaluation({ trace }) })).split('\n')
    expect(lines.length).to.be.within(24, 40)
    expect(lines.at(-1)).to.match(/^ {2}note {6}\d+ more lines: --full$/)
    expect(lines.join('\n')).to.include('holds     line 26')
  })
})

describe('audit/explain', () => {
  it('has a sentence for every way to end, that ends in one full stop', () => {
    for (const kind of Object.keys(ENDINGS) as EndingKind[]) {
      const text = sentence(
        rowOf({ call: call({ stage: ENDINGS[kind].stage }), ending: refused(kind, 'why it was.') }),
      )
      expect(text, kind).to.match(/^[A-Z][a-z ]+: .*[^.]\.$/)
      expect(text, kind).not.to.match(/undefined|null|\[object/)
    }
  })

  it('tells what an allowed call got from the upstream', () => {
    const upstream = { server: 'github', status: 200, ms: 1, bytes: 1, sha256: null }
    const failed = allowed({ upstream: { ...upstream, jsonRpcError: null, toolIsError: true } })
    expect(sentence(rowOf(failed))).to.match(/; the tool reported an error\.$/)
    const error = allowed({ upstream: { ...upstream, jsonRpcError: -32602, toolIsError: false } })
    expect(sentence(rowOf(error))).to.match(/; the upstream answered with error -32602\.$/)
  })

  it('tells which limit was reached', () => {
    const row = rowOf({ call: call({ stage: 'rate' }), ending: refused('rate_limited') })
    const rate = { limits: [{ name: 'per-tool', consumed: 31, limit: 30, reset_ms: 41_000, source: 'db' }] }
    expect(sentence({ ...row, decision: JSON.stringify({ ...JSON.parse(row.decision), rate }) })).to.equal(
      'Limited: anna of acme may not call tool delete_repo on github now: limit per-tool is 30, used 31; it resets at 2026-11-21T10:00:41Z, 41 s after the call.',
    )
  })

  it('explains gaps, placeholders and rows that were not made safe', () => {
    const gap = store(
      gapRow(ID, NOW_MS, { why: 'spool_full', count: 12, fromMs: NOW_MS - 5000, toMs: NOW_MS }),
    )
    expect(sentence(gap)).to.equal(
      'Gap: 12 attempts between 2026-11-21T09:59:55.123Z and 2026-11-21T10:00:00.123Z could not be recorded one by one (spool full).',
    )
    const bare = store(
      placeholder(toAuditRow(denied()), { why: 'refused by the database', sqlstate: '22P05' }),
    )
    expect(print(bare, explainRow(bare, FOLDED))).to.include(
      'The row is kept as a placeholder: refused by the database (SQLSTATE 22P05).',
    )
    const unsafe = rowOf(denied({ evaluation: evaluation({ inputText: '{' }) }))
    expect(explainRow(unsafe, FOLDED).notes).to.deep.equal([
      'Left out, because it could not be made safe: input.',
    ])
  })

  it('says what was replaced and cut', () => {
    const event = { ...denied({ message: toolsCall(`{"password":"hunter2-x","a":"${'y'.repeat(9000)}"}`) }) }
    expect(explainRow(rowOf(event), FOLDED).notes).to.deep.equal([
      'Secrets were replaced in: request.',
      'Cut to size: request.',
    ])
  })

  it('shows hostile characters escaped and long values cut, unless asked for all', () => {
    const nasty = 'a\u001b[31mred\u202eevil\u200b\n'
    const trace = {
      v: 1,
      truncated: false,
      dropped: 0,
      rules: [
        {
          rule: 'data.gateway.authz.deny',
          at: 'x.rego:1',
          outcome: 'defined',
          value: ['r'],
          steps: [
            { at: 'x.rego:2', expr: 'input.x == 1', ok: true, vars: { v: nasty, w: 'z'.repeat(3000) } },
          ],
        },
      ],
    }
    const row = rowOf(
      denied({
        evaluation: evaluation({ trace }),
        target: { kind: 'tool', name: nasty, annotations: {}, schemaDigest: null },
      }),
    )
    const explanation = explainRow(row, FOLDED)
    const text = print(row, explanation)
    for (const char of ['\u001b', '\u202e', '\u200b']) expect(text).not.to.include(char)
    expect(text).to.include('\\u{001b}[31mred\\u{202e}evil\\u{200b}')
    expect(text).not.to.include('z'.repeat(100))
    expect(print(row, explanation, true)).to.include('z'.repeat(3000))
  })

  it('shows numbers with all their digits', () => {
    const trace = `{"v":1,"truncated":false,"dropped":0,"rules":[{"rule":"data.gateway.authz.deny","at":"x.rego:1","outcome":"defined",
      "value":["r"],"steps":[{"at":"x.rego:2","expr":"input.n > 1","ok":true,"vars":{"n":9007199254740993}}]}]}`
    const row = rowOf(denied({ evaluation: evaluation({ trace }) }))
    expect(print(row, explainRow(row, FOLDED))).to.include('n = 9007199254740993')
    const text =
      '{"a":[12345678901234567890,-0.12345678901234567],"s":"12345678901234567890 \\"9007199254740993","n":1}'
    expect(stringifyExact(parseExact(text))).to.equal(text)
  })

  it('survives traces of any shape', () => {
    for (const trace of [
      'null',
      '[]',
      '{"rules":{}}',
      '{"rules":[1,{"steps":[null,{"vars":3}],"rules":"x"}]}',
      '{"rules":[{"rule":7}]}',
    ]) {
      const row = rowOf(denied({ evaluation: evaluation({ trace }) }))
      expect(print(row, explainRow(row, { policy: POLICY, source: true, full: true }))).to.match(/^Denied: /)
    }
    const row = { ...rowOf({ call: call(), ending: answered('{}') }), decision: '7' }
    expect(print(row, explainRow(row, FOLDED))).to.match(/^Allowed: /)
  })
})
