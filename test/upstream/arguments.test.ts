import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { ToolEntry } from '../../src/gateway/types.ts'
import type { SchemaProblem } from '../../src/upstream/arguments.ts'
import { createArgumentCheck } from '../../src/upstream/arguments.ts'
import { createSchemaValidator } from '../../src/upstream/schema-validator.ts'
import { TimeLimitError, withTimeLimit } from '../../src/upstream/time-limit.ts'
import { toToolList } from '../../src/upstream/tool-list.ts'
import { sharedSchemas } from '../support/schemas.ts'
import { clock } from './call-fixture.ts'

function toolOf(inputSchema: unknown, name = 'tool'): ToolEntry {
  const tool = toToolList([{ name, inputSchema }]).tools.get(name)
  if (tool === undefined) throw new Error('the schema is not usable')
  return tool
}

function start(fresh: ToolEntry | null = null) {
  const problems: SchemaProblem[] = []
  let refetched = 0
  const check = createArgumentCheck({
    plans: sharedSchemas(),
    refetch: async () => {
      refetched += 1
      return fresh
    },
    onProblem: (problem) => problems.push(problem),
  })
  return { check, problems, refetched: () => refetched }
}

/** The public message of the refusal; null when the arguments are valid. */
async function verdict(schema: unknown, value: unknown): Promise<string | null> {
  const text = typeof value === 'string' ? value : JSON.stringify(value)
  try {
    await start().check.validate('up', toolOf(schema), text)
    return null
  } catch (thrown) {
    expect(thrown).to.be.instanceOf(GatewayError)
    expect(thrown).to.include({ kind: 'invalid_arguments' })
    return (thrown as GatewayError).message
  }
}

function problemOf(schema: object): string | null {
  return createSchemaValidator(schema, clock).problem
}

