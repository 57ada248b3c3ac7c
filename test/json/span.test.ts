import { expect } from 'chai'
import fc from 'fast-check'
import {
  arrayElements,
  findValue,
  objectMembers,
  replaceSpans,
  rootSpan,
  sliceOf,
} from '../../src/json/span.ts'

function valueAt(text: string, path: readonly (string | number)[]): string | null {
  const span = findValue(text, path)
  return span === null ? null : sliceOf(text, span)
}

describe('places in a JSON text', () => {
  const text =
    ' {"id" : 9007199254740993 , "pa\\u0072ams":{"name":"a\\"]}","arguments": { "n" : 1.50, "s":"\\\\" } , "list":[1, [2,3] ,{"a":[]}]}} '

  it('finds a value with the digits and spaces it was written with', () => {
    expect(valueAt(text, ['id'])).to.equal('9007199254740993')
    expect(valueAt(text, ['params', 'arguments'])).to.equal('{ "n" : 1.50, "s":"\\\\" }')
    expect(valueAt(text, ['params', 'name'])).to.equal('"a\\"]}"')
    expect(valueAt(text, ['params', 'list', 1, 0])).to.equal('2')
    expect(valueAt(text, ['params', 'list', 2, 'a'])).to.equal('[]')
  })

  it('answers null where nothing stands', () => {
    for (const path of [['x'], ['params', 'list', 3], ['id', 'x'], ['params', 0], ['params', 'list', 'a']]) {
      expect(findValue(text, path)).to.equal(null)
    }
  })

  it('takes the outermost value for the empty path', () => {
    expect(valueAt(text, [])).to.equal(text.trim())
    expect(rootSpan('  "x" ')).to.deep.equal({ start: 2, end: 5 })
  })

  it('lists the elements of an array and the members of an object', () => {
    const list = findValue(text, ['params', 'list'])
    expect(list && arrayElements(text, list).map((span) => sliceOf(text, span))).to.deep.equal([
      '1',
      '[2,3]',
      '{"a":[]}',
    ])
    expect(arrayElements('[ ]', rootSpan('[ ]'))).to.deep.equal([])
    expect(arrayElements('{}', rootSpan('{}'))).to.deep.equal([])
    expect([...objectMembers(text, rootSpan(text)).keys()]).to.deep.equal(['id', 'params'])
    expect(objectMembers('[]', rootSpan('[]')).size).to.equal(0)
  })

  it('finds in any document what JSON.parse finds', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5, stringUnit: 'binary' }), fc.nat(3), (value, indent) => {
        const json = JSON.stringify(value, null, indent)
        const walk = (node: unknown, path: readonly (string | number)[]): void => {
          expect(JSON.parse(valueAt(json, path) ?? 'missing')).to.deep.equal(node)
          if (Array.isArray(node)) {
            for (const [index, child] of node.entries()) walk(child, [...path, index])
          } else if (typeof node === 'object' && node !== null) {
            for (const [key, child] of Object.entries(node)) walk(child, [...path, key])
          }
        }
        walk(JSON.parse(json), [])
      }),
      { numRuns: 150 },
    )
  })

  it('replaces places and keeps every other character', () => {
    const edits = [
      { span: findValue(text, ['params', 'list', 0]) ?? rootSpan(text), text: '' },
      { span: findValue(text, ['params', 'name']) ?? rootSpan(text), text: '"b"' },
    ]
    expect(replaceSpans(text, edits)).to.equal(text.replace('"a\\"]}"', '"b"').replace('[1, ', '[, '))
    expect(replaceSpans(text, [])).to.equal(text)
  })

  it('refuses edits that overlap or lie outside', () => {
    const at = (start: number, end: number) => ({ span: { start, end }, text: 'x' })
    expect(() => replaceSpans('abc', [at(0, 2), at(1, 3)])).to.throw(RangeError)
    expect(() => replaceSpans('abc', [at(0, 4)])).to.throw(RangeError)
    expect(() => replaceSpans('abc', [at(2, 1)])).to.throw(RangeError)
    expect(replaceSpans('abc', [at(1, 1), at(1, 2)])).to.equal('axxc')
  })

  it('takes linear time on strings of backslashes and quotes', () => {
    const body = `["${'\\\\\\"'.repeat(500_000)}",7]`
    expect(valueAt(body, [1])).to.equal('7')
  })
})
