import { readFileSync } from 'node:fs'
import { Ajv2020 } from 'ajv/dist/2020.js'
import { expect } from 'chai'
import { PAYLOAD_COLUMNS } from '../../src/audit/chain.ts'
import { beginRow, toAuditRow, toInterruptedRow } from '../../src/audit/event.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { gapRow, placeholder, redated, toRecord, withoutPayload } from '../../src/audit/row.ts'
import type { AuditEvent } from '../../src/gateway/types.ts'
import { toStoredText } from '../../src/json/stored-text.ts'
import { SECRET_VALUES } from '../support/secrets-corpus.ts'
import {
  ANNA,
  allowed,
  answered,
  call,
  denied,
  evaluation,
  message,
  NO_ALLOW_TRACE,
  NOW_MS,
  newId,
  refused,
  toolsCall,
} from './fixtures.ts'

const schema = JSON.parse(
  readFileSync(new URL('../../schemas/decision.schema.json', import.meta.url), 'utf8'),
) as object
const matchesSchema = new Ajv2020({ allErrors: true, strict: true, allowUnionTypes: true }).compile(schema)

interface Shown extends Omit<AuditRow, 'decision' | 'request_json' | 'response_json' | 'redaction'> {
  readonly decision: Record<string, unknown>
  readonly request_json: Record<string, unknown> | null
  readonly response_json: Record<string, unknown> | null
  readonly redaction: Record<string, unknown> | null
}

/** The row as the database will hold it; its decision has been checked against the schema. */
function shown(row: AuditRow): Shown {
  const stored = JSON.parse(toRecord(row, newId(0), 1)) as Shown
  expect(Object.keys(stored)).to.include.members(Object.keys(row))
  expect(matchesSchema(stored.decision), JSON.stringify(matchesSchema.errors)).to.equal(true)
  for (const name of PAYLOAD_COLUMNS) {
    const text = row[name]
    if (text !== null) expect(text, name).to.equal(toStoredText(text))
  }
  const { decision: core } = withoutPayload(row, { why: 'a test' })
  expect(core).to.equal(toStoredText(core))
  expect(matchesSchema(JSON.parse(core)), JSON.stringify(matchesSchema.errors)).to.equal(true)
  return stored
}

const rowOf = (event: AuditEvent): Shown => shown(toAuditRow(event))

