import { expect } from 'chai'
import { describe, it } from 'mocha'
import { BuiltinLimitError } from '../../../src/policy/builtins/budget.ts'
import { callBuiltin } from '../../../src/policy/builtins/table.ts'
import { createContext, FUEL, Spent } from './gives.ts'

const list = (count: number, element: (at: number) => string) =>
  `[${Array.from({ length: count }, (_, at) => element(at)).join(',')}]`
const text = (value: string) => JSON.stringify(value)

/** What a call ends with in an evaluation that has the usual budget. */
function ending(name: string, ...operands: readonly string[]): string {
  try {
    const result = callBuiltin(name, operands, createContext())
    return result === undefined ? 'undefined' : 'result'
  } catch (thrown) {
    if (thrown instanceof Spent) return 'spent'
    if (thrown instanceof BuiltinLimitError) return thrown.limit
    throw thrown
  }
}

/** What a call is charged. */
function cost(name: string, ...operands: readonly string[]): number {
  const context = createContext(Number.POSITIVE_INFINITY)
  callBuiltin(name, operands, context)
  return context.used()
}

describe('the budget of builtins', () => {
  it('is spent by patterns that read the text again for every match', () => {
    expect(ending('regex.find_n', text('a(.*b)?'), text('a'.repeat(20_000)), '-1')).to.equal('spent')
    expect(ending('regex.replace', text('a'.repeat(20_000)), text('(a?){500}a{500}b'), text('x'))).to.equal(
      'spent',
    )
  })

  it('lasts for a pattern that would keep a backtracking engine busy for years', () => {
    expect(ending('regex.replace', text('a'.repeat(2_000)), text('^(a+)+$'), text('x'))).to.equal('result')
    expect(ending('regex.replace', text('a'.repeat(2_000)), text('(a|a)*b'), text('x'))).to.equal('result')
  })

  it('is spent by graphs with a factorial number of paths', () => {
    const complete = `{${Array.from({ length: 18 }, (_, at) => `"n${at}": ${list(18, (other) => `"n${other}"`)}`).join()}}`
    expect(ending('graph.reachable_paths', complete, '["n0"]')).to.equal('spent')
  })

  it('is spent by aliases of aliases in YAML, and by long YAML', () => {
    const bomb = [
      'a: &a [1,1,1,1,1,1,1,1,1,1]',
      ...'bcdefg'.split('').map((name, at) => {
        const before = 'abcdef'[at]
        return `${name}: &${name} [*${before},*${before},*${before},*${before},*${before},*${before},*${before},*${before}]`
      }),
    ].join('\n')
    expect(ending('yaml.unmarshal', text(bomb))).to.equal('spent')
    expect(ending('yaml.unmarshal', text('['.repeat(30_000)))).to.equal('spent')
  })

  it('is spent by comparing everything with everything', () => {
    expect(
      ending(
        'net.cidr_contains_matches',
        list(2_000, () => '"10.0.0.0/8"'),
        list(2_000, () => '"10.1.1.1"'),
      ),
    ).to.equal('spent')
    expect(
      ending(
        'object.subset',
        list(30_000, () => '1'),
        list(5_000, (at) => (at < 4_999 ? '1' : '2')),
      ),
    ).to.equal('spent')
  })

  it('is spent by many keys to verify with', () => {
    const key =
      '{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}'
    const keys = `{"keys":${list(300, () => key)}}`
    expect(ending('io.jwt.verify_es256', text('eyJhbGciOiJFUzI1NiJ9.e30.AAAA'), text(keys))).to.equal('spent')
  })

  it('does not depend on what an earlier evaluation left in a cache', () => {
    const calls = [
      ['regex.replace', text('a-b'), text('[a-c]+(-|x)'), text('')],
      ['regex.template_match', text('urn:<[a-z]+>'), text('urn:x'), text('<'), text('>')],
      ['time.format', '[1700000000000000000, "America/Lima"]'],
      [
        'io.jwt.verify_es256',
        text('eyJhbGciOiJFUzI1NiJ9.e30.AAAA'),
        text(
          '{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}',
        ),
      ],
    ] as const
    for (const [name, ...operands] of calls) {
      expect(cost(name, ...operands), name).to.equal(cost(name, ...operands))
    }
  })

  it('is charged in proportion to the operands before anything is done with them', () => {
    const short = cost('crypto.sha256', text('a'.repeat(1_000)))
    const long = cost('crypto.sha256', text('a'.repeat(100_000)))
    expect(long).to.be.greaterThan(short * 10)
    expect(cost('semver.is_valid', '1')).to.be.greaterThan(0)
    const context = createContext(1)
    expect(() => callBuiltin('crypto.sha256', [text('a')], context)).to.throw(Spent)
  })

  it('leaves room for thousands of everyday calls in one evaluation', () => {
    const everyday = [
      cost('sprintf', text('%s may not use %s (%d)'), '["alice", "drop_table", 3]'),
      cost('strings.any_prefix_match', text('/home/alice/x'), '["/home/", "/srv/"]'),
      cost('net.cidr_is_valid', text('10.0.0.0/8')),
      cost('time.parse_rfc3339_ns', text('2023-11-14T22:13:20Z')),
      cost('semver.compare', text('1.2.3'), text('1.10.0')),
      cost('regex.split', text(','), text('a,b,c')),
      cost('object.subset', '{"a": {"b": 1}}', '{"a": {}}'),
    ]
    for (const units of everyday) expect(units).to.be.lessThan(FUEL / 400)
  })
})

