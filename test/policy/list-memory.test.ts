/** What is remembered of lists: for whom it is used, for whom it is not, and how much there is of it. */
import { expect } from 'chai'
import type { Verdict } from '../../src/policy/decision.ts'
import { createListMemory } from '../../src/policy/list-memory.ts'
import { parseListReads } from '../../src/policy/list-reads.ts'

const SHOWN: Verdict = { allow: true, allowedBy: ['role'], deniedBy: [] }
const READS = [
  ['principal', 'roles'],
  ['principal', 'claims', 'mfa'],
  ['target', 'name'],
]
const head = (principal: object, rest: object = {}) => JSON.stringify({ principal, ...rest })

describe('the memory of lists', () => {
  it('answers for whoever does not differ in what the rules read', () => {
    const memory = createListMemory(READS, 10_000)
    memory?.about(head({ id: 'ada', roles: ['a'], claims: { mfa: true, x: 1 } })).set('t', '', SHOWN)
    const others = memory?.about(
      head({ roles: ['a'], id: 'bob', claims: { x: 2, mfa: true } }, { server: 's' }),
    )
    expect(others?.get('t', '')).to.equal(SHOWN)
    expect(others?.get('T', '')).to.equal(undefined)
    expect(others?.get('t', ',"annotations":{}')).to.equal(undefined)
  })

  for (const [difference, principal] of [
    ['a value', { roles: ['b'], claims: { mfa: true } }],
    ['a type', { roles: ['a'], claims: { mfa: 'true' } }],
    ['null instead of a value', { roles: ['a'], claims: { mfa: null } }],
    ['no value', { roles: ['a'], claims: {} }],
    ['the place of a value', { roles: true, claims: { mfa: ['a'] } }],
    ['a line end in a value', { roles: ['a\n'], claims: { mfa: true } }],
  ] as const) {
    it(`does not answer for whoever differs in ${difference}`, () => {
      const memory = createListMemory(READS, 10_000)
      memory?.about(head({ roles: ['a'], claims: { mfa: true } })).set('e', '', SHOWN)
      expect(memory?.about(head(principal)).get('e', '')).to.equal(undefined)
    })
  }

  it('tells integers apart that JavaScript rounds to one', () => {
    const memory = createListMemory([['n']], 10_000)
    memory?.about('{"n":9007199254740992}').set('e', '', SHOWN)
    expect(memory?.about('{"n":9007199254740993}').get('e', '')).to.equal(undefined)
  })

  for (const [what, reads] of [
    ['the id of the request', [['request', 'id']]],
    ['the time of the request', [['request', 'now_ns']]],
    ['part of the time', [['request', 'time', 'x']]],
    ['all of the request', [['request']]],
    ['the other elements', [['targets']]],
    ['all of the input', [[]]],
  ] as const) {
    it(`is none where rules read ${what}`, () => {
      expect(createListMemory([['principal', 'roles'], ...reads], 10_000)).to.equal(null)
    })
  }

  it('is none where the module does not tell what rules read, or none is wanted', () => {
    for (const reads of [undefined, null, 'principal', [['a'], 'b'], [[1]]])
      expect(createListMemory(parseListReads(reads), 10_000)).to.equal(null)
    expect(createListMemory(READS, 0)).to.equal(null)
  })

  it('forgets the question asked longest ago when it is full', () => {
    const memory = createListMemory([['a']], 4000)
    const about = (a: number) => memory?.about(`{"a":${a}}`)
    for (let a = 0; a < 4; a += 1) about(a)?.set('e'.repeat(300), '', SHOWN)
    about(0)
    for (let a = 4; a < 6; a += 1) about(a)?.set('e'.repeat(300), '', SHOWN)
    expect([0, 1, 2, 3, 4, 5].filter((a) => about(a)?.get('e'.repeat(300), '') === SHOWN)).to.deep.equal([
      0, 3, 4, 5,
    ])
  })

  it('keeps its bound against a list that never ends, and goes on afterwards', () => {
    const memory = createListMemory([['a']], 4000)
    const endless = memory?.about('{"a":1}')
    for (let n = 0; n < 100; n += 1) endless?.set(`e${n}`, '', SHOWN)
    expect(memory?.about('{"a":1}').get('e99', '')).to.equal(undefined)
    memory?.about('{"a":2}').set('e', '', SHOWN)
    expect(memory?.about('{"a":2}').get('e', '')).to.equal(SHOWN)
  })
})
