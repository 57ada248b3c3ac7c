import { expect } from 'chai'
import { MalformedDecision, parseDecision, parseListed, parseVerdicts } from '../../src/policy/decision.ts'

const LIMIT = { name: 'per-user', key: ['alice', 1, true], limit: 30, window_s: 60, cost: 1 }
const GOOD = { allow: true, allowed_by: ['ok'], denied_by: [], limits: [LIMIT], obligations: [] }

describe('decision', () => {
  it('passes when it is exactly what the contract says', () => {
    const obligations = [{ kind: 'audit_payload', level: 'request' }]
    expect(parseDecision({ ...GOOD, obligations })).to.deep.equal({
      ...{ allow: true, allowedBy: ['ok'], deniedBy: [], limits: [LIMIT], obligations },
      ...{ masks: [], maskFailure: null },
    })
  })

  it('has its lists sorted, whatever order the module gave', () => {
    const limits = [
      { ...LIMIT, name: 'b' },
      { ...LIMIT, name: 'a' },
    ]
    const parsed = parseDecision({ ...GOOD, allowed_by: ['z', 'a'], limits })
    expect(parsed.allowedBy).to.deep.equal(['a', 'z'])
    expect(parsed.limits.map((limit) => limit.name)).to.deep.equal(['a', 'b'])
  })

  it('costs 1 unless it says otherwise', () => {
    const { cost: _, ...limit } = LIMIT
    expect(parseDecision({ ...GOOD, limits: [limit] }).limits[0]).to.include({ cost: 1 })
  })

  it('denies when a reason denies, whatever allows', () => {
    expect(parseDecision({ ...GOOD, allow: false, denied_by: ['no'] })).to.include({ allow: false })
  })

  const limit = (change: object) => ({ ...GOOD, limits: [{ ...LIMIT, ...change }] })
  const obligation = (value: unknown) => ({ ...GOOD, obligations: [value] })
  const malformed: readonly (readonly [string, unknown])[] = [
    ['nothing', undefined],
    ['null', null],
    ['true', true],
    ['a list', [GOOD]],
    ['a missing member', { ...GOOD, limits: undefined, ...{} }],
    ['a member too many', { ...GOOD, extra: 1 }],
    ['an allow that no reason supports', { ...GOOD, allowed_by: [] }],
    ['an allow in spite of a denial', { ...GOOD, denied_by: ['no'] }],
    ['an allow that is no boolean', { ...GOOD, allow: 'true' }],
    ['a denial nobody gives a reason for', { ...GOOD, allow: false }],
    ['a reason with a value in it', { ...GOOD, allowed_by: ['user alice'] }],
    ['a reason in capitals', { ...GOOD, allowed_by: ['Ok'] }],
    ['a reason of 65 characters', { ...GOOD, allowed_by: ['a'.repeat(65)] }],
    ['a reason with a line break', { ...GOOD, allowed_by: ['ok\n'] }],
    ['a reason that is a number', { ...GOOD, allowed_by: [1] }],
    ['65 reasons', { ...GOOD, allowed_by: Array.from({ length: 65 }, (_, index) => `r${index}`) }],
    [
      '9 limits',
      { ...GOOD, limits: Array.from({ length: 9 }, (_, index) => ({ ...LIMIT, limit: index + 1 })) },
    ],
    ['a limit of 0', limit({ limit: 0 })],
    ['a limit over the bound', limit({ limit: 1_000_000_001 })],
    ['a limit that is no integer', limit({ limit: 1.5 })],
    ['a limit that is text', limit({ limit: '30' })],
    ['a window of 0', limit({ window_s: 0 })],
    ['a window over 31 days', limit({ window_s: 2_678_401 })],
    ['a cost over the limit', limit({ cost: 31 })],
    ['a cost of 0', limit({ cost: 0 })],
    ['a limit without a name', limit({ name: undefined })],
    ['a limit with a free name', limit({ name: 'Per User' })],
    ['a key part that is an object', limit({ key: [{}] })],
    ['a key part that is null', limit({ key: [null] })],
    ['a key part that is too long', limit({ key: ['x'.repeat(2049)] })],
    ['17 key parts', limit({ key: Array.from({ length: 17 }, () => 'x') })],
    ['a key that is no list', limit({ key: 'x' })],
    ['a limit with a member too many', limit({ burst: 5 })],
    ['an obligation that is text', obligation('audit_payload')],
    ['an obligation without a kind', obligation({ level: 'full' })],
    ['an unknown obligation', obligation({ kind: 'require_approval' })],
    ['an audit_payload without a level', obligation({ kind: 'audit_payload' })],
    ['an audit_payload of an unknown level', obligation({ kind: 'audit_payload', level: 'none' })],
    ['an obligation with a member too many', obligation({ kind: 'audit_payload', level: 'full', if: 1 })],
  ]
  for (const [what, value] of malformed) {
    it(`is malformed with ${what}`, () => {
      expect(() => parseDecision(value)).to.throw(MalformedDecision)
    })
  }

  it('names the place and the rule, never the value', () => {
    const secret = { ...GOOD, allowed_by: ['gwk_secret value'] }
    expect(() => parseDecision(secret)).to.throw(
      /^the policy's decision is malformed: decision\.allowed_by\[0\] must match/,
    )
    expect(() => parseDecision(secret)).not.to.throw(/gwk_/)
  })

  describe('on a list', () => {
    const verdict = { name: 'a', allow: true, allowed_by: ['ok'], denied_by: [] }

    it('has one verdict per target', () => {
      expect(parseVerdicts([verdict], ['a'])).to.deep.equal([
        { allow: true, allowedBy: ['ok'], deniedBy: [] },
      ])
    })

    for (const [what, value] of [
      ['too few', []],
      ['too many', [verdict, verdict]],
      ['another name', [{ ...verdict, name: 'b' }]],
      ['a false allow', [{ ...verdict, denied_by: ['no'] }]],
      ['no list', { a: verdict }],
    ] as const) {
      it(`is malformed with ${what}`, () => {
        expect(() => parseVerdicts(value, ['a'])).to.throw(MalformedDecision)
      })
    }
  })
})

