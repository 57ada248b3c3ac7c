/** What a module shows that Wasm alone would show differently: orders, texts of values, keys of the data. */
import { expect } from 'chai'
import { RegoObject } from '../../src/policy/builtins/value.ts'
import { formatRegoValue } from '../../src/policy/builtins/value-text.ts'
import { buildFixture, callOf, closeFixture, fixtureCompiler, roomOn } from './engine-fixture.ts'
import { answerThreeWays, describeOutcome, sameOutcome } from './fidelity/three-ways.ts'

const DATA = {
  ports: { 443: 'tls', 80: 'web', x: { 1: 'one' } },
  list: ['a', 'b'],
  nested: { b: { z: 1, a: 2 }, a: { y: 1, c: 3 } },
}
const INPUT = {
  words: 'the quick brown fox jumps over the lazy dog again'.split(' '),
  o: { z: 1, k: [1, { d: 1, b: 2 }], a: 'x', m: { q: 1, e: 2 } },
  deep: { b: [{ z: 1, a: 2 }], a: { c: { y: 0, x: 1 } } },
  port: 443,
}
const SORTED = '["again", "brown", "dog", "fox", "jumps", "lazy", "over", "quick", "the"]'

/** Rules `p0`, `p1`, .. -> their values, the same three ways. */
async function valuesOf(heads: readonly string[], more = ''): Promise<readonly string[]> {
  const rules = heads.map((head, i) => `p${i} := ${head}`)
  const source = `package t\n\nimport future.keywords.not\n\ns := {x | some x in input.words}\n\n${more}\n\n${rules.join('\n\n')}\n`
  const answers = await answerThreeWays(
    {
      sources: { 'policy.rego': source },
      entrypoint: 't',
      dataText: JSON.stringify(DATA),
      inputText: JSON.stringify(INPUT),
    },
    await fixtureCompiler(),
  )
  if (!answers.ok) throw new Error(answers.errors.map(({ message }) => message).join('\n'))
  const { instrumented, plain, topdown, malformed } = answers
  expect(malformed).to.equal(null)
  for (const other of [instrumented, plain])
    expect(sameOutcome(other, topdown), `${describeOutcome(other)}\n${describeOutcome(topdown)}`).to.equal(
      true,
    )
  if (topdown.kind !== 'value') throw new Error(describeOutcome(topdown))
  if (!(topdown.value instanceof RegoObject)) throw new Error('a package is an object')
  const members = topdown.value
  return heads.map((_, i) => {
    const value = members.get(`p${i}`)
    return value === undefined ? 'undefined' : formatRegoValue(value)
  })
}

