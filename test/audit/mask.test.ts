import { expect } from 'chai'
import { toAuditRow } from '../../src/audit/event.ts'
import { hashMasks } from '../../src/audit/mask.ts'
import type { RowRules } from '../../src/audit/rules.ts'
import type { AuditEvent, Call, Evaluation, Mask } from '../../src/gateway/types.ts'
import { allowed, denied, evaluation, message, refused, toolsCall } from './fixtures.ts'

const KEY = Buffer.alloc(32, 7)

/** The row's JSON columns parsed, and all of it as text. */
function rowOf(event: AuditEvent, rules: RowRules = {}) {
  const row = toAuditRow(event, rules)
  const parsed = (json: string | null) => (json === null ? null : JSON.parse(json))
  return {
    row,
    request: parsed(row.request_json),
    response: parsed(row.response_json),
    decision: parsed(row.decision),
    redaction: parsed(row.redaction),
    text: JSON.stringify(row),
  }
}

function masked(masks: readonly Mask[], args: string, trace?: unknown, changes: Partial<Call> = {}) {
  const made = { masks, ...(trace === undefined ? {} : { trace }) }
  return denied({ message: toolsCall(args), evaluation: evaluation(made), ...changes })
}

const remove = (...path: string[]): Mask => ({ op: 'remove', path })

describe('audit/mask: in the request', () => {
  it('removes members and elements, replaces by upsert, and says where', () => {
    const args = '{"ssn":"123-45-6789","card":"4111111111111111","rows":[{"n":1},{"n":2}],"note":"fine"}'
    const upsert: Mask = { op: 'upsert', path: ['arguments', 'card'], json: '"…1111"' }
    const masks = [remove('arguments', 'ssn'), upsert, remove('arguments', 'rows', '1')]
    const { request, redaction } = rowOf(masked(masks, args))
    expect(request.params.arguments).to.deep.equal({ card: '…1111', rows: [{ n: 1 }], note: 'fine' })
    expect(redaction.request.redacted).to.deep.equal([
      ['/params/arguments/ssn', 'mask'],
      ['/params/arguments/card', 'mask'],
      ['/params/arguments/rows/1', 'mask'],
    ])
  })

  it('takes * for every member or element, and digests for what the configuration names', () => {
    const rules: RowRules = {
      hashKey: KEY,
      toolMasks: (server, tool) =>
        server === 'github' && tool === 'delete_repo' ? hashMasks(['/arguments/people/*/mail']) : [],
    }
    const args =
      '{"people":[{"mail":"ann@example.org"},{"mail":"bob@example.org"},{"mail":"ann@example.org"}]}'
    const { request } = rowOf(masked([], args), rules)
    const [ann, bob, again] = request.params.arguments.people.map((one: { mail: string }) => one.mail)
    expect(ann).to.match(/^\[redacted:pointer hmac:[0-9a-f]{12}\]$/)
    expect(again).to.equal(ann)
    expect(bob).not.to.equal(ann)
    const other = rowOf(masked([], args, undefined, { message: toolsCall(args, 'read_repo') }), rules)
    expect(other.request.params.arguments.people[0].mail).to.equal('ann@example.org')
  })

  it('finds arguments that are no object of their own: the uri of a resource', () => {
    const uri = 'file:///home/ann/diary.txt'
    const read = message(`{"jsonrpc":"2.0","id":1,"method":"resources/read","params":{"uri":"${uri}"}}`, {
      method: 'resources/read',
      argumentsText: `{"uri":"${uri}"}`,
    })
    const target = { kind: 'resource', name: uri, annotations: {}, schemaDigest: null } as const
    const event = masked([remove('arguments', 'uri')], '{}', undefined, { message: read, target })
    const { text, row, request } = rowOf(event)
    expect(text).not.to.include('diary')
    expect(row.tool_name).to.equal('[redacted:mask]')
    expect(request.params).to.deep.equal({})
  })

  it('says the least where several masks meet', () => {
    const upsert: Mask = { op: 'upsert', path: ['arguments', 'a'], json: '"x"' }
    const { request } = rowOf(masked([upsert, remove('arguments', 'a')], '{"a":"abc","b":1}'))
    expect(request.params.arguments).to.deep.equal({ b: 1 })
  })

  it('lets no replacement bring back what it hides, a secret, or what the database refuses', () => {
    const upsert = (name: string, value: unknown): Mask => ({
      op: 'upsert',
      path: ['arguments', name],
      json: JSON.stringify(value),
    })
    const masks = [
      upsert('a', { same: 'Ann Miller', text: 'was Ann Miller' }),
      upsert('b', 'Bearer 0123456789abcdef01234567'),
      upsert('c', 'x\0y'),
    ]
    const { request } = rowOf(masked(masks, '{"a":"Ann Miller","b":"b-value","c":"c-value"}'))
    expect(request.params.arguments).to.deep.equal({
      a: { same: '[redacted:mask]', text: 'was [redacted:mask]' },
      b: 'Bearer [redacted:authorization]',
      c: 'x\u2400y',
    })
  })

  it('masks what stands beyond the bounds of a row as well', () => {
    const rows = Array.from({ length: 250 }, (_, index) => ({ name: `person-${index}` }))
    const trace = traceWith({ vars: { x: 'person-249' } })
    const { text } = rowOf(
      masked([remove('arguments', 'rows', '*', 'name')], JSON.stringify({ rows }), trace),
    )
    expect(text).not.to.include('person-')
  })

  it('withholds values when there are more masked ones than can be remembered', () => {
    const rows = Array.from({ length: 300 }, (_, index) => `person-${index}`)
    const trace = traceWith({ vars: { x: 'person-299' } })
    const { text, decision } = rowOf(masked([remove('arguments', 'rows')], JSON.stringify({ rows }), trace))
    expect(text).not.to.include('person-')
    expect(decision.authz.trace.rules[0].steps[0].vars).to.equal('[redacted:withheld]')
  })
})

