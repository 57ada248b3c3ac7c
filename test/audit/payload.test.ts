import { expect } from 'chai'
import { toAuditRow, toInterruptedRow } from '../../src/audit/event.ts'
import type { PayloadLevel, PayloadLevels } from '../../src/audit/payload.ts'
import { keptPayload, withoutValues } from '../../src/audit/payload.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { toRecord } from '../../src/audit/row.ts'
import { OUTCOMES } from '../../src/cli/audit-arguments.ts'
import { toRowPlan } from '../../src/compose/row-plan.ts'
import type { Limit } from '../../src/gateway/limit-types.ts'
import type { AuditEvent, Call } from '../../src/gateway/types.ts'
import { toStoredText } from '../../src/json/stored-text.ts'
import { allowed, call, denied, evaluation, newId, toolsCall } from './fixtures.ts'

const SENT = 'sent-by-the-caller'
const ANSWERED = 'answered-by-the-upstream'
const TRACE = {
  v: 1,
  truncated: false,
  dropped: 0,
  rules: [
    {
      rule: 'data.gateway.authz.allow',
      at: 'a.rego:1',
      outcome: 'defined',
      value: ['developers-may-call'],
      steps: [
        {
          at: 'a.rego:2',
          expr: 'some x in input.arguments.xs',
          ok: true,
          vars: { x: SENT, reads: SENT, value: SENT },
          rules: [
            {
              rule: 'data.gateway.authz.f',
              at: 'a.rego:9',
              outcome: 'defined',
              args: { name: SENT },
              value: { deep: [SENT] },
              steps: [
                {
                  at: 'a.rego:10',
                  expr: 'not name',
                  ok: true,
                  vars: {},
                  reads: { name: [SENT] },
                  missing: ['y'],
                },
              ],
            },
          ],
        },
      ],
    },
    { rule: 'data.gateway.authz.is', at: 'a.rego:12', outcome: 'defined', value: true, steps: [] },
    { rule: 'data.gateway.authz.names', at: 'a.rego:13', outcome: 'defined', value: [SENT], steps: [] },
  ],
}

const plan = (level: PayloadLevel, upstreams: PayloadLevels['upstreams'] = {}) => ({
  payload: { level, upstreams },
  compact: false,
})

