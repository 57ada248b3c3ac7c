/** Events against the class definition of OCSF 1.9 itself: required attributes, types, enumerations, unknown attributes. */
import { existsSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect } from 'chai'
import { toAuditRow, toInterruptedRow } from '../../src/audit/event.ts'
import { toOcsf } from '../../src/audit/ocsf.ts'
import type { StoredRow } from '../../src/audit/query.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { gapRow } from '../../src/audit/row.ts'
import type { EndingKind } from '../../src/errors.ts'
import { ENDINGS } from '../../src/errors.ts'
import { ANNA, allowed, call, denied, evaluation, NOW_MS, refused, toolsCall } from './fixtures.ts'

const DEFINITION = fileURLToPath(new URL('../../../shared/data/ocsf-1.9-api-activity.json', import.meta.url))
const ID = '019aa5f0-4a7b-7001-8abc-0123456789ab'

interface Attribute {
  readonly type: string
  readonly requirement: string
  readonly array?: boolean
  readonly enum?: Readonly<Record<string, string>>
}
type Attributes = Readonly<Record<string, Attribute>>
interface Definition {
  readonly class: Attributes
  readonly objects: Readonly<Record<string, Attributes>>
  readonly types: Readonly<
    Record<string, { type?: string; regex?: string; max_len?: number; range?: readonly [number, number] }>
  >
}

/** Required by profiles (cloud, osint) that events here do not have. */
const OTHER_PROFILES = new Set(['cloud', 'osint'])
/** In the resolved table these hold the base event's values only. */
const OWN_VALUES: Readonly<Record<string, unknown>> = { class_uid: 6003, category_uid: 6 }

class Checker {
  readonly problems: string[] = []
  readonly #definition: Definition

  constructor(definition: Definition) {
    this.#definition = definition
  }

  object(value: unknown, attributes: Attributes, at: string): void {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) {
      this.problems.push(`${at} is no object`)
      return
    }
    for (const [name, { requirement }] of Object.entries(attributes))
      if (requirement === 'required' && !(name in value) && !OTHER_PROFILES.has(name))
        this.problems.push(`${at}.${name} is missing`)
    for (const [name, member] of Object.entries(value)) {
      const attribute = attributes[name]
      if (attribute === undefined) this.problems.push(`${at}.${name} is no attribute`)
      else this.#attribute(member, attribute, `${at}.${name}`, name)
    }
  }

  #attribute(value: unknown, attribute: Attribute, at: string, name: string): void {
    if (attribute.array === true) {
      if (!Array.isArray(value) || value.length === 0) this.problems.push(`${at} is no list of something`)
      else for (const [index, one] of value.entries()) this.#value(one, attribute, `${at}[${index}]`)
      return
    }
    if (name in OWN_VALUES) {
      if (value !== OWN_VALUES[name]) this.problems.push(`${at} is ${String(value)}`)
      return
    }
    if (attribute.enum !== undefined && !(String(value) in attribute.enum))
      this.problems.push(`${at} is ${String(value)}, none of ${Object.keys(attribute.enum).join(', ')}`)
    this.#value(value, attribute, at)
  }

  #value(value: unknown, { type }: Attribute, at: string): void {
    const { objects, types } = this.#definition
    const object = objects[type]
    if (object !== undefined) {
      this.object(value, object, at)
      return
    }
    if (type === 'json_t') return
    const plain = types[type]
    if (plain === undefined) {
      this.problems.push(`${at}: the type ${type} is not defined`)
      return
    }
    const base = plain.type ?? type
    const fits =
      base === 'integer_t' || base === 'long_t'
        ? Number.isSafeInteger(value)
        : base === 'boolean_t'
          ? typeof value === 'boolean'
          : typeof value === 'string' && value !== ''
    if (!fits) this.problems.push(`${at} is no ${type}: ${JSON.stringify(value)}`)
    if (plain.regex !== undefined && !new RegExp(plain.regex).test(String(value)))
      this.problems.push(`${at} does not match ${type}: ${String(value)}`)
    if (String(value).length > (plain.max_len ?? Number.POSITIVE_INFINITY))
      this.problems.push(`${at} is too long for ${type}`)
  }
}

function stored(row: AuditRow, changes: Partial<StoredRow> = {}): StoredRow {
  return { ...row, ts: new Date(row.ts), writer: ID, seq: '7', leaf: null, ...changes }
}

