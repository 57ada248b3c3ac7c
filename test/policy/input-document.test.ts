import { createHmac } from 'node:crypto'
import { expect } from 'chai'
import { toAskedCall } from '../../src/policy/asked-call.ts'
import { loadInputSchema } from '../../src/policy/build.ts'
import type { JsonObject } from '../../src/policy/build-data.ts'
import { toPolicyInput } from '../../src/policy/input.ts'
import type { InputQuestion } from '../../src/policy/input-document.ts'
import { InputRefused, parseInputDocument } from '../../src/policy/input-document.ts'
import { confirmInput } from '../../src/policy/input-mac.ts'

const CALL = {
  phase: 'call',
  request: {
    id: 'r',
    time: '2026-11-21T10:00:00.123Z',
    method: 'tools/call',
    protocol_version: '2026-07-28',
    ip: '192.0.2.1',
    session: 'h',
  },
  principal: {
    id: 'ada',
    kind: 'user',
    roles: ['a'],
    tenant: 't',
    teams: ['b'],
    scopes: ['c'],
    claims: { mfa: true, n: 1 },
    auth_method: 'api_key',
  },
  server: { name: 's', labels: { env: 'prod' } },
  target: { kind: 'tool', name: 'x', annotations: { readOnlyHint: true, title: 'X' }, schema_digest: 'd' },
  client: { name: 'c', version: '1' },
}
const text = (document: object, argumentsText = '{"n":9007199254740993,"f":1.0}') =>
  `${JSON.stringify(document).slice(0, -1)},"arguments":${argumentsText}}`.replace(
    '"method"',
    '"now_ns":1795255200123456789,"method"',
  )

describe('a policy input document', () => {
  let schema: JsonObject
  before(async () => {
    schema = await loadInputSchema()
  })
  const parse = (json: string) => parseInputDocument(json, schema)
  const problems = (json: string): readonly string[] => {
    try {
      parse(json)
    } catch (error) {
      if (!(error instanceof InputRefused)) throw error
      return error.problems.map(({ path, message }) => `${path}: ${message}`)
    }
    return []
  }
  const without = (member: keyof typeof CALL) => {
    const { [member]: _left, ...rest } = CALL
    return rest
  }

  it('asks exactly what it says: the module gets the same values, with all their digits', () => {
    const question = parse(text(CALL))
    const input = toPolicyInput(
      toAskedCall(question.facts),
      { phase: 'call' },
      { nowNs: question.nowNs, maxBytes: 10_000 },
    )
    expect(input.fault).to.equal(null)
    const got = new TextDecoder().decode(input.bytes)
    expect(got)
      .to.include('"now_ns":1795255200123456789')
      .and.include('"arguments":{"n":9007199254740993,"f":1.0}')
    expect(JSON.parse(got)).to.deep.equal(JSON.parse(text(CALL)))
  })

  it('may ask about the elements of a list', () => {
    const { target, ...rest } = CALL
    const document = { ...rest, phase: 'list', targets: [target, { ...target, name: 'y' }] }
    const json = text(document, '0').replace(/,"arguments":0/, '')
    expect(parse(json).targets.map(({ name }) => name)).to.deep.equal(['x', 'y'])
    expect(parse(json).facts.target).to.equal(null)
  })

  it('is refused with every path when it is not of the schema', () => {
    const { principal } = CALL
    expect(
      problems(text({ ...CALL, principle: 1, principal: { ...principal, kind: 'robot', clams: {} } })),
    ).to.have.members([
      'principle: unknown field; did you mean principal?',
      'principal.clams: unknown field; did you mean claims?',
      'principal.kind: must be one of: user, service, agent, anonymous',
    ])
    expect(problems(text(without('server')))).to.deep.equal(['server: is missing'])
    expect(problems('[]')).to.deep.equal([': a policy input is an object'])
    expect(problems('{"a":1,"a":2}')[0]).to.include('not JSON')
    expect(problems(text(CALL).replace('1795255200123456789', '1.5e18'))).to.deep.equal([
      'request.now_ns: must be written as plain digits',
    ])
  })

  it('is refused when no call could be like that', () => {
    expect(
      problems(text({ ...CALL, request: { ...CALL.request, time: '2026-11-21T10:00:01Z' } })),
    ).to.deep.equal(['request.time: must be the time of now_ns, 2026-11-21T10:00:00.123Z'])
    expect(problems(text(without('target')))).to.deep.equal(['target: is missing in phase call'])
    expect(problems(text({ ...CALL, phase: 'list' }))).to.deep.equal([
      'targets: are missing in phase list',
      'target: belongs to phase call',
      'arguments: belong to phase call: a list has none',
    ])
  })

  describe('is compared with the digest of a recorded one', () => {
    const key = Buffer.from('key')
    const maxBytes = 10_000
    const macOf = ({ facts, nowNs }: InputQuestion): string => {
      const { bytes } = toPolicyInput(toAskedCall(facts), { phase: 'call' }, { nowNs, maxBytes })
      return createHmac('sha256', key).update(bytes).digest('hex')
    }

    it('whatever the order of members and the white space are', () => {
      const mac = macOf(parse(text(CALL, '{"sql":"select  1","a":[1, 2]}'.replace('[1, 2]', '[1,2]'))))
      const stored = {
        ...CALL,
        principal: { ...CALL.principal, claims: { n: 1, mfa: true } },
        target: { ...CALL.target, annotations: { title: 'X', readOnlyHint: true } },
      }
      expect(
        confirmInput(parse(text(stored, '{"a": [1, 2], "sql": "select  1"}')), mac, key, maxBytes),
      ).to.equal(true)
    })

    it('and is another one when a value or the key differs', () => {
      const mac = macOf(parse(text(CALL)))
      expect(confirmInput(parse(text(CALL)), mac, key, maxBytes)).to.equal(true)
      expect(confirmInput(parse(text(CALL, '{"n":9007199254740992,"f":1.0}')), mac, key, maxBytes)).to.equal(
        false,
      )
      expect(confirmInput(parse(text(CALL)), mac, Buffer.from('other'), maxBytes)).to.equal(false)
      expect(confirmInput(parse(text(CALL)), 'zz', key, maxBytes)).to.equal(false)
    })

    it('within bounds', () => {
      const wide = (order: number) =>
        JSON.stringify(Object.fromEntries(Array.from({ length: 8 }, (_, at) => [`m${(at * order) % 11}`, 1])))
      expect(
        confirmInput(parse(text(CALL, wide(1))), macOf(parse(text(CALL, wide(3)))), key, maxBytes),
      ).to.equal(false)
    })
  })
})
