import { expect } from 'chai'
import { GatewayError } from '../../src/errors.ts'
import type { Catalog } from '../../src/upstream/catalog.ts'
import { createCatalog } from '../../src/upstream/catalog.ts'
import type { ListedTools } from '../../src/upstream/catalog-client.ts'
import { listTools } from '../../src/upstream/catalog-client.ts'
import { createHealth } from '../../src/upstream/health.ts'
import { toToolList, toToolListInTurns } from '../../src/upstream/tool-list.ts'
import { startV1Upstream, startV2Upstream } from '../support/sdk-upstreams.ts'
import type { RawHandler, ScriptedOptions } from '../support/upstreams.ts'
import { startRawUpstream, startScriptedUpstream } from '../support/upstreams.ts'
import { clock, forwarderTo } from './call-fixture.ts'

const BOUNDS = { maxPages: 5, maxTools: 50, maxBytes: 100_000, maxPageBytes: 50_000, timeoutMs: 3000 }
const never = new AbortController().signal
const schema = { type: 'object' }

describe('reading the tools of an upstream', () => {
  const open: { close(): Promise<void> }[] = []
  afterEach(async () => {
    for (const one of open.splice(0)) await one.close()
  })

  let faults = 0
  const onFault = () => {
    faults += 1
  }

  function read(url: string, bounds = BOUNDS): Promise<ListedTools> {
    const forwarder = forwarderTo(url)
    open.unshift(forwarder)
    const own = { configured: { 'x-upstream-key': 's3cret' }, userAgent: 'gateway-test' }
    return listTools(
      { url: new URL(url), own, version: '1.2.3', dispatcher: forwarder.dispatcher, bounds, onFault },
      never,
    )
  }

  async function failure(url: string, bounds = BOUNDS): Promise<string> {
    const error: unknown = await read(url, bounds).then(
      () => null,
      (thrown: unknown) => thrown,
    )
    const catalog = catalogOf(async () => {
      throw error
    })
    const refused: unknown = await catalog.find('x').catch((thrown: unknown) => thrown)
    expect(refused).to.be.instanceOf(GatewayError)
    return (refused as GatewayError).detail ?? ''
  }

  async function scripted(options: ScriptedOptions) {
    const upstream = await startScriptedUpstream(options)
    open.push(upstream)
    return upstream
  }

  async function raw(handler: RawHandler) {
    const upstream = await startRawUpstream(handler)
    open.push(upstream)
    return upstream
  }

  it('works with servers of the official SDKs in the era they speak', async () => {
    for (const [start, revision] of [
      [startV1Upstream, '2025-11-25'],
      [startV2Upstream, '2026-07-28'],
      [() => startV2Upstream('reject'), '2026-07-28'],
    ] as const) {
      const upstream = await start()
      open.push(upstream)
      const { tools, protocolVersion } = await read(upstream.url)
      expect(protocolVersion).to.equal(revision)
      const { tools: entries } = toToolList(tools)
      expect(entries.get('destroy')?.annotations).to.deep.equal({ destructiveHint: true })
      expect([...entries.keys()]).to.include.members(['echo', 'slow', 'progress'])
    }
  })

  it('gives the same digest for the same schema in both eras', async () => {
    const tools = [
      { name: 'a', inputSchema: { type: 'object', required: ['b'], properties: { b: { maximum: 1e21 } } } },
    ]
    const digests: (string | undefined)[] = []
    for (const era of ['legacy', 'modern'] as const) {
      const upstream = await scripted({ tools, era })
      digests.push(toToolList((await read(upstream.url)).tools).tools.get('a')?.schemaDigest)
    }
    expect(digests[0]).to.match(/^[0-9a-f]{64}$/)
    expect(digests[1]).to.equal(digests[0])
  })

  it('sends our own headers, and ends the session it opened', async () => {
    const upstream = await scripted({ era: 'legacy', sessions: true })
    await read(upstream.url)
    for (const request of upstream.requests) {
      expect(request.headers).to.include({ 'x-upstream-key': 's3cret', 'user-agent': 'gateway-test' })
    }
    expect(upstream.count('GET')).to.equal(0)
    expect(upstream.count('DELETE')).to.equal(1)
  })

  const page = (tools: unknown[], nextCursor?: string) => ({
    tools,
    ...(nextCursor === undefined ? {} : { nextCursor }),
  })
  const listing =
    (answer: (cursor: string | undefined) => unknown): RawHandler =>
    (request, reply) => {
      const params = request.json?.['params'] as { cursor?: string } | undefined
      if (request.method === 'server/discover') return reply.error(-32000, 'no', 400)
      if (request.method === 'initialize')
        return reply.result({
          protocolVersion: '2025-11-25',
          capabilities: { tools: {} },
          serverInfo: { name: 'x', version: '1' },
        })
      if (request.method !== 'tools/list') return reply.send(202, '')
      reply.result(answer(params?.cursor))
    }

  it('is shown the tools for clients that can be asked for something', async () => {
    for (const era of ['legacy', 'modern'] as const) {
      const upstream = await scripted({ era, tools: [] })
      await read(upstream.url)
      const [first] = upstream.requests.filter(({ method }) => /^(initialize|tools\/list)$/.test(method))
      const params = first?.json?.['params'] as Record<string, any>
      const claimed = params['capabilities'] ?? params['_meta']['io.modelcontextprotocol/clientCapabilities']
      expect(claimed, era).to.include.keys('sampling', 'elicitation', 'roots')
      expect(claimed.elicitation, era).to.have.keys('form', 'url')
    }
  })

  it('follows pages, an empty cursor included', async () => {
    const upstream = await raw(
      listing((cursor) =>
        cursor === undefined
          ? page([{ name: 'a', inputSchema: schema }], '')
          : page([{ name: 'b', inputSchema: schema }]),
      ),
    )
    expect((await read(upstream.url)).tools).to.have.length(2)
  })

  const hostile: Record<string, [RawHandler, RegExp]> = {
    'goes round in circles': [listing((cursor) => page([], cursor === 'a' ? 'b' : 'a')), /circles/],
    'never ends': [listing((cursor) => page([], `${cursor ?? ''}x`)), /more than 5 pages/],
    'lists too many tools': [
      listing(() => page(Array.from({ length: 51 }, () => ({ name: 'x' })))),
      /more than 50 tools/,
    ],
    'sends too long a page': [
      listing(() => page([{ name: 'x', description: 'x'.repeat(50_000) }])),
      /a page of its tool list is larger than 50000 bytes/,
    ],
    'sends too many bytes': [
      listing((cursor) => page([{ name: 'x', description: 'x'.repeat(40_000) }], `${cursor ?? ''}x`)),
      /its tool list is larger than 100000 bytes/,
    ],
    'lists no array': [listing(() => ({ tools: { secret: 1 } })), /INVALID_RESULT/],
    redirects: [(_, reply) => reply.send(307, '', { location: 'http://127.0.0.1:1/secret' }), /307/],
    'asks for a login': [
      (_, reply) =>
        reply.send(401, 'secret', { 'www-authenticate': 'Bearer resource_metadata="http://127.0.0.1:1/"' }),
      /could not be asked/,
    ],
    fails: [(_, reply) => reply.send(500, 'secret.js:7 Bearer s3cret'), /could not be asked/],
    dies: [(_, reply) => reply.die(), /UND_ERR_SOCKET/],
    stalls: [() => {}, /in time|TIMEOUT/],
    'streams without end': [
      (_, reply) => {
        const stream = reply.stream()
        const timer = setInterval(() => stream.raw(': x\n\n'), 5)
        void reply.closed.then(() => clearInterval(timer))
      },
      /in time|TIMEOUT/,
    ],
  }
  const FAULTS = new Set(['fails', 'dies', 'stalls', 'streams without end'])
  for (const [name, [handler, expected]] of Object.entries(hostile)) {
    it(`fails when the upstream ${name}, and repeats none of its words`, async () => {
      const upstream = await raw(handler)
      faults = 0
      const detail = await failure(upstream.url, { ...BOUNDS, timeoutMs: 300 })
      expect(faults > 0, 'counts for the circuit breaker').to.equal(FAULTS.has(name))
      expect(detail).to.match(expected)
      expect(detail).not.to.match(/s[e3]cret/)
    })
  }

  it('fails when the upstream is not there', async () => {
    const upstream = await raw(() => {})
    await upstream.close()
    faults = 0
    expect(await failure(upstream.url)).to.contain('ECONNREFUSED')
    expect(faults).to.be.above(0)
  })
})

