import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { expect } from 'chai'
import type { ToolEntry } from '../../src/gateway/types.ts'
import type { SchemaTask } from '../../src/upstream/schema-child.ts'
import { loadSchema } from '../../src/upstream/schema-code.ts'
import type { SchemaPlans } from '../../src/upstream/schema-plans.ts'
import { createSchemaPlans } from '../../src/upstream/schema-plans.ts'
import type { SchemaProcess } from '../../src/upstream/schema-process.ts'
import { createSchemaProcess } from '../../src/upstream/schema-process.ts'
import { reachOf } from '../../src/upstream/schema-reach.ts'
import { createSchemaValidator } from '../../src/upstream/schema-validator.ts'
import { toToolList } from '../../src/upstream/tool-list.ts'
import { clock } from './call-fixture.ts'

function toolOf(schema: object): ToolEntry {
  const tool = toToolList([{ name: 'tool', inputSchema: { type: 'object', ...schema } }]).tools.get('tool')
  if (tool === undefined) throw new Error('the schema is not usable')
  return tool
}

/** Takes far more than a check may take: each level doubles what has to be done. */
const BOMB = { properties: { a: { allOf: [{ $ref: '#' }, { $ref: '#' }] } } }
const BOMB_VALUE = Array.from({ length: 60 }).reduce<object>((inner) => ({ a: inner }), {})
const TOO_COMPLEX = ['too complex to check']

