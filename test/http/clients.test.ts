import {
  Client as ClientV2,
  StreamableHTTPClientTransport as TransportV2,
} from '@modelcontextprotocol/client'
import { Client as ClientV1 } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport as TransportV1 } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { expect } from 'chai'
import { toGatewayError } from '../../src/errors.ts'
import type { Call, Exchange, Message, UpstreamAnswer } from '../../src/gateway/types.ts'
import type { HttpRoom } from '../../src/http/room.ts'
import { createHttpRoom } from '../../src/http/room.ts'
import { aborted, callOf, closeDoors, openDoor, PRINCIPAL } from './fixtures.ts'

/** A spine with an upstream of its own: two methods, one session, and a stream. */
function scriptedSpine(room: HttpRoom, seen: Message[]): (exchange: Exchange) => Promise<void> {
  return async (exchange) => {
    const call: Call = callOf(null, exchange.head)
    try {
      room.admit(exchange.head)
      const { message } = await room.read(exchange, PRINCIPAL)
      call.message = message
      seen.push(message)
      if (message.kind === 'stream') {
        exchange.open(room.openHead(call, { status: 200, headers: {}, sessionId: null, stream: true }))
        await aborted(exchange.signal)
        return
      }
      await exchange.finish(room.replyWith(call, answerTo(message)))
    } catch (thrown) {
      await exchange.finish(room.replyRefusal(call, toGatewayError(thrown)))
    }
  }
}

function answerTo(message: Message): UpstreamAnswer {
  const result = RESULTS[message.method]?.(message)
  const text =
    result === undefined
      ? null
      : `{"jsonrpc":"2.0","id":${message.idText},"result":${JSON.stringify(result)}}`
  return {
    head: { status: text === null ? 202 : 200, headers: {}, sessionId: 'up-1', stream: false },
    message: text === null ? null : Buffer.from(text),
    parsed: null,
    frame: null,
    report: {
      server: 'github',
      status: 200,
      jsonRpcError: null,
      toolIsError: false,
      ms: 0,
      bytes: 0,
      sha256: null,
    },
  }
}

const INFO = { capabilities: { tools: {} }, serverInfo: { name: 'scripted', version: '1' } }
const RESULTS: Record<string, (message: Message) => object> = {
  initialize: (message) => ({ ...INFO, protocolVersion: message.params['protocolVersion'] }),
  'server/discover': () => ({
    ...INFO,
    resultType: 'complete',
    supportedVersions: ['2026-07-28'],
    ttlMs: 0,
    cacheScope: 'private',
  }),
  'tools/call': (message) => ({
    content: [{ type: 'text', text: message.argumentsText }],
    ...(message.era === 'modern' ? { resultType: 'complete' } : {}),
  }),
  'tools/list': (message) => ({
    tools: [{ name: 'größe', inputSchema: { type: 'object' } }],
    ...(message.era === 'modern' ? { resultType: 'complete', ttlMs: 0, cacheScope: 'private' } : {}),
  }),
}

describe('unmodified clients', () => {
  const seen: Message[] = []
  let url: URL
  beforeEach(async () => {
    seen.length = 0
    const room = createHttpRoom({
      allowedHosts: ['127.0.0.1'],
      allowedOrigins: [],
      trustedProxies: [],
      denyAs: 'http',
      maxBodyBytes: 100_000,
      sessionKey: Buffer.alloc(32, 1),
      taskKey: Buffer.alloc(32, 2),
      serverRequestKey: Buffer.alloc(32, 3),
    })
    const { url: base } = await openDoor(scriptedSpine(room, seen))
    url = new URL(`${base}/mcp/github`)
  })
  afterEach(closeDoors)

  it('of SDK v1 are read as legacy, with their session bound to them', async () => {
    const client = new ClientV1({ name: 'v1', version: '1' })
    const transport = new TransportV1(url)
    await client.connect(transport as Parameters<ClientV1['connect']>[0])
    const result = await client.callTool({ name: 'größe', arguments: { a: 1 } })
    expect(result.content).to.deep.equal([{ type: 'text', text: '{"a":1}' }])
    expect(transport.sessionId).to.match(/^gws1\./)
    await transport.terminateSession()
    await client.close()
    expect(seen[0]).to.deep.include({
      method: 'initialize',
      era: 'legacy',
      client: { name: 'v1', version: '1' },
    })
    for (const message of seen.slice(1)) expect(message.session?.upstreamId).to.equal('up-1')
    expect(seen.map((message) => message.kind)).to.include.members([
      'request',
      'notification',
      'stream',
      'terminate',
    ])
  })

  it('of SDK v2 are read as legacy by default', async () => {
    const client = new ClientV2({ name: 'v2', version: '1' })
    await client.connect(new TransportV2(url))
    await client.callTool({ name: 'größe', arguments: {} })
    await client.close()
    expect(new Set(seen.map((message) => message.era))).to.deep.equal(new Set(['legacy']))
  })

  it('of SDK v2 are read as modern when they ask for it', async () => {
    const client = new ClientV2(
      { name: 'v2', version: '1' },
      { versionNegotiation: { mode: { pin: '2026-07-28' } } },
    )
    await client.connect(new TransportV2(url))
    await client.listTools()
    const result = await client.callTool({ name: 'größe', arguments: { b: 2 } })
    expect(result.content).to.deep.equal([{ type: 'text', text: '{"b":2}' }])
    await client.close()
    expect(new Set(seen.map((message) => message.era))).to.deep.equal(new Set(['modern']))
    expect(seen.at(-1)).to.deep.include({
      protocolVersion: '2026-07-28',
      session: null,
      client: { name: 'v2', version: '1' },
    })
  })
})
