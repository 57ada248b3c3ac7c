import { expect } from 'chai'
import fc from 'fast-check'
import { describe, it } from 'mocha'
import { BuiltinLimitError } from '../../../src/policy/builtins/budget.ts'
import { compareNumbers, RegoNumber, toBigInt, toInt64 } from '../../../src/policy/builtins/number.ts'
import type { RegoValue } from '../../../src/policy/builtins/value.ts'
import { compareValues, RegoObject, RegoSet } from '../../../src/policy/builtins/value.ts'
import { formatRegoValue, parseRegoValue } from '../../../src/policy/builtins/value-text.ts'

const number = fc.oneof(
  fc.bigInt().map((value) => new RegoNumber(String(value))),
  fc.double({ noNaN: true, noDefaultInfinity: true }).map((value) => new RegoNumber(String(value))),
)

const { value: anyValue } = fc.letrec<{ value: RegoValue }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small' },
    fc.constant(null),
    fc.boolean(),
    fc.string({ unit: 'binary' }),
    number,
    fc.array(tie('value'), { maxLength: 4 }),
    fc.array(tie('value'), { maxLength: 4 }).map((elements) => new RegoSet(elements)),
    fc
      .array(fc.tuple(tie('value'), tie('value')), { maxLength: 4 })
      .map((entries) => new RegoObject(entries)),
  ),
}))

const roundTrip = (text: string) => formatRegoValue(parseRegoValue(text))

describe('texts of Rego values', () => {
  it('read back as the value that was written', () => {
    fc.assert(
      fc.property(anyValue, (value) => {
        expect(compareValues(parseRegoValue(formatRegoValue(value)), value)).to.equal(0)
      }),
    )
  })

  it('keep sets, keys of any type and the digits of numbers', () => {
    for (const text of [
      'set()',
      '{1, 2}',
      '{}',
      '{"a": 1}',
      '{[1]: {null}, {"x": true}: []}',
      '123456789012345678901234567890',
      '1.50',
      '-0',
      '1E400',
      '"é😀\\"\\\\\\n"',
    ]) {
      expect(roundTrip(text)).to.equal(text)
    }
  })

  it('are read with any white space, and sets without their doubles', () => {
    expect(roundTrip(' {\n"b":[1 ,2],"a":set() } ')).to.equal('{"a": set(), "b": [1, 2]}')
    expect(roundTrip('{2, 1, 1.0, 1e0}')).to.equal('{1, 2}')
  })

  it('take the last of equal keys, and names of JavaScript objects for plain keys', () => {
    expect(roundTrip('{"a": 1, "a": 2}')).to.equal('{"a": 2}')
    const hostile = '{"__proto__": {"x": 1}, "constructor": 2, "hasOwnProperty": 3}'
    expect(roundTrip(hostile)).to.equal(hostile)
    expect(({} as Record<string, unknown>)['x']).to.equal(undefined)
  })

  it('are refused when the module cannot have written them', () => {
    for (const text of [
      '',
      '[',
      '[1',
      '[1,]',
      '{1:2',
      '{"a" 1}',
      'nul',
      '"a',
      '1 2',
      '{,}',
      'set(',
      'abc',
      '--1',
    ]) {
      expect(() => parseRegoValue(text), text).to.throw(SyntaxError)
    }
  })

  it('are refused beyond a depth and a length of numbers', () => {
    expect(() => parseRegoValue('['.repeat(100_000))).to.throw(BuiltinLimitError, 'nested deeper')
    expect(() => parseRegoValue('9'.repeat(5_000))).to.throw(BuiltinLimitError, 'number of more than')
    expect(() => formatRegoValue('x'.repeat(2_000_000))).to.throw(BuiltinLimitError, 'over 1048576')
  })

  it('never carry half a surrogate pair, which the module would abort on', () => {
    expect(formatRegoValue('a\ud800b\udc00')).to.equal('"a\ufffdb\ufffd"')
    expect(parseRegoValue('"\\ud800"')).to.equal('\ufffd')
  })
})

describe('the order of Rego values', () => {
  it('is null, booleans, numbers, strings, arrays, objects, sets', () => {
    const ordered = [
      'null',
      'false',
      'true',
      '-1',
      '1',
      '1.5',
      '""',
      '"a"',
      '[]',
      '[1]',
      '{}',
      '{"a": 1}',
      'set()',
      '{1}',
    ]
    const shuffled = ordered
      .map((text) => parseRegoValue(text))
      .reverse()
      .sort(compareValues)
    expect(shuffled.map((value) => formatRegoValue(value))).to.deep.equal(ordered)
  })

  it('takes strings by code point, so that U+FFFD comes before an emoji', () => {
    expect(compareValues('\ufffd', '😀')).to.equal(-1)
  })

  it('takes numbers exactly, whatever their spelling and size', () => {
    const compare = (a: string, b: string) => compareNumbers(new RegoNumber(a), new RegoNumber(b))
    expect(compare('1', '1.000')).to.equal(0)
    expect(compare('100', '1e2')).to.equal(0)
    expect(compare('-0', '0.0')).to.equal(0)
    expect(compare('9007199254740993', '9007199254740992')).to.equal(1)
    expect(compare('0.1', '0.10000000000000000001')).to.equal(-1)
    expect(compare('-1e999999999', '1e-999999999')).to.equal(-1)
    expect(compare('1e999999999', '2e999999999')).to.equal(-1)
  })

  it('is total and agrees with equality of keys', () => {
    fc.assert(
      fc.property(anyValue, anyValue, (a, b) => {
        expect(Math.sign(compareValues(a, b))).to.equal(-Math.sign(compareValues(b, a)) + 0)
        expect(new RegoSet([a, b]).size).to.equal(compareValues(a, b) === 0 ? 1 : 2)
      }),
    )
  })
})

describe('integers', () => {
  it('are what OPA takes for one', () => {
    expect(toInt64(new RegoNumber('10.00'))).to.equal(10n)
    expect(toInt64(new RegoNumber('1e1'))).to.equal(undefined)
    expect(toInt64(new RegoNumber('9223372036854775808'))).to.equal(undefined)
    expect(toBigInt(new RegoNumber('1.5e1'))).to.equal(15n)
    expect(toBigInt(new RegoNumber('1.55e1'))).to.equal(undefined)
  })

  it('are refused rather than written out when their exponent is absurd', () => {
    expect(() => toBigInt(new RegoNumber('1e1000000'))).to.throw(BuiltinLimitError, 'digits')
  })
})