/** A trace of one step. */
function traceWith(step: object) {
  const steps = [{ at: 'a.rego:2', expr: 'x', ok: false, vars: {}, ...step }]
  const rules = [{ rule: 'data.gateway.authz.deny', at: 'a.rego:1', outcome: 'undefined', steps }]
  return { v: 1, truncated: false, dropped: 0, rules }
}

describe('audit/mask: where masked values come up again', () => {
  const step = (event: AuditEvent) => rowOf(event).decision.authz.trace.rules[0].steps[0]

  it('are gone from bindings, reads, values inside texts, and from other arguments', () => {
    const trace = traceWith({
      vars: { a: 'Ann Miller', b: ['for Ann Miller!'], c: { deep: 'Ann Miller' } },
      reads: { 'input.arguments.name': 'Ann Miller', 'input.arguments.other': 'fine' },
    })
    const event = masked([remove('arguments', 'name')], '{"name":"Ann Miller","copy":"Ann Miller"}', trace)
    const { text, request } = rowOf(event)
    expect(text).not.to.include('Miller')
    expect(request.params.arguments).to.deep.equal({ copy: '[redacted:mask]' })
    expect(step(event).reads).to.deep.equal({
      'input.arguments.name': '[redacted:mask]',
      'input.arguments.other': 'fine',
    })
  })

  it('are gone however short they are: as whole values, and as words', () => {
    const trace = traceWith({
      vars: { p: 4711, text: 'pin 4711 of 47112', x: '4711', small: 7 },
      reads: {
        'input.arguments.flag': true,
        'input.arguments["flag"]': true,
        'input.arguments': { flag: true },
      },
    })
    const masks = [remove('arguments', 'pin'), remove('arguments', 'flag'), remove('arguments', 'n')]
    const { vars, reads } = step(masked(masks, '{"pin":4711,"flag":true,"n":7}', trace))
    expect(vars).to.deep.equal({
      p: '[redacted:mask]',
      text: 'pin [redacted:mask] of 47112',
      x: '[redacted:mask]',
      small: '[redacted:mask]',
    })
    expect(reads).to.deep.equal({
      'input.arguments.flag': '[redacted:mask]',
      'input.arguments["flag"]': '[redacted:mask]',
      'input.arguments': { flag: '[redacted:mask]' },
    })
  })

  it('are gone from reads whose path only a variable knows', () => {
    const trace = traceWith({
      reads: { 'input.arguments.rows[i].ok': true, 'input.arguments.rows[i].id': true },
    })
    const { reads } = step(masked([remove('arguments', 'rows', '*', 'ok')], '{"rows":[{"ok":true}]}', trace))
    expect(reads).to.deep.equal({
      'input.arguments.rows[i].ok': '[redacted:mask]',
      'input.arguments.rows[i].id': true,
    })
  })

  it('are gone from a long value that the trace has cut in the middle of them', () => {
    const trace = traceWith({ vars: { x: 'long ago in 12 Rose … 900 characters left out … Street there' } })
    const { text } = rowOf(masked([remove('arguments', 'home')], '{"home":"12 Rose Garden Street"}', trace))
    expect(text).not.to.match(/Rose|Street/)
  })

  it('are gone from the claims in the input, from columns, and from what is said of an error', () => {
    const inputText = JSON.stringify({
      principal: { id: 'anna', claims: { email: 'anna@example.org', level: 2 } },
      client: { name: 'inspector', version: '2.0.1' },
    })
    const masks = [remove('principal', 'claims', 'email'), remove('client', 'name')]
    const event: AuditEvent = {
      call: denied({ evaluation: evaluation({ masks, inputText }) }).call,
      ending: refused('upstream_failed', 'no answer for anna@example.org'),
    }
    const { decision, row, text } = rowOf(event)
    expect(decision.authz.input).to.deep.equal({
      principal: { id: 'anna', claims: { level: 2 } },
      client: { version: '2.0.1' },
    })
    expect(row.client_name).to.equal('[redacted:mask]')
    expect(row.error_message).to.equal('no answer for [redacted:mask]')
    expect(text).not.to.match(/anna@|inspector/)
  })

  it('are gone from the answer, also where it says them twice', () => {
    const answer = {
      structuredContent: { mail: 'ann@example.org', id: 5 },
      content: [{ type: 'text', text: '{"mail":"ann@example.org","id":5}' }],
    }
    const made = evaluation({
      allow: true,
      deniedBy: [],
      masks: [remove('result', 'structuredContent', 'mail')],
    })
    const event = allowed({ evaluation: made }, JSON.stringify({ jsonrpc: '2.0', id: 7, result: answer }))
    const { response, redaction } = rowOf(event)
    expect(response.result).to.deep.equal({
      structuredContent: { id: 5 },
      content: [{ type: 'text', text: '{"mail":"[redacted:mask]","id":5}' }],
    })
    expect(redaction.response.redacted_count).to.equal(2)
  })
})

