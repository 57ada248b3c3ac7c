import { expect } from 'chai'
import fc from 'fast-check'
import { mayNameSecret } from '../../src/audit/glance.ts'
import type { RedactOptions } from '../../src/audit/redact.ts'
import { createRedactor, DECISION_BOUNDS, PAYLOAD_BOUNDS } from '../../src/audit/redact.ts'
import { isSecretKey, maskSecrets, mayHoldSecret, toKeySet } from '../../src/audit/secrets.ts'
import {
  ORDINARY_NAMES,
  ORDINARY_TEXTS,
  SECRET_NAMES,
  SECRET_PHRASES,
  SECRET_VALUES,
} from '../support/secrets-corpus.ts'

const PAYLOAD: RedactOptions = { bounds: PAYLOAD_BOUNDS }

function redact(value: unknown, options: RedactOptions = PAYLOAD) {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  const walked = createRedactor().json(text, options)
  return { ...walked, value: JSON.parse(walked.json) as never }
}

describe('audit/redact: values', () => {
  for (const [kind, secret] of Object.entries(SECRET_VALUES)) {
    it(`replaces a ${kind} secret wherever it stands in a text`, () => {
      for (const text of [secret, `use ${secret} now`, `x="${secret}"`, `(${secret})`]) {
        const { json, redactedCount } = redact({ note: text })
        expect(json, text).not.to.include(JSON.stringify(secret).slice(1, -1))
        expect(json).to.include('[redacted:')
        expect(redactedCount).to.be.greaterThan(0)
      }
    })
  }

  for (const [text, secret] of SECRET_PHRASES) {
    it(`replaces the secret in: ${text.slice(0, 40)}`, () => {
      expect(redact({ note: text }).json).not.to.include(secret)
      expect(redact([text]).json).not.to.include(secret)
    })
  }

  for (const text of ORDINARY_TEXTS) {
    it(`leaves alone: ${text.slice(0, 50)}`, () => {
      expect(redact({ note: text }).value).to.deep.equal({ note: text })
    })
  }

  it('covers at least 60 kinds of secret', () => {
    expect(Object.keys(SECRET_VALUES).length).to.be.at.least(60)
  })

  it('finds a secret that is written with escapes', () => {
    const hidden = SECRET_VALUES['github']!.replace('g', '\\u0067')
    expect(redact(`{"note":"${hidden}"}`).json).to.include('[redacted:github_token]')
  })

  it('finds a secret in the name of a member', () => {
    const { json } = redact({ [SECRET_VALUES['npm']!]: 1 })
    expect(json).to.equal('{"[redacted:npm_token]":1}')
  })

  it('never misses by its look ahead what it would replace', () => {
    const texts = [...Object.values(SECRET_VALUES), ...SECRET_PHRASES.map(([text]) => text)]
    for (const text of texts) expect(mayHoldSecret(text), text).to.equal(true)
  })
})

describe('audit/redact: names', () => {
  for (const name of SECRET_NAMES) {
    it(`replaces the value of ${name}, also nested, and keeps flags`, () => {
      expect(redact({ [name]: 'hunter2' }).value).to.deep.equal({ [name]: '[redacted:key]' })
      expect(redact({ [name]: { a: ['hunter2'] } }).value).to.deep.equal({ [name]: '[redacted:key]' })
      expect(redact({ [name]: true, b: null }).value).to.deep.equal({ [name]: true, b: null })
    })
    it(`sees ${name} as the last part of a path`, () => {
      expect(isSecretKey(`input.arguments.${name}`)).to.equal(true)
      expect(isSecretKey(`input.headers["${name}"]`)).to.equal(true)
      expect(mayNameSecret(`{"x":{"input.arguments.${name}":1}}`)).to.equal(true)
    })
  }

  for (const name of ORDINARY_NAMES) {
    it(`leaves the value of ${name}`, () => {
      expect(redact({ [name]: 'value' }).value).to.deep.equal({ [name]: 'value' })
    })
  }

  it('takes further names from the configuration, in any spelling', () => {
    const redactor = createRedactor(toKeySet(['Patient-Id', 'диагноз']))
    const { json } = redactor.json('{"patientId":"p1","PATIENT_ID":2,"диагноз":"x","id":"p2"}', PAYLOAD)
    expect(JSON.parse(json)).to.deep.equal({
      patientId: '[redacted:key]',
      PATIENT_ID: '[redacted:key]',
      диагноз: '[redacted:key]',
      id: 'p2',
    })
  })

  it('says where and what it replaced, with pointers', () => {
    const { redacted } = redact({ a: [{ 'x/y': { password: 'p' } }], b: `k ${SECRET_VALUES['aws']}` })
    expect(redacted).to.deep.equal([
      ['/a/0/x~1y/password', 'key'],
      ['/b', 'aws_key_id'],
    ])
  })
})