describe('audit/event', () => {
  it('makes the row of a denial with the whole trace', () => {
    const event = denied()
    const row = rowOf(event)
    expect(row).to.deep.include({
      id: event.call.id,
      ts: '2026-11-21T10:00:00.123Z',
      request_id: event.call.id,
      tenant: 'acme',
      principal_id: 'anna',
      principal_kind: 'user',
      role: 'developer',
      roles: ['developer', 'oncall'],
      api_key_id: 'k3v9x2m4q8p1',
      client_ip: '10.1.2.3',
      client_name: 'inspector',
      client_version: '2.0.1',
      protocol_version: '2026-07-28',
      http_method: 'POST',
      method: 'tools/call',
      server: 'github',
      target_kind: 'tool',
      tool_name: 'delete_repo',
      outcome: 'denied_authz',
      status_code: 403,
      reason: 'policy_denied',
      error_message: null,
      latency_ms: 3.25,
      upstream_ms: null,
      policy_revision: '3f9c2a1b5d7e',
    })
    expect(row.decision).to.deep.include({
      stage: 'authz',
      outcome: 'denied_authz',
      timings_us: { admit: 12, auth: 40, read: 210, authz: 160 },
      auth: { ok: true, method: 'api_key', principal: 'anna' },
    })
    const { trace, input, ...authz } = row.decision['authz'] as Record<string, unknown>
    expect(authz).to.deep.include({
      allow: false,
      allowed_by: ['developers-may-call'],
      denied_by: ['destructive-without-mfa'],
      now_ns: '1795255200123000000',
      eval_us: 84,
      fuel: 1_180_432,
      input_mac: 'ab'.repeat(32),
    })
    expect((input as Record<string, unknown>)['phase']).to.equal('call')
    expect((trace as { rules: unknown[] }).rules).to.have.lengthOf(3)
    expect(row.request_json?.['params']).to.deep.equal({
      name: 'delete_repo',
      arguments: { owner: 'acme', repo: 'site' },
    })
    expect(row.response_json).to.deep.equal({ code: 1403, message: 'Forbidden', data: { requestId: 'r' } })
    expect(row.redaction).to.deep.equal({
      request: { bytes_in: event.call.message?.body.length },
      response: { bytes_in: event.ending.response?.length },
    })
  })

  it('makes the row of an allowed call with rate, validate and upstream', () => {
    const row = rowOf(allowed())
    expect(row).to.deep.include({ outcome: 'allowed', status_code: 200, reason: null, upstream_ms: 41.2 })
    expect(row.decision).to.deep.include({
      stage: 'upstream',
      rate: { limits: [] },
      validate: { ok: true },
      upstream: {
        server: 'github',
        status: 200,
        json_rpc_error: null,
        tool_is_error: false,
        ms: 41.2,
        bytes: 5120,
        sha256: 'cd'.repeat(32),
      },
    })
    expect(row.response_json).to.deep.equal({ jsonrpc: '2.0', id: 7, result: { content: [] } })
  })

  it('makes the row of a 401 with what the caller tried', () => {
    const row = rowOf({
      call: call({
        stage: 'auth',
        principal: null,
        server: null,
        message: null,
        target: null,
        hint: { method: 'tools/call', name: 'delete_repo' },
        timingsUs: { admit: 10, auth: 20 },
      }),
      ending: refused('unauthenticated', 'the key k3v9 has expired'),
    })
    expect(row).to.deep.include({
      outcome: 'denied_auth',
      status_code: 401,
      principal_id: null,
      roles: null,
      server: 'github',
      method: 'tools/call',
      tool_name: 'delete_repo',
      error_message: 'the key k3v9 has expired',
      request_json: null,
    })
    expect(row.decision).to.deep.include({
      auth: { ok: false, why: 'the key k3v9 has expired' },
      hint: { method: 'tools/call', name: 'delete_repo' },
    })
    expect(row.decision).not.to.have.property('authz')
  })

  it('makes a row for every way to end, each matching the schema', () => {
    const before = { principal: null, server: null, message: null, target: null }
    const events: AuditEvent[] = [
      {
        call: call({ ...before, stage: 'admit', clientIp: null }),
        ending: refused('host_refused', 'evil.example'),
      },
      { call: call({ ...before, stage: 'admit' }), ending: refused('overloaded') },
      { call: call({ ...before, stage: 'auth' }), ending: refused('auth_unavailable', 'no keys') },
      {
        call: call({ message: null, target: null, stage: 'read' }),
        ending: refused('parse_error', 'at offset 3'),
      },
      { call: call({ stage: 'authz', evaluation: null }), ending: refused('unknown_tool') },
      {
        call: call({
          stage: 'authz',
          evaluation: evaluation({
            allowedBy: [],
            deniedBy: [],
            failure: { kind: 'policy_budget', message: 'fuel exhausted' },
            trace: { v: 1, truncated: true, dropped: 12, rules: [] },
          }),
        }),
        ending: refused('policy_budget', 'fuel exhausted'),
      },
      {
        call: call({
          stage: 'rate',
          evaluation: evaluation({
            allow: true,
            limits: [
              {
                name: 'per-tool',
                key: ['anna', SECRET_VALUES['aws'] ?? ''],
                limit: 30,
                window_s: 60,
                cost: 1,
              },
            ],
            obligations: [{ kind: 'audit_payload', level: 'full' }],
          }),
          timingsUs: { rate: 3 },
        }),
        ending: refused('limiter_unavailable'),
      },
      {
        call: call({
          stage: 'validate',
          evaluation: evaluation({ allow: true }),
          timingsUs: { validate: 9 },
        }),
        ending: refused('invalid_arguments', '/path must be string'),
      },
      {
        call: call({ stage: 'upstream', evaluation: evaluation({ allow: true }) }),
        ending: refused('upstream_failed', 'connection refused', new TypeError('fetch failed')),
      },
      { call: call({ stage: 'upstream' }), ending: { ...refused('client_closed'), status: 2 ** 40 } },
      { call: call({ stage: 'authz' }), ending: refused('internal_error', 'TypeError: x is not a function') },
      { call: call({ stage: 'audit' }), ending: refused('audit_unavailable', 'the audit log is down') },
      {
        call: call({
          message: message('{"jsonrpc":"2.0","id":1,"method":"tools/list"}', { method: 'tools/list' }),
          stage: 'upstream',
          evaluation: evaluation({ allow: true }),
          listed: Array.from({ length: 600 }, (_, index) => ({
            name: `tool-${index}`,
            allow: index % 2 === 0,
            allowedBy: ['a'],
            deniedBy: [],
          })),
        }),
        ending: answered('{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}'),
      },
    ]
    const rows = events.map(rowOf)
    expect(rows.map((row) => row.outcome)).to.deep.equal([
      'denied_admit',
      'overloaded',
      'unavailable',
      'invalid',
      'denied_authz',
      'denied_authz',
      'unavailable',
      'invalid',
      'upstream_error',
      'client_closed',
      'internal_error',
      'unavailable',
      'allowed',
    ])
    expect(rows[4]?.decision['authz']).to.deep.equal({ allow: false, refused: 'unknown_tool' })
    expect(rows[5]?.decision['authz']).to.deep.include({
      allow: false,
      failure: { kind: 'policy_budget', message: 'fuel exhausted' },
    })
    expect(rows[6]?.decision['rate']).to.deep.equal({
      limits: [{ name: 'per-tool', limit: 30, window_s: 60, cost: 1 }],
      refused: 'limiter_unavailable',
    })
    expect(rows[8]?.decision['error']).to.deep.equal({
      kind: 'upstream_failed',
      detail: 'connection refused',
      cause: 'TypeError: fetch failed',
    })
    expect(rows[12]?.decision['listed']).to.have.lengthOf(500)
    expect(rows[12]?.decision['listed_total']).to.equal(600)
  })

  it('keeps the digits of numbers in request, answer and trace', () => {
    const big = '9007199254740993'
    const row = toAuditRow({
      call: call({
        message: toolsCall(`{"n":${big}}`),
        evaluation: evaluation({ trace: `{"v":1,"truncated":false,"dropped":0,"rules":[],"x":${big}}` }),
      }),
      ending: answered(`{"jsonrpc":"2.0","id":1,"result":{"n":${big}}}`),
    })
    expect(row.request_json).to.include(`"n": ${big}`)
    expect(row.response_json).to.include(`"n": ${big}`)
    expect(row.decision).to.include(`"x": ${big}`)
  })

  it('keeps no secret of the request in any column, also when policy and upstream repeat it', () => {
    const all = Object.values(SECRET_VALUES)
    const text = (value: unknown) => JSON.stringify(value)
    const key = `gwk_${'k'.repeat(12)}_${'Zz9'.repeat(14)}`
    const trace = {
      v: 1,
      truncated: false,
      dropped: 0,
      rules: [
        {
          rule: 'data.gateway.authz.deny',
          at: 'a.rego:1',
          outcome: 'defined',
          value: [`leak-${'swordfish-99'}`],
          steps: all.map((secret) => ({
            at: 'a.rego:2',
            expr: 'x := input.arguments.a',
            ok: false,
            vars: { x: secret, y: `pre-${secret}` },
            reads: { 'input.arguments.password': 'swordfish-99', 'data.x': 'swordfish-99' },
          })),
        },
      ],
    }
    const row = toAuditRow({
      call: call({
        head: {
          httpMethod: 'POST',
          mount: 'github',
          rawHeaders: ['Authorization', `Bearer ${key}`, 'X-API-Key', 'plain-old-key-1', 'Accept', '*/*'],
          headers: {},
          peer: '::1',
        },
        message: message(
          text({
            jsonrpc: '2.0',
            id: 1,
            method: 'tools/call',
            params: {
              name: `do ${all[0]}`,
              arguments: { a: all, password: 'swordfish-99', note: 'swordfish-99' },
            },
          }),
          { client: { name: `client ${all[1]}`, version: all[2] ?? '' }, method: `m ${all[3]}` },
        ),
        target: { kind: 'tool', name: `do ${all[0]}`, annotations: {}, schemaDigest: null },
        evaluation: evaluation({
          inputText: text({
            target: { name: `do ${all[0]}` },
            client: { name: all[1], token: 'swordfish-99' },
          }),
          obligations: [{ kind: 'x', v: all[4] }],
          limits: [{ name: 'l', key: ['swordfish-99'], limit: 1, window_s: 1, cost: 1 }],
          trace,
        }),
        listed: [{ name: `do ${all[5]}`, allow: true, allowedBy: [], deniedBy: [] }],
        hint: { method: `m ${all[6]}`, name: `n ${all[7]}` },
      }),
      ending: {
        ...refused(
          'upstream_failed',
          `got ${all[8]} and swordfish-99 and ${key}`,
          new Error(`with plain-old-key-1`),
        ),
        kind: null,
        response: Buffer.from(
          text({
            jsonrpc: '2.0',
            id: 1,
            result: { echo: [...all.slice(0, 30), 'swordfish-99', key, 'plain-old-key-1'] },
          }),
        ),
      },
    })
    const stored = toRecord(row, newId(0), 1)
    for (const secret of [...all, 'swordfish-99', key, 'plain-old-key-1']) {
      expect(stored.includes(JSON.stringify(secret).slice(1, -1)), secret.slice(0, 12)).to.equal(false)
    }
    expect(row.principal_id).to.equal('anna')
    expect(row.decision).to.include('"rule": "data.gateway.authz.deny"')
  })

  it('keeps payloads as the policy asks for: the strictest obligation wins, an unknown level is the strictest', () => {
    const keep = (...levels: unknown[]) => {
      const obligations = levels.map((level) => ({ kind: 'audit_payload', level }))
      const row = rowOf(allowed({ evaluation: evaluation({ allow: true, obligations }) }))
      return [row.request_json !== null, row.response_json !== null]
    }
    expect(keep()).to.deep.equal([true, true])
    expect(keep('full')).to.deep.equal([true, true])
    expect(keep('full', 'request')).to.deep.equal([true, false])
    expect(keep('request', 'metadata')).to.deep.equal([false, false])
    expect(keep('everything')).to.deep.equal([false, false])
    const row = rowOf(
      allowed({
        evaluation: evaluation({ allow: true, obligations: [{ kind: 'audit_payload', level: 'metadata' }] }),
      }),
    )
    expect(row.redaction?.['request']).to.deep.include({ withheld: true })
  })

  it('keeps the row when a part of it cannot be made safe', () => {
    const row = rowOf(
      allowed(
        {
          message: toolsCall('{not json'),
          evaluation: evaluation({
            allow: true,
            inputText: '{',
            traceText: () => {
              throw new Error('no trace')
            },
          }),
        },
        'also not json',
      ),
    )
    expect(row.request_json).to.equal(null)
    expect(row.response_json).to.equal(null)
    expect(row.decision['authz']).not.to.have.any.keys('trace', 'input')
    expect(row.redaction).to.deep.equal({ redaction_failed: ['request', 'input', 'trace', 'response'] })
  })

  it('keeps that it happened when the row cannot be made at all', () => {
    const broken = {
      ...call(),
      get message(): never {
        throw new RangeError('broken')
      },
    }
    const row = shown(toAuditRow({ call: broken, ending: refused('policy_denied') }))
    expect(row).to.deep.include({ id: broken.id, outcome: 'denied_authz', status_code: 403 })
    expect(row.decision['stored']).to.deep.equal({
      as: 'placeholder',
      why: 'the row could not be made: RangeError',
    })
  })

  it('bounds every text and survives hostile ones', () => {
    const nasty = `a\0b\ud800${'x'.repeat(5000)}`
    const row = rowOf({
      call: call({
        clientIp: 'fe80::1%eth0',
        message: message(
          JSON.stringify({ params: { nasty, huge: Array.from({ length: 999 }, () => nasty) } }),
          {
            method: nasty,
            protocolVersion: nasty,
            client: { name: nasty, version: nasty },
          },
        ),
        target: { kind: 'tool', name: nasty, annotations: {}, schemaDigest: null },
        head: { httpMethod: nasty, mount: nasty, rawHeaders: [], headers: {}, peer: '' },
        server: null,
      }),
      ending: refused('invalid_request', nasty),
    })
    for (const name of [
      'method',
      'protocol_version',
      'client_name',
      'client_version',
      'tool_name',
      'http_method',
      'server',
      'error_message',
    ] as const) {
      expect(row[name]?.length, name).to.be.at.most(1024)
      expect(row[name], name).to.match(/^a\u2400b\ufffdx+…$/)
    }
    expect(row.client_ip).to.equal('fe80::1')
    expect(JSON.stringify(row).length).to.be.below(40_000)
  })

  it('keeps little of a large answer, and its true size', () => {
    const response = JSON.stringify({ result: { content: [{ type: 'text', text: 'z'.repeat(3_000_000) }] } })
    const row = rowOf(allowed({}, response))
    expect(JSON.stringify(row.response_json).length).to.be.below(17_000)
    expect(row.redaction?.['response']).to.deep.include({ bytes_in: response.length })
  })

  it('gives lesser forms that still match the schema', () => {
    const row = toAuditRow(denied({ evaluation: evaluation({ trace: NO_ALLOW_TRACE }) }))
    const less = shown(withoutPayload(row, { why: 'refused by the database', sqlstate: '22P05' }))
    expect(less.request_json).to.equal(null)
    expect(less.decision['authz']).to.deep.include({ allow: false, denied_by: ['destructive-without-mfa'] })
    expect(less.decision['authz']).not.to.have.any.keys('trace', 'input')
    const least = shown(placeholder(row, { why: 'refused by the database', sqlstate: '22P05' }))
    expect(least).to.deep.include({
      id: row.id,
      outcome: 'denied_authz',
      principal_id: null,
      tool_name: null,
    })
    const moved = shown(redated(row, newId(NOW_MS + 5), NOW_MS + 5))
    expect(moved.ts).to.equal('2026-11-21T10:00:00.128Z')
    expect(moved.decision['moved']).to.deep.include({ id: row.id, ts: row.ts })
    const gap = shown(
      gapRow(newId(NOW_MS), NOW_MS, { why: 'spool_full', count: 3, fromMs: NOW_MS - 1000, toMs: NOW_MS }),
    )
    expect(gap).to.deep.include({ outcome: 'gap', reason: 'spool_full', status_code: 503 })
    const interrupted = shown(toInterruptedRow(call({ stage: 'upstream' }), NOW_MS + 250))
    expect(interrupted).to.deep.include({ outcome: 'interrupted', latency_ms: 250, tool_name: 'delete_repo' })
  })
})