describe('audit/mask: when nobody knows what to mask', () => {
  const args = '{"name":"Ann Miller"}'
  const trace = traceWith({ vars: { x: 'Ann Miller' }, reads: { 'input.arguments.name': 'Ann Miller' } })

  function expectNothingOf(event: AuditEvent, rules: RowRules = {}) {
    const made = rowOf(event, rules)
    expect(made.text).not.to.include('Miller')
    expect(made.request).to.equal(null)
    expect(made.redaction.request).to.include({ withheld: true })
    return made
  }

  it('a malformed mask costs the row its payloads, input and values, and nothing else', () => {
    const unknown: Partial<Evaluation> = { maskFailure: 'mask[0] path must begin with /arguments' }
    const event = masked([], args, trace, { evaluation: evaluation({ ...unknown, trace }) })
    const { decision, redaction, row } = expectNothingOf(event)
    expect(decision.authz.mask_failure).to.equal(unknown.maskFailure)
    expect(decision.authz).not.to.have.property('input')
    expect(decision.authz.denied_by).to.deep.equal(['destructive-without-mfa'])
    expect(decision.authz.trace.rules[0].steps[0]).to.include({ expr: 'x', vars: '[redacted:withheld]' })
    expect(redaction.input).to.include({ withheld: true })
    expect(row.tool_name).to.equal('delete_repo')
  })

  it('the answer is withheld as well', () => {
    const made = evaluation({ allow: true, deniedBy: [], maskFailure: 'mask must be a list' })
    const { response } = rowOf(allowed({ evaluation: made }, '{"jsonrpc":"2.0","id":7,"result":{"a":"Ann"}}'))
    expect(response).to.equal(null)
  })

  it('a message that a policy with masks was not asked about is not stored', () => {
    const killed: AuditEvent = {
      call: denied({ message: toolsCall(args), evaluation: null }).call,
      ending: refused('killed', 'switched off by ops'),
    }
    const { row } = expectNothingOf(killed, { policyMasks: () => true })
    expect(row.error_message).to.equal('switched off by ops')
    expect(rowOf(killed, { policyMasks: () => false }).text).to.include('Miller')
  })

  it('the address of a resource and the name of the client are withheld as well', () => {
    const target = {
      kind: 'resource',
      name: 'file:///Ann%20Miller',
      annotations: {},
      schemaDigest: null,
    } as const
    const event = masked([], args, trace, {
      target,
      evaluation: evaluation({ maskFailure: 'mask must be a list', trace }),
    })
    const { row } = expectNothingOf(event)
    expect(row).to.include({ tool_name: '[redacted:withheld]', client_name: '[redacted:withheld]' })
  })

  it('what a policy that failed says of its input is not stored', () => {
    const failure = { kind: 'policy_error', message: 'no such member: Ann Miller' } as const
    const made = evaluation({ allow: false, failure, maskFailure: 'mask is not known without a decision' })
    const event: AuditEvent = {
      call: denied({ message: toolsCall(args), evaluation: made }).call,
      ending: refused('policy_error', failure.message, new Error('Ann Miller again')),
    }
    const { decision } = expectNothingOf(event)
    expect(decision.authz.failure).to.deep.equal({ kind: 'policy_error', message: '[redacted:withheld]' })
    expect(decision.error.cause).to.equal('Error: [redacted:withheld]')
  })
})

