import { expect } from 'chai'
import fc from 'fast-check'
import type { StoredMembers } from '../../src/json/stored-text.ts'
import { createObjectPrinter, storedJson, toStoredText } from '../../src/json/stored-text.ts'
import type { TestDatabase } from '../support/postgres.ts'
import { createTestDatabase } from '../support/postgres.ts'

describe('json/stored-text', () => {
  let database: TestDatabase

  before(async () => {
    database = await createTestDatabase()
  })
  after(() => database.drop())

  /** What the database prints. */
  async function stored(texts: readonly string[]): Promise<string[]> {
    const { rows } = await database.pool.query<{ text: string }>(
      'select t::jsonb::text as text from unnest($1::text[]) with ordinality as u(t, n) order by n',
      [texts],
    )
    return rows.map((row) => row.text)
  }

  it('prints what PostgreSQL prints for the cases in which writers of JSON differ', async () => {
    const texts = [
      '1.0',
      '1',
      '-0',
      '-0.0',
      '-0e5',
      '0e-10',
      '0e10',
      '1.50e1',
      '1.5E+3',
      '1e-7',
      '-12.345e-2',
      '12345e-2',
      '12345e-5',
      '1e400',
      '1e21',
      '9007199254740993',
      '123456789012345678901234567890.12345678901234567890',
      '0.000000000000000000001',
      '{"b":1,"a":2,"aa":3,"B":4,"":5}',
      '{"a":1,"b":2,"a":3,"\\u0061":4}',
      '{"10":1,"9":2,"01":3}',
      '{"__proto__":{"constructor":null},"toString":1}',
      '{"é":1,"zz":2,"z":3,"\\ud83d\\ude00":4,"\\uffee":5,"aaaa":6}',
      '"\\u00e9\\/\\b\\f\\n\\r\\t\\"\\\\\\u001f\\u007f\\u2028"',
      ' [ 1 , [ ] , { } , [ { "a" : [ null , true , false ] } ] ] ',
      '"\\ud83d\\ude00"',
    ]
    expect(texts.map(toStoredText)).to.deep.equal(await stored(texts))
  })

  it('prints what PostgreSQL prints for any JSON text', async () => {
    const digits = (max: number) =>
      fc.string({ unit: fc.constantFrom(...'0123456789'), minLength: 1, maxLength: max })
    const number = fc
      .record({
        sign: fc.constantFrom('', '-'),
        integer: fc.oneof(
          fc.constant('0'),
          digits(30).map((text) => text.replace(/^0+/, '') || '0'),
        ),
        fraction: fc.oneof(
          fc.constant(''),
          digits(30).map((text) => `.${text}`),
        ),
        exponent: fc.oneof(
          { weight: 3, arbitrary: fc.constant('') },
          fc.integer({ min: -400, max: 400 }).map((value) => `e${value}`),
          fc.integer({ min: 0, max: 400 }).map((value) => `E+${value}`),
        ),
      })
      .map(({ sign, integer, fraction, exponent }) => sign + integer + fraction + exponent)
    const name = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 5 }),
      fc.string({ maxLength: 3 }),
      fc.constantFrom('__proto__', '0', '10', 'a', 'b', 'é', '\uffee', '😀'),
    )
    const text = fc
      .oneof(name, fc.string({ unit: 'binary' }))
      .map((value) => value.replaceAll('\0', '\u2400'))
    const escaped = text.map((value) =>
      JSON.stringify(value).replace(/[^"\\]/g, (c) =>
        c > 'q' ? `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}` : c,
      ),
    )
    const { json } = fc.letrec<{ json: string }>((tie) => ({
      json: fc.oneof(
        { depthSize: 'small', withCrossShrink: true },
        number,
        fc.constantFrom('true', 'false', 'null'),
        text.map((value) => JSON.stringify(value)),
        fc.array(tie('json'), { maxLength: 5 }).map((items) => `[${items.join(', ')}]`),
        fc
          .array(
            fc.tuple(
              fc.oneof(
                text.map((value) => JSON.stringify(value)),
                escaped.filter(isJson),
              ),
              tie('json'),
            ),
            {
              maxLength: 6,
            },
          )
          .map((members) => `{${members.map(([key, value]) => `${key} :${value}`).join(',')}}`),
      ),
    }))
    await fc.assert(
      fc.asyncProperty(fc.array(json, { minLength: 20, maxLength: 60 }), async (texts) => {
        expect(texts.map(toStoredText)).to.deep.equal(await stored(texts))
      }),
      { numRuns: 60 },
    )
  })

  function isJson(text: string): boolean {
    try {
      return typeof JSON.parse(text) === 'string'
    } catch {
      return false
    }
  }

  it('is not changed by being printed again', () => {
    const once = toStoredText('{"b":[1.0,-0,1e3],"a":{"é":"\\u0001"}}')
    expect(toStoredText(once)).to.equal(once)
  })

  it('takes any depth, and leaves what jsonb refuses refusable', async () => {
    const deep = `${'['.repeat(100_000)}${']'.repeat(100_000)}`
    expect(toStoredText(deep)).to.equal(deep)
    for (const text of ['1e200000', '"\\u0000"', '"\\ud800"', '1e139999']) {
      const refused = await stored([toStoredText(text)]).then(
        () => false,
        () => true,
      )
      expect(refused, text.slice(0, 20)).to.equal(true)
    }
  })

  it('refuses what is no JSON', () => {
    for (const text of [
      '',
      '{',
      '[1,]',
      '{"a"}',
      '{"a":1,}',
      '1 2',
      'nul',
      '"abc',
      '"a\\"',
      '{1:2}',
      '[1}',
    ]) {
      expect(() => toStoredText(text), text).to.throw(SyntaxError)
    }
  })

  it('is what values of our own are written in at once', () => {
    const extreme = fc.constantFrom(-0, 1e21, 5e-324, 1.5, '\u2028"\\', {
      __proto__: null,
      é: 1,
      ee: undefined,
    })
    fc.assert(
      fc.property(fc.oneof(fc.jsonValue(), fc.array(extreme)), (value) => {
        expect(storedJson(value)).to.equal(toStoredText(JSON.stringify(value)))
      }),
    )
  })

  it('is what objects with known members are printed in', () => {
    const names = ['é', 'bb', 'a', 'abc', 'ab', '"'] as const
    const print = createObjectPrinter(...names)
    fc.assert(
      fc.property(fc.subarray([...names]), fc.jsonValue(), (present, value) => {
        const object = Object.fromEntries(present.map((name) => [name, value]))
        const members: StoredMembers<(typeof names)[number]> = Object.fromEntries(
          present.map((name) => [name, storedJson(value)]),
        )
        expect(print(members)).to.equal(storedJson(object))
      }),
    )
  })
})
