import { connect } from 'node:net'
import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { echoArguments, startScriptedUpstream } from '../support/upstreams.ts'

describe('a gateway that is asked too much', () => {
  const MAX_IN_FLIGHT = 5
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let release: () => Promise<void>

  before(async () => {
    upstream = await startScriptedUpstream()
    gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { limits: { max_in_flight: MAX_IN_FLIGHT } },
    })
    key = await gateway.key()
    await call(mcp(), 'echo', {}, { key })
  })
  beforeEach(async () => {
    release = await fill()
  })
  afterEach(() => release())
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  const mcp = () => `${gateway.url}/mcp/desk`

  /** As many calls as may be in flight, held by their upstream. */
  async function fill(): Promise<() => Promise<void>> {
    const held: (() => void)[] = []
    upstream.handle((_request, reply) => void held.push(() => reply.result({ content: [] })))
    const calls = Array.from({ length: MAX_IN_FLIGHT }, () => call(mcp(), 'echo', {}, { key }))
    await until('all of them to arrive', () => held.length === MAX_IN_FLIGHT)
    return async () => {
      upstream.handle(echoArguments)
      for (const answer of held) answer()
      for (const reply of await Promise.all(calls)) expect(reply.status).to.equal(200)
    }
  }

  /** Sends a head that announces a body and none of it; resolves with what has come back when the answer is whole. */
  function answerWithoutBody(announced: string): Promise<string> {
    const { hostname, port } = new URL(gateway.url)
    return new Promise((resolve, reject) => {
      let text = ''
      const socket = connect(Number(port), hostname, () => {
        const head = ['POST /mcp/desk HTTP/1.1', `host: ${hostname}`, 'content-type: application/json']
        socket.write(`${[...head, announced].join('\r\n')}\r\n\r\n`)
      })
      socket.on('data', (chunk) => {
        text += String(chunk)
        if (text.includes('"requestId"')) socket.destroy()
      })
      socket.on('error', reject)
      socket.on('close', () => resolve(text))
    })
  }

  it('refuses before it looks at a credential, says when to come back, and leaves a row for each', async () => {
    const before = upstream.calls()
    const refused: RpcReply[] = []
    for (let at = 0; at < 5; at += 1) {
      const reply = await call(mcp(), 'echo', {}, { key: 'gwk_wrong' })
      expect(await gateway.rowsOf(reply.requestId), 'it is there when they are few').to.have.length(1)
      refused.push(reply)
    }
    const many = Array.from({ length: 20 }, () => call(mcp(), 'echo', {}, { key: 'gwk_wrong' }))
    refused.push(...(await Promise.all(many)))
    for (const reply of refused) {
      expect(reply.status).to.equal(503)
      expect(reply.headers.get('retry-after')).to.equal('1')
      expect(reply.headers.get('cache-control')).to.equal('no-store')
      expect(reply.json).to.deep.equal({
        jsonrpc: '2.0',
        error: {
          code: 1503,
          message: 'Gateway overloaded',
          data: { retryAfterSeconds: 1, requestId: reply.requestId },
        },
      })
    }
    for (const reply of refused) {
      await until('the row', async () => (await gateway.rowsOf(reply.requestId)).length > 0)
      const rows = await gateway.rowsOf(reply.requestId)
      expect(rows).to.have.length(1)
      expect(rows[0]).to.include({
        outcome: 'overloaded',
        reason: 'overloaded',
        status_code: 503,
        method: null,
      })
      expect(rows[0]).to.include({ principal_id: null, http_method: 'POST', client_ip: '127.0.0.1' })
      expect(rows[0]?.decision).to.include({ stage: 'admit' })
    }
    expect(upstream.calls()).to.equal(before)
  })

  it('does not wait for a body, and keeps no connection on which too much of one would have to be read over', async () => {
    const flood = (announced: string): Promise<readonly string[]> =>
      Promise.all(Array.from({ length: 20 }, () => answerWithoutBody(announced)))
    const short = await flood('content-length: 1000')
    for (const answer of short) expect(answer).to.match(/^HTTP\/1\.1 503 /)
    expect(short.filter((answer) => !/connection: close/i.test(answer)).length).to.be.above(0)
    for (const announced of ['content-length: 3000000', 'transfer-encoding: chunked']) {
      for (const answer of await flood(announced)) {
        expect(answer).to.match(/^HTTP\/1\.1 503 /)
        expect(answer).to.match(/connection: close/i)
      }
    }
  })

  it('refuses the URLs it has to decode as well', async () => {
    const reply = await call(`${gateway.url}/mcp/d%65sk`, 'echo', {}, { key })
    expect(reply.status).to.equal(503)
    expect(reply.json.error).to.include({ code: 1503, message: 'Gateway overloaded' })
    expect((await gateway.rowsOf(reply.requestId))[0]).to.include({ outcome: 'overloaded', server: 'desk' })
  })

  it('records every attempt of a flood, by a row of its own or counted in one', async () => {
    const FLOOD = 600
    const replies = await Promise.all(
      Array.from({ length: FLOOD }, () => call(mcp(), 'echo', {}, { key: 'gwk_wrong' })),
    )
    expect(new Set(replies.map((reply) => reply.status))).to.deep.equal(new Set([503]))
    const recorded = async (): Promise<number> => {
      const { rows } = await gateway.database.pool.query<{ n: number }>(
        `select coalesce(sum(coalesce((decision->'counted'->>'count')::int, 1)), 0)::int as n
         from audit_events where outcome = 'overloaded' and request_id = any($1)`,
        [replies.map((reply) => reply.requestId)],
      )
      return rows[0]?.n ?? 0
    }
    await until('all to be recorded', async () => (await recorded()) >= FLOOD)
    expect(await recorded()).to.equal(FLOOD)
    for (const requestId of new Set(replies.map((reply) => reply.requestId)))
      expect(await gateway.rowsOf(requestId)).to.have.length(1)
    const lines = gateway.log().split('\n')
    expect(lines.filter((line) => line.includes('"attempts":')).length, 'not a line each').to.be.within(0, 5)
  })
})