describe('audit/redact: bounds', () => {
  it('keeps digits that a double would lose', () => {
    const text =
      '{"big":9007199254740993,"f":0.1000000000000000055511151231257827,"e":1.5e300,"neg":-12345678901234567890}'
    expect(redact(text).json).to.equal(text)
  })

  it('turns numbers beyond the database into text', () => {
    const { value, cut } = redact('{"a":1e999999,"b":1e-999999}')
    expect(value).to.deep.equal({ a: '1e999999', b: 0 })
    expect(cut.map(([pointer]) => pointer)).to.deep.equal(['/a', '/b'])
  })

  it('cuts long strings and names and says how long they were', () => {
    const { value, cut } = redact({ s: 'x'.repeat(5000), ['k'.repeat(300)]: 1 })
    expect((value as { s: string }).s).to.have.lengthOf(4097)
    expect(cut).to.deep.include(['/s', 'string:5000'])
    expect(cut.some(([, what]) => what === 'key:300')).to.equal(true)
  })

  it('cuts lists, members, depth and the whole', () => {
    expect(redact(Array.from({ length: 1000 }, () => 1)).cut).to.deep.equal([['', 'items:1000']])
    const wide = Object.fromEntries(Array.from({ length: 500 }, (_, index) => [`k${index}`, index]))
    expect(redact(wide).cut).to.deep.equal([['', 'keys:500']])
    expect(Object.keys(redact(wide).value)).to.have.lengthOf(200)
    const deep = `${'['.repeat(20_000)}1${']'.repeat(20_000)}`
    expect(redact(deep).json).to.equal(`${'['.repeat(14)}"[cut:depth]"${']'.repeat(14)}`)
    const large = redact(Array.from({ length: 100 }, () => 'y'.repeat(2000)))
    expect(large.json.length).to.be.below(17_000)
    expect(large.cutCount).to.be.greaterThan(0)
  })

  it('closes what is open when the text was cut off', () => {
    const whole = '{"a":[1,{"b":"two","c":[true,nul'
    for (let length = 1; length <= whole.length; length += 1) {
      const { json, cutCount } = createRedactor().json(whole.slice(0, length), { ...PAYLOAD, partial: true })
      expect(() => JSON.parse(json), whole.slice(0, length)).not.to.throw()
      expect(cutCount).to.equal(1)
    }
  })

  it('refuses text that is not JSON without quoting it', () => {
    for (const text of ['', '{', '{"a"}', '[1,]x', 'nope', '{"a":1}}', '01', '"\\x"', '{"a":1 "b":2}']) {
      expect(() => createRedactor().json(text, PAYLOAD), text).to.throw(/^not JSON at offset \d+$/)
    }
  })

  it('does not lose half a secret at the cut of a string', () => {
    for (let before = 4040; before <= 4110; before += 7) {
      const { json } = redact({ note: `${'x'.repeat(before)} ${SECRET_VALUES['github']}` })
      expect(json).not.to.match(/ghp_|aB3xK9/)
    }
  })

  it('keeps a member named __proto__ as a member', () => {
    expect(redact('{"__proto__":{"admin":true},"constructor":1}').json).to.equal(
      '{"__proto__":{"admin":true},"constructor":1}',
    )
  })

  it('replaces what PostgreSQL refuses in text', () => {
    const { json } = redact('{"nul":"a\\u0000b","half":"x\\ud800y","\\u0000k":1,"ok":"\\ud83d\\ude00"}')
    expect(JSON.parse(json)).to.deep.equal({ nul: 'a\u2400b', half: 'x\ufffdy', '\u2400k': 1, ok: '😀' })
  })

  it('gives valid JSON of the same shape for any JSON, the same each time', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (value) => {
        const text = JSON.stringify(value)
        const first = createRedactor().json(text, { ...PAYLOAD, learn: true })
        expect(createRedactor().json(text, { ...PAYLOAD, learn: true })).to.deep.equal(first)
        const parsed: unknown = JSON.parse(first.json)
        expect(Array.isArray(parsed)).to.equal(Array.isArray(value))
        if (first.redactedCount === 0 && first.cutCount === 0 && !/\\u0000|\\ud/i.test(text)) {
          expect(parsed).to.deep.equal(JSON.parse(text))
        }
      }),
      { numRuns: 300 },
    )
  })
})