describe('checking arguments', () => {
  it('passes what the schema allows and names what it does not, without values', async () => {
    const schema = {
      type: 'object',
      properties: {
        title: { type: 'string', maxLength: 5 },
        tags: { type: 'array', items: { enum: ['a', 'b'] } },
        'a/b~c': { type: 'number' },
      },
      required: ['title'],
      additionalProperties: false,
    }
    expect(await verdict(schema, { title: 'x', tags: ['a'] })).to.equal(null)
    expect(await verdict(schema, {})).to.equal('Invalid arguments: /title: required')
    expect(await verdict(schema, { title: 's3cret-value' })).to.equal('Invalid arguments: /title: maxLength')
    expect(await verdict(schema, { title: 'x', tags: ['a', 's3cret'] })).to.equal(
      'Invalid arguments: /tags/1: enum',
    )
    expect(await verdict(schema, { title: 'x', 'a/b~c': 's3cret' })).to.equal(
      'Invalid arguments: /a~1b~0c: type',
    )
    expect(await verdict(schema, { title: 'x', s3cret: 1 })).to.equal(
      'Invalid arguments: /: additionalProperties',
    )
  })

  it('shows no name that only the caller knows', async () => {
    const schema = {
      type: 'object',
      additionalProperties: { type: 'object', additionalProperties: { type: 'number' } },
    }
    expect(await verdict(schema, { s3cret: { '4111111111111111': 'x' } })).to.equal(
      'Invalid arguments: /*/*: type',
    )
    expect(await verdict({ type: 'object', propertyNames: { maxLength: 3 } }, { s3cret: 1 })).not.to.contain(
      's3cret',
    )
  })

  it('names at most three problems', async () => {
    const anyOf = ['a', 'b', 'c', 'd', 'e'].map((name) => ({ required: [name] }))
    const message = await verdict({ type: 'object', anyOf }, {})
    expect(message).to.equal('Invalid arguments: /a: required; /b: required; /c: required')
  })

  it('treats absent arguments as an empty object, and refuses what is no object', async () => {
    expect(await verdict({ type: 'object', required: ['a'] }, '{}')).to.contain('/a: required')
    for (const value of ['null', '[]', '"x"', '1', 'true'])
      expect(await verdict({ description: 'no type' }, value)).to.equal('Invalid arguments: /: type')
  })

  it('knows 2020-12 by default and draft-07 by name', async () => {
    const tuple = (draft: object, keyword: string) => ({
      ...draft,
      type: 'object',
      properties: { a: { type: 'array', [keyword]: [{ type: 'string' }] } },
    })
    const draft07 = { $schema: 'http://json-schema.org/draft-07/schema#' }
    expect(await verdict(tuple({}, 'prefixItems'), { a: [1] })).to.contain('/a/0: type')
    expect(
      await verdict(tuple({ $schema: 'https://json-schema.org/draft/2020-12/schema' }, 'prefixItems'), {
        a: [1],
      }),
    ).to.contain('/a/0')
    expect(await verdict(tuple(draft07, 'items'), { a: [1] })).to.contain('/a/0: type')
    expect(await verdict(tuple(draft07, 'prefixItems'), { a: [1] })).to.equal(null)
    expect(problemOf({ $schema: 'http://json-schema.org/draft-04/schema#', type: 'object' })).to.contain(
      '$schema',
    )
    expect(problemOf({ $schema: 7, type: 'object' })).to.contain('$schema')
  })

  it('follows references within the schema, recursive ones included', async () => {
    const schema = {
      $defs: {
        node: { type: 'object', properties: { next: { $ref: '#/$defs/node' }, n: { type: 'integer' } } },
      },
      type: 'object',
      properties: { list: { $ref: '#/$defs/node' } },
    }
    expect(await verdict(schema, { list: { next: { next: { n: 1 } } } })).to.equal(null)
    expect(await verdict(schema, { list: { next: { next: { n: 'x' } } } })).to.equal(
      'Invalid arguments: /list/next/next/n: type',
    )
  })

  it('does not take inherited members for properties', async () => {
    expect(await verdict({ type: 'object', required: ['toString'] }, {})).to.contain('/toString: required')
    expect(await verdict({ type: 'object', properties: { constructor: { type: 'string' } } }, {})).to.equal(
      null,
    )
  })

  it('keeps patterns apart', async () => {
    const schema = {
      type: 'object',
      properties: {
        a: { type: 'string', pattern: '^(a+)+$' },
        b: { type: 'string', pattern: '^[0-9]{3}$' },
        c: { type: 'string', pattern: '^\\u0041\\/\\d$' },
      },
      patternProperties: { '^x-': { type: 'number' } },
    }
    expect(await verdict(schema, { a: 'aaa', b: '123', c: 'A/7', 'x-y': 1 })).to.equal(null)
    expect(await verdict(schema, { a: 'aaa!' })).to.contain('/a: pattern')
    expect(await verdict(schema, { b: 'aaa' })).to.contain('/b: pattern')
    expect(await verdict(schema, { c: 'B/7' })).to.contain('/c: pattern')
    expect(await verdict(schema, { 'x-y': 'text' })).to.contain('/*: type')
  })

  it('takes no notice of formats', async () => {
    expect(
      await verdict({ type: 'object', properties: { a: { type: 'string', format: 'email' } } }, { a: 'x' }),
    ).to.equal(null)
  })

  it('looks at the tool anew before it refuses', async () => {
    const old = toolOf({ type: 'object', required: ['old'] })
    const relaxed = start(toolOf({ type: 'object' }))
    await relaxed.check.validate('up', old, '{}')
    const changed = start(toolOf({ type: 'object', required: ['new'] }))
    const error: unknown = await Promise.resolve(changed.check.validate('up', old, '{}')).catch(
      (thrown: unknown) => thrown,
    )
    expect(error).to.include({ message: 'Invalid arguments: /new: required' })
    const same = start(old)
    expect(
      await Promise.resolve(same.check.validate('up', old, '{}')).catch(
        (thrown: GatewayError) => thrown.message,
      ),
    ).to.contain('/old')
    await same.check.validate('up', old, '{"old":1}')
    expect(same.refetched()).to.equal(1)
  })
})

