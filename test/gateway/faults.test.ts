import { expect } from 'chai'
import pg from 'pg'
import { toConnectionUrl } from '../../src/db/connection.ts'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import type { TestServer } from '../support/postgres.ts'
import { startServer } from '../support/postgres.ts'
import { call, legacy, modern, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

describe('when something on the way fails', () => {
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let key: string
  let mcp: string

  before(async () => {
    upstream = await startScriptedUpstream()
    gateway = await startTestGateway({
      upstreams: { desk: { url: upstream.url, timeout_ms: 400 } },
    })
    key = await gateway.key()
    mcp = `${gateway.url}/mcp/desk`
    await call(mcp, 'echo', {}, { key })
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
  })

  async function onlyRow(requestId: string | null): Promise<Row> {
    const rows = await gateway.rowsOf(requestId)
    expect(rows).to.have.length(1)
    return rows[0]!
  }

  it('an upstream that answers 500 is a 502 without its words', async () => {
    upstream.handle((_request, reply) => reply.send(500, 'secret stack trace', { 'set-cookie': 'a=b' }))
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(502)
    expect(reply.json.error.code).to.equal(1502)
    expect(reply.text + JSON.stringify([...reply.headers])).not.to.match(/stack|a=b/)
    expect(await onlyRow(reply.requestId)).to.include({
      outcome: 'upstream_error',
      reason: 'upstream_failed',
      status_code: 502,
    })
  })

  it('an upstream that breaks off is a 502', async () => {
    upstream.handle((_request, reply) => reply.die())
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(502)
    expect(await onlyRow(reply.requestId)).to.include({ outcome: 'upstream_error' })
  })

  it('an upstream that does not answer in time is a 504', async () => {
    upstream.handle(() => undefined)
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(504)
    expect(await onlyRow(reply.requestId)).to.include({ outcome: 'upstream_timeout', status_code: 504 })
  })

  it('an upstream that dies in the middle of a stream gives an error event with the id of the request', async () => {
    upstream.handle((request, reply) => {
      const stream = reply.stream()
      stream.message({
        jsonrpc: '2.0',
        method: 'notifications/progress',
        params: { progressToken: 1, progress: 1 },
      })
      setTimeout(() => stream.die(), 20)
      void request
    })
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.status).to.equal(200)
    expect(reply.text).to.contain('notifications/progress')
    expect(reply.json).to.deep.include({ id: 7 })
    expect(reply.json.error.code).to.equal(1502)
    expect(await onlyRow(reply.requestId)).to.include({ outcome: 'upstream_error' })
  })

  it("an upstream's own JSON-RPC error is its answer, and told apart in the row", async () => {
    upstream.handle((_request, reply) => reply.error(-32603, 'no disk'))
    const reply = await call(mcp, 'echo', {}, { key })
    expect(reply.json.error).to.deep.include({ code: -32603, message: 'no disk' })
    const row = await onlyRow(reply.requestId)
    expect(row).to.include({ outcome: 'allowed' })
    expect(row.decision['upstream'].json_rpc_error).to.equal(-32603)
  })

  it('a client that hangs up aborts the upstream and leaves one row that says so', async () => {
    const waiting = new AbortController()
    let abandoned: Promise<void> | null = null
    upstream.handle((_request, reply) => {
      abandoned = reply.closed
    })
    const sent = call(mcp, 'echo', { hang: true }, { key, signal: waiting.signal }).catch(() => null)
    await until('the upstream to be asked', () => abandoned !== null)
    waiting.abort()
    await sent
    await abandoned
    const row = await until('the row', async () =>
      (await gateway.rows()).find(
        (found) => found['request_json'] && JSON.stringify(found['request_json']).includes('hang'),
      ),
    )
    expect(row).to.include({ outcome: 'client_closed', status_code: 499 })
  })

  it('a slow call does not delay a fast one', async () => {
    const slow: (() => void)[] = []
    upstream.handle((request, reply) => {
      if (JSON.stringify(request.json).includes('slow')) slow.push(() => reply.result({ content: [] }))
      else reply.result({ content: [] })
    })
    const pending = call(mcp, 'echo', { slow: true }, { key })
    await until('the slow call to arrive', () => slow.length === 1)
    expect((await call(mcp, 'echo', {}, { key })).status).to.equal(200)
    slow[0]?.()
    expect((await pending).status).to.equal(200)
  })

  it('more calls than may be in flight are refused at once', async () => {
    const limited = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { limits: { max_in_flight: 2 } },
    })
    try {
      const limitedKey = await limited.key()
      const release: (() => void)[] = []
      upstream.handle((_request, reply) => void release.push(() => reply.result({ content: [] })))
      const url = `${limited.url}/mcp/desk`
      const held = [call(url, 'echo', {}, { key: limitedKey }), call(url, 'echo', {}, { key: limitedKey })]
      await until('both to arrive', () => release.length === 2)
      const third = await call(url, 'echo', {}, { key: limitedKey })
      expect(third.status).to.equal(503)
      expect((await limited.rowsOf(third.requestId))[0]).to.include({
        outcome: 'overloaded',
        reason: 'overloaded',
      })
      for (const finish of release) finish()
      for (const reply of await Promise.all(held)) expect(reply.status).to.equal(200)
    } finally {
      await limited.close()
    }
  })
})