describe('audit/event: a call that has begun', () => {
  const KEY = 'gwk_1234567890abcdef_Zk3vQ9xT2mW7rB5nL8cY1hJ4'
  const withKey = (value: string) => ({
    ...call().head,
    rawHeaders: ['Authorization', `Bearer ${value}`, 'Cookie', 'theme=dark; sid=abcdefgh12345678'],
  })
  const many = Object.fromEntries(
    Array.from({ length: 300 }, (_, at) => [`password_${at}`, `hunter-${at}-xyz`]),
  )

  const CASES: Readonly<Record<string, AuditEvent>> = {
    'is allowed': allowed({ head: withKey(KEY) }, `{"jsonrpc":"2.0","id":7,"result":"of ${KEY}"}`),
    'is denied': denied({ head: withKey(KEY) }),
    'sends its credential as the name of a tool': denied({
      head: withKey(KEY),
      target: { kind: 'tool', name: KEY, annotations: {}, schemaDigest: null },
    }),
    'teaches a secret that is the name of its client': allowed(
      { message: { ...toolsCall('{"password":"inspector"}'), client: { name: 'inspector', version: '2' } } },
      '{"jsonrpc":"2.0","id":7,"result":"inspector"}',
    ),
    'sends more secrets than can be remembered': allowed(
      { message: toolsCall(JSON.stringify(many)) },
      '{"jsonrpc":"2.0","id":7,"result":{}}',
    ),
    'has a masked argument that the answer repeats': allowed(
      { evaluation: evaluation({ masks: [{ op: 'remove', path: ['arguments', 'owner'] }] }) },
      '{"jsonrpc":"2.0","id":7,"result":"acme"}',
    ),
    'has masks that nobody can read': allowed(
      { evaluation: evaluation({ maskFailure: 'malformed' }) },
      '{"jsonrpc":"2.0","id":7,"result":"acme"}',
    ),
  }

  for (const [name, event] of Object.entries(CASES)) {
    it(`has the row it would have had (${name})`, () => {
      const begun = beginRow(event.call)
      expect(toAuditRow(event, {}, begun)).to.deep.equal(toAuditRow(event))
      expect(JSON.stringify(begun.row)).not.to.include(KEY)
    })
  }

  it('is told by what is known of it at its end', () => {
    const event = allowed({}, '{"jsonrpc":"2.0","id":7,"result":{}}')
    const begun = beginRow(event.call)
    const policy = { ...evaluation().policy, revision: 'another' }
    const later = {
      ...event,
      call: { ...event.call, principal: { ...ANNA, id: 'bert' }, evaluation: evaluation({ policy }) },
    }
    expect(toAuditRow(later, {}, begun)).to.deep.equal(toAuditRow(later))
    expect(toAuditRow(later, {}, begun)).to.include({ principal_id: 'bert', policy_revision: 'another' })
  })

  it('has a row although its columns could not be made when it began', () => {
    let isBroken = true
    const event = allowed({}, '{"jsonrpc":"2.0","id":7,"result":{}}')
    const head = {
      ...event.call.head,
      get httpMethod(): string {
        if (isBroken) throw new TypeError('not yet')
        return 'POST'
      },
    }
    const broken = { ...event, call: { ...event.call, head } }
    const begun = beginRow(broken.call)
    expect(begun.row).to.include({ id: event.call.id, tool_name: null })
    isBroken = false
    expect(toAuditRow(broken, {}, begun)).to.deep.equal(toAuditRow(broken))
  })
})
