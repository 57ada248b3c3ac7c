import { expect } from 'chai'
import fc from 'fast-check'
import type { ScanOptions } from '../../src/json/scan.ts'
import { isWellFormed, JsonRefusal, scanJson, scanText, watchKeys } from '../../src/json/scan.ts'

const META = watchKeys(['progressToken'])
const PARAMS = watchKeys(['name', 'arguments', 'task', '_meta'], { _meta: META })
const MESSAGE = watchKeys(['jsonrpc', 'id', 'method', 'params'], { params: PARAMS })

function refusal(text: string | Uint8Array, options: ScanOptions = {}): string {
  try {
    scanJson(typeof text === 'string' ? Buffer.from(text) : text, options)
    return 'accepted'
  } catch (error) {
    if (error instanceof JsonRefusal) return error.kind
    throw error
  }
}

function parses(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    return false
  }
}

describe('the strict JSON scan', () => {
  it('returns the decoded text and what the outermost value is', () => {
    expect(scanJson(Buffer.from(' {"ä":"😀"}'))).to.deep.equal({ text: ' {"ä":"😀"}', root: 'object' })
    expect(scanJson(Buffer.from('[1]')).root).to.equal('array')
    expect(scanJson(Buffer.from('null')).root).to.equal('scalar')
  })

  it('reads a view into a larger buffer', () => {
    const whole = Buffer.from('xx{"a":1}yy')
    expect(scanJson(new Uint8Array(whole.buffer, whole.byteOffset + 2, 7)).text).to.equal('{"a":1}')
  })

  const cases: readonly (readonly [string, string | Uint8Array, string])[] = [
    ['invalid UTF-8', Buffer.from([0x22, 0xff, 0x22]), 'encoding'],
    ['an overlong encoding', Buffer.from([0x22, 0xc0, 0xa2, 0x22]), 'encoding'],
    ['an encoded surrogate', Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 'encoding'],
    ['UTF-16', Buffer.from('\ufeff{"a":1}', 'utf16le'), 'encoding'],
    ['a byte order mark', '\ufeff{}', 'bom'],
    ['no bytes at all', '', 'syntax'],
    ['only white space', ' \n', 'syntax'],
    ['a NUL byte', '{"a":1}\u0000', 'syntax'],
    ['a second value', '{} {}', 'syntax'],
    ['a trailing comma', '[1,]', 'syntax'],
    ['a comment', '{} // x', 'syntax'],
    ['a single-quoted key', "{'a':1}", 'syntax'],
    ['a bare word', 'undefined', 'syntax'],
    ['NaN', 'NaN', 'syntax'],
    ['a leading zero', '01', 'syntax'],
    ['a leading plus', '+1', 'syntax'],
    ['a lone minus', '-', 'syntax'],
    ['a fraction without digits', '1.', 'syntax'],
    ['a raw line feed in a string', '"a\nb"', 'syntax'],
    ['an unknown escape', '"\\x41"', 'syntax'],
    ['a short unicode escape', '"\\u12"', 'syntax'],
    ['an unfinished escape', '"\\', 'syntax'],
    ['a no-break space between tokens', '[\u00a01]', 'syntax'],
    ['a duplicate key', '{"a":1,"a":1}', 'duplicate_key'],
    ['a duplicate key spelt with an escape', '{"a":1,"\\u0061":2}', 'duplicate_key'],
    ['a duplicate empty key', '{"":1,"":2}', 'duplicate_key'],
    ['a duplicate deep inside', '{"x":[{"y":{"k":1,"b":2,"k":3}}]}', 'duplicate_key'],
    ['a duplicate non-ASCII key', '{"é":1,"\\u00e9":2}', 'duplicate_key'],
    ['NUL in a key', '{"a\\u0000":1}', 'nul_key'],
    ['a lone surrogate in a key', '{"\\ud800":1}', 'encoding'],
    ['1e400', '{"a":1e400}', 'number_range'],
    ['-1e400', '[-1e400]', 'number_range'],
    ['400 digits', '1'.repeat(400), 'number_range'],
    ['a number that would vanish', '1e-400', 'number_range'],
    ['a tiny fraction that would vanish', `0.${'0'.repeat(400)}1`, 'number_range'],
    ['a zero with an absurd exponent', '0e999999999', 'number_range'],
  ]
  for (const [name, input, kind] of cases) {
    it(`refuses ${name}: ${kind}`, () => expect(refusal(input)).to.equal(kind))
  }

  const fine: readonly string[] = [
    '{"a":{"a":1},"b":{"a":1}}',
    '[9007199254740993,1.7976931348623157e308,5e-324,-0,0e10,0.0e-3]',
    `${'9'.repeat(308)}`,
    '"\\ud800"',
    '{"a":"\\u0000"}',
    '\t{ "a" : [ ] , "b" : { } }\r\n',
    '{"__proto__":1,"constructor":2,"toString":3}',
  ]
  for (const text of fine) {
    it(`accepts ${text.slice(0, 40)}`, () => expect(refusal(text)).to.equal('accepted'))
  }

  it('counts nesting and refuses one level more than allowed', () => {
    expect(refusal('['.repeat(64) + ']'.repeat(64))).to.equal('accepted')
    expect(refusal('['.repeat(65) + ']'.repeat(65))).to.equal('depth')
    expect(refusal(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`)).to.equal('depth')
    expect(refusal('[[1]]', { maxDepth: 1 })).to.equal('depth')
  })

  it('finds duplicates among few and among many keys', () => {
    for (const count of [2, 8, 9, 10, 50, 5000]) {
      const members = Array.from({ length: count }, (_, index) => `"k${index}":{"k0":${index}}`)
      expect(refusal(`{${members.join(',')}}`)).to.equal('accepted')
      expect(refusal(`{${members.join(',')},"k${count - 1}":0}`)).to.equal('duplicate_key')
      expect(refusal(`{${members.join(',')},"k0":0}`)).to.equal('duplicate_key')
    }
  })

  it('names the offset and never the content', () => {
    const error = (() => {
      try {
        scanText('{"secret":1,"secret":2}')
      } catch (thrown) {
        return thrown
      }
      return null
    })() as JsonRefusal
    expect(error.offset).to.equal(12)
    expect(error.message).to.contain('offset 12').and.not.contain('secret')
  })

  describe('look-alikes of watched keys', () => {
    const lookalikes: readonly string[] = [
      '{"Method":"x"}',
      '{"method":"x","METHOD":"y"}',
      '{"paramſ":{}}',
      '{"\\u0050arams":{}}',
      '{"params":{"Name":"x"}}',
      '{"params":{"taſK":1}}',
      '{"params":{"task":1,"tas\u212a":1}}',
      '{"params":{"_Meta":{}}}',
      '{"params":{"_meta":{"progressto\u212aen":1}}}',
    ]
    for (const text of lookalikes) {
      it(`refuses ${text}`, () => expect(refusal(text, { watch: MESSAGE })).to.equal('lookalike_key'))
    }
    const allowed: readonly string[] = [
      '{"method":"x","params":{"name":"x","arguments":{"Name":1,"NAME":2,"name":3}}}',
      '{"params":{"_meta":{"progressToken":1,"Name":2}}}',
      '{"params":{"names":1,"title":2}}',
      '[{"Method":1}]',
      '{"params":[{"Name":1}]}',
    ]
    for (const text of allowed) {
      it(`accepts ${text}`, () => expect(refusal(text, { watch: MESSAGE })).to.equal('accepted'))
    }
  })

  describe('against JSON.parse', () => {
    it('accepts every document that JSON.stringify writes, and keeps its meaning', () => {
      fc.assert(
        fc.property(fc.jsonValue({ maxDepth: 8, stringUnit: 'binary' }), fc.nat(4), (value, indent) => {
          const text = JSON.stringify(value, null, indent)
          const verdict = refusal(text)
          if (verdict === 'accepted') {
            expect(JSON.parse(scanText(text).text)).to.deep.equal(JSON.parse(text))
          } else {
            expect(text).to.match(verdict === 'nul_key' ? /\\u0000/ : /\\ud/)
            expect(verdict).to.be.oneOf(['nul_key', 'encoding'])
          }
        }),
        { numRuns: 400 },
      )
    })

    it('agrees on the syntax of damaged documents', () => {
      const noise = fc.constantFrom(
        '"',
        '\\',
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '0',
        '-',
        '.',
        'e',
        'u',
        ' ',
        'n',
        '\n',
      )
      fc.assert(
        fc.property(
          fc.jsonValue({ maxDepth: 4 }),
          fc.nat(),
          noise,
          fc.nat(2),
          (value, position, extra, cut) => {
            const text = JSON.stringify(value)
            const at = position % (text.length + 1)
            const damaged = text.slice(0, at) + extra + text.slice(at + cut)
            const verdict = refusal(damaged)
            if (verdict === 'accepted') expect(parses(damaged)).to.equal(true)
            if (verdict === 'syntax') expect(parses(damaged)).to.equal(false)
          },
        ),
        { numRuns: 3000 },
      )
    })

    it('agrees on the syntax of short token soups', () => {
      const tokens = fc.array(
        fc.constantFrom(
          '{',
          '}',
          '[',
          ']',
          ',',
          ':',
          '"a"',
          '"b"',
          '1',
          '-1.5e2',
          'true',
          'null',
          ' ',
          '"',
          '\\u0041',
        ),
        { maxLength: 9 },
      )
      fc.assert(
        fc.property(tokens, (soup) => {
          const text = soup.join('')
          const verdict = refusal(text)
          if (verdict === 'accepted') expect(parses(text)).to.equal(true)
          else if (verdict === 'syntax') expect(parses(text)).to.equal(false)
          else expect(verdict).to.be.oneOf(['duplicate_key', 'number_range'])
        }),
        { numRuns: 5000 },
      )
    })
  })

  describe('hostile sizes', () => {
    const size = 4 * 1024 * 1024
    it('stops at the depth bound of a body of brackets', () => {
      expect(refusal('['.repeat(size))).to.equal('depth')
      expect(refusal('{"a":'.repeat(size / 5))).to.equal('depth')
    })
    it('bounds the keys of all objects together', () => {
      const members = (count: number) => Array.from({ length: count }, (_, index) => `"${index}":0`).join(',')
      expect(refusal(`{${members(100_000)}}`)).to.equal('accepted')
      expect(refusal(`{${members(1_000_000)}}`)).to.equal('too_many_keys')
      expect(refusal(`[${'{"a":0},'.repeat(100_001)}0]`)).to.equal('too_many_keys')
      expect(refusal('{"a":0,"b":{"c":0}}', { maxKeys: 2 })).to.equal('too_many_keys')
      expect(refusal('{"a":0,"b":{"c":0}}', { maxKeys: 3 })).to.equal('accepted')
    })
    it('reads four megabytes of white space, of escapes and of one number', () => {
      expect(refusal(' '.repeat(size))).to.equal('syntax')
      expect(refusal(`"${'\\\\'.repeat(size / 2)}"`)).to.equal('accepted')
      expect(refusal(`0.${'3'.repeat(size)}`)).to.equal('accepted')
    })
  })

  it('tells well-formed strings from those with a lone surrogate', () => {
    expect(isWellFormed('a😀')).to.equal(true)
    expect(isWellFormed('a\ud83d')).to.equal(false)
    expect(isWellFormed('\ude00a')).to.equal(false)
  })
})
