import { expect } from 'chai'
import { startTestGateway } from '../support/gateway.ts'
import { call } from '../support/rpc.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

describe('an address that keeps failing', () => {
  it('is throttled without a row for each attempt, but for one with the count when the window ends', async () => {
    const upstream = await startScriptedUpstream()
    const gateway = await startTestGateway({
      upstreams: { desk: upstream.url },
      settings: { auth: { throttle: { max_failures: 3, window_s: 60 } } },
    })
    const key = await gateway.key()
    const mcp = `${gateway.url}/mcp/desk`
    const statuses: number[] = []
    for (let attempt = 0; attempt < 8; attempt += 1) {
      const reply = await call(mcp, 'echo', {}, { key: 'wrong' })
      statuses.push(reply.status)
      if (reply.status !== 429) continue
      expect(reply.json.error.code).to.equal(1429)
      expect(reply.json.error.data.retryAfterSeconds).to.be.within(1, 60)
      expect(Number(reply.headers.get('retry-after'))).to.be.within(1, 60)
    }
    expect(statuses).to.deep.equal([401, 401, 401, 429, 429, 429, 429, 429])
    expect((await call(mcp, 'echo', {}, { key })).status, 'a valid key from the same address').to.equal(200)
    expect((await gateway.rows()).filter((row) => row.reason === 'address_throttled')).to.have.length(0)

    const { pool } = gateway.database
    await gateway.stop()
    const { rows } = await pool.query("select * from audit_events where reason = 'address_throttled'")
    expect(rows).to.have.length(1)
    expect(rows[0]).to.include({ outcome: 'rate_limited', client_ip: '127.0.0.1' })
    expect(rows[0].error_message).to.contain('5 attempts')
    expect(rows[0].decision.counted).to.deep.include({ count: 5, addresses: { '127.0.0.1': 5 }, others: 0 })
    await gateway.close()
    await upstream.close()
  })
})
