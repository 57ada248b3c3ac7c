/**
 * Peers that lie, stall, flood or die, on both sides of the gateway, while a good caller goes on: each meets a bound, gets a
 * clear answer and leaves one row, and the good caller is always served.
 */
import { gzipSync } from 'node:zlib'
import { expect } from 'chai'
import type { RawClient } from '../http/fixtures.ts'
import { rawClient, rawPost } from '../http/fixtures.ts'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { call, legacy, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { RawHandler, ScriptedTool, ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

const MB = 1024 * 1024
const MAX_ANSWER = 4 * MB
const TOOL_CALL = '{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":{}}}'

describe('bad peers', function () {
  this.timeout(60_000)
  let good: ScriptedUpstream
  let bad: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let stranger: string
  let mount: string
  let caller: GoodCaller

  before(async () => {
    good = await startScriptedUpstream()
    bad = await startScriptedUpstream({ sessions: true })
    const settings = {
      url: bad.url,
      max_answer_bytes: MAX_ANSWER,
      // What is looked at here is each failure, not what many of them in a row lead to.
      breaker: { failures: 1_000_000 },
    }
    gateway = await startTestGateway({
      upstreams: {
        good: good.url,
        bad: settings,
        impatient: { ...settings, timeout_ms: 300 },
        large: { ...settings, max_answer_bytes: 64 * MB },
      },
      settings: { limits: { max_body_bytes: MB } },
    })
    key = await gateway.key()
    stranger = await gateway.key({ name: 'stranger' })
    mount = `${gateway.url}/mcp/bad`
  })
  after(async () => {
    await gateway?.close()
    await bad?.close()
    await good?.close()
  })
  beforeEach(() => {
    caller = startGoodCaller(() => call(`${gateway.url}/mcp/good`, 'echo', { n: 1 }, { key }))
  })
  afterEach(async () => {
    await caller.served()
    await caller.stop()
  })

  /** The stranger's rows since the start of `run`, once there are as many as expected. */
  async function rowsOf(run: () => Promise<unknown>, expected = 1): Promise<readonly Row[]> {
    const before = (await strangersRows()).length
    await run()
    const rows = await until('the rows', async () => {
      const found = (await strangersRows()).slice(before)
      return found.length >= expected ? found : null
    })
    expect(rows).to.have.lengthOf(expected)
    return rows
  }

  async function strangersRows(): Promise<readonly Row[]> {
    const { rows } = await gateway.database.pool.query<Row>(
      `select * from audit_events where principal_id = 'stranger' order by ts, seq`,
    )
    return rows
  }

  const client = (bytes = ''): Promise<RawClient> =>
    rawClient({ address: '127.0.0.1', family: 'IPv4', port: Number(new URL(gateway.url).port) }, bytes)
  const withKey = (...more: string[]): string[] => [`Authorization: Bearer ${stranger}`, ...more]

  describe('as clients', () => {
    beforeEach(() => bad.handle((_request, reply) => reply.result({ content: [] })))

    const refused: [string, string | Buffer, Record<string, string>, number, number, string][] = [
      ['a body that is too large', 'x'.repeat(2 * MB), {}, 413, 1413, 'body_too_large'],
      [
        'a body that is not UTF-8',
        Buffer.from([...Buffer.from('{"a":"'), 0xff]),
        {},
        400,
        -32700,
        'parse_error',
      ],
      ['a body that nests without end', '['.repeat(100_000), {}, 400, -32700, 'parse_error'],
      [
        'a gzip bomb',
        gzipSync(Buffer.alloc(64 * MB)),
        { 'content-encoding': 'gzip' },
        415,
        1415,
        'unsupported_media_type',
      ],
      [
        'a number that no double can hold',
        TOOL_CALL.replace('"id":7', '"id":1e400'),
        {},
        400,
        -32700,
        'parse_error',
      ],
      ['another type', '<a/>', { 'content-type': 'text/xml' }, 415, 1415, 'unsupported_media_type'],
      ['no type to answer in', TOOL_CALL, { accept: 'text/html' }, 406, 1406, 'not_acceptable'],
    ]
    for (const [name, body, headers, status, code, reason] of refused) {
      it(`${name}: ${status}`, async () => {
        const [row] = await rowsOf(async () => {
          const reply = await post(mount, body, legacy({ key: stranger, headers }))
          expect(reply.status).to.equal(status)
          expect(reply.json.error.code).to.equal(code)
        })
        expect(row).to.include({ outcome: 'invalid', reason, status_code: status })
      })
    }

    it('a body in chunks without end: 413, and the connection is closed', async () => {
      const [row] = await rowsOf(async () => {
        const flood = await client(
          rawPost('', withKey('Transfer-Encoding: chunked'), '/mcp/bad').replace('Content-Length: 0\r\n', ''),
        )
        const chunk = `10000\r\n${'x'.repeat(65_536)}\r\n`
        const send = (): void => {
          while (!flood.socket.destroyed && flood.socket.write(chunk)) {}
        }
        flood.socket.on('drain', send)
        send()
        expect(await flood.until(/^HTTP\/1\.1 413 /)).to.contain('"code":1413')
        await flood.closed()
      })
      expect(row).to.include({ outcome: 'invalid', reason: 'body_too_large' })
    })

    it('headers that are too large or too many: 431, before it is anybody’s attempt', async () => {
      await rowsOf(async () => {
        const headers = [
          [`X-Large: ${'x'.repeat(20_000)}`],
          Array.from({ length: 200 }, (_, n) => `X-${n}: 1`),
        ]
        for (const more of headers) {
          const flood = await client(rawPost(TOOL_CALL, withKey(...more), '/mcp/bad'))
          await flood.until(/^HTTP\/1\.1 431 /)
          await flood.closed()
        }
      }, 0)
    })

    const shapes: [string, string, (L: string) => string][] = [
      ['a length and chunks', 'Content-Length: 4', (l) => `Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${l}`],
      ['two lengths', 'Content-Length: 4', (l) => `Content-Length: 5\r\n\r\n${l}`],
      [
        'chunks twice',
        'Transfer-Encoding: chunked',
        (l) => `Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n${l}`,
      ],
      [
        'chunks that are not the last coding',
        'X: 1',
        (l) => `Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${l}`,
      ],
      ['a space before the colon', 'X: 1', (l) => `Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n${l}`],
      ['a folded header', 'X: 1', (l) => `X: a\r\n b\r\n\r\n${l}`],
      ['a signed length', 'X: 1', (l) => `Content-Length: +4\r\n\r\n${l}`],
      ['bare line feeds', 'X: 1', (l) => `X: 1\nX: 2\n\n${l}`],
    ]
    for (const [name, first, rest] of shapes) {
      it(`a request with ${name} is refused whole: nothing behind it is a request`, async () => {
        const asked = bad.count()
        await rowsOf(async () => {
          const head = rawPost('', withKey(first), '/mcp/bad').replace('Content-Length: 0\r\n', '')
          const hidden = rawPost(TOOL_CALL, withKey('MCP-Protocol-Version: 2025-11-25'), '/mcp/bad')
          const smuggler = await client(head.replace(/\r\n$/, '') + rest(hidden))
          const text = await smuggler.closed()
          expect(text.match(/HTTP\/1\.1 \d+/g)).to.deep.equal(['HTTP/1.1 400'])
        }, 0)
        expect(bad.count()).to.equal(asked)
      })
    }

    it('connections that are opened and say little hold nobody up', async () => {
      await rowsOf(async () => {
        const slow = await Promise.all(
          Array.from({ length: 200 }, () => client('POST /mcp/bad HTTP/1.1\r\nHost: l')),
        )
        await caller.served()
        for (const { socket } of slow) socket.destroy()
      }, 0)
    })

    it('bodies that stall hold nobody up, and leave a row when their client goes', async () => {
      const rows = await rowsOf(async () => {
        const begun = rawPost(TOOL_CALL, withKey(), '/mcp/bad').slice(0, -10)
        const slow = await Promise.all(Array.from({ length: 20 }, () => client(begun)))
        await caller.served()
        await caller.served()
        for (const { socket } of slow) socket.destroy()
      }, 20)
      for (const row of rows) expect(row).to.include({ outcome: 'client_closed', status_code: 499 })
    })

    it('a socket that is half closed is a client that has gone: its call is aborted', async () => {
      const aborted: Promise<void>[] = []
      bad.handle((_request, reply) => void aborted.push(reply.closed))
      const [row] = await rowsOf(async () => {
        const half = await client(rawPost(TOOL_CALL, withKey('MCP-Protocol-Version: 2025-11-25'), '/mcp/bad'))
        await until('the call to arrive', () => aborted.length === 1)
        half.socket.end()
        await aborted[0]
      })
      expect(row).to.include({ outcome: 'client_closed' })
    })

    const ids: [string, number][] = [
      ...(['7', '-1', '0', '9007199254740993', '"7"', '""', '"\\u00e9\\n"'] as const).map(
        (id): [string, number] => [id, 200],
      ),
      ...(['null', 'true', '1.5', '[7]', '{"a":7}'] as const).map((id): [string, number] => [id, 400]),
    ]
    for (const [id, status] of ids) {
      it(`the id ${id}: ${status}`, async () => {
        // The upstream repeats the id as it was written; a client must get back what it sent.
        bad.handle((request, reply) =>
          reply.send(
            200,
            `{"jsonrpc":"2.0","id":${/"id":(.+),"method"/.exec(request.body.toString())?.[1]},"result":{"content":[]}}`,
            { 'content-type': 'application/json' },
          ),
        )
        const [row] = await rowsOf(async () => {
          const reply = await post(
            mount,
            TOOL_CALL.replace('"id":7', `"id":${id}`),
            legacy({ key: stranger }),
          )
          expect(reply.status).to.equal(status)
          if (status === 200) expect(reply.text).to.contain(`"id":${id},`)
          else expect(reply.json.error.code).to.equal(-32600)
        })
        expect(row?.outcome).to.equal(status === 200 ? 'allowed' : 'invalid')
      })
    }

    it('a reader that stops reading holds back its upstream, not the gateway', async () => {
      const event = { jsonrpc: '2.0', method: 'notifications/message', params: { data: 'x'.repeat(60_000) } }
      let sent = 0
      let isHeldBack = false
      bad.handle(async (request, reply) => {
        const stream = reply.stream()
        const endless = setInterval(() => {
          // Whoever is told to wait, waits: what is counted is what the sockets in between have taken.
          while (!isHeldBack && sent < 50 * MB) {
            sent += 60_000
            isHeldBack = !stream.message(event)
          }
        }, 1)
        reply.response.on('drain', () => {
          isHeldBack = false
        })
        await reply.closed
        clearInterval(endless)
        void request
      })
      const [row] = await rowsOf(async () => {
        const reader = await client()
        reader.socket.pause()
        reader.socket.write(rawPost(TOOL_CALL, withKey('MCP-Protocol-Version: 2025-11-25'), '/mcp/large'))
        await until('the upstream to be held back', () => isHeldBack)
        for (let n = 0; n < 10; n += 1) await caller.served()
        expect(isHeldBack).to.equal(true)
        expect(sent).to.be.lessThan(20 * MB)
        reader.socket.destroy()
      })
      expect(row).to.include({ outcome: 'client_closed' })
    })
  })

  describe('as upstreams', () => {
    const json = { 'content-type': 'application/json' }
    const result = (text: string): string => `{"jsonrpc":"2.0","id":7,"result":${text}}`
    const sends =
      (body: string | Buffer, headers: Record<string, string> = json, status = 200): RawHandler =>
      (_request, reply) =>
        reply.send(status, body, headers)
    const says =
      (text: string | Buffer): RawHandler =>
      (_request, reply) => {
        reply.stream()
        reply.response.write(text)
      }

    /** Past Node's server, which would not send it. */
    const writes =
      (bytes: string, then: 'waits' | 'ends' = 'waits'): RawHandler =>
      (_request, { response: { socket } }) => {
        socket?.write(bytes)
        if (then === 'ends') socket?.end()
      }
    const OK = 'HTTP/1.1 200 OK\r\n'
    const JSON_HEAD = 'content-type: application/json\r\n'

    const failing: [string, RawHandler][] = [
      ['headers that are too large', sends('{}', { ...json, 'x-large': 'secret'.repeat(20_000) })],
      ['a result of 50 MB', sends(result(`{"content":[],"x":"${'x'.repeat(50 * MB)}"}`))],
      ['a gzip bomb', sends(gzipSync(Buffer.alloc(64 * MB, ' ')), { ...json, 'content-encoding': 'gzip' })],
      ['a redirect', sends('', { location: 'http://127.0.0.1:9/secret' }, 307)],
      ['a page', sends('<h1>secret</h1>', { 'content-type': 'text/html' })],
      ['no type', sends(result('{}'), {})],
      ['two types', writes(`${OK}content-type: application/json\r\ncontent-type: text/event-stream\r\n\r\n`)],
      ['two encodings', writes(`${OK}${JSON_HEAD}content-encoding: gzip\r\ncontent-encoding: br\r\n\r\n`)],
      [
        'a length and chunks',
        writes(
          `${OK}${JSON_HEAD}content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n`,
        ),
      ],
      ['less than its length', writes(`${OK}${JSON_HEAD}content-length: 99\r\n\r\n{"secret"`, 'ends')],
      [
        'trailers that are too large',
        writes(
          `${OK}${JSON_HEAD}transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ${'secret'.repeat(5000)}\r\n`,
        ),
      ],
      [
        'a switch to another protocol',
        writes('HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n'),
      ],
      ['what is no HTTP', writes('SSH-2.0-secret\r\n')],
      ['answers 102 without end', writes('HTTP/1.1 102 Processing\r\n\r\n'.repeat(1000))],
      ['JSON that is not UTF-8', sends(Buffer.from([...Buffer.from('{"secret":"'), 0xff]))],
      ...['null', 'true', '8', '"7"', '[7]', '{}', '7.5'].map((id): [string, RawHandler] => [
        `the id ${id} for 7`,
        sends(`{"jsonrpc":"2.0","id":${id},"result":{}}`),
      ]),
      ['a socket that is half closed in the middle', (_request, reply) => reply.partial(1000, '{"secret"')],
      ['an event that is not UTF-8', says(Buffer.from([...Buffer.from('data: {"secret":"'), 0xff, 10, 10]))],
      [
        'a line without end',
        (_request, reply) => {
          reply.stream()
          const more = (): void => {
            while (!reply.abandoned && reply.response.write('secret'.repeat(10_000))) {}
          }
          reply.response.on('drain', more)
          more()
        },
      ],
    ]
    const silent: [string, RawHandler][] = [
      ['never answers', () => undefined],
      [
        'sends its answer byte by byte',
        async (_request, reply) => {
          reply.partial(100_000, '{')
          const drip = setInterval(() => reply.response.write(' '), 5)
          await reply.closed
          clearInterval(drip)
        },
      ],
      [
        'sends comments for ever',
        async (_request, reply) => {
          const stream = reply.stream()
          const drip = setInterval(() => stream.raw(': working\n\n'), 5)
          await reply.closed
          clearInterval(drip)
        },
      ],
    ]
    const table = [
      ...failing.map(([name, handler]) => [`that sends ${name}`, handler, 1502, 'upstream_error'] as const),
      ...silent.map(([name, handler]) => [`that ${name}`, handler, 1504, 'upstream_timeout'] as const),
    ]

    for (const [name, handler, code, outcome] of table) {
      it(`one ${name}: ${outcome}`, async () => {
        bad.handle((request, reply) => {
          if (name.includes('half closed')) setTimeout(() => reply.response.socket?.end(), 20)
          return handler(request, reply)
        })
        const asked = bad.calls()
        const [row] = await rowsOf(async () => {
          const url = code === 1504 ? `${gateway.url}/mcp/impatient` : mount
          const reply = await post(url, TOOL_CALL, legacy({ key: stranger }))
          expect(reply.json).to.deep.include({ id: 7 })
          expect(reply.json.error.code).to.equal(code)
          expect(reply.text + JSON.stringify([...reply.headers])).not.to.contain('secret')
          if (!reply.headers.get('content-type')?.includes('event-stream'))
            expect(reply.status).to.equal(code - 1000)
        })
        expect(row).to.include({ outcome })
        expect(bad.calls()).to.equal(asked + 1)
      })
    }

    it('what one sends behind its answer reaches nobody: the next call has its own', async () => {
      const body = result('{"content":[],"mine":true}')
      const head = `${OK}${JSON_HEAD}content-length: `
      const smuggled = result('{"content":[],"mine":false}')
      bad.handle(writes(`${head}${body.length}\r\n\r\n${body}${head}${smuggled.length}\r\n\r\n${smuggled}`))
      await rowsOf(async () => {
        expect((await post(mount, TOOL_CALL, legacy({ key: stranger }))).json.result.mine).to.equal(true)
        bad.handle(sends(result('{"content":[],"mine":"again"}')))
        expect((await post(mount, TOOL_CALL, legacy({ key: stranger }))).json.result.mine).to.equal('again')
      }, 2)
    })

    it('a result of 50 MB comes through where that much is allowed', async () => {
      const body = result(`{"content":[{"type":"text","text":"${'x'.repeat(50 * MB)}"}]}`)
      bad.handle(sends(body))
      const [row] = await rowsOf(async () => {
        const reply = await post(`${gateway.url}/mcp/large`, TOOL_CALL, legacy({ key: stranger }))
        expect(reply.status).to.equal(200)
        expect(reply.text.length).to.equal(body.length)
        expect(reply.text === body).to.equal(true)
      })
      expect(row?.decision['upstream'].bytes).to.equal(body.length)
      expect(JSON.stringify(row?.['response_json']).length).to.be.lessThan(MB)
    })

    describe('that list 100,000 tools', () => {
      const tools: ScriptedTool[] = Array.from({ length: 100_000 }, (_, n) => ({
        name: `tool-${n}`,
        inputSchema: { type: 'object' },
      }))
      let flooding: ScriptedUpstream
      let flooded: TestGateway

      before(async () => {
        flooding = await startScriptedUpstream({ tools })
        flooded = await startTestGateway({ upstreams: { good: good.url, bad: flooding.url } })
      })
      after(async () => {
        await flooded?.close()
        await flooding?.close()
      })

      it('are failed upstreams: no tool of theirs is called, no list relayed, and others go on', async () => {
        const own = await flooded.key()
        const neighbour = startGoodCaller(() => call(`${flooded.url}/mcp/good`, 'echo', {}, { key: own }))
        const list = '{"jsonrpc":"2.0","id":1,"method":"tools/list"}'
        const replies = [
          await call(`${flooded.url}/mcp/bad`, 'tool-1', {}, { key: own }),
          await post(`${flooded.url}/mcp/bad`, list, legacy({ key: own })),
        ]
        await neighbour.served()
        await neighbour.stop()
        expect(flooding.calls()).to.equal(0)
        for (const reply of replies) {
          expect(reply.status).to.equal(502)
          const rows = await flooded.rowsOf(reply.requestId)
          expect(rows.map((row) => row.outcome)).to.deep.equal(['upstream_error'])
          expect(JSON.stringify(rows[0]).length).to.be.lessThan(MB)
        }
      })
    })
  })
})

interface GoodCaller {
  /** Resolves when a call that is sent from now on has been answered; rejects when one was not answered as it should be. */
  served(): Promise<void>
  stop(): Promise<void>
}

/** Calls again and again, one call at a time. */
function startGoodCaller(callOnce: () => Promise<{ readonly status: number }>): GoodCaller {
  let isStopped = false
  let waiting: (() => void)[] = []
  const running = (async () => {
    while (!isStopped) {
      const due = waiting
      waiting = []
      const { status } = await callOnce()
      if (status !== 200) throw new Error(`the good caller got ${status}`)
      for (const tell of due) tell()
    }
  })()
  running.catch(() => undefined)
  return {
    served: () => Promise.race([running, new Promise<void>((resolve) => waiting.push(resolve))]),
    stop: async () => {
      isStopped = true
      await running
    },
  }
}
