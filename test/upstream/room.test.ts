import { expect } from 'chai'
import { UsageError } from '../../src/errors.ts'
import type { UpstreamLimits, UpstreamSettings, Upstreams } from '../../src/upstream/room.ts'
import { createUpstreams } from '../../src/upstream/room.ts'
import { sharedSchemas } from '../support/schemas.ts'
import { startV1Upstream, startV2Upstream } from '../support/sdk-upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'
import { callOf, clock, recordingSink, settingsOf } from './call-fixture.ts'

const never = new AbortController().signal

describe('the upstreams', () => {
  const open: { close(): Promise<void> }[] = []
  const warnings: object[] = []
  afterEach(async () => {
    warnings.length = 0
    for (const one of open.splice(0)) await one.close()
  })

  function start(settings: Partial<UpstreamSettings>, limits: Partial<UpstreamLimits> = {}): Upstreams {
    const upstreams = createUpstreams({
      schemas: sharedSchemas(),
      upstreams: {
        up: settingsOf(settings),
      },
      limits,
      version: '1.2.3',
      clock,
      random: () => 0.5,
      log: { info: () => undefined, warn: (fields) => warnings.push(fields) },
    })
    open.unshift(upstreams)
    return upstreams
  }

  async function scripted(...options: Parameters<typeof startScriptedUpstream>) {
    const upstream = await startScriptedUpstream(...options)
    open.push(upstream)
    return upstream
  }

  it('knows what is configured, and nothing else', () => {
    const upstreams = start({ labels: { env: 'prod' } })
    expect(upstreams.facts('up')).to.deep.equal({ name: 'up', labels: { env: 'prod' } })
    for (const name of ['other', '', '__proto__', 'constructor']) expect(upstreams.facts(name)).to.equal(null)
  })

  it('refuses settings that cannot work, without showing their values', () => {
    const bad: Partial<UpstreamSettings>[] = [
      { url: 'not a url' },
      { url: 'file:///etc/passwd' },
      { url: 'http://user:s3cret@127.0.0.1/' },
      { headers: { 'Mcp-Session-Id': 's3cret' } },
      { headers: { Host: 's3cret' } },
      { headers: { 'Transfer-Encoding': 's3cret' } },
      { headers: { 'bad name': 's3cret' } },
      { headers: { authorization: 's3cret\r\nx: y' } },
    ]
    for (const settings of bad) {
      expect(() => start(settings))
        .to.throw(UsageError, /^upstreams\.up\./)
        .and.satisfies((error: Error) => !error.message.includes('s3cret'))
    }
  })

  it('finds tools, checks arguments and forwards, with the configured headers on every request', async () => {
    const upstream = await scripted({
      tools: [
        {
          name: 'echo',
          inputSchema: { type: 'object', required: ['text'] },
          annotations: { readOnlyHint: true },
        },
      ],
    })
    const upstreams = start({ url: `${upstream.url}?tenant=a`, headers: { Authorization: 'Bearer up' } })
    const tool = await upstreams.findTool('up', 'echo')
    expect(tool).to.deep.include({ name: 'echo', annotations: { readOnlyHint: true } })
    expect(await upstreams.findTool('up', 'none')).to.equal(null)
    if (tool === null) return
    await upstreams.validateArguments('up', tool, '{"text":"x"}')
    expect(
      await Promise.resolve(upstreams.validateArguments('up', tool, '{}')).catch((thrown: unknown) => thrown),
    ).to.include({
      kind: 'invalid_arguments',
    })
    const answer = await upstreams.forward(callOf(), recordingSink(), never)
    expect(answer.report.status).to.equal(200)
    for (const request of upstream.requests) {
      expect(request.path).to.equal('/mcp?tenant=a')
      expect(request.headers).to.include({
        authorization: 'Bearer up',
        'user-agent': 'mcp-policy-gateway/1.2.3',
      })
    }
  })

  it('accepts arguments that only a changed tool allows', async () => {
    const upstream = await scripted({
      tools: [{ name: 'echo', inputSchema: { type: 'object', required: ['old'] } }],
    })
    const upstreams = start({ url: upstream.url }, { catalogMinIntervalMs: 0 })
    const tool = await upstreams.findTool('up', 'echo')
    upstream.setTools([{ name: 'echo', inputSchema: { type: 'object', required: ['new'] } }])
    if (tool !== null) await upstreams.validateArguments('up', tool, '{"new":1}')
    expect(upstream.count('tools/list')).to.equal(2)
  })

  it('shows the state of an upstream without its secrets', async () => {
    const upstream = await scripted({
      tools: [
        { name: 'odd', inputSchema: { type: 'object', $ref: '#/none' } },
        { name: 'twin' },
        { name: 'twin' },
      ],
    })
    const upstreams = start({
      url: `${upstream.url}?key=s3cret`,
      headers: { authorization: 'Bearer s3cret' },
    })
    expect(upstreams.states()).to.deep.equal([
      {
        name: 'up',
        url: upstream.url,
        status: 'unknown',
        lastError: null,
        lastOkAt: null,
        tools: null,
        rejected: [],
        protocolVersion: null,
        breaker: 'closed',
        inFlight: 0,
        waiting: 0,
        schemaProblems: [],
      },
    ])
    const tool = await upstreams.findTool('up', 'odd')
    if (tool !== null) await upstreams.validateArguments('up', tool, '{}')
    const [state] = upstreams.states()
    expect(state).to.deep.include({ status: 'up', tools: 1, protocolVersion: '2026-07-28' })
    expect(state?.rejected).to.deep.equal([{ name: 'twin', reason: 'the name is listed twice' }])
    expect(state?.schemaProblems).to.have.length(1)
    expect(warnings).to.have.length(1)

    upstream.handle((_, reply) => reply.send(503, 's3cret'))
    await upstreams.forward(callOf(), recordingSink(), never).catch(() => undefined)
    expect(upstreams.states()[0]).to.deep.include({ status: 'up', lastError: 'it answered 503' })
    expect(JSON.stringify([upstreams.states(), warnings])).not.to.contain('s3cret')
  })

  it('does not blame an upstream for a client that went away', async () => {
    const upstream = await scripted({ handle: () => {} })
    const upstreams = start({ url: upstream.url })
    const controller = new AbortController()
    const running = upstreams.forward(callOf(), recordingSink(), controller.signal)
    await upstream.waitFor('tools/call', 0)
    controller.abort()
    await running.catch(() => undefined)
    expect(upstreams.states()[0]?.status).to.equal('unknown')
  })

  it('starts while an upstream is down and serves it once it is there', async () => {
    const first = await scripted()
    await first.close()
    const upstreams = start({ url: first.url }, { catalogMinIntervalMs: 0 })
    upstreams.warm()
    const error: unknown = await Promise.resolve(upstreams.findTool('up', 'echo')).catch(
      (thrown: unknown) => thrown,
    )
    expect(error).to.include({ kind: 'upstream_failed' })
    expect(upstreams.states()[0]?.status).to.equal('down')
    await scripted({ port: first.port })
    expect(await upstreams.findTool('up', 'echo')).to.include({ name: 'echo' })
    expect(upstreams.states()[0]?.status).to.equal('up')
  })

  it('ends everything when it is closed', async () => {
    const upstream = await scripted({ handle: () => {} })
    const upstreams = start({ url: upstream.url })
    const running = upstreams.forward(callOf(), recordingSink(), never)
    await upstream.waitFor('tools/call', 0)
    await upstreams.close()
    expect(await running.catch((thrown: unknown) => thrown)).to.include({ kind: 'upstream_failed' })
    expect(
      await Promise.resolve(upstreams.findTool('up', 'echo')).catch((thrown: unknown) => thrown),
    ).to.include({
      kind: 'upstream_failed',
    })
  })

  describe('with servers of the official SDKs', () => {
    const initialize = {
      jsonrpc: '2.0',
      id: 0,
      method: 'initialize',
      params: {
        protocolVersion: '2025-11-25',
        capabilities: { sampling: {} },
        clientInfo: { name: 'test', version: '1' },
      },
    }
    const request = (body: { id: number; method: string }) => ({
      idText: String(body.id),
      method: body.method,
      body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', ...body })),
    })

    it('opens a session, streams progress, answers a request of the server and ends the session', async () => {
      const upstream = await startV1Upstream()
      open.push(upstream)
      const upstreams = start({ url: upstream.url })
      const opened = await upstreams.forward(callOf({ message: request(initialize) }), recordingSink(), never)
      const session = { upstreamId: opened.head.sessionId ?? '', hash: 'hash' }
      expect(session.upstreamId).not.to.equal('')
      const headers = { 'mcp-protocol-version': '2025-11-25' }
      const within = (body: { id: number; method: string; params: object }) =>
        callOf({ headers, message: { ...request(body), session } })

      const progress = { name: 'progress', arguments: { steps: 3 }, _meta: { progressToken: 'p' } }
      const sink = recordingSink()
      const streamed = await upstreams.forward(
        within({ id: 1, method: 'tools/call', params: progress }),
        sink,
        never,
      )
      expect(sink.events.filter((event) => event.data?.includes('notifications/progress'))).to.have.length(3)
      expect(streamed.parsed?.['id']).to.equal(1)

      const asking = within({ id: 2, method: 'tools/call', params: { name: 'ask', arguments: {} } })
      const refusing = recordingSink(async (event) => {
        const asked = JSON.parse(event.data || '{}') as { id?: unknown; method?: string }
        if (asked.method === 'sampling/createMessage')
          await upstreams.refuseServerRequest(asking, JSON.stringify(asked.id))
      })
      const refused = await upstreams.forward(asking, refusing, never)
      expect(refused.report.toolIsError || refused.report.jsonRpcError === -1).to.equal(true)
      expect(refused.message?.toString()).to.contain('Forbidden')

      const end = callOf({
        httpMethod: 'DELETE',
        headers,
        message: { kind: 'terminate', method: 'DELETE', idText: null, body: Buffer.alloc(0), session },
      })
      expect((await upstreams.forward(end, recordingSink(), never)).head.status).to.equal(200)
      const gone = await upstreams.forward(
        within({ id: 3, method: 'tools/list', params: {} }),
        recordingSink(),
        never,
      )
      expect(gone.head.status).to.equal(404)
    })

    it('tells a 2026-07-28 server at once when the client has gone', async () => {
      const upstream = await startV2Upstream()
      open.push(upstream)
      const upstreams = start({ url: upstream.url })
      const meta = {
        'io.modelcontextprotocol/protocolVersion': '2026-07-28',
        'io.modelcontextprotocol/clientCapabilities': {},
      }
      const params = { name: 'slow', arguments: { milliseconds: 60_000 }, _meta: meta }
      const body = { id: 1, method: 'tools/call', params }
      const headers = { 'mcp-protocol-version': '2026-07-28', 'mcp-method': 'tools/call', 'mcp-name': 'slow' }
      const controller = new AbortController()
      const running = upstreams.forward(
        callOf({ headers, message: { ...request(body), era: 'modern' } }),
        recordingSink(),
        controller.signal,
      )
      while (upstream.calls('slow') === 0) await new Promise((resolve) => setImmediate(resolve))
      controller.abort()
      expect(await running.catch((thrown: unknown) => thrown)).to.include({ kind: 'client_closed' })
      while (upstream.cancelled() === 0) await new Promise((resolve) => setImmediate(resolve))
    })
  })
})