describe('audit/ocsf', () => {
  let definition: Definition
  before(function () {
    // The definition is data that does not come with the project.
    if (!existsSync(DEFINITION)) return this.skip()
    definition = JSON.parse(readFileSync(DEFINITION, 'utf8')) as Definition
  })

  function problemsOf(row: StoredRow): readonly string[] {
    const checker = new Checker(definition)
    checker.object(JSON.parse(toOcsf(row)), definition.class, 'event')
    return checker.problems
  }

  const event = (row: StoredRow) => JSON.parse(toOcsf(row))

  it('is an event of the class for every way to end', () => {
    const kinds = Object.keys(ENDINGS) as EndingKind[]
    const rows = [
      stored(toAuditRow(allowed())),
      stored(toAuditRow(denied())),
      ...kinds.map((kind) =>
        stored(toAuditRow({ call: call({ stage: ENDINGS[kind].stage }), ending: refused(kind, 'why') })),
      ),
      stored(toInterruptedRow(call({ stage: 'upstream' }), NOW_MS + 5)),
      stored(gapRow(ID, NOW_MS, { why: 'spool_full', count: 3, fromMs: NOW_MS - 1, toMs: NOW_MS })),
    ]
    for (const row of rows) expect(problemsOf(row), `${row.outcome} ${row.reason}`).to.deep.equal([])
  })

  it('is one for callers, methods and addresses of every kind', () => {
    const base = { evaluation: evaluation() }
    for (const kind of ['user', 'service', 'agent', 'anonymous'] as const)
      expect(problemsOf(stored(toAuditRow(denied({ ...base, principal: { ...ANNA, kind } }))))).to.deep.equal(
        [],
      )
    const nobody = call({ principal: null, message: null, target: null, server: null, clientIp: null })
    expect(problemsOf(stored(toAuditRow({ call: nobody, ending: refused('parse_error') })))).to.deep.equal([])
    for (const changes of [
      { client_ip: '2001:db8::1' },
      { http_method: 'BREW' },
      { status_code: 0 },
      { method: 'resources/read', target_kind: 'resource' },
      { method: 'tools/list', target_kind: 'server' },
      { leaf: 'ab'.repeat(32) },
      { decision: '7' },
    ])
      expect(problemsOf(stored(toAuditRow(denied()), changes)), JSON.stringify(changes)).to.deep.equal([])
  })

  it('would be refused by the check if it were wrong', () => {
    const checker = new Checker(definition)
    const wrong = {
      ...event(stored(toAuditRow(denied()))),
      action_id: 7,
      colour: 'red',
      time: 'now',
      api: {},
    }
    checker.object(wrong, definition.class, 'event')
    expect(checker.problems.join('\n'))
      .to.include('event.action_id is 7')
      .and.include('event.colour is no attribute')
      .and.include('event.time is no timestamp_t')
      .and.include('event.api.operation is missing')
  })

  it('tells what was decided, by which policy, and why', () => {
    expect(event(stored(toAuditRow(denied())))).to.deep.include({
      type_uid: 600399,
      activity_name: 'tools/call',
      action_id: 2,
      disposition_id: 2,
      status_id: 2,
      severity_id: 3,
      message:
        'Denied: anna of acme may not call tool delete_repo on github, because of destructive-without-mfa.',
      authorizations: [
        {
          decision: 'denied',
          policy: {
            name: 'data.gateway.decision',
            uid: `sha256:${'8d'.repeat(32)}`,
            version: '3f9c2a1b5d7e',
            is_applied: true,
            desc: 'developers-may-call, destructive-without-mfa',
          },
        },
      ],
    })
    expect(event(stored(toAuditRow(allowed())))).to.include({ action_id: 1, status_id: 1, type_uid: 600399 })
    const upstream = { server: 'g', status: 200, jsonRpcError: null, ms: 1, bytes: 1, sha256: null }
    const failed = stored(toAuditRow(allowed({ upstream: { ...upstream, toolIsError: true } })))
    expect(event(failed)).to.include({ action_id: 1, status_id: 2, status: 'Failure' })
    expect(event(failed).enrichments[0].data).to.have.nested.property('authz.trace.v', 1)
  })

  it('says how the row is chained when it is, and nothing when it is not', () => {
    const plain = event(stored(toAuditRow(denied())))
    expect(plain).to.not.have.property('attestation_list')
    expect(plain.metadata.profiles).to.deep.equal(['security_control'])
    const chained = event(stored(toAuditRow(denied()), { leaf: 'ab'.repeat(32) }))
    expect(chained.metadata.profiles).to.include('record_integrity')
    expect(chained.attestation_list[0]).to.deep.include({ chain_uid: ID })
    expect(chained.attestation_list[0].fingerprint).to.include({
      algorithm_id: 3,
      encoding_id: 1,
      value: 'ab'.repeat(32),
    })
  })

  it('keeps all digits of numbers', () => {
    const row = stored(toAuditRow(denied({ message: toolsCall('{"n":9007199254740993}') })))
    expect(toOcsf(row)).to.include('"n":9007199254740993').and.not.include('\n')
  })
})