describe('a module', function () {
  this.timeout(60_000)
  after(closeFixture)

  it('goes through sets and objects in their order wherever an array shows it', async () => {
    const shown = await valuesOf([
      '[x | some x in s]',
      '[x | x := s[_]; x > "lazy"]',
      '[k | input.o[k]]',
      '[v | some k, v in {"b": 1, "a": 2, "c": 0}]',
      '[[a, b] | some a in {2, 1}; some b in {"y", "x"}]',
      '[v | v := data.nested[_][_]]',
      '[[y | some y in x] | some x in {{2, 1}, {4, 3}}]',
      '[p | walk(input.deep.a, [p, _])]',
      '[v | [_, v] = walk({"b": {3, 1}, "a": 2})]',
      '[x | [x, _] = {["c", 1], ["a", 2], ["b", 3]}[_]]',
      '[x | s[x]][0]',
      'concat(" ", [upper(x) | some x in s])',
      'array.concat([x | some x in {2, 1}], [k | input.o[k]])',
      '[x | some i in [2, 1]; some x in {i: {"q": i, "e": 10 * i}}[i]]',
    ])
    expect(shown).to.deep.equal([
      SORTED,
      '["over", "quick", "the"]',
      '["a", "k", "m", "z"]',
      '[2, 1, 0]',
      '[[1, "x"], [1, "y"], [2, "x"], [2, "y"]]',
      '[3, 1, 2, 1]',
      '[[1, 2], [3, 4]]',
      '[[], ["c"], ["c", "x"], ["c", "y"]]',
      '[{"a": 2, "b": {1, 3}}, 2, {1, 3}, 1, 3]',
      '["a", "b", "c"]',
      '"again"',
      '"AGAIN BROWN DOG FOX JUMPS LAZY OVER QUICK THE"',
      '[1, 2, "a", "k", "m", "z"]',
      '[20, 2, 10, 1]',
    ])
  })

  it('does so in functions, partial rules, bodies of every and not, and under with', async () => {
    const shown = await valuesOf(
      ['f(s)', 'r', '{k: v | some k, v in m}', 'first', 'w'],
      `f(set) := [x | some x in set; x > "over"]

r contains [x | some x in {3, 1, 2}; x != y] if some y in {1, 2}

m[k] := [v | some v in set] if some k, set in {"a": {2, 1}}

first := xs[0] if {
	every x in [1] {
		[y | some y in {3, 2}] == [x + 1, x + 2]
	}
	not { [y | some y in {3, 2}] == [3, 2] }
	xs := [x | some x in s]
}

w := x if x := f(s) with input.words as ["z", "y"]`,
    )
    expect(shown).to.deep.equal([
      '["quick", "the"]',
      '{[1, 3], [2, 3]}',
      '{"a": [1, 2]}',
      '"again"',
      '["y", "z"]',
    ])
  })

  it('writes values in interpolated strings as OPA prints them', async () => {
    const shown = await valuesOf([
      '$"{ {3, 1, 2} } {input.o} {input.none}"',
      '[$"{x}={ {x, 0} }" | some x in {2, 1}]',
      '$"{1.50} {"a"} {["<\\u007f"]} {set()} {null}"',
    ])
    expect(shown).to.deep.equal([
      String.raw`"{1, 2, 3} {\"a\": \"x\", \"k\": [1, {\"b\": 2, \"d\": 1}], \"m\": {\"e\": 2, \"q\": 1}, \"z\": 1} <undefined>"`,
      '["1={0, 1}", "2={0, 2}"]',
      String.raw`"1.50 a [\"<\\x7f\"] set() null"`,
    ])
  })

  it('finds members of the data by a number, and elements by text, as in a path', async () => {
    const shown = await valuesOf(
      [
        'data.ports[443]',
        'data.ports[input.port]',
        'data.list["1"]',
        'data.ports.x[1]',
        '[port(x) | some x in [80, "443"]]',
        '[k | data.ports[k]]',
        'object.get(data.ports, 443, "by value")',
        '[x | x := data.ports; x[443]]',
        'data.ports[443.0]',
      ],
      'port(x) := data.ports[x]',
    )
    expect(shown).to.deep.equal([
      '"tls"',
      '"tls"',
      '"b"',
      '"one"',
      '["web", "tls"]',
      '["443", "80", "x"]',
      '"by value"',
      '[]',
      'undefined',
    ])
  })

  it('does all of it in lists, too', async () => {
    const room = await roomOn(
      await buildFixture(
        `allow contains "same" if [x | some x in {"c", "b", "a", "d"}] == ["a", "b", "c", "d"]

allow contains "own" if [k | input.target.annotations[k]] == ["a", "b", "c"]

allow contains "text" if $"{ {input.target.name, "z", "a"} }" == "{\\"a\\", \\"m\\", \\"z\\"}"

allow contains "port" if data.ports[count(input.target.name)] == "one"`,
        { ports: { 1: 'one' } },
      ),
    )
    const target = callOf({ target: { name: 'm', annotations: { c: 1, b: 2, a: 3 } } }).target
    const reasons = ['own', 'port', 'same', 'text']
    expect(
      target === null
        ? []
        : await room.visible({ ...callOf(), target: null }, [target, { ...target, name: 'mm' }]),
    ).to.have.deep.nested.property('[0].allowedBy', reasons)
    expect(room.decide(callOf({ target: target ?? {} })).allowedBy).to.deep.equal(reasons)
    room.close()
  })
})