describe('the bounds of builtins', () => {
  it('end the evaluation when a text grows too long', () => {
    expect(ending('sprintf', text('%999999d%999999d'), '[1, 1]')).to.equal('result_size')
    expect(ending('regex.replace', text('a'.repeat(3_000)), text('(a*)'), text('$1'.repeat(2_000)))).to.equal(
      'result_size',
    )
    expect(ending('time.format', `[0, "UTC", ${text('2006'.repeat(40_000))}]`)).to.equal('result_size')
  })

  it('end the evaluation when a collection grows too large', () => {
    expect(ending('numbers.range_step', '0', '1000000000', '1')).to.equal('result_size')
    expect(ending('net.cidr_expand', text('10.0.0.0/8'))).to.equal('result_size')
    expect(ending('net.cidr_expand', text('::/0'))).to.equal('result_size')
    expect(ending('strings.split_n', text('a'.repeat(200_000)), text(''), '-1')).to.equal('result_size')
    expect(ending('urlquery.decode_object', text('&'.repeat(70_000)))).to.equal('result_size')
  })

  it('end the evaluation when a pattern is too large', () => {
    expect(ending('regex.split', text('a'.repeat(5_000)), text('x'))).to.equal('pattern_size')
    expect(ending('regex.split', text('((\\pL{50}){20}){10}(a{900}){10}'), text('x'))).to.be.oneOf([
      'pattern_size',
      'undefined',
    ])
    expect(ending('regex.globs_match', text('a*'.repeat(300)), text('a'))).to.equal('pattern_size')
  })

  it('end the evaluation when a number would have to be written out in full', () => {
    expect(ending('units.parse', text('1e999999'))).to.equal('number_size')
    expect(ending('numbers.range_step', '1e100000', '1e100000', '1')).to.equal('number_size')
    expect(ending('json.match_schema', text('1e100000'), '{"multipleOf": 3}')).to.equal('number_size')
  })

  it('end the evaluation when a schema leads in circles', () => {
    expect(ending('json.match_schema', '{}', '{"$ref": "#"}')).to.equal('value_depth')
    expect(ending('json.match_schema', '{}', '{"allOf": [{"$ref": "#"}]}')).to.equal('value_depth')
  })

  it('end the evaluation rather than turn bytes that are no text into other bytes', () => {
    expect(ending('hex.decode', text('ff'))).to.equal('binary_text')
    expect(ending('urlquery.decode', text('%ff'))).to.equal('binary_text')
    expect(ending('uri.parse', text('/%ff'))).to.equal('binary_text')
  })

  it('hold for texts made to keep the checks of a format busy', () => {
    for (const [format, value] of [
      ['email', 'a '.repeat(120)],
      ['email', `${'a'.repeat(400)}<`],
      ['email', '"'.repeat(500)],
      ['hostname', 'a-'.repeat(127)],
      ['uri-template', `/${'{a}'.repeat(5_000)}{`],
      ['json-pointer', `${'/~0'.repeat(20_000)}~`],
      ['date-time', '1'.repeat(50_000)],
    ] as const) {
      expect(ending('json.match_schema', text(text(value)), `{"format": "${format}"}`), format).to.equal(
        'result',
      )
    }
  })
})

describe('calls that have no end in OPA', () => {
  it('end here', () => {
    const huge = (digits: string) => text(`1.0.0-${digits}`)
    expect(ending('semver.compare', huge('99999999999999999999'), huge('9223372036854775807'))).to.equal(
      'result',
    )
    expect(ending('json.match_schema', '[]', '{"$ref": "#"}')).to.equal('value_depth')
  })
})

describe('keys of another kind', () => {
  it('do not take a public Ed25519 key for an HMAC secret', () => {
    const x = '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo'
    const secret = `{"kty": "oct", "k": "${x}"}`
    const forged = callBuiltin('io.jwt.encode_sign', ['{"alg": "HS256"}', '{}', secret], createContext())
    const key = text(`{"kty": "OKP", "crv": "Ed25519", "x": "${x}"}`)
    const verified = callBuiltin('io.jwt.decode_verify', [forged ?? '', `{"cert": ${key}}`], createContext())
    expect(verified).to.equal('[false, {}, {}]')
  })
})