describe('audit/redact: memory', () => {
  const learn: RedactOptions = { ...PAYLOAD, learn: true }
  const trace: RedactOptions = { bounds: DECISION_BOUNDS, trusted: true }

  it('replaces what it caught in the request wherever it comes up again', () => {
    const redactor = createRedactor()
    redactor.json('{"password":"hunter2-x\\"y","cfg":{"pin":4711}}', learn)
    expect(redactor.json('{"vars":{"p":"is hunter2-x\\"y!","n":4711,"m":471}}', trace).json).to.equal(
      '{"vars":{"p":"is [redacted:key]!","n":"[redacted:key]","m":471}}',
    )
    expect(redactor.text('failed for hunter2-x"y', 100)).to.equal('failed for [redacted:key]')
    expect(redactor.text('?p=hunter2-x%22y', 100)).to.equal('?p=[redacted:key]')
  })

  it('replaces it also where it stood before it was caught', () => {
    const { json } = createRedactor().json('{"note":"hunter2-xyz","password":"hunter2-xyz"}', learn)
    expect(json).not.to.include('hunter2')
  })

  it('remembers what the bounds leave out', () => {
    const redactor = createRedactor()
    const items = Array.from({ length: 300 }, (_, index) => ({ password: `pass-number-${index}` }))
    const deep = `${'{"a":'.repeat(30)}{"secret":["deep-down-1",{"x":"deep-down-2"}]}${'}'.repeat(30)}`
    redactor.json(
      JSON.stringify({ deep: JSON.parse(deep), long: `${'x'.repeat(9000)} ${SECRET_VALUES['github']}` }),
      learn,
    )
    redactor.json(JSON.stringify(items.slice(0, 200)), learn)
    const again = JSON.stringify({
      a: 'deep-down-1',
      b: 'deep-down-2',
      c: SECRET_VALUES['github'],
      d: 'pass-number-199',
    })
    expect(redactor.json(again, trace).json).not.to.match(/deep-down|ghp_|pass-number/)
  })

  it('does not let a caller blot out the words of the policy', () => {
    const redactor = createRedactor()
    redactor.json('{"password":"data.gateway.authz.deny","secret":"authz/tools.rego"}', learn)
    const own = { own: false, members: new Map([['rule', { own: true, members: new Map() }]]) }
    const text = '{"rule":"data.gateway.authz.deny","value":"data.gateway.authz.deny"}'
    expect(redactor.json(text, { ...trace, own }).json).to.equal(
      '{"rule":"data.gateway.authz.deny","value":"[redacted:key]"}',
    )
  })

  it('withholds values when a request holds more secrets than it can remember', () => {
    const redactor = createRedactor()
    redactor.json(
      JSON.stringify(Array.from({ length: 300 }, (_, index) => ({ password: `no-${index}-secret` }))),
      learn,
    )
    expect(redactor.overflowed).to.equal(true)
    const walked = redactor.json('{"rule":"r","vars":{"x":"no-299-secret"}}', {
      ...trace,
      withhold: new Set(['vars']),
    })
    expect(walked.json).to.equal('{"rule":"r","vars":"[redacted:withheld]"}')
  })

  it('withholds values when a request is too long to be searched', () => {
    const redactor = createRedactor()
    redactor.json(JSON.stringify({ text: 'x'.repeat(2_000_000) }), learn)
    expect(redactor.overflowed).to.equal(false)
    redactor.json(JSON.stringify({ text: 'x'.repeat(2_000_000), token: 'swordfish' }), learn)
    expect(redactor.overflowed).to.equal(true)
  })

  it('leaves a harmless trace as it is', () => {
    const text = '{"v":1,"rules":[{"rule":"data.x","steps":[{"expr":"input.a == 1","reads":{"input.a":2}}]}]}'
    expect(createRedactor().json(text, trace).json).to.equal(text)
  })
})

describe('audit/redact: hostile texts', () => {
  const seeds = [
    'eyJ',
    '-eyJ',
    'eyJ.',
    'eyJhbGciOiJ.',
    'sk-',
    '-sk-a',
    'SG.',
    '://a:',
    '://',
    'password=',
    'password ',
    'AKIA',
    'bearer ',
    '-----BEGIN PRIVATE KEY',
    '-----BEGIN ',
    'authorization: ',
    '0',
    'a',
    '.',
    ':AA',
    '1:AA',
    'Q~',
    '1//0',
    'dp.pt.',
    '?sig=',
    'M',
    'MT',
    'secret:',
    'cookie:',
    'identified by ',
    'xoxb-',
    'ghp_',
    'a.b.',
    '\\"',
    '"',
    'api_key"',
    'hooks.slack.com/',
  ]
  for (const seed of seeds) {
    it(`are done with in linear time: ${JSON.stringify(seed)} over and over`, () => {
      // A quadratic pattern would need minutes for this.
      const text = `ghp_ password sk- ${seed.repeat(262_144 / seed.length)}`
      expect(maskSecrets(text, () => undefined).length).to.be.greaterThan(0)
    })
  }
})
