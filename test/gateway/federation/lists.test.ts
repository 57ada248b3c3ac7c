import { expect } from 'chai'
import type { TestGateway } from '../../support/gateway.ts'
import { startTestGateway } from '../../support/gateway.ts'
import type { RpcOptions, RpcReply } from '../../support/rpc.ts'
import { legacy, modern, post } from '../../support/rpc.ts'
import { until } from '../../support/until.ts'
import type { RawHandler, ScriptedUpstream } from '../../support/upstreams.ts'
import { echoArguments, startScriptedUpstream } from '../../support/upstreams.ts'

/** Prompts `from..from+count`, in pages of `size`. */
function paged(name: string, count: number, size: number): RawHandler {
  return (request, reply) => {
    if (request.method !== 'prompts/list') return echoArguments(request, reply)
    const { cursor } = (request.json as any).params ?? {}
    const from = cursor === undefined ? 0 : Number(/^secret-(\d+)$/.exec(cursor)?.[1])
    if (Number.isNaN(from)) return reply.error(-32602, 'bad cursor')
    const prompts = Array.from({ length: Math.min(size, count - from) }, (_, at) => ({
      name: `${name}${from + at}`,
    }))
    return reply.result({ prompts, ...(from + size < count ? { nextCursor: `secret-${from + size}` } : {}) })
  }
}