describe('the list of tools', () => {
  it('is worked on in turns with everybody else, with the same outcome', async () => {
    const listed = Array.from({ length: 20_000 }, (_, index) => ({
      name: `tool${index % 19_999}`,
      inputSchema: { type: 'object', properties: { [`p${index}`]: { type: 'string' } } },
    }))
    let turns = 0
    let isOver = false
    const others = () => {
      turns += 1
      if (!isOver) setImmediate(others)
    }
    setImmediate(others)
    const list = await toToolListInTurns(listed)
    isOver = true
    expect(turns).to.be.greaterThan(1)
    expect(list).to.deep.equal(toToolList(listed))
    expect(list.tools.size).to.equal(19_998)
  })

  it('digests a schema by its meaning, not its spelling', () => {
    const digest = (inputSchema: unknown) =>
      toToolList([{ name: 'a', inputSchema }]).tools.get('a')?.schemaDigest
    expect(digest({ type: 'object', a: [1, { b: null, c: 'é' }] })).to.equal(
      digest({ a: [1.0, { c: '\u00e9', b: null }], type: 'object' }),
    )
    expect(digest({ a: [1, 2] })).not.to.equal(digest({ a: [2, 1] }))
    expect(digest({ a: '1' })).not.to.equal(digest({ a: 1 }))
  })

  it('takes neither of two tools with one name, nor a third', () => {
    const tool = { name: 'a', inputSchema: schema }
    for (const twins of [
      [tool, tool],
      [tool, tool, tool],
    ]) {
      const list = toToolList([...twins, { name: 'b', inputSchema: schema }])
      expect([...list.tools.keys()]).to.deep.equal(['b'])
      expect(list.rejected).to.deep.equal([{ name: 'a', reason: 'the name is listed twice' }])
    }
  })

  it('leaves out what is no tool', () => {
    let deep: unknown = 1
    for (let level = 0; level < 5000; level += 1) deep = [deep]
    const list = toToolList([
      null,
      'a',
      [],
      {},
      { name: '' },
      { name: 7, inputSchema: schema },
      { name: 'x'.repeat(257), inputSchema: schema },
      { name: 'no-schema' },
      { name: 'true-schema', inputSchema: true },
      { name: 'deep', inputSchema: { deep } },
      { name: '__proto__', inputSchema: schema },
    ])
    expect([...list.tools.keys()]).to.deep.equal(['__proto__'])
    expect(list.rejected.map(({ name }) => name)).to.deep.equal(['', 'no-schema', 'true-schema', 'deep'])
  })

  it('drops annotations that are not a small object', () => {
    const annotations = (value: unknown) =>
      toToolList([{ name: 'a', inputSchema: schema, annotations: value }]).tools.get('a')?.annotations
    expect(annotations({ readOnlyHint: true })).to.deep.equal({ readOnlyHint: true })
    expect(annotations(['readOnlyHint'])).to.deep.equal({})
    expect(annotations({ readOnlyHint: true, title: 'x'.repeat(5000) })).to.deep.equal({})
  })
})

