import { expect } from 'chai'
import fc from 'fast-check'
import { cutJsonText, isJson, splitArray, toJsonText } from '../../src/policy/trace-value.ts'

/** A value in Rego's notation and as it should come out in JSON; made together. */
const { value } = fc.letrec<{ value: readonly [string, unknown] }>((tie) => {
  const text = fc.string({ unit: 'grapheme' }).map((s) => [JSON.stringify(s), s] as const)
  const number = fc.integer().map((n) => [String(n), n] as const)
  const word = fc.constantFrom(['true', true] as const, ['null', null] as const)
  const many = fc.array(tie('value') as fc.Arbitrary<readonly [string, unknown]>, { maxLength: 4 })
  const list = many.map((m) => [`[${m.map(([r]) => r).join(', ')}]`, m.map(([, j]) => j)] as const)
  const set = many.map(
    (m) => [m.length === 0 ? 'set()' : `{${m.map(([r]) => r).join(', ')}}`, m.map(([, j]) => j)] as const,
  )
  const member = fc.tuple(fc.string(), tie('value') as fc.Arbitrary<readonly [string, unknown]>)
  const object = fc
    .uniqueArray(member, { maxLength: 4, selector: ([key]) => key })
    .map(
      (m) =>
        [
          `{${m.map(([key, [r]]) => `${JSON.stringify(key)}: ${r}`).join(', ')}}`,
          Object.fromEntries(m.map(([key, [, j]]) => [key, j])),
        ] as const,
    )
  return {
    value: fc.oneof({ maxDepth: 4 }, text, number, word, list, set, object) as fc.Arbitrary<
      readonly [string, unknown]
    >,
  }
})

describe('trace values', () => {
  it('come out as JSON, sets as arrays', () => {
    fc.assert(
      fc.property(value, ([rego, json]) => {
        const parsed: unknown = JSON.parse(toJsonText(rego))
        expect(JSON.stringify(parsed)).to.equal(JSON.stringify(JSON.parse(JSON.stringify(json))))
      }),
      { numRuns: 500 },
    )
  })

  const conversions: readonly (readonly [string, string])[] = [
    ['"set()"', '"set()"'],
    ['{1, 2}', '[1,2]'],
    ['set()', '[]'],
    ['{}', '{}'],
    ['{"a"}', '["a"]'],
    ['{"a": {"b", "c"}, "d": set()}', '{"a":["b","c"],"d":[]}'],
    ['{1: "x", [1, {2}]: "y"}', '{"1":"x","[1,[2]]":"y"}'],
    ['[9007199254740993, 1e400, 0.10]', '[9007199254740993,1e400,0.10]'],
    ['{"__proto__": 1}', '{"__proto__": 1}'],
    ['.5', '".5"'],
    ['[{".5"}, .5]', '[[".5"],".5"]'],
    ['["a\\u0000b"]', '["a\\u0000b"]'],
    ['{1: 2', '"{1: 2"'],
    ['"a \\"{1}\\" b"', '"a \\"{1}\\" b"'],
  ]
  for (const [rego, json] of conversions) {
    it(`turns ${rego} into ${json}`, () => {
      expect(toJsonText(rego)).to.equal(json)
    })
  }

  it('tells what is JSON already', () => {
    expect(isJson('{"a": [1, "b"]}')).to.equal(true)
    expect(isJson('{"a": {1}}')).to.equal(false)
  })

  it('takes arrays apart', () => {
    expect(splitArray('[1, {2, 3}, "a, ]", [4, 5], {"b": [6]}]')).to.deep.equal([
      '1',
      '{2, 3}',
      '"a, ]"',
      '[4, 5]',
      '{"b": [6]}',
    ])
    expect(splitArray('[]')).to.deep.equal([])
    expect(splitArray('{1}')).to.equal(null)
  })

  describe('that are too long', () => {
    it('keep their beginning and their end', () => {
      const words = Array.from({ length: 100 }, (_, index) => `word${index}`).join(' ')
      const cut = JSON.parse(cutJsonText(JSON.stringify(words), 80)) as string
      expect(cut).to.match(/^word0 word1 .* … \d+ characters left out … .*word99$/)
      expect(Number(/(\d+) characters/.exec(cut)?.[1])).to.equal(
        words.length - cut.replace(/ … \d+ characters left out … /, '').length,
      )
    })

    it('lose a word that the cut would go through', () => {
      const secret = `ghp_${'a1B2'.repeat(20)}`
      const cut = cutJsonText(JSON.stringify(`token ${secret} end`), 40)
      expect(cut).to.contain('token')
      expect(cut).not.to.contain('a1B2')
    })

    it('are valid JSON without lone surrogates', () => {
      fc.assert(
        fc.property(
          fc.jsonValue(),
          fc.string({ unit: 'grapheme', minLength: 30 }),
          fc.nat(60),
          (json, text, max) => {
            const whole = JSON.stringify([json, text])
            fc.pre(whole.length > max)
            const cut = cutJsonText(whole, max)
            expect(Buffer.from(JSON.parse(cut) as string).toString()).to.equal(JSON.parse(cut))
          },
        ),
      )
    })

    it('stay as they are when they fit', () => {
      expect(cutJsonText('[1,2]', 5)).to.equal('[1,2]')
    })
  })
})
