import { expect } from 'chai'
import { revokeKey } from '../../../src/auth/key-store.ts'
import { kill, unkill } from '../../../src/kill/store.ts'
import type { TestGateway } from '../../support/gateway.ts'
import { startTestGateway } from '../../support/gateway.ts'
import { legacy, modern, post } from '../../support/rpc.ts'
import { until } from '../../support/until.ts'
import type { RawHandler, RawStream, ScriptedUpstream } from '../../support/upstreams.ts'
import { echoArguments, startScriptedUpstream } from '../../support/upstreams.ts'

/** Everything that has come on a stream of the gateway. */
interface Heard {
  readonly events: { readonly id: string | null; readonly message: any }[]
  readonly status: number
  leave(): void
  readonly ended: Promise<void>
}

describe('streams of the merged mount', function () {
  this.timeout(30_000)
  const started: ScriptedUpstream[] = []
  const leaving: (() => void)[] = []
  let gateway: TestGateway
  let key: string
  let mcp: string

  afterEach(async () => {
    for (const leave of leaving.splice(0)) leave()
    await gateway?.close()
    for (const upstream of started.splice(0)) await upstream.close().catch(() => undefined)
  })

  async function upstream(handle: RawHandler, port = 0): Promise<ScriptedUpstream> {
    const made = await startScriptedUpstream({ sessions: true, handle, port })
    started.push(made)
    return made
  }

  async function start(upstreams: Record<string, string>): Promise<void> {
    gateway = await startTestGateway({
      upstreams: Object.fromEntries(
        Object.entries(upstreams).map(([name, url]) => [
          name,
          { url, probe_interval_ms: 200, breaker: { open_ms: 200 } },
        ]),
      ),
      settings: { limits: { max_delay_ms: null }, federation: { part_timeout_ms: 500 } },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp`
  }

  async function open(): Promise<string> {
    const params = {
      protocolVersion: '2025-11-25',
      capabilities: {},
      clientInfo: { name: 't', version: '1' },
    }
    const reply = await post(mcp, JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'initialize', params }), {
      key,
    })
    return reply.headers.get('mcp-session-id') as string
  }

  async function hear(init: RequestInit): Promise<Heard> {
    const controller = new AbortController()
    leaving.push(() => controller.abort())
    const response = await fetch(mcp, { ...init, signal: controller.signal })
    const events: Heard['events'] = []
    const ended = (async () => {
      let text = ''
      for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
        text += Buffer.from(chunk).toString()
        const blocks = text.split('\n\n')
        text = blocks.pop() as string
        for (const block of blocks) {
          const field = (name: string) => new RegExp(`^${name}: ?(.*)$`, 'm').exec(block)?.[1] ?? null
          const data = field('data')
          if (data !== null && data !== '') events.push({ id: field('id'), message: JSON.parse(data) })
        }
      }
    })().catch(() => undefined)
    return { events, status: response.status, leave: () => controller.abort(), ended }
  }

  const get = (session: string, headers: Record<string, string> = {}): Promise<Heard> =>
    hear({
      headers: {
        ...{ authorization: `Bearer ${key}`, accept: 'text/event-stream', 'mcp-session-id': session },
        ...{ 'mcp-protocol-version': '2025-11-25', ...headers },
      },
    })

  /** Keeps GET streams open and hands them out. */
  function streaming(streams: RawStream[], rest: RawHandler = echoArguments): RawHandler {
    return (request, reply) => {
      if (request.httpMethod !== 'GET') return rest(request, reply)
      streams.push(reply.stream())
    }
  }

  it('bring what every upstream says, with names that say whose it is', async () => {
    const files: RawStream[] = []
    const wiki: RawStream[] = []
    await start({
      files: (await upstream(streaming(files))).url,
      wiki: (await upstream(streaming(wiki))).url,
    })
    const heard = await get(await open())
    await until('both streams', () => files.length > 0 && wiki.length > 0)
    const notify = (method: string, params: object = {}) => ({ jsonrpc: '2.0', method, params })
    files[0]?.message(notify('notifications/tools/list_changed'))
    wiki[0]?.message(notify('notifications/resources/updated', { uri: 'file:///a' }))
    await until('both events', () => heard.events.length === 2)
    const said = heard.events.map(({ message }) => [message.method, message.params.uri])
    expect(said).to.deep.include(['notifications/tools/list_changed', undefined])
    expect(said).to.deep.include(['notifications/resources/updated', 'mcp+wiki+file:///a'])
  })

  it('have ids from which a client goes on, at each upstream from its own', async () => {
    const files: RawStream[] = []
    const wiki: RawStream[] = []
    const one = await upstream(streaming(files))
    const other = await upstream(streaming(wiki))
    await start({ files: one.url, wiki: other.url })
    const session = await open()
    const heard = await get(session)
    await until('both streams', () => files.length > 0 && wiki.length > 0)
    const changed = { jsonrpc: '2.0', method: 'notifications/tools/list_changed' }
    files[0]?.message(changed, { id: 'f-1' })
    await until('one event', () => heard.events.length === 1)
    wiki[0]?.message(changed, { id: 'w-9' })
    await until('two events', () => heard.events.length === 2)
    heard.leave()
    await get(session, { 'last-event-id': heard.events.at(-1)?.id as string })
    await until('both streams again', () => files.length > 1 && wiki.length > 1)
    const lastId = (upstream: ScriptedUpstream) =>
      upstream.requests.findLast((request) => request.httpMethod === 'GET')?.headers['last-event-id']
    expect([lastId(one), lastId(other)]).to.deep.equal(['f-1', 'w-9'])
  })

  it('the broken stream of an answer goes on at the upstream that was answering, and nowhere else', async () => {
    const wiki: RawStream[] = []
    const files: RawHandler = (request, reply) => {
      if (request.httpMethod === 'GET') {
        const stream = reply.stream()
        const content = [{ type: 'resource_link', uri: 'file:///late', name: 'l' }]
        return void stream.message({ jsonrpc: '2.0', id: 7, result: { content } }, { id: 'e2' })
      }
      if (request.method !== 'tools/call') return echoArguments(request, reply)
      const stream = reply.stream()
      stream.raw('id: e1\ndata:\n\n')
      stream.end()
    }
    const one = await upstream(files)
    await start({ files: one.url, wiki: (await upstream(streaming(wiki))).url })
    const session = await open()
    const body =
      '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"files__echo","arguments":{}}}'
    const reply = await post(mcp, body, legacy({ key, headers: { 'mcp-session-id': session } }))
    const id = /^id: ?(.*)$/m.exec(reply.text)?.[1] as string
    const heard = await get(session, { 'last-event-id': id })
    await until('the answer', () => heard.events.length === 1)
    expect(heard.events[0]?.message.result.content[0].uri).to.equal('mcp+files+file:///late')
    expect(
      one.requests.findLast((request) => request.httpMethod === 'GET')?.headers['last-event-id'],
    ).to.equal('e1')
    expect(wiki).to.deep.equal([])
  })

  it('an upstream that was down joins by itself, and the client hears that lists have changed', async () => {
    const first = await upstream(echoArguments)
    const { port } = first
    await first.close()
    await start({ files: first.url, wiki: (await upstream(streaming([]))).url })
    const session = await open()
    const list = async (): Promise<string> =>
      (
        await post(
          mcp,
          '{"jsonrpc":"2.0","id":7,"method":"tools/list"}',
          legacy({ key, headers: { 'mcp-session-id': session } }),
        )
      ).text
    expect(await list())
      .to.contain('wiki__echo')
      .and.not.contain('files__echo')
    const heard = await get(session)
    await upstream(echoArguments, port)
    await until('the change', () =>
      heard.events.some(({ message }) => message.method === 'notifications/tools/list_changed'),
    )
    await until('its tools', async () => (await list()).includes('files__echo'))
  })

  it('requests of two upstreams with the same id are told apart, and answered each in its own', async () => {
    const answers: string[] = []
    const asking = (name: string, streams: RawStream[]): RawHandler =>
      streaming(streams, (request, reply) => {
        if (request.method !== 'response') return echoArguments(request, reply)
        answers.push(`${name} ${request.body.toString()}`)
        reply.send(202, '')
      })
    const files: RawStream[] = []
    const wiki: RawStream[] = []
    await start({
      files: (await upstream(asking('files', files))).url,
      wiki: (await upstream(asking('wiki', wiki))).url,
    })
    const session = await open()
    const heard = await get(session)
    await until('both streams', () => files.length > 0 && wiki.length > 0)
    files[0]?.raw('data: {"jsonrpc":"2.0","id":9007199254740993,"method":"roots/list"}\n\n')
    wiki[0]?.raw('data: {"jsonrpc":"2.0","id":"9007199254740993","method":"roots/list"}\n\n')
    await until('both requests', () => heard.events.length === 2)
    const ids = heard.events.map(({ message }) => message.id)
    expect(ids.filter((id) => /^files__"gwr1\..+"$/.test(id))).to.have.lengthOf(1)
    expect(ids.filter((id) => /^wiki__"gwr1\..+"$/.test(id))).to.have.lengthOf(1)
    for (const id of ids) {
      const body = JSON.stringify({ jsonrpc: '2.0', id, result: { roots: [] } })
      const reply = await post(mcp, body, legacy({ key, headers: { 'mcp-session-id': session } }))
      expect(reply.status).to.equal(202)
    }
    expect(answers).to.have.members([
      'files {"jsonrpc":"2.0","id":9007199254740993,"result":{"roots":[]}}',
      'wiki {"jsonrpc":"2.0","id":"9007199254740993","result":{"roots":[]}}',
    ])
    const [ofFiles] = ids.filter((id) => id.startsWith('files'))
    for (const id of ['wiki__5', 'nobody__9007199254740993', 'wiki__{}', ofFiles.replace('files', 'wiki')]) {
      const body = JSON.stringify({ jsonrpc: '2.0', id, result: { roots: [] } })
      const reply = await post(mcp, body, legacy({ key, headers: { 'mcp-session-id': session } }))
      expect(reply.status, id).to.equal(403)
    }
    expect(answers).to.have.lengthOf(2)
  })

  it('a part ends with the kill switch of its upstream and comes back with it; the others go on', async () => {
    const files: RawStream[] = []
    const wiki: RawStream[] = []
    const one = await upstream(streaming(files))
    await start({ files: one.url, wiki: (await upstream(streaming(wiki))).url })
    const heard = await get(await open())
    await until('both streams', () => files.length > 0 && wiki.length > 0)
    const target = { kind: 'server', name: 'files' } as const
    await kill(gateway.database.pool, { target, reason: 'test', forMs: null, actor: 'ann' })
    await until(
      'the end of its part',
      () => !files[0]?.raw(': still there?\n\n') || one.connections() === 0,
      5000,
    )
    wiki[0]?.message({ jsonrpc: '2.0', method: 'notifications/prompts/list_changed' })
    await until('what the other says', () => heard.events.length > 0)
    await unkill(gateway.database.pool, { target, reason: null, actor: 'ann' })
    await until('its part again', () => files.length > 1)
    await until('the change', () =>
      heard.events.some(({ message }) => message.method === 'notifications/tools/list_changed'),
    )
  })

  it('end when the key is revoked, also where no upstream has anything to say', async () => {
    await start({ files: (await upstream(echoArguments)).url })
    const heard = await get(await open())
    const [id] = /(?<=gwk_)[^_]+/.exec(key) as RegExpExecArray
    await revokeKey(gateway.database.pool, id as string)
    await heard.ended
    const row = await until('the row', async () =>
      (await gateway.rows()).find((found) => found['method'] === 'GET'),
    )
    expect(row).to.include({ server: '*', outcome: 'denied_auth', reason: 'unauthenticated' })
  })

  it('end with the session of their client', async () => {
    const files: RawStream[] = []
    await start({ files: (await upstream(streaming(files))).url })
    const session = await open()
    const heard = await get(session)
    await until('the stream', () => files.length > 0)
    const ending = legacy({ key, headers: { 'mcp-session-id': session } })
    expect((await post(mcp, null, { ...ending, httpMethod: 'DELETE' })).status).to.equal(200)
    files[0]?.end()
    await heard.ended
  })

  it('end with one row that names every upstream', async () => {
    await start({ files: (await upstream(streaming([]))).url, wiki: (await upstream(echoArguments)).url })
    const heard = await get(await open())
    heard.leave()
    const row = await until('the row', async () =>
      (await gateway.rows()).find((found) => found['method'] === 'GET'),
    )
    expect(row).to.include({ server: '*', outcome: 'allowed', status_code: 200 })
    expect(row.decision['parts'].map((part: any) => part.server.name)).to.deep.equal(['files', 'wiki'])
  })

  it('of 2026-07-28 are one subscription over all: acknowledged once, each upstream asked for its own', async () => {
    const files: RawStream[] = []
    const wiki: RawStream[] = []
    const listening =
      (streams: RawStream[]): RawHandler =>
      (request, reply) => {
        if (request.method !== 'subscriptions/listen') return echoArguments(request, reply)
        const stream = reply.stream()
        const { notifications } = (request.json as any).params
        const meta = { 'io.modelcontextprotocol/subscriptionId': 'sub' }
        const params = { notifications, _meta: meta }
        stream.message({ jsonrpc: '2.0', method: 'notifications/subscriptions/acknowledged', params })
        streams.push(stream)
      }
    const one = await upstream(listening(files))
    const other = await upstream(listening(wiki))
    await start({ files: one.url, wiki: other.url })
    const notifications = {
      toolsListChanged: true,
      resourceSubscriptions: ['mcp+wiki+file:///a', 'mcp+files+file:///b'],
    }
    const meta = {
      'io.modelcontextprotocol/protocolVersion': '2026-07-28',
      'io.modelcontextprotocol/clientCapabilities': {},
    }
    const heard = await hear({
      method: 'POST',
      headers: {
        ...{ authorization: `Bearer ${key}`, accept: 'application/json, text/event-stream' },
        ...{ 'content-type': 'application/json', 'mcp-protocol-version': '2026-07-28' },
        'mcp-method': 'subscriptions/listen',
      },
      body: JSON.stringify({
        ...{ jsonrpc: '2.0', id: 'sub', method: 'subscriptions/listen' },
        params: { notifications, _meta: meta },
      }),
    })
    await until('the acknowledgement', () => heard.events.length > 0)
    const { params } = (heard.events[0] as Heard['events'][number]).message
    expect(params._meta).to.deep.equal({ 'io.modelcontextprotocol/subscriptionId': 'sub' })
    expect(params.notifications.toolsListChanged).to.equal(true)
    expect(params.notifications.resourceSubscriptions).to.have.members(notifications.resourceSubscriptions)
    const asked = (upstream: ScriptedUpstream) =>
      (upstream.requests.findLast((request) => request.method === 'subscriptions/listen') as any).json.params
        .notifications.resourceSubscriptions
    expect([asked(one), asked(other)]).to.deep.equal([['file:///b'], ['file:///a']])
    wiki[0]?.message({
      jsonrpc: '2.0',
      method: 'notifications/resources/updated',
      params: { uri: 'file:///a', _meta: { 'io.modelcontextprotocol/subscriptionId': 'sub' } },
    })
    await until('the update', () => heard.events.length === 2)
    expect(heard.events[1]?.message.params.uri).to.equal('mcp+wiki+file:///a')
    const stranger = { notifications: { resourceSubscriptions: ['mcp+nobody+file:///a'] } }
    expect((await modern(mcp, 'subscriptions/listen', stranger, { key })).status).to.equal(403)
    await gateway.stop()
    await heard.ended
    expect(heard.events.at(-1)?.message).to.deep.equal({
      jsonrpc: '2.0',
      id: 'sub',
      result: { resultType: 'complete', _meta: { 'io.modelcontextprotocol/subscriptionId': 'sub' } },
    })
  })
})
