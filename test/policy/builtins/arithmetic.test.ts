import { expect } from 'chai'
import { describe, it } from 'mocha'
import { BuiltinLimitError } from '../../../src/policy/builtins/budget.ts'
import { callBuiltin } from '../../../src/policy/builtins/table.ts'
import { createContext, itGives } from './gives.ts'

describe('arithmetic', () => {
  itGives('is exact on integers of any size', 'plus', [
    [['9007199254740993', '1'], '9007199254740994'],
    [['18446744073709551615', '1'], '18446744073709551616'],
    [['1e30', '1'], '1000000000000000000000000000001'],
    [['"1"', '1'], undefined],
  ])

  itGives('has floats of 64 bits for everything else, as OPA has', 'mul', [
    [['0.1', '0.2'], '0.020000000000000000001'],
    [['2.5', '2'], '5'],
    [['1.1', '1.1'], '1.21'],
    [['-1.5e-7', '2'], '-3e-07'],
    [['3000000000', '3000000000'], '9000000000000000000'],
  ])

  itGives('divides', 'div', [
    [['10', '5'], '2'],
    [['1', '3'], '0.33333333333333333334'],
    [['1e20', '3'], '33333333333333333334'],
    [['1000000', '7'], '142857.14285714285714'],
    [['1', '7000000'], '1.4285714285714285715e-07'],
    [['5', '0.0'], undefined],
  ])

  itGives('subtracts numbers, and sets', 'minus', [
    [['0.3', '0.1'], '0.20000000000000000002'],
    [['{1, 2.0}', '{2}'], '{1}'],
    [['{1}', '1'], undefined],
  ])

  itGives('rounds halves away from zero', 'round', [
    [['2.5'], '3'],
    [['-2.5'], '-3'],
    [['12345678901234567890.5'], '12345678901234567890'],
  ])

  itGives('rounds up', 'ceil', [
    [['1.0000000001'], '2'],
    [['-1.5'], '-1'],
  ])

  itGives('rounds down', 'floor', [
    [['-1.5'], '-2'],
    [['1e20'], '100000000000000000000'],
  ])

  itGives('takes the sign away', 'abs', [
    [['-1.5'], '1.5'],
    [['-9223372036854775808'], '9223372036854775808'],
  ])

  itGives('adds up collections', 'sum', [
    [['[]'], '0'],
    [['[9007199254740993, 1]'], '9007199254740994'],
    [['{0.1, 0.2}'], '0.3'],
    [['[1, "a"]'], undefined],
  ])

  itGives('multiplies collections', 'product', [
    [['[]'], '1'],
    [['[3000000000, 3000000000, 3000000000]'], '27000000000000000000000000000'],
    [['[0.1, 0.2]'], '0.02'],
  ])

  it('ends the evaluation at numbers that would take long to write out', () => {
    const nines = '9'.repeat(4_000)
    for (const [name, ...operands] of [
      ['mul', nines, nines],
      ['product', `[${nines}, ${nines}]`],
      ['div', '1e-4000', '3'],
      ['plus', '1e99999', '1'],
    ] as const) {
      expect(() => callBuiltin(name, operands, createContext()), name)
        .to.throw(BuiltinLimitError)
        .with.property('limit', 'number_size')
    }
  })
})

describe('conversions of numbers', () => {
  itGives('to text cut off what is behind the point', 'format_int', [
    [['9007199254740993', '10'], '"9007199254740993"'],
    [['18446744073709551616', '16'], '"10000000000000000"'],
    [['-255.9', '2'], '"-11111111"'],
    [['0.5', '10'], '"0"'],
    [['1e30', '16'], '"c9f2c9cd04674edf000000000"'],
    [['5', '7'], undefined],
  ])

  itGives('from text take what Go takes', 'to_number', [
    [['"9007199254740993"'], '9007199254740993'],
    [['"+1"'], '1'],
    [['".5"'], '0.5'],
    [['"01"'], '1'],
    [['"1_000"'], '1000'],
    [['" 1"'], undefined],
    [['"inf"'], undefined],
    [['"1e400"'], undefined],
    [['""'], undefined],
    [['true'], '1'],
    [['null'], '0'],
  ])
})