describe('an upstream that is down', () => {
  it('is a 502 for a caller who may use it, and a 403 for one who may not', async () => {
    const gateway = await startTestGateway({
      policies: {
        'authz/a.rego':
          'package gateway.authz\n\nallow contains "dev" if "developer" in input.principal.roles\n',
      },
      upstreams: { gone: 'http://127.0.0.1:9/mcp' },
    })
    try {
      const url = `${gateway.url}/mcp/gone`
      const may = await call(url, 'echo', {}, { key: await gateway.key() })
      expect(may.status).to.equal(502)
      const mayNot = await call(url, 'echo', {}, { key: await gateway.key({ roles: ['readonly'] }) })
      expect(mayNot.status).to.equal(403)
    } finally {
      await gateway.close()
    }
  })

  it('joins when it comes up, without a restart', async () => {
    const first = await startScriptedUpstream()
    const { port, url } = first
    await first.close()
    const gateway = await startTestGateway({ upstreams: { late: url } })
    const key = await gateway.key()
    expect((await call(`${gateway.url}/mcp/late`, 'echo', {}, { key })).status).to.equal(502)
    const upstream = await startScriptedUpstream({ port })
    try {
      await until(
        'the upstream to be used',
        async () => (await call(`${gateway.url}/mcp/late`, 'echo', {}, { key })).status === 200,
      )
    } finally {
      await gateway.close()
      await upstream.close()
    }
  })
})

describe('when the database stops', function () {
  this.timeout(60_000)
  let server: TestServer
  let upstream: ScriptedUpstream
  let gateway: TestGateway
  let pool: pg.Pool

  before(async () => {
    server = await startServer()
    upstream = await startScriptedUpstream()
    pool = new pg.Pool({ connectionString: toConnectionUrl(server.runtime) })
    pool.on('error', () => undefined)
    gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      database: { url: toConnectionUrl(server.runtime), migrateUrl: toConnectionUrl(server.owner), pool },
    })
  })
  after(async () => {
    await gateway?.close()
    await upstream?.close()
    await pool?.end()
    await server?.dispose()
  })

  it('nothing is forwarded until it is back, and every attempt has its one row in the end', async () => {
    const key = await gateway.key()
    const mcp = `${gateway.url}/mcp/desk`
    expect((await call(mcp, 'echo', {}, { key })).status).to.equal(200)

    await server.stop('immediate')
    const down = await until('a refusal', async () => {
      const reply = await call(mcp, 'echo', { while: 'down' }, { key })
      return reply.status === 503 ? reply : null
    })
    expect(down.json.error.code).to.equal(1503)
    const forwarded = upstream.calls()
    const refused = await call(mcp, 'echo', { while: 'down' }, { key })
    expect(refused.status).to.equal(503)
    expect(upstream.calls()).to.equal(forwarded)
    expect((await fetch(`${gateway.adminUrl}/readyz`)).status).to.equal(503)
    expect(gateway.log()).to.match(/audit|database/)

    await server.restart()
    await until(
      'the gateway to serve again',
      async () => (await call(mcp, 'echo', {}, { key })).status === 200,
      20_000,
    )
    const row = await until(
      'the row of a refused attempt',
      async () => (await gateway.rowsOf(refused.requestId))[0],
    )
    expect(row).to.include({ outcome: 'unavailable', status_code: 503 })
    expect(await gateway.rowsOf(down.requestId)).to.have.length(1)
    await until('readiness', async () => (await fetch(`${gateway.adminUrl}/readyz`)).status === 200)
  })

  it('an answer whose row cannot be stored is not given, and the row appears when the database is back', async () => {
    const key = await gateway.key()
    const mcp = `${gateway.url}/mcp/desk`
    await until('the key to be known', async () => (await call(mcp, 'echo', {}, { key })).status === 200)
    upstream.handle(async (_request, reply) => {
      await server.stop('immediate')
      reply.result({ content: [{ type: 'text', text: 'done' }] })
    })
    const lost = await call(mcp, 'echo', { case: 'lost' }, { key })
    expect(lost.status).to.equal(503)
    expect(lost.text).not.to.contain('done')
    await server.restart()
    const rows = await until(
      'the row',
      async () => {
        const found = await gateway.rowsOf(lost.requestId)
        return found.length > 0 ? found : null
      },
      20_000,
    )
    expect(rows).to.have.length(1)
    expect(rows[0]).to.include({ outcome: 'allowed' })
  })
})

describe('a clock that jumps', () => {
  it('ten days ahead still finds a partition for its rows', async () => {
    const upstream = await startScriptedUpstream()
    let offset = 0
    const gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      nowMs: () => Date.now() + offset,
    })
    try {
      const key = await gateway.key()
      await call(`${gateway.url}/mcp/desk`, 'echo', {}, { key })
      offset = 10 * 86_400_000
      const reply = await call(`${gateway.url}/mcp/desk`, 'echo', {}, { key })
      expect(reply.status).to.equal(200)
      const [row] = await gateway.rowsOf(reply.requestId)
      expect(Math.abs(row!['ts'].getTime() - Date.now() - offset)).to.be.lessThan(60_000)
    } finally {
      await gateway.close()
      await upstream.close()
    }
  })
})

describe('audit switched off', () => {
  it('changes nothing for callers, leaves no row, and readiness says so', async () => {
    const upstream = await startScriptedUpstream()
    const gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { audit: { enabled: false } },
    })
    try {
      const key = await gateway.key()
      expect((await call(`${gateway.url}/mcp/desk`, 'echo', {}, { key })).status).to.equal(200)
      expect((await modern(`${gateway.url}/mcp/desk`, 'nope', {}, { key })).status).to.equal(404)
      expect((await post(`${gateway.url}/mcp/desk`, '{', legacy({ key }))).status).to.equal(400)
      expect(await gateway.rows()).to.have.length(0)
      expect(await (await fetch(`${gateway.adminUrl}/readyz`)).text()).to.contain('disabled')
      expect(gateway.log()).to.contain('audit is off')
    } finally {
      await gateway.close()
      await upstream.close()
    }
  })
})
