import { readFileSync } from 'node:fs'
import { Ajv } from 'ajv'
import { expect } from 'chai'
import type { Call } from '../../src/gateway/types.ts'
import type { InputSubject } from '../../src/policy/input.ts'
import { nameAsSeen, targetText, toPolicyInput } from '../../src/policy/input.ts'
import { buildFixture, callOf, closeFixture } from './engine-fixture.ts'

const SCHEMA = JSON.parse(
  readFileSync(new URL('../../schemas/policy-input.schema.json', import.meta.url), 'utf8'),
) as object
const NOW = 1_700_000_000_123_456_789n
const CALL: InputSubject = { phase: 'call' }

function inputOf(call: Call, subject = CALL, maxBytes = 262_144) {
  const input = toPolicyInput(call, subject, { nowNs: NOW, maxBytes })
  return { ...input, text: Buffer.from(input.bytes).toString() }
}

describe('policy input', () => {
  it('is what the schema says, for a call and for a list', () => {
    const validate = new Ajv({ allowUnionTypes: true, formats: {} }).compile(SCHEMA)
    const target = {
      kind: 'tool',
      name: 't',
      annotations: { readOnlyHint: true },
      schemaDigest: 'ab',
    } as const
    const call = callOf({ argumentsText: '{"a": 1}', target })
    for (const subject of [CALL, { phase: 'list', targets: [target, target] } as const]) {
      expect(validate(JSON.parse(inputOf(call, subject).text)), JSON.stringify(validate.errors)).to.equal(
        true,
      )
    }
  })

  it('holds every fact of the call', () => {
    const call = callOf({
      argumentsText: '{"a":1}',
      principal: { teams: ['t'], scopes: ['s'], claims: { mfa: true } },
      target: { annotations: { destructiveHint: true }, schemaDigest: 'cd' },
    })
    expect(JSON.parse(inputOf(call).text.replace(`${NOW}`, '1'))).to.deep.equal({
      phase: 'call',
      request: {
        id: call.requestId,
        time: '2023-11-14T22:13:20.123Z',
        now_ns: 1,
        method: 'tools/call',
        protocol_version: '2026-07-28',
        ip: '192.0.2.7',
      },
      principal: {
        ...{ id: 'alice', kind: 'user', roles: ['developer'], tenant: 'acme', teams: ['t'], scopes: ['s'] },
        ...{ claims: { mfa: true }, auth_method: 'api_key' },
      },
      server: { name: 'files', labels: { env: 'test' } },
      target: {
        kind: 'tool',
        name: 'read_file',
        annotations: { destructiveHint: true },
        schema_digest: 'cd',
      },
      client: { name: 'tests', version: '1' },
      arguments: { a: 1 },
    })
  })

  it('leaves out what is not known', () => {
    const call = callOf({ argumentsText: null, principal: { tenant: null } })
    const input = JSON.parse(inputOf(call).text) as Record<string, Record<string, unknown>>
    expect(input).not.to.have.property('arguments')
    expect(input['principal']).not.to.have.property('tenant')
    expect(input['request']).not.to.have.property('session')
    expect(input['target']).not.to.have.property('schema_digest')
  })

  it('keeps the digits of the clock and of the arguments', () => {
    const { text } = inputOf(
      callOf({ argumentsText: '{"n": 9007199254740993, "x": 0.10000000000000000001}' }),
    )
    expect(text).to.contain('"now_ns":1700000000123456789')
    expect(text).to.contain('"arguments":{"n": 9007199254740993, "x": 0.10000000000000000001}')
  })

  it('has the same text without arguments for the row', () => {
    const input = inputOf(callOf({ argumentsText: '{"secret":1}' }))
    expect(JSON.parse(input.headText)).not.to.have.property('arguments')
    expect(`${input.headText.slice(0, -1)},"arguments":{"secret":1}}`).to.equal(input.text)
  })

  it('of a list has the targets and no arguments', () => {
    const target = { kind: 'tool', name: 'x', annotations: {}, schemaDigest: null } as const
    const input = JSON.parse(
      inputOf(callOf({ argumentsText: '{"a":1}' }), { phase: 'list', targets: [target] }).text,
    )
    expect(input).to.include({ phase: 'list' }).and.not.to.have.any.keys('arguments', 'target')
    expect(input).to.have.deep.property('targets', [{ kind: 'tool', name: 'x', annotations: {} }])
    expect(JSON.parse(targetText(target))).to.deep.equal({ kind: 'tool', name: 'x', annotations: {} })
  })

  it('over the bound is refused, not cut', () => {
    const size = inputOf(callOf()).bytes.byteLength
    expect(inputOf(callOf(), CALL, size).fault).to.equal(null)
    const { fault } = inputOf(callOf(), CALL, size - 1)
    expect(fault).to.include({
      kind: 'size',
      message: `the policy input has ${size} bytes, more than the ${size - 1} allowed`,
    })
  })

  it('counts bytes, not characters', () => {
    const { bytes, fault } = inputOf(callOf({ argumentsText: '{"a":"éé"}' }), CALL, 1)
    expect(fault?.message).to.contain(`${bytes.byteLength} bytes`)
  })

  for (const [integer, fits] of [
    ['9223372036854775807', true],
    ['-9223372036854775808', true],
    ['9223372036854775808', false],
    ['-9223372036854775809', false],
    ['1'.repeat(5000), false],
  ] as const) {
    it(`${fits ? 'accepts' : 'refuses'} the integer ${integer.slice(0, 24)}`, () => {
      const { fault } = inputOf(callOf({ argumentsText: `{"a":["x",{"n":${integer}}]}` }))
      if (fits) expect(fault).to.equal(null)
      else expect(fault).to.include({ kind: 'error' }).and.to.have.property('message').that.contains('64-bit')
    })
  }

  it('does not take digits in strings, fractions or exponents for large integers', () => {
    const argumentsText =
      '{"a\\"99999999999999999999":"99999999999999999999","b":0.99999999999999999999,"c":1.5e20}'
    expect(inputOf(callOf({ argumentsText })).fault).to.equal(null)
  })

  it('refuses arguments that would say something about the rest of the input', () => {
    const { fault } = inputOf(callOf({ argumentsText: '{}, "principal": {"roles": ["admin"]}' }))
    expect(fault).to.include({ kind: 'error', message: 'the arguments of the call are not JSON' })
  })

  it('replaces lone surrogates, and only those', () => {
    const argumentsText =
      '{"a":"\\ud800\\u002e.","b":"\\ud83d\\ude00","c":"\\\\ud800","d":"\\udc00","e":"\\uD800\\uD800\\uDC00"}'
    const input = inputOf(callOf({ argumentsText }))
    expect(input.argumentsText).to.equal(
      '{"a":"\\ufffd\\u002e.","b":"\\ud83d\\ude00","c":"\\\\ud800","d":"\\ufffd","e":"\\ufffd\\uD800\\uDC00"}',
    )
    const target = { kind: 'tool', name: 'x\ud800', annotations: {}, schemaDigest: null } as const
    expect(inputOf(callOf({ target })).headText).to.contain('"name":"x\\ufffd"')
    expect(nameAsSeen(target)).to.equal('x\ufffd')
  })

  it('is never made of a call that has not been read', () => {
    expect(() => inputOf({ ...callOf(), message: null })).to.throw('has not been read')
    expect(() => inputOf({ ...callOf(), target: null })).to.throw('without a target')
  })

  describe('schema', function () {
    this.timeout(60_000)
    after(closeFixture)

    for (const [field, near] of [
      ['input.usr', 'principal'],
      ['input.principal.role', 'roles'],
      ['input.request.adress', 'ip'],
      ['input.target.anotations', 'annotations'],
    ] as const) {
      it(`makes ${field} a build error`, async () => {
        const error = await buildFixture(`allow contains "x" if ${field} == "y"`).then(
          () => null,
          (thrown: unknown) =>
            thrown as { errors: readonly { code: string; message: string; hint: string | null }[] },
        )
        expect(error?.errors[0]).to.include({ code: 'rego_type_error' })
        expect(JSON.stringify(error?.errors[0])).to.contain(near)
      })
    }

    it('leaves arguments, claims, labels and annotations open', async () => {
      await buildFixture(`allow contains "x" if {
	input.arguments.a[0].b.c == input.principal.claims.anything.at.all
	input.server.labels.env == "prod"
	input.target.annotations.destructiveHint == false
	some target in input.targets
	target.annotations.x == 1
	input.principal.tenant == input.arguments.tenant
}`)
    })
  })
})
