import { expect } from 'chai'
import fc from 'fast-check'
import { createWordFinder } from '../../src/audit/word-finder.ts'

describe('audit/word-finder', () => {
  it('finds what `includes` finds, for words that overlap and repeat', () => {
    const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'A', '-'), minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(
        fc.array(letters, { maxLength: 6 }),
        fc.array(letters, { maxLength: 6 }),
        fc.string({ unit: fc.constantFrom('a', 'b', 'A', 'B', '-', 'c', 'é', '😀'), maxLength: 40 }),
        (exact, folded, text) => {
          const anyCase = folded.map((word) => word.toLowerCase())
          const expected =
            exact.some((word) => text.includes(word)) ||
            anyCase.some((word) => text.toLowerCase().includes(word))
          expect(createWordFinder({ exact, anyCase })(text)).to.equal(expected)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('is not led astray by words that begin alike', () => {
    const finds = createWordFinder({ exact: ['sk-ant-', 'sk_live_'], anyCase: ['secret', 'sec-ret'] })
    expect(['ssk-ant-', 'SECSECRET', 'sesec-Ret', 'sk-sk_live_x'].map(finds)).to.deep.equal([
      true,
      true,
      true,
      true,
    ])
    expect(['SK-ANT-', 'sk-an t-', 'secre', 'ſecret', ''].map(finds)).to.deep.equal([
      false,
      false,
      false,
      false,
      false,
    ])
  })
})