describe('a schema that cannot be used', () => {
  const unusable: Record<string, [object, RegExp]> = {
    'a reference to elsewhere': [{ $ref: 'https://127.0.0.1:1/schema.json' }, /outside itself/],
    'a dangling reference': [{ $ref: '#/$defs/none' }, /outside itself/],
    'a reference to the meta-schema': [
      { $ref: 'https://json-schema.org/draft/2020-12/schema' },
      /outside itself/,
    ],
    'an unknown type': [{ type: 'secret' }, /not a valid JSON Schema/],
    'a lookahead': [{ properties: { a: { pattern: '(?=x)' } } }, /linear-time/],
    'a back reference': [{ properties: { a: { pattern: '(a)\\1' } } }, /linear-time/],
    'a counted explosion': [{ properties: { a: { pattern: '((a{100}){100}){100}' } } }, /linear-time/],
    'a promise': [{ $async: true, type: 'object' }, /\$async/],
    'a hidden promise': [{ properties: { a: { $async: true } } }, /\$async/],
    'a reference by dynamic scope': [{ properties: { a: { $dynamicRef: '#node' } } }, /\$dynamicRef/],
    'endless recursion': [{ $ref: '#' }, /come to an end/],
    'endless mutual recursion': [
      { $defs: { a: { $ref: '#/$defs/b' }, b: { allOf: [{ $ref: '#/$defs/a' }] } }, $ref: '#/$defs/a' },
      /come to an end/,
    ],
    'too many bytes': [{ description: 'x'.repeat(200_000) }, /larger than/],
    'too many parts': [
      { properties: Object.fromEntries(Array.from({ length: 1100 }, (_, index) => [`p${index}`, {}])) },
      /more than 1000 parts/,
    ],
    'too many refusals': [{ prefixItems: Array.from({ length: 1001 }, () => false) }, /more than 1000 parts/],
    'too many values': [
      { enum: Array.from({ length: 10_001 }, (_, index) => index) },
      /more than 10000 values/,
    ],
    'too much nesting': [
      Array.from({ length: 70 }).reduce<object>((inner) => ({ not: inner }), { type: 'string' }),
      /nests deeper/,
    ],
    'too many patterns': [
      { patternProperties: Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`p${index}`, {}])) },
      /more than 100 patterns/,
    ],
    'too long a pattern': [{ properties: { a: { pattern: 'a'.repeat(1001) } } }, /longer than/],
  }
  for (const [name, [schema, expected]] of Object.entries(unusable)) {
    it(`for ${name} is reported once and leaves the decision to policy`, async () => {
      const { check, problems, refetched } = start()
      const tool = toolOf({ type: 'object', ...schema }, 'broken')
      for (let calls = 0; calls < 3; calls += 1) await check.validate('up', tool, '{"any":1}')
      expect(problems).to.have.length(1)
      expect(problems[0]).to.include({ upstream: 'up', tool: 'broken', schemaDigest: tool.schemaDigest })
      expect(problems[0]?.reason).to.match(expected)
      expect(problems[0]?.reason).not.to.contain('secret')
      expect(check.problems('up')).to.deep.equal(problems)
      expect(check.problems('other')).to.deep.equal([])
      expect(refetched()).to.equal(0)
      // Mended by the upstream: no longer shown.
      await check.validate('up', toolOf({ type: 'object' }, 'broken'), '{}')
      expect(check.problems('up')).to.deep.equal([])
    })
  }
})

