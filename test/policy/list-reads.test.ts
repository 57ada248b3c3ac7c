/** What is asked about an element of a list: what the rules read of it, and nothing that they do not. */
import { expect } from 'chai'
import type { Target } from '../../src/gateway/types.ts'
import { targetText } from '../../src/policy/input.ts'
import { createProjection, elementText, parseListReads } from '../../src/policy/list-reads.ts'

const TARGET: Target = {
  kind: 'tool',
  name: 'read "it"',
  annotations: { readOnlyHint: true, title: 'Read', nested: { a: [1, null] } },
  schemaDigest: 'ab',
}

function textOf(reads: Parameters<typeof createProjection>[0], target: Target): string {
  return elementText(target.name, createProjection(reads)(target))
}

describe('what is asked about an element of a list', () => {
  for (const [what, reads, text] of [
    ['its name', [['target', 'name']], '{"name":"read \\"it\\""}'],
    ['no kind, which stands elsewhere', [['target', 'kind']], '{"name":"read \\"it\\""}'],
    [
      'annotations that are read',
      [['target', 'annotations', 'readOnlyHint'], ['target', 'annotations', 'nested', 'a'], ['principal']],
      '{"name":"read \\"it\\"","annotations":{"readOnlyHint":true,"nested":{"a":[1,null]}}}',
    ],
    [
      'no annotation that it does not have',
      [
        ['target', 'annotations', 'toString'],
        ['target', 'annotations', '__proto__'],
      ],
      '{"name":"read \\"it\\"","annotations":{}}',
    ],
    [
      'all annotations where a rule looks one up by a computed name',
      [
        ['target', 'annotations'],
        ['target', 'annotations', 'title'],
      ],
      `{"name":"read \\"it\\"","annotations":${JSON.stringify(TARGET.annotations)}}`,
    ],
    ['its schema', [['target', 'schema_digest']], '{"name":"read \\"it\\"","schema_digest":"ab"}'],
    ['nothing that no target has', [['target', 'colour']], '{"name":"read \\"it\\""}'],
  ] as const) {
    it(`has ${what}`, () => {
      expect(textOf(reads, TARGET)).to.equal(text)
    })
  }

  it('has no schema that is not known', () => {
    const reads = [['target', 'schema_digest']]
    expect(textOf(reads, { ...TARGET, schemaDigest: null })).to.equal('{"name":"read \\"it\\""}')
  })

  it('keeps a member by the name __proto__', () => {
    const annotations = JSON.parse('{"__proto__":{"x":1},"y":2}') as Target['annotations']
    const reads = [['target', 'annotations', '__proto__', 'x']]
    expect(textOf(reads, { ...TARGET, name: 'n', annotations })).to.equal(
      '{"name":"n","annotations":{"__proto__":{"x":1}}}',
    )
  })

  for (const [what, reads] of [
    ['the target', [['target']]],
    ['all of the input', [[]]],
    ['the list', [['targets']]],
    ['nobody knows what', null],
  ] as const) {
    it(`is all of it where rules read ${what}`, () => {
      expect(JSON.parse(textOf(reads, TARGET))).to.deep.equal(JSON.parse(targetText(TARGET)))
    })
  }

  it('has all annotations where the name of one could be written in another way', () => {
    // An unpaired surrogate is U+FFFD in an input.
    const annotations = { 'a\ud800': 1 }
    const reads = [['target', 'annotations', 'a\ufffd']]
    expect(textOf(reads, { ...TARGET, name: 'n', annotations })).to.equal(
      '{"name":"n","annotations":{"a\\ud800":1}}',
    )
  })

  it('is known only from a list of paths', () => {
    for (const value of [undefined, null, 'principal', [['a'], 'b'], [[1]]])
      expect(parseListReads(value)).to.equal(null)
    expect(parseListReads([['a'], []])).to.deep.equal([['a'], []])
  })
})
