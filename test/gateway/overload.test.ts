import { connect } from 'node:net'
import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { RpcReply } from '../support/rpc.ts'
import { call } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

/** The bound on the gateway's own delay in these tests, ms. */
const MAX_DELAY_MS = 100

describe('a gateway that is asked too much', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let adminKey: string

  before(async () => {
    upstream = await startScriptedUpstream()
    gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { limits: { max_delay_ms: MAX_DELAY_MS } },
    })
    key = await gateway.key()
    adminKey = await gateway.key({ name: 'ops', scopes: ['gateway:admin'] })
    await call(mcp(), 'echo', {}, { key })
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  const mcp = () => `${gateway.url}/mcp/desk`

  async function share(): Promise<number> {
    const headers = { authorization: `Bearer ${adminKey}` }
    const text = await (await fetch(`${gateway.adminUrl}/metrics`, { headers })).text()
    return Number(/^gateway_admitted_share (\S+)$/m.exec(text)?.[1])
  }

  /** Keeps the loop of this process, which is the gateway's, so late that few are let in. */
  async function overwork(): Promise<void> {
    for (let turn = 0; turn < 12; turn += 1) {
      const end = performance.now() + 2 * MAX_DELAY_MS
      while (performance.now() < end);
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async function calm(): Promise<void> {
    await until('everybody to be let in again', async () => (await share()) === 1)
  }

  it('refuses before it looks at a credential or a body, says when to come back, and leaves a row for each', async () => {
    await overwork()
    const before = upstream.calls()
    const replies: RpcReply[] = []
    for (let at = 0; at < 10; at += 1) replies.push(await call(mcp(), 'echo', {}, { key: 'gwk_wrong' }))
    const refused = replies.filter((reply) => reply.status === 503)
    expect(refused.length).to.be.above(5)
    for (const reply of refused) {
      expect(reply.headers.get('retry-after')).to.equal('1')
      expect(reply.json.error).to.deep.equal({
        code: 1503,
        message: 'Gateway overloaded',
        data: { retryAfterSeconds: 1, requestId: reply.requestId },
      })
      expect(reply.json).not.to.have.property('id')
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
    const bodiless = Array.from({ length: 10 }, () => answerWithoutBody(gateway.url, `Bearer ${key}`))
    const answers = await Promise.all(bodiless)
    expect(answers.filter((answer) => answer.startsWith('HTTP/1.1 503')).length).to.be.above(0)
    expect(upstream.calls()).to.equal(before)
    await calm()
    const statuses = await Promise.all(
      Array.from({ length: 50 }, async () => (await call(mcp(), 'echo', {}, { key })).status),
    )
    expect(new Set(statuses)).to.deep.equal(new Set([200]))
  })

  it('is not asked too much by upstreams that are slow', async () => {
    const held: (() => void)[] = []
    upstream.handle((_request, reply) => void held.push(() => reply.result({ content: [] })))
    const calls = Array.from({ length: 300 }, () => call(mcp(), 'echo', {}, { key }))
    await until('all of them to arrive', () => held.length === 300)
    await new Promise((resolve) => setTimeout(resolve, 5 * MAX_DELAY_MS))
    expect(await share()).to.equal(1)
    for (const answer of held) answer()
    for (const reply of await Promise.all(calls)) expect(reply.status).to.equal(200)
  })
})

/** Announces a body, sends none of it, and resolves with what comes back within 2 s. */
function answerWithoutBody(url: string, authorization: string): Promise<string> {
  const { hostname, port } = new URL(url)
  return new Promise((resolve) => {
    let text = ''
    const socket = connect(Number(port), hostname, () => {
      const head = [
        `POST /mcp/desk HTTP/1.1`,
        `host: ${hostname}`,
        `authorization: ${authorization}`,
        'content-type: application/json',
      ]
      socket.write(`${[...head, 'content-length: 1000'].join('\r\n')}\r\n\r\n`)
    })
    const timer = setTimeout(() => socket.destroy(), 2000)
    socket.on('data', (chunk) => {
      text += String(chunk)
      if (text.includes('\r\n\r\n')) socket.destroy()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      clearTimeout(timer)
      resolve(text)
    })
  })
}