describe('a gateway that is asked much', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string

  before(async () => {
    upstream = await startScriptedUpstream()
    gateway = await startTestGateway({ upstreams: { desk: upstream.url } })
    key = await gateway.key()
    await call(mcp(), 'echo', {}, { key })
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  const mcp = () => `${gateway.url}/mcp/desk`

  it('serves a burst of 200 calls, and says in their rows how long they waited for their turn', async () => {
    const replies = await Promise.all(Array.from({ length: 200 }, () => call(mcp(), 'echo', {}, { key })))
    expect(new Set(replies.map((reply) => reply.status))).to.deep.equal(new Set([200]))
    for (const { requestId } of replies.slice(-3)) {
      const [row] = await gateway.rowsOf(requestId)
      expect(row?.decision['timings_us'].queue).to.be.a('number')
    }
  })

  it('does not take slow upstreams for too much work', async () => {
    const held: (() => void)[] = []
    upstream.handle((_request, reply) => void held.push(() => reply.result({ content: [] })))
    const calls = Array.from({ length: 300 }, () => call(mcp(), 'echo', {}, { key }))
    await until('all of them to arrive', () => held.length === 300)
    for (const answer of held) answer()
    for (const reply of await Promise.all(calls)) expect(reply.status).to.equal(200)
    upstream.handle(echoArguments)
  })

  it('refuses no single caller because other processes keep the machine busy', async () => {
    // Busy for as long as it takes, at most for some seconds: they stop by themselves.
    const busy = Array.from(
      { length: availableParallelism() },
      () => new Worker('const end = Date.now() + 4000; while (Date.now() < end);', { eval: true }),
    )
    const statuses: number[] = []
    for (let at = 0; at < 30; at += 1) statuses.push((await call(mcp(), 'echo', {}, { key })).status)
    await Promise.all(busy.map((worker) => worker.terminate()))
    expect(new Set(statuses)).to.deep.equal(new Set([200]))
  })
})