describe('lists of the merged mount', function () {
  this.timeout(30_000)
  const upstreams: ScriptedUpstream[] = []
  let gateway: TestGateway
  let key: string
  let mcp: string

  async function start(handlers: Record<string, RawHandler | string>, settings = {}): Promise<void> {
    const configured: Record<string, string> = {}
    for (const [name, handle] of Object.entries(handlers)) {
      if (typeof handle === 'string') configured[name] = handle
      else {
        const upstream = await startScriptedUpstream({ handle })
        upstreams.push(upstream)
        configured[name] = upstream.url
      }
    }
    gateway = await startTestGateway({
      upstreams: configured,
      settings: { limits: { max_delay_ms: null }, ...settings },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp`
  }
  afterEach(async () => {
    await gateway?.close()
    for (const upstream of upstreams.splice(0)) await upstream.close()
  })

  const list = (method: string, params: object = {}, options: RpcOptions = {}): Promise<RpcReply> =>
    post(mcp, JSON.stringify({ jsonrpc: '2.0', id: 7, method, params }), legacy({ key, ...options }))

  it('come page by page, each page with the next one of every upstream', async () => {
    await start({ long: paged('l', 5, 2), short: paged('s', 1, 2), none: echoArguments })
    const pages: string[][] = []
    let cursor: string | undefined
    do {
      const { json } = await list('prompts/list', cursor === undefined ? {} : { cursor })
      pages.push(json.result.prompts.map((one: any) => one.name))
      cursor = json.result.nextCursor
      expect(JSON.stringify(json)).to.not.contain('secret-')
      if (cursor !== undefined)
        expect(Buffer.from(cursor, 'base64url').toString('latin1')).to.not.contain('long')
    } while (cursor !== undefined)
    expect(pages).to.deep.equal([
      ['long__l0', 'long__l1', 'short__s0'],
      ['long__l2', 'long__l3'],
      ['long__l4'],
    ])
  })

  it('take no cursor but the one they gave this principal for this list', async () => {
    await start({ long: paged('l', 5, 2) })
    const { nextCursor } = (await list('prompts/list')).json.result
    const asked = upstreams[0]?.count('prompts/list')
    const bytes = Buffer.from(nextCursor, 'base64url')
    bytes[bytes.length - 1] = (bytes.at(-1) as number) ^ 1
    const other = await gateway.key({ name: 'other' })
    const refused = [
      await list('prompts/list', { cursor: bytes.toString('base64url') }),
      await list('prompts/list', { cursor: 'secret-2' }),
      await list('prompts/list', { cursor: '' }),
      await list('prompts/list', { cursor: 2 }),
      await list('prompts/list', { cursor: nextCursor }, { key: other }),
      await list('tools/list', { cursor: nextCursor }),
    ]
    for (const reply of refused) {
      expect(reply.status).to.equal(400)
      expect(reply.json.error.code).to.equal(-32602)
    }
    expect(upstreams[0]?.count('prompts/list')).to.equal(asked)
    expect((await list('prompts/list', { cursor: nextCursor })).status).to.equal(200)
  })

  it('keep what an element says, digits and all, but for its name', async () => {
    const prompt = '{"title":"t","name":"p\\u0031","_meta":{"n":9007199254740993,"x":1.10}}'
    await start({
      one: (request, reply) =>
        request.method === 'prompts/list'
          ? reply.send(200, `{"jsonrpc":"2.0","id":7,"result":{"prompts":[${prompt}]}}`, {
              'content-type': 'application/json',
            })
          : echoArguments(request, reply),
    })
    expect((await list('prompts/list')).text).to.contain(prompt.replace('"p\\u0031"', '"one__p\\u0031"'))
  })

  it('do without an upstream that is away or slow, and have its part again later', async () => {
    let isSlow = true
    const slow: RawHandler = (request, reply) => {
      if (request.method === 'prompts/list' && isSlow) return
      return paged('p', 1, 1)(request, reply)
    }
    await start(
      { well: paged('w', 1, 1), slow, gone: 'http://127.0.0.1:9/mcp' },
      { federation: { part_timeout_ms: 200 } },
    )
    const first = await list('prompts/list')
    expect(first.json.result.prompts.map((one: any) => one.name)).to.deep.equal(['well__w0'])
    const [row] = await gateway.rowsOf(first.requestId)
    const parts = row?.decision['parts'].map((part: any) => [part.server.name, part.refused])
    expect(parts).to.deep.equal([
      ['gone', 'upstream_failed'],
      ['slow', 'upstream_timeout'],
      ['well', undefined],
    ])
    isSlow = false
    await until('its part', async () => (await list('prompts/list')).text.includes('slow__p0'))
  })

  it('fail when all upstreams do', async () => {
    await start({ gone: 'http://127.0.0.1:9/mcp' })
    const reply = await list('prompts/list')
    expect(reply.status).to.equal(502)
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row).to.include({ server: '*', outcome: 'upstream_error' })
  })

  it('of 2026-07-28 are private, complete, and no longer fresh than the freshest part', async () => {
    const fresh =
      (ttlMs: number): RawHandler =>
      (request, reply) =>
        request.method === 'prompts/list'
          ? reply.result({ prompts: [], ttlMs, cacheScope: 'public' })
          : echoArguments(request, reply)
    await start({ one: fresh(5000), two: fresh(300) })
    const { result } = (await modern(mcp, 'prompts/list', {}, { key })).json
    expect(result).to.deep.equal({ resultType: 'complete', ttlMs: 300, cacheScope: 'private', prompts: [] })
  })

  it('hold 1,000 tools of each of 5 upstreams', async () => {
    const names = ['a', 'b', 'c', 'd', 'e']
    await start(Object.fromEntries(names.map((name) => [name, echoArguments])))
    const tools = Array.from({ length: 1000 }, (_, at) => ({
      name: `tool-${at}`,
      inputSchema: { type: 'object' },
    }))
    for (const upstream of upstreams) upstream.setTools(tools)
    const listed = (await list('tools/list')).json.result.tools.map((tool: any) => tool.name)
    expect(listed).to.have.lengthOf(5000)
    expect(new Set(listed).size).to.equal(5000)
    expect(listed[0]).to.equal('a__tool-0')
    expect(listed.at(-1)).to.equal('e__tool-999')
    const again = (await list('tools/list')).json.result.tools.map((tool: any) => tool.name)
    expect(again, 'in the same order').to.deep.equal(listed)
  })

  it('ask a hundred upstreams at once, and name them in one row', async () => {
    const warnings: Error[] = []
    const note = (warning: Error): void => void warnings.push(warning)
    process.on('warning', note)
    const one = await startScriptedUpstream({ handle: paged('p', 1, 1) })
    upstreams.push(one)
    await start(Object.fromEntries(Array.from({ length: 100 }, (_, at) => [`u${at}`, one.url])))
    const reply = await list('prompts/list')
    process.off('warning', note)
    expect(reply.json.result.prompts).to.have.lengthOf(100)
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row?.decision['parts']).to.have.lengthOf(100)
    expect(warnings).to.deep.equal([])
  })

  it('there is no merged mount when it is switched off', async () => {
    await start({ one: echoArguments }, { federation: { enabled: false } })
    const reply = await list('tools/list')
    expect(reply.status).to.equal(404)
    expect((await gateway.rowsOf(reply.requestId))[0]).to.include({ reason: 'mount_unknown' })
  })
})
