import { expect } from 'chai'
import { lintMasks } from '../../src/policy/lint/masks.ts'
import { parseMasks } from '../../src/policy/mask.ts'
import { buildFixture, callOf, closeFixture, roomOn } from './engine-fixture.ts'

const ALLOW = 'allow contains "all"\n\n'

describe('policy/mask: the check', () => {
  it('takes paths and objects as OPA does, with or without /input', () => {
    const value = [
      '/arguments/ssn',
      '/input/arguments/a~1b/0',
      { op: 'remove', path: '/result/structuredContent' },
      { op: 'upsert', path: '/principal/claims/email', value: { hidden: true } },
      '/arguments',
    ]
    expect(parseMasks(value)).to.deep.equal({
      maskFailure: null,
      masks: [
        { op: 'remove', path: ['arguments', 'ssn'] },
        { op: 'remove', path: ['arguments', 'a/b', '0'] },
        { op: 'remove', path: ['result', 'structuredContent'] },
        { op: 'upsert', path: ['principal', 'claims', 'email'], json: '{"hidden":true}' },
        { op: 'remove', path: ['arguments'] },
      ],
    })
  })

  const wrong: readonly (readonly [string, unknown, RegExp])[] = [
    ['no list', '/arguments/x', /^mask must be a list/],
    ['65 masks', Array.from({ length: 65 }, (_, index) => `/arguments/${index}`), /at most 64/],
    ['a number', [1], /^mask\[0\] must be a path, or an object/],
    ['a path without a slash', ['arguments/ssn'], /must be a JSON Pointer/],
    ['an empty path', [''], /must be a JSON Pointer/],
    ['a bad escape', ['/arguments/a~2'], /must be a JSON Pointer/],
    ['a path to who called', ['/principal/id'], /must begin with \/arguments/],
    ['a path to the whole input', ['/input'], /must begin with/],
    ['a path of 513 characters', [`/arguments/${'x'.repeat(512)}`], /at most 512/],
    ['33 segments', [`/arguments${'/a'.repeat(32)}`], /at most 32/],
    ['an unknown op', [{ op: 'replace', path: '/arguments/x' }], /op must be/],
    ['no op', [{ path: '/arguments/x' }], /op must be/],
    ['no path', [{ op: 'remove' }], /path must be a string/],
    ['an upsert without a value', [{ op: 'upsert', path: '/arguments/x' }], /needs a value/],
    ['a remove with one', [{ op: 'remove', path: '/arguments/x', value: 1 }], /takes no value/],
    ['a large value', [{ op: 'upsert', path: '/arguments/x', value: 'x'.repeat(4096) }], /at most 4096/],
    ['a member too many', [{ op: 'remove', path: '/arguments/x', when: 1 }], /nothing is known of/],
  ]
  for (const [what, value, message] of wrong) {
    it(`says what is wrong with ${what}, and then none of them is known`, () => {
      const { masks, maskFailure } = parseMasks(Array.isArray(value) ? ['/arguments/ok', ...value] : value)
      expect(masks).to.deep.equal([])
      expect(maskFailure?.replace('mask[1]', 'mask[0]')).to.match(message)
    })
  }
})

describe('policy/mask: the room', function () {
  this.timeout(30_000)
  after(closeFixture)

  it('takes the masks from the evaluation that decides', async () => {
    const policy = await buildFixture(
      `${ALLOW}mask contains "/arguments/ssn"\n\nmask contains {"op": "upsert", "path": "/arguments/card", "value": last} if last := substring(input.arguments.card, 12, 4)\n`,
    )
    const room = await roomOn(policy)
    expect(room.hasMasks).to.equal(true)
    const { allow, masks, maskFailure } = room.decide(
      callOf({ argumentsText: '{"card":"4111111111111234"}' }),
    )
    expect({ allow, maskFailure }).to.deep.equal({ allow: true, maskFailure: null })
    expect(masks).to.have.deep.members([
      { op: 'remove', path: ['arguments', 'ssn'] },
      { op: 'upsert', path: ['arguments', 'card'], json: '"1234"' },
    ])
  })

  it('does not deny for a malformed mask, and says that nothing is known', async () => {
    const room = await roomOn(await buildFixture(`${ALLOW}mask contains input.arguments.path\n`))
    const { allow, masks, maskFailure } = room.decide(callOf({ argumentsText: '{"path":"/principal/id"}' }))
    expect(allow).to.equal(true)
    expect(masks).to.deep.equal([])
    expect(maskFailure).to.match(/^mask\[0\] path must begin with/)
  })

  it('knows no masks when the evaluation fails, unless the policy has none', async () => {
    const many = `["x" | some i in numbers.range(1, 900); some j in numbers.range(1, 900); i + j < 0]`
    const body = `allow contains "all" if count(${many}) >= 0\n\n`
    const masking = await roomOn(await buildFixture(`${body}mask contains "/arguments/ssn"\n`), {
      fuel: 100_000,
    })
    const plain = await roomOn(await buildFixture(body), { fuel: 100_000 })
    const failed = masking.decide(callOf())
    expect(failed.failure?.kind).to.equal('policy_budget')
    expect(failed.maskFailure).to.match(/not known/)
    expect(plain.hasMasks).to.equal(false)
    expect(plain.decide(callOf())).to.include({ maskFailure: null })
  })

  it('is warned of by the check when it is wrong as written', async () => {
    const { dictionary, sources } = await buildFixture(
      `${ALLOW}mask contains "arguments/ssn"\n\nmask contains {"op": "erase", "path": "/arguments/x"}\n\nmask contains "/arguments/ok"\n`,
    )
    const found = lintMasks(dictionary, sources)
    expect(found.map(({ row, message }) => [row, message])).to.deep.equal([
      [5, 'path must be a JSON Pointer such as /arguments/ssn'],
      [7, 'op must be "remove" or "upsert"'],
    ])
    expect(found[0]?.line).to.equal('mask contains "arguments/ssn"')
  })
})