describe('verdicts on all targets at once', () => {
  const NOBODY = { allow: false, allowedBy: [], deniedBy: [] }

  it('put together what each definition says', () => {
    const listed = {
      allowed_by: [
        { reason: 'b', at: [0, 2, 2] },
        {
          rows: [
            [0, 'a'],
            [2, 'b'],
          ],
        },
        { reason: 'never', at: [] },
      ],
      denied_by: [{ reason: 'no', at: [2] }],
    }
    expect(parseListed(listed, 3)).to.deep.equal([
      { allow: true, allowedBy: ['a', 'b'], deniedBy: [] },
      NOBODY,
      { allow: false, allowedBy: ['b'], deniedBy: ['no'] },
    ])
  })

  it('hold for all targets when a definition says so', () => {
    const listed = {
      allowed_by: [{ reason: 'a', at: [1] }, { everywhere: ['z', 'z'] }],
      denied_by: [{ everywhere: [] }],
    }
    expect(parseListed(listed, 2)).to.deep.equal([
      { allow: true, allowedBy: ['z'], deniedBy: [] },
      { allow: true, allowedBy: ['a', 'z'], deniedBy: [] },
    ])
    expect(parseListed({ allowed_by: [], denied_by: [] }, 1)).to.deep.equal([NOBODY])
  })

  for (const [what, said] of [
    ['a place beyond the list', { reason: 'a', at: [2] }],
    ['a place before the list', { reason: 'a', at: [-1] }],
    ['a place between two targets', { reason: 'a', at: [0.5] }],
    ['a place that is no number', { reason: 'a', at: ['0'] }],
    ['a reason that carries a value', { reason: 'Ada Lovelace', at: [0] }],
    ['no reason', { at: [0] }],
    ['a reason that is no string', { rows: [[0, { a: 1 }]] }],
    ['a row without a reason', { rows: [[0]] }],
    ['a row with more than a reason', { rows: [[0, 'a', 'b']] }],
    ['a reason for all that carries a value', { everywhere: ['a', 'B'] }],
    ['nothing', {}],
    ['something unknown', { reason: 'a', at: [0], unless: [1] }],
    ['no object', ['a']],
  ] as const) {
    it(`are malformed with ${what}`, () => {
      expect(() => parseListed({ allowed_by: [said], denied_by: [] }, 2)).to.throw(MalformedDecision)
      expect(() => parseListed({ allowed_by: [], denied_by: [said] }, 2)).to.throw(MalformedDecision)
    })
  }

  it('are malformed without either set, and with too many reasons', () => {
    expect(() => parseListed({ allowed_by: [] }, 1)).to.throw(MalformedDecision)
    const many = Array.from({ length: 65 }, (_, n) => ({ reason: `r${n}`, at: [0] }))
    expect(() => parseListed({ allowed_by: many, denied_by: [] }, 1)).to.throw(MalformedDecision)
  })
})