describe('the code of a schema', () => {
  const DRAFT_07 = { $schema: 'http://json-schema.org/draft-07/schema#' }
  const corpus: readonly (readonly [object, readonly unknown[]])[] = [
    [{ properties: { a: { type: 'string', minLength: 2 } }, required: ['a'] }, [{}, { a: 'é' }, { a: 'éé' }]],
    [
      { properties: { a: { pattern: '^(a+)+$' }, b: { pattern: '^b$' } } },
      [{ a: 'aab' }, { b: 'aa' }, { a: 'a', b: 'b' }],
    ],
    [
      { properties: { a: { uniqueItems: true } } },
      [{ a: [1, 1] }, { a: [{ b: 1 }, { b: 1 }] }, { a: [1, '1'] }, { a: 'x' }],
    ],
    [{ properties: { a: { uniqueItems: false } } }, [{ a: [1, 1] }]],
    [
      { properties: { a: { const: { b: [1] } }, c: { enum: [null, 'x', [1]] } } },
      [{ a: { b: [1] } }, { a: {} }, { c: [1] }, { c: 2 }],
    ],
    [
      { properties: { a: { $ref: '#/$defs/a~1b' } }, $defs: { 'a/b': { type: 'number' } } },
      [{ a: 1 }, { a: 'x' }],
    ],
    [
      { patternProperties: { '^x-': { type: 'number' } }, additionalProperties: false },
      [{ 'x-a': 1 }, { 'x-a': '' }, { y: 1 }],
    ],
    [{ anyOf: [{ required: ['a'] }, { required: ['b'] }] }, [{ a: 1 }, {}]],
    [
      { properties: { a: { prefixItems: [{ type: 'string' }], items: false } } },
      [{ a: ['x'] }, { a: ['x', 1] }, { a: [1] }],
    ],
    [{ properties: { a: { contains: { type: 'number' }, minContains: 2 } } }, [{ a: [1, 2] }, { a: [1] }]],
    [{ allOf: [{ properties: { a: {} } }], unevaluatedProperties: false }, [{ a: 1 }, { b: 1 }]],
    [
      { if: { required: ['a'] }, else: { required: ['b'] }, dependentRequired: { c: ['d'] } },
      [{ a: 1 }, { c: 1 }, { a: 1, b: 1 }],
    ],
    [
      { ...DRAFT_07, properties: { a: { items: [{ type: 'string' }], additionalItems: false } } },
      [{ a: ['x'] }, { a: ['x', 1] }],
    ],
    [
      {
        ...DRAFT_07,
        definitions: { n: { type: 'integer' } },
        properties: { a: { $ref: '#/definitions/n' } },
      },
      [{ a: 1 }, { a: 1.5 }],
    ],
    [
      { properties: { '`${process.exit()}`"\'\\\n': { type: 'string' } } },
      [{ '`${process.exit()}`"\'\\\n': 1 }, {}],
    ],
    [{ required: ['__proto__', 'constructor'] }, [{}, JSON.parse('{"__proto__":1,"constructor":2}')]],
  ]

  it('says in every process what its compiler says', () => {
    let refusals = 0
    for (const [schema, values] of corpus) {
      const validator = createSchemaValidator({ type: 'object', ...schema }, clock)
      expect(validator.problem).to.equal(null)
      const loaded = validator.code === null ? null : loadSchema(validator.code)
      for (const value of values) {
        const { length } = JSON.stringify(value)
        const found = validator.check(value, length)
        if (found.length > 0) refusals += 1
        expect(loaded?.check(value, length), JSON.stringify([schema, value])).to.deep.equal(found)
      }
    }
    expect(refusals).to.be.greaterThan(15)
  })

  it('does not exist where the value decides how often a part is applied', () => {
    const unbounded: object[] = [
      { properties: { next: { $ref: '#' } } },
      { $defs: { a: { properties: { b: { $ref: '#/$defs/a' } } } }, $ref: '#/$defs/a' },
      { $defs: { a: { $anchor: 'x', type: 'number' } }, properties: { a: { $ref: '#x' } } },
    ]
    for (const schema of unbounded) {
      const validator = createSchemaValidator({ type: 'object', ...schema }, clock)
      expect(validator.problem, JSON.stringify(schema)).to.equal(null)
      expect(validator.code, JSON.stringify(schema)).to.equal(null)
    }
  })

  it('leaves to the other process what could take long', () => {
    const branches = Array.from({ length: 40 }, (_, index) => ({ required: [`p${index}`] }))
    const { code } = createSchemaValidator(
      { type: 'object', properties: { a: { items: { anyOf: branches } }, text: { pattern: '^(a+)+$' } } },
      clock,
    )
    if (code === null) throw new Error('it has no code')
    const loaded = loadSchema(code)
    const check = (value: unknown) => loaded.check(value, JSON.stringify(value).length)
    expect(check({ a: [{ p1: 1 }] })).to.deep.equal([])
    expect(check({ a: Array.from({ length: 10_000 }, () => 1) })).to.equal(null)
    expect(check({ text: 'a'.repeat(100_000) })).to.equal(null)
    // Long texts cost nothing where no keyword looks into them.
    const plain = createSchemaValidator({ type: 'object', properties: { a: { type: 'string' } } }, clock).code
    if (plain === null) throw new Error('it has no code')
    const text = 'x'.repeat(1_000_000)
    expect(loadSchema(plain).check({ a: text }, text.length)).to.deep.equal([])
    expect(loadSchema(plain).check({ a: 1, b: text }, text.length)).to.deep.equal(['/a: type'])
  })
})

