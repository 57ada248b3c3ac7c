import { expect } from 'chai'
import type { TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { call, legacy, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { RawHandler, ScriptedUpstream } from '../support/upstreams.ts'
import { echoArguments, startScriptedUpstream } from '../support/upstreams.ts'

const tools = [
  { name: 'echo', inputSchema: { type: 'object' } },
  { name: 'slow', inputSchema: { type: 'object' } },
]

describe('the health of upstreams', () => {
  let ill: ScriptedUpstream
  let narrow: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let adminKey: string

  before(async () => {
    ill = await startScriptedUpstream({ tools })
    narrow = await startScriptedUpstream({ tools })
    gateway = await startTestGateway({
      upstreams: {
        ill: { url: ill.url, probe_interval_ms: null, breaker: { failures: 3, open_ms: 60_000 } },
        mended: { url: ill.url, probe_interval_ms: 100, breaker: { failures: 2, open_ms: 200 } },
        narrow: {
          url: narrow.url,
          max_in_flight: 1,
          max_wait_ms: 50,
          tools: { slow: { timeout_ms: 100 } },
        },
      },
    })
    key = await gateway.key()
    adminKey = await gateway.key({ name: 'ops', scopes: ['gateway:admin'] })
  })
  after(async () => {
    await gateway?.close()
    await ill?.close()
    await narrow?.close()
  })

  const mount = (name: string) => `${gateway.url}/mcp/${name}`
  const fails: RawHandler = (_request, reply) => reply.send(500, 's3cret stack')

  async function ready(): Promise<Record<string, any>> {
    return (await (await fetch(`${gateway.adminUrl}/readyz`)).json()) as Record<string, any>
  }

  async function metrics(): Promise<string> {
    const headers = { authorization: `Bearer ${adminKey}` }
    return await (await fetch(`${gateway.adminUrl}/metrics`, { headers })).text()
  }

  it('an upstream that fails again and again is not asked any more: 502 at once, with when to come back', async () => {
    expect((await call(mount('ill'), 'echo', {}, { key })).status).to.equal(200)
    ill.handle(fails)
    const before = ill.calls()
    for (let at = 0; at < 3; at += 1)
      expect((await call(mount('ill'), 'echo', {}, { key })).status).to.equal(502)
    const reply = await call(mount('ill'), 'echo', {}, { key })
    expect(ill.calls() - before).to.equal(3)
    expect(reply.status).to.equal(502)
    expect(reply.headers.get('retry-after')).to.match(/^(59|60)$/)
    expect(reply.json.error).to.deep.include({ code: 1502, message: 'Upstream failed' })
    expect(Object.keys(reply.json.error.data).sort()).to.deep.equal(['requestId', 'retryAfterSeconds'])
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row).to.include({ outcome: 'upstream_error', reason: 'upstream_failed', status_code: 502 })
    expect(row?.['error_message']).to.contain('circuit breaker open')
    expect(row?.decision['upstream'], 'it was not asked').to.equal(undefined)
  })

  it('says so in readiness, metrics and log, in bounded words of its own', async () => {
    const { status, checks } = await ready()
    expect(status, 'one upstream that is ill does not take the gateway out').to.equal('ready')
    expect(checks.upstreams).to.deep.include({ state: 'failed', open_breakers: ['ill'] })
    expect(checks.upstreams.servers).to.include({ ill: 'down', narrow: 'up' })
    const text = await metrics()
    expect(text).to.contain('gateway_upstream_up{server="ill"} 0')
    expect(text).to.contain('gateway_upstream_up{server="narrow"} 1')
    expect(text).to.contain('gateway_upstream_breaker_state{server="ill",state="open"} 1')
    expect(text).to.contain('gateway_upstream_breaker_state{server="ill",state="closed"} 0')
    expect(text).to.match(/gateway_upstream_wait_seconds_count\{server="ill"\} [1-9]/)
    expect(text).to.match(/gateway_event_loop_lag_seconds \d/)
    expect(text).to.match(/gateway_calls_waiting 0$/m)
    expect(text).to.match(/gateway_queue_seconds_count [1-9]/)
    const lines = gateway
      .log()
      .split('\n')
      .filter((line) => line.includes('"upstream":"ill"'))
    expect(lines.map((line) => JSON.parse(line).message)).to.deep.equal([
      'an upstream is up',
      'the circuit breaker of an upstream is open: calls are refused',
      'an upstream is down',
    ])
    expect(gateway.log()).not.to.contain('s3cret')
  })

  it('a caller who may not use it learns nothing of that', async () => {
    const nobody = await gateway.key({ name: 'nobody', roles: [] })
    const reply = await call(mount('ill'), 'echo', {}, { key: nobody })
    expect(reply.status).to.equal(403)
    expect(reply.headers.get('retry-after')).to.equal(null)
  })

  it('a probe finds out that it works again; no call is risked for that', async () => {
    ill.handle(fails)
    // A probe between two failures would begin the count anew, so they go together.
    await until('the breaker to open or have opened', async () => {
      await Promise.all([1, 2].map(() => call(mount('mended'), 'echo', {}, { key })))
      return gateway.log().includes('"upstream":"mended","failures":2')
    })
    const before = ill.calls()
    ill.handle(echoArguments)
    await until('it to be up', async () => (await ready())['checks'].upstreams.servers.mended === 'up')
    expect(ill.calls()).to.equal(before)
    expect((await call(mount('mended'), 'echo', {}, { key })).status).to.equal(200)
  })

  it('a tool may have a time of its own', async () => {
    narrow.handle((request, reply) => {
      if (request.name === 'echo') reply.result({ content: [] })
    })
    const reply = await call(mount('narrow'), 'slow', {}, { key })
    expect(reply.status).to.equal(504)
    expect(reply.json.error).to.deep.include({ code: 1504, message: 'Upstream timed out' })
    const [row] = await gateway.rowsOf(reply.requestId)
    expect(row).to.include({ outcome: 'upstream_timeout', error_message: 'no answer within 100 ms' })
    expect((await call(mount('narrow'), 'echo', {}, { key })).status).to.equal(200)
  })

  it('an upstream that has enough to do is spared: 503 after a short wait, and a row that says why', async () => {
    const held: (() => void)[] = []
    narrow.handle((_request, reply) => void held.push(() => reply.result({ content: [] })))
    const first = call(mount('narrow'), 'echo', { first: true }, { key })
    await until('the first to arrive', () => held.length === 1)
    const second = await call(mount('narrow'), 'echo', { second: true }, { key })
    expect(second.status).to.equal(503)
    expect(second.headers.get('retry-after')).to.equal('1')
    expect(second.json.error).to.deep.include({ code: 1503 })
    const [row] = await gateway.rowsOf(second.requestId)
    expect(row).to.include({ outcome: 'overloaded', error_message: 'no place at the upstream in time' })
    expect(row?.decision).to.include({ stage: 'upstream' })
    const cancel = '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}'
    const cancelled = post(mount('narrow'), cancel, legacy({ key }))
    await until('a cancellation to pass', () => held.length === 2)
    for (const answer of held) answer()
    expect((await first).status).to.equal(200)
    await cancelled
  })
})
