import { expect } from 'chai'
import { parseRegoValue } from '../../../src/policy/builtins/value-text.ts'
import { sameAsJson } from '../../../src/policy/testing/same-value.ts'

describe('two values', () => {
  const same = (wasm: string, topdown: string) => sameAsJson(parseRegoValue(wasm), parseRegoValue(topdown))

  it('are compared with all their digits', () => {
    expect(same('9007199254740993', '9007199254740992')).to.equal(false)
    expect(same('[1e400]', '[1e401]')).to.equal(false)
    expect(same('1.0', '1')).to.equal(true)
    expect(same('{"a": 0.1}', '{"a": 0.10000000000000001}')).to.equal(false)
  })

  it('are the same when a set has become an array and a key its text', () => {
    expect(same('[3, 1, [2, 0]]', '{1, {0, 2}, 3}')).to.equal(true)
    expect(same('[3, 1]', '[1, 3]')).to.equal(false)
    expect(same('[1, 1]', '{1, 2}')).to.equal(false)
    expect(same('{"[1]": 0, "2": 1}', '{[1]: 0, 2: 1}')).to.equal(true)
    expect(same('{"1": 0}', '{"1": 0, "2": 0}')).to.equal(false)
  })
})