describe('the reach of a schema', () => {
  it('counts each part as often as references repeat it', () => {
    const text = { minLength: 1, maxLength: 2, pattern: 'x' }
    expect(reachOf({ properties: { a: text } })).to.include({ lengths: 2, patterns: 1, uniques: 0 })
    const twice = { $defs: { t: text }, properties: { a: { $ref: '#/$defs/t' }, b: { $ref: '#/$defs/t' } } }
    expect(reachOf(twice)).to.include({ lengths: 6, patterns: 3 })
    const doubling = Object.fromEntries(
      Array.from({ length: 40 }, (_, level) => {
        const next = { $ref: `#/$defs/d${level + 1}` }
        return [`d${level}`, level === 39 ? { uniqueItems: true } : { allOf: [next, next] }]
      }),
    )
    expect(reachOf({ $defs: doubling, $ref: '#/$defs/d0' }).uniques).to.be.greaterThan(2 ** 39)
  })

  it('has no bound where a reference goes in a circle, elsewhere or nowhere', () => {
    const circles: object[] = [
      { $ref: '#' },
      { properties: { a: { items: { $ref: '#' } } } },
      { $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } } },
      { $ref: 'https://example.com/schema' },
      { $ref: '#anchor' },
      { $ref: '#/$defs/none' },
      { $ref: '#/%' },
      { $ref: 7 },
      { $ref: '#/$defs/toString', $defs: {} },
      { properties: { a: { $id: 'https://example.com/a', $ref: '#/b' } } },
      { $recursiveRef: '#' },
    ]
    for (const schema of circles)
      expect(reachOf(schema).values, JSON.stringify(schema)).to.equal(Number.POSITIVE_INFINITY)
    const escaped = { $ref: '#/$defs/a~1b%20~0', $defs: { 'a/b ~': { maxLength: 1 } } }
    expect(reachOf(escaped).lengths).to.equal(2)
  })
})

describe('the process for schemas', () => {
  const open: { close(): void }[] = []
  afterEach(() => {
    for (const one of open.splice(0)) one.close()
  })

  function start(taskMs?: number): SchemaProcess {
    const child = createSchemaProcess({ clock, ...(taskMs === undefined ? {} : { taskMs }) })
    open.push(child)
    return child
  }

  const task = (schema: object, value: unknown, digest = JSON.stringify(schema)): SchemaTask => ({
    digest,
    schema: JSON.stringify({ type: 'object', ...schema }),
    value: JSON.stringify(value),
  })
  const NEXT = { properties: { next: { $ref: '#' }, n: { type: 'integer' } } }

  it('serves upstreams in turn: who asks for much waits for himself', async function () {
    this.timeout(30_000)
    const child = start()
    let done = 0
    const flood = Array.from({ length: 30 }, async (_, index) => {
      // Each under another digest, so that none is refused because of the one before.
      await child.run('hostile', task({ ...BOMB, title: `t${index}` }, BOMB_VALUE))
      done += 1
    })
    const result = await child.run('ordinary', task(NEXT, { next: { n: 'x' } }))
    expect(result?.found).to.deep.equal(['/next/n: type'])
    expect(done).to.be.at.most(2)
    child.close()
    await Promise.allSettled(flood)
  })

  it('is ended with a task that does not come back, and begun again for the next', async function () {
    this.timeout(30_000)
    const child = start(300)
    // Larger than what is ever given to it: reading it takes a second.
    const enormous = task({ enum: Array.from({ length: 2_000_000 }, (_, index) => index) }, {}, 'enormous')
    expect(await child.run('up', enormous)).to.equal(null)
    // On a busy machine this may be too little time for anything.
    let found: readonly string[] | undefined
    for (let tries = 0; tries < 20 && found === undefined; tries += 1)
      found = (await child.run('up', task(NEXT, { n: 'x' })))?.found
    expect(found).to.deep.equal(['/n: type'])
  })

  it('is ended when it runs out of memory, and nothing else is', async function () {
    this.timeout(30_000)
    const child = start(20_000)
    const huge = { ...task(NEXT, {}), value: `{"a":[${'[],'.repeat(8_000_000)}[]]}` }
    expect(await child.run('up', huge)).to.equal(null)
    expect((await child.run('up', task(NEXT, { n: 'x' })))?.found).to.deep.equal(['/n: type'])
  })

  it('lets a bounded number of tasks of one upstream wait', async () => {
    const child = start()
    const waiting = Array.from({ length: 300 }, () =>
      child.run('up', task(NEXT, { n: 1 })).then(
        () => 'done',
        (thrown: { kind?: string }) => thrown.kind,
      ),
    )
    const other = child.run('other', task(NEXT, { n: 1 }))
    const outcomes = await Promise.all(waiting)
    expect(outcomes.filter((outcome) => outcome === 'overloaded')).to.have.length(99)
    expect(outcomes.filter((outcome) => outcome === 'done')).to.have.length(201)
    expect((await other)?.found).to.deep.equal([])
  })

  it('refuses what waits when it is closed', async () => {
    const child = start()
    const waiting = [1, 2, 3].map(() => child.run('up', task(NEXT, {})).catch((thrown: unknown) => thrown))
    child.close()
    for (const outcome of await Promise.all(waiting)) expect(outcome).to.include({ kind: 'overloaded' })
    expect(await child.run('up', task(NEXT, {})).catch((thrown: unknown) => thrown)).to.include({
      kind: 'overloaded',
    })
  })
})

