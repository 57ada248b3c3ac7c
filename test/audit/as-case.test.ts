/** Rows as test tables, run on the policy module that serves. */
import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { expect } from 'chai'
import { parse } from 'yaml'
import { toCase } from '../../src/audit/as-case.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import type { StoredRow } from '../../src/audit/query.ts'
import type { AuditEvent, Call, Evaluation } from '../../src/gateway/types.ts'
import { expectGoldenText } from '../support/golden.ts'
import { ANNA, call, denied, evaluation, message, refused, toolsCall } from './fixtures.ts'

const ID = '019aa5f0-4a7b-7001-8abc-0123456789ab'
const validate = new Ajv({ strictTypes: false, allowUnionTypes: true }).compile(
  JSON.parse(readFileSync(new URL('../../schemas/policy-case.schema.json', import.meta.url), 'utf8')),
)

const INPUT = {
  phase: 'call',
  request: { id: ID, time: '2026-11-21T10:00:00.123Z', method: 'tools/call', ip: '10.1.2.3' },
  principal: {
    ...{ id: 'anna', kind: 'user', roles: ['developer'], tenant: 'acme', teams: [], scopes: [] },
    ...{ claims: { level: 3 }, auth_method: 'api_key' },
  },
  server: { name: 'github', labels: { env: 'test' } },
  target: { kind: 'tool', name: 'delete_repo', annotations: { destructiveHint: true } },
  client: { name: 'inspector', version: '2.0.1' },
}

function stored(event: AuditEvent): StoredRow {
  const row = toAuditRow(event)
  return { ...row, id: ID, ts: new Date(row.ts), writer: ID, seq: '1', leaf: null }
}

function asked(input: object, changes: Partial<Call> = {}, decided: Partial<Evaluation> = {}): StoredRow {
  return stored(
    denied({ evaluation: evaluation({ inputText: JSON.stringify(input), ...decided }), ...changes }),
  )
}

function tableOf(row: StoredRow) {
  const made = toCase(row)
  const table = parse(made?.text ?? '')
  expect(validate(table), JSON.stringify(validate.errors)).to.equal(true)
  return { table, one: table.cases[0], text: made?.text ?? '', fillIn: made?.fillIn ?? [] }
}

describe('audit/as-case', () => {
  it('asks the same of the same caller at the same moment, and expects what was decided', () => {
    const row = asked(INPUT, { message: toolsCall('{"n":9007199254740993,"repo":"site"}') })
    expectGoldenText('audit/as-case', tableOf(row).text.trimEnd())
  })

  it('marks what was replaced, and is skipped until somebody fills it in', () => {
    const input = {
      ...INPUT,
      principal: { ...INPUT.principal, claims: { api_key: 'sk_live_4eC39HqLyjWDarj' } },
    }
    const row = asked(input, { message: toolsCall('{"password":"hunter2-x","repo":"site"}') })
    const { one, table, fillIn } = tableOf(row)
    expect(fillIn).to.deep.equal([
      'request /params/arguments/password (secret)',
      'input /principal/claims/api_key (secret)',
    ])
    expect(one.skip).to.match(/^the row lacks request \/params.*: fill in, then remove this line$/)
    expect(one.arguments).to.deep.equal({ password: 'FILL IN [redacted:key]', repo: 'site' })
    expect(Object.values<any>(table.fixtures.principals)[0].claims.api_key).to.equal('FILL IN [redacted:key]')
  })

  it('says so too when the arguments were cut or not kept at all', () => {
    const cut = tableOf(asked(INPUT, { message: toolsCall(`{"a":"${'y'.repeat(9000)}"}`) }))
    expect(cut.one.skip).to.include('request /params/arguments/a (cut: string:9000)')
    expect(cut.one.arguments.a).to.match(/^FILL IN y+…$/)
    const withheld = tableOf(
      asked(INPUT, {}, { obligations: [{ kind: 'audit_payload', level: 'metadata' }] }),
    )
    expect(withheld.one.skip).to.include('request (not kept)').and.include('the arguments are not in the row')
  })

  it('leaves alone what a caller sent, whatever it looks like', () => {
    const { one, fillIn } = tableOf(asked(INPUT, { message: toolsCall('{"a":"[redacted:key]"}') }))
    expect(one.arguments).to.deep.equal({ a: '[redacted:key]' })
    expect([one.skip, fillIn]).to.deep.equal([undefined, []])
  })

  it('takes targets of every kind', () => {
    const of = (method: string, target: { kind: string; name: string }, params: object) => {
      const input = {
        ...INPUT,
        request: { ...INPUT.request, method },
        target: { ...target, annotations: {} },
      }
      const body = JSON.stringify({ jsonrpc: '2.0', id: 7, method, params })
      const kind = target.kind as 'resource'
      const changes = {
        message: message(body, { method }),
        target: { kind, name: target.name, annotations: {}, schemaDigest: null },
      }
      return tableOf(asked(input, changes)).one
    }
    const read = of('resources/read', { kind: 'resource', name: 'file:///a' }, { uri: 'FILE:///a' })
    expect(read).to.deep.include({
      method: 'resources/read',
      target: { kind: 'resource', name: 'file:///a' },
      arguments: { uri: 'FILE:///a' },
    })
    const list = of('tools/list', { kind: 'server', name: 'github' }, {})
    expect(list.method).to.equal('tools/list')
    expect(list).to.not.have.any.keys('target', 'tool', 'arguments')
  })

  it('expects a failure where there was one', () => {
    const row = asked(INPUT, {}, { failure: { kind: 'policy_error', message: 'x' } })
    expect(tableOf(row).one.expect).to.deep.equal({ failure: 'policy_error' })
  })

  it('lets no name break out of the table', () => {
    const nasty = 'x"\n# y: {z}\u202e\u0000- &a *b !!c'
    const input = {
      ...INPUT,
      principal: { ...INPUT.principal, id: nasty },
      target: { ...INPUT.target, name: nasty },
      server: { name: nasty, labels: { [nasty]: nasty } },
    }
    const principal = { ...ANNA, id: nasty }
    const { table, text } = tableOf(asked(input, { principal, message: toolsCall('{"\\u202e":"\\u0085"}') }))
    for (const char of ['\u202e', '\u0085', '\0']) expect(text).to.not.include(char)
    expect(table.cases).to.have.lengthOf(1)
    // NUL is shown as its sign in rows.
    expect(Object.values<any>(table.fixtures.tools)[0].name).to.equal(nasty.replace('\0', '\u2400'))
  })

  it('makes nothing of a row whose call no policy was asked about', () => {
    expect(toCase(stored({ call: call(), ending: refused('parse_error') }))).to.equal(null)
    expect(toCase({ ...asked(INPUT), decision: '7' })).to.equal(null)
  })
})