function catalogOf(list: () => Promise<ListedTools>, now: () => number = clock.monotonicMs): Catalog {
  return createCatalog({
    list,
    clock: { monotonicMs: now },
    health: createHealth({ clock, onChange: () => undefined }),
    ttlMs: 60_000,
    minIntervalMs: 1000,
  })
}

describe('the catalogue', () => {
  const listed = (...names: string[]): ListedTools => ({
    tools: names.map((name) => ({ name, inputSchema: schema })),
    protocolVersion: '2025-11-25',
  })

  function start() {
    let now = 0
    let reads = 0
    let answer: () => Promise<ListedTools> = async () => listed('a')
    const catalog = catalogOf(
      () => {
        reads += 1
        return answer()
      },
      () => now,
    )
    return {
      catalog,
      reads: () => reads,
      pass: (ms: number) => {
        now += ms
      },
      answers: (next: () => Promise<ListedTools>) => {
        answer = next
      },
    }
  }

  it('is read once for all who ask at the same time, and not again while it is current', async () => {
    const { catalog, reads, pass } = start()
    const found = await Promise.all(Array.from({ length: 50 }, () => catalog.find('a')))
    expect(found.map((tool) => tool?.name)).to.deep.equal(Array.from({ length: 50 }, () => 'a'))
    pass(59_000)
    await catalog.find('a')
    expect(reads()).to.equal(1)
  })

  it('is read again once for an unknown tool, at most once a second', async () => {
    const { catalog, reads, pass, answers } = start()
    await catalog.find('a')
    answers(async () => listed('a', 'b'))
    expect(await catalog.find('b')).to.equal(null)
    expect(reads()).to.equal(1)
    pass(1000)
    const found = await Promise.all([catalog.find('b'), catalog.find('b'), catalog.find('c')])
    expect(found.map((tool) => tool?.name ?? null)).to.deep.equal(['b', 'b', null])
    expect(reads()).to.equal(2)
    for (let tries = 0; tries < 100; tries += 1) await catalog.find(`random-${tries}`)
    expect(reads()).to.equal(2)
  })

  it('answers while it is renewed, and waits when it is much too old', async () => {
    const { catalog, reads, pass, answers } = start()
    await catalog.find('a')
    answers(async () => listed('b'))
    pass(61_000)
    expect(await catalog.find('a')).to.include({ name: 'a' })
    expect(reads()).to.equal(2)
    expect(await catalog.find('a')).to.equal(null)
    answers(async () => listed('c'))
    pass(121_000)
    expect(await catalog.find('b')).to.equal(null)
    expect(await catalog.find('c')).to.include({ name: 'c' })
  })

  it('keeps what it knows while the upstream is down', async () => {
    const { catalog, pass, answers } = start()
    await catalog.find('a')
    answers(() => Promise.reject(new Error('down')))
    pass(3_600_000)
    expect(await catalog.find('a')).to.include({ name: 'a' })
    expect(catalog.state().tools).to.equal(1)
  })

  it('fails while nothing is known, without asking each time, and recovers', async () => {
    const { catalog, pass, reads, answers } = start()
    answers(() => Promise.reject(new Error('down')))
    for (let tries = 0; tries < 10; tries += 1) {
      const error: unknown = await catalog.find('a').catch((thrown: unknown) => thrown)
      expect(error).to.include({ kind: 'upstream_failed' })
    }
    expect(reads()).to.equal(1)
    answers(async () => listed('a'))
    pass(1000)
    expect(await catalog.find('a')).to.include({ name: 'a' })
  })

  it('is not read after it was closed', async () => {
    const { catalog, reads } = start()
    catalog.close()
    const error: unknown = await catalog.find('a').catch((thrown: unknown) => thrown)
    expect(error).to.include({ kind: 'upstream_failed' })
    expect(reads()).to.equal(0)
  })
})