describe('plans for schemas', () => {
  let now = 0
  let plans: SchemaPlans
  before(() => {
    plans = createSchemaPlans({ monotonicMs: () => now })
  })
  after(() => plans.close())

  const check = (schema: object, value: unknown, upstream = 'up') =>
    plans.check(upstream, toolOf(schema), value, JSON.stringify(value))

  it('check here and there alike', async () => {
    const schema = { properties: { a: { type: 'string' }, next: { $ref: '#' } } }
    expect(await check(schema, { next: { a: 1 } })).to.deep.equal(['/next/a: type'])
    expect(await check(schema, { next: { a: 'x' } })).to.deep.equal([])
    expect(await check({ properties: { a: { type: 'string' } } }, { a: 1 })).to.deep.equal(['/a: type'])
  })

  it('refuse what is too complex, and go on with everything else', async () => {
    expect(await check(BOMB, BOMB_VALUE)).to.deep.equal(TOO_COMPLEX)
    expect(await check(BOMB, { a: 1 })).to.deep.equal(['/a: type'])
  })

  it('never fetch what a schema refers to', async () => {
    let requests = 0
    const server = createServer((_request, response) => {
      requests += 1
      response.end('{}')
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    const at = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const references: object[] = [
      { $ref: `${at}/a` },
      { $dynamicRef: `${at}/b` },
      { $id: `${at}/c`, properties: { a: { $ref: 'd' } } },
      { $schema: `${at}/e` },
      { properties: { a: { $ref: `${at}/f#/x` } } },
    ]
    for (const schema of references)
      expect(await plans.problemOf('up', toolOf(schema)), JSON.stringify(schema)).to.be.a('string')
    expect(requests).to.equal(0)
    await new Promise((resolve) => server.close(resolve))
  })

  it('do not compile what is too large, wherever it comes from', async () => {
    const huge = toolOf({ description: 'x'.repeat(2_000_000) })
    expect(await plans.problemOf('up', huge)).to.match(/larger than/)
    expect(await plans.check('up', huge, {}, '{}')).to.deep.equal([])
  })

  it('compile a schema once for all who meet it at the same time', async () => {
    const tool = toolOf({ properties: { a: { type: 'string' } }, title: 'met by many' })
    // More than may wait, were each to ask for it.
    const found = await Promise.all(
      Array.from({ length: 1000 }, () => plans.check('up', tool, { a: 1 }, '{"a":1}')),
    )
    expect(new Set(found.flat())).to.deep.equal(new Set(['/a: type']))
  })

  it('look again at a schema that the machine had no time for', async () => {
    const doubling = Object.fromEntries(
      Array.from({ length: 40 }, (_, level) => {
        const next = { $ref: `#/$defs/d${level + 1}` }
        return [`d${level}`, level === 39 ? { type: 'object' } : { allOf: [next, next] }]
      }),
    )
    const tool = toolOf({ $defs: doubling, $ref: '#/$defs/d0' })
    expect(await plans.problemOf('up', tool)).to.match(/come to an end/)
    now += 59_999
    expect(await plans.problemOf('up', tool)).to.match(/come to an end/)
    now += 1
    expect(await plans.problemOf('up', tool)).to.match(/come to an end/)
  })
})