describe('audit/mask: digests', () => {
  const secret = 'correct horse battery staple'
  const rules: RowRules = { hashKey: KEY }
  const mark = (event: AuditEvent, by: RowRules = rules) =>
    /\[redacted:key hmac:([0-9a-f]{12})\]/.exec(rowOf(event, by).text)?.[1]

  it('are the same for the same secret in every row, and differ with the key', () => {
    const first = mark(masked([], JSON.stringify({ password: secret })))
    expect(first).to.be.a('string')
    expect(mark(masked([], JSON.stringify({ token: secret, more: [1] })))).to.equal(first)
    expect(mark(masked([], JSON.stringify({ password: `${secret}!` })))).not.to.equal(first)
    const other = { hashKey: Buffer.alloc(32, 8) }
    expect(mark(masked([], JSON.stringify({ password: secret })), other)).not.to.equal(first)
  })

  it('are the same where the secret comes up inside a text, however it is spelt there', () => {
    const args = JSON.stringify({
      password: secret,
      note: `is ${secret}.`,
      url: `?p=${encodeURIComponent(secret)}`,
    })
    const found = rowOf(masked([], args), rules).text.match(/hmac:[0-9a-f]{12}/g) ?? []
    expect(found).to.have.length(3)
    expect(new Set(found).size).to.equal(1)
  })

  it('are not made of what is short enough to be guessed, nor of what a policy masks', () => {
    const { text } = rowOf(
      masked([remove('arguments', 'name')], '{"pin":"4711","name":"Ann Elisabeth"}', undefined),
      rules,
    )
    expect(text).not.to.include('hmac:')
  })
})