describe('the payload level', () => {
  const obliged = (...levels: unknown[]) =>
    evaluation({ obligations: levels.map((level) => ({ kind: 'audit_payload', level })) })

  describe('of a call', () => {
    const levels: PayloadLevels = {
      level: 'request',
      upstreams: {
        github: { level: null, tools: { delete_repo: 'metadata', search: 'full', other: null } },
        mail: { level: 'metadata', tools: { list: 'full' } },
      },
    }
    const levelOf = (
      server: string,
      target: Partial<Call['target'] & object> | null,
      asked: unknown[] = [],
    ) =>
      keptPayload(
        call({
          server: { name: server, labels: {} },
          target:
            target === null
              ? null
              : { kind: 'tool', name: 'x', annotations: {}, schemaDigest: null, ...target },
          evaluation: obliged(...asked),
        }),
        levels,
      )

    it('is that of the tool, else of the upstream, else the general one', () => {
      expect(levelOf('github', { name: 'delete_repo' }).level).to.equal('metadata')
      expect(levelOf('github', { name: 'search' }).level).to.equal('full')
      expect(levelOf('github', { name: 'other' }).level).to.equal('request')
      expect(levelOf('github', { name: 'constructor' }).level).to.equal('request')
      expect(levelOf('github', { kind: 'resource', name: 'search' }).level).to.equal('request')
      expect(levelOf('mail', { name: 'send' }).level).to.equal('metadata')
      expect(levelOf('mail', { name: 'list' }).level).to.equal('full')
      expect(levelOf('unknown', { name: 'list' }).level).to.equal('request')
      expect(levelOf('toString', { name: 'list' }).level).to.equal('request')
    })

    it('is the strictest of the upstream while it is not known what is meant', () => {
      expect(levelOf('github', null).level).to.equal('metadata')
      expect(levelOf('unknown', null).level).to.equal('request')
    })

    it('is made stricter by the policy, never laxer', () => {
      expect(levelOf('github', { name: 'search' }, ['request', 'full'])).to.deep.equal({
        level: 'request',
        by: 'policy',
      })
      expect(levelOf('github', { name: 'search' }, ['nonsense'])).to.deep.equal({
        level: 'metadata',
        by: 'policy',
      })
      expect(levelOf('github', { name: 'delete_repo' }, ['full'])).to.deep.equal({
        level: 'metadata',
        by: 'configuration',
      })
    })

    it('comes from the configuration as it is written there', () => {
      const upstream = (auditPayload: PayloadLevel | null, tool: PayloadLevel | null) =>
        ({ auditPayload, tools: { t: { timeoutMs: null, auditPayload: tool } } }) as unknown as Parameters<
          typeof toRowPlan
        >[0]['upstreams'][string]
      const audit = { payload: 'request', traceEncoding: 'compact' } as Parameters<
        typeof toRowPlan
      >[0]['audit']
      expect(
        toRowPlan({ audit, upstreams: { a: upstream('full', null), b: upstream(null, 'metadata') } }),
      ).to.deep.equal({
        compact: true,
        payload: {
          level: 'request',
          upstreams: {
            a: { level: 'full', tools: { t: null } },
            b: { level: null, tools: { t: 'metadata' } },
          },
        },
      })
    })
  })

  describe('metadata', () => {
    const limits = [{ name: 'per-x', key: [SENT], limit: 1, window_s: 1 }] as const satisfies readonly Limit[]
    const evaluated = { trace: TRACE, limits }
    const message = toolsCall(JSON.stringify({ xs: [SENT] }))
    const answer = `{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":"${ANSWERED}"}]}}`
    const record = (row: AuditRow) => toRecord(row, newId(0), 1)

    it('keeps nothing that the caller or the upstream sent, in no column', () => {
      const events: readonly AuditEvent[] = [
        denied({ message, evaluation: evaluation(evaluated) }),
        allowed({ message, evaluation: evaluation({ ...evaluated, allow: true }) }, answer),
      ]
      for (const event of events) {
        expect(record(toAuditRow(event))).to.include(SENT)
        const row = toAuditRow(event, { plan: plan('metadata') })
        expect(record(row)).to.not.include(SENT).and.not.include(ANSWERED)
        expect(row.tool_name).to.equal('delete_repo')
        expect(row.decision).to.include('some x in input.arguments.xs').and.include('"developers-may-call"')
        expect(JSON.parse(row.redaction ?? '{}')).to.deep.include({
          payload: { level: 'metadata', by: 'configuration' },
          request: { bytes_in: message.body.length, withheld: true },
        })
        const again = toAuditRow({
          ...event,
          call: { ...event.call, evaluation: { ...evaluation(evaluated), ...obliged('metadata') } },
        })
        expect(JSON.parse(again.redaction ?? '{}').payload).to.deep.equal({ level: 'metadata', by: 'policy' })
      }
      const open = toInterruptedRow(call({ message }), Date.now(), { plan: plan('metadata') })
      expect(record(open)).to.not.include(SENT)
    })

    it('keeps in the trace which rules and lines there were, and which names they read', () => {
      const trace = JSON.parse(withoutValues(JSON.stringify(TRACE), ['developers-may-call']))
      const [allow, is, names] = trace.rules
      expect(allow.value).to.deep.equal(['developers-may-call'])
      expect(allow.steps[0].vars).to.deep.equal({ x: '[withheld]', reads: '[withheld]', value: '[withheld]' })
      expect(allow.steps[0].rules[0]).to.deep.include({ args: { name: '[withheld]' }, value: '[withheld]' })
      expect(allow.steps[0].rules[0].steps[0]).to.deep.include({
        reads: { name: '[withheld]' },
        missing: ['y'],
      })
      expect([is.value, names.value]).to.deep.equal([true, '[withheld]'])
    })
  })

  it('request keeps what was asked and not what was answered', () => {
    const row = toAuditRow(allowed({}, `{"jsonrpc":"2.0","id":7,"result":"${ANSWERED}"}`), {
      plan: plan('request'),
    })
    expect(row.request_json).to.include('"owner"')
    expect(row.response_json).to.equal(null)
  })

  it('never costs the row', () => {
    for (const outcome of OUTCOMES) {
      const { call: attempted, ending } = denied()
      const row = toAuditRow({ call: attempted, ending: { ...ending, outcome } }, { plan: plan('metadata') })
      expect(row.outcome).to.equal(outcome)
    }
  })
})

describe('the size of a row', () => {
  it('is bounded, whatever was sent, answered, evaluated and listed', () => {
    const long = 'x'.repeat(2_000_000)
    const many = Array.from({ length: 20_000 }, (_, index) => `${index}${'y'.repeat(60)}`)
    const verdict = { allow: false, allowedBy: many, deniedBy: many }
    const trace = `{"v":1,"truncated":false,"dropped":0,"rules":[${JSON.stringify(many)}]}`
    const event = denied({
      message: toolsCall(JSON.stringify({ long, many })),
      target: { kind: 'tool', name: long, annotations: {}, schemaDigest: null },
      listed: many.map((name) => ({ name, ...verdict })),
      evaluation: evaluation({
        ...{
          deniedBy: many,
          allowedBy: many,
          inputText: JSON.stringify({ many, long }),
          traceText: () => toStoredText(trace),
        },
        ...{ failure: { kind: 'policy_error', message: long } },
      }),
    })
    const row = toAuditRow({
      call: event.call,
      ending: { ...event.ending, kind: null, response: Buffer.from(JSON.stringify(many)) },
    })
    const decision = JSON.parse(row.decision)
    expect(decision.listed.length).to.be.within(1, 499)
    expect(decision.listed_total).to.equal(20_000)
    expect(Buffer.byteLength(toRecord(row, newId(0), 1))).to.be.lessThan(800_000)
  })
})