// Without its counter-measure each of these takes from seconds to the age of the universe.
describe('a schema or a value that would take too long', () => {
  const TOO_COMPLEX = 'Invalid arguments: too complex to check'
  const doubling = Object.fromEntries(
    Array.from({ length: 40 }, (_, level) => {
      const next = { $ref: `#/$defs/d${level + 1}` }
      return [`d${level}`, level === 39 ? { type: 'object' } : { allOf: [next, next] }]
    }),
  )

  it('backtracking patterns run in linear time', async () => {
    const schema = { type: 'object', properties: { a: { type: 'string', pattern: '^(a+)+$' } } }
    expect(await verdict(schema, { a: `${'a'.repeat(5000)}!` })).to.equal('Invalid arguments: /a: pattern')
    expect(await verdict(schema, { a: 'a'.repeat(5000) })).to.equal(null)
  })

  it('unique items are counted, not compared', async () => {
    const schema = { type: 'object', properties: { a: { type: 'array', uniqueItems: true } } }
    const items = Array.from({ length: 5000 }, (_, index) => ({ index }))
    expect(await verdict(schema, { a: items })).to.equal(null)
    expect(await verdict(schema, { a: [...items, { index: 0 }] })).to.contain('/a: uniqueItems')
    expect(
      await verdict(schema, {
        a: [
          { b: 1, c: 2 },
          { c: 2, b: 1.0 },
        ],
      }),
    ).to.contain('/a: uniqueItems')
    expect(await verdict(schema, { a: [1, '1', null, 'null', [], {}, false] })).to.equal(null)
  })

  it('references that double at each step are found when the schema is compiled', () => {
    expect(problemOf({ type: 'object', $defs: doubling, $ref: '#/$defs/d0' })).to.contain('come to an end')
  })

  it('references that double with the value are stopped, and values as large are then refused at once', () => {
    const schema = { type: 'object', properties: { a: { allOf: [{ $ref: '#' }, { $ref: '#' }] } } }
    let now = 0
    const validator = createSchemaValidator(schema, { monotonicMs: () => now })
    let value: unknown = {}
    for (let level = 0; level < 60; level += 1) value = { a: value }
    const length = JSON.stringify(value).length
    // A hundred checks of 0.1 s each would not fit into the time this test has.
    for (let calls = 0; calls < 200; calls += 1)
      expect(validator.check(value, length)).to.deep.equal(['too complex to check'])
    expect(validator.check({}, length)).to.deep.equal(['too complex to check'])
    expect(validator.check({ a: {} }, 8)).to.deep.equal([])
    expect(validator.check({ a: { a: 1 } }, 13)).to.deep.equal(['/a/a: type'])
    now = 20_000
    expect(validator.check({}, length)).to.deep.equal([])
  })

  it('branches times values are stopped', async () => {
    const branches = Array.from({ length: 900 }, (_, index) => ({ required: [`p${index}`] }))
    const schema = { type: 'object', properties: { a: { type: 'array', items: { anyOf: branches } } } }
    const items = Array.from({ length: 100_000 }, () => ({ p899: 1 }))
    expect(await verdict(schema, { a: items })).to.equal(TOO_COMPLEX)
  })
})

describe('the time limit', () => {
  it('stops what does not end and passes everything else through', () => {
    expect(withTimeLimit(1000, () => 7)).to.equal(7)
    expect(() =>
      withTimeLimit(1000, () => {
        throw new RangeError('mine')
      }),
    ).to.throw(RangeError, 'mine')
    expect(() =>
      withTimeLimit(20, () => {
        for (;;);
      }),
    ).to.throw(TimeLimitError)
    expect(withTimeLimit(1000, () => 8)).to.equal(8)
  })

  it('begins again what was stopped while the machine did something else', () => {
    const asleep = new Int32Array(new SharedArrayBuffer(4))
    let attempts = 0
    const work = () => {
      attempts += 1
      // Wall time passes without a processor, as in a container that has spent its quota.
      if (attempts < 3) Atomics.wait(asleep, 0, 0, 10_000)
      return 9
    }
    expect(withTimeLimit(50, work)).to.equal(9)
    expect(attempts).to.equal(3)
  })

  it('does not begin for ever', () => {
    const asleep = new Int32Array(new SharedArrayBuffer(4))
    expect(() => withTimeLimit(20, () => Atomics.wait(asleep, 0, 0, 10_000))).to.throw(TimeLimitError)
  })
})
