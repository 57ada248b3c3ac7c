import { expect } from 'chai'
import type { Row, TestGateway } from '../support/gateway.ts'
import { startTestGateway } from '../support/gateway.ts'
import { call, legacy, modern, post } from '../support/rpc.ts'
import { until } from '../support/until.ts'
import type { ScriptedUpstream } from '../support/upstreams.ts'
import { startScriptedUpstream } from '../support/upstreams.ts'

for (const mode of ['batch', 'durable'] as const) {
  describe(`a gateway whose audit mode is ${mode}`, () => {
    let upstream: ScriptedUpstream
    let gateway: TestGateway
    let key: string
    let mcp: string

    before(async () => {
      upstream = await startScriptedUpstream({
        tools: [{ name: 'echo', inputSchema: { type: 'object' } }],
      })
      upstream.handle((_request, reply) => reply.result({ content: [] }))
      gateway = await startTestGateway({
        upstreams: { desk: upstream.url },
        settings: { audit: { mode }, limits: { max_body_bytes: 16 * 1024 * 1024 } },
      })
      key = await gateway.key()
      mcp = `${gateway.url}/mcp/desk`
    })
    after(async () => {
      await gateway?.close()
      await upstream?.close()
    })

    const onlyRow = async (requestId: string | null): Promise<Row> => {
      const rows = await until('the row', async () => {
        const found = await gateway.rowsOf(requestId)
        return found.length > 0 && found
      })
      expect(rows).to.have.length(1)
      return rows[0]!
    }

    it('leaves one row of a call, of a denial and of a request without a key', async () => {
      const allowed = await call(mcp, 'echo', { a: 1 }, { key })
      expect(allowed.status).to.equal(200)
      expect(await onlyRow(allowed.requestId)).to.include({ outcome: 'allowed', tool_name: 'echo' })
      const unknown = await call(mcp, 'rm', {}, { key })
      expect(await onlyRow(unknown.requestId)).to.include({ outcome: 'denied_authz' })
      const stranger = await call(mcp, 'echo', {}, { key: null })
      expect(await onlyRow(stranger.requestId)).to.include({ outcome: 'denied_auth' })
    })

    it('leaves the row of every poisonous request, and those of its neighbours', async () => {
      const deep = `${'['.repeat(20_000)}${']'.repeat(20_000)}`
      const body = (args: string) =>
        `{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","arguments":${args}}}`
      const bodies: readonly (string | Buffer)[] = [
        body('{"a":"x\\u0000y"}'),
        body('{"a\\u0000b":1}'),
        body('{"a":"\\ud800"}'),
        body(`{"a":${deep}}`),
        body('{"a":1e400}'),
        body(`{"${'k'.repeat(300_000)}":1}`),
        body(`{"a":"${'x'.repeat(10_000_000)}"}`),
        Buffer.concat([Buffer.from('{"a":"'), Buffer.from([0xff, 0xfe, 0xc0]), Buffer.from('"}')]),
        body('{"__proto__":{"isAdmin":true},"constructor":{"prototype":1}}'),
      ]
      const sent = bodies.flatMap((bytes) => [
        post(mcp, bytes, legacy({ key })),
        call(mcp, 'echo', { neighbour: true }, { key }),
      ])
      const replies = await Promise.all(sent)
      for (const [index, reply] of replies.entries()) {
        const row = await onlyRow(reply.requestId)
        expect(row.status_code, `request ${index}`).to.equal(reply.status)
        if (index % 2 === 1) expect(row).to.include({ outcome: 'allowed', tool_name: 'echo' })
      }
      expect(({} as { isAdmin?: boolean }).isAdmin).to.equal(undefined)
    })

    it('is ready, and says how full its spool is', async () => {
      const admin = await gateway.key({ scopes: ['gateway:admin'] })
      const response = await fetch(`${gateway.adminUrl}/metrics`, {
        headers: { authorization: `Bearer ${admin}` },
      })
      const metrics = await response.text()
      expect(metrics).to.match(/^gateway_audit_accepting 1$/m)
      expect(metrics).to.match(/^gateway_audit_spool_disk_bytes [1-9]\d*$/m)
      const ready = await fetch(`${gateway.adminUrl}/readyz`)
      expect(ready.status).to.equal(200)
    })

    it('leaves the row of a call in flight when it is stopped', async () => {
      const reply = await modern(mcp, 'tools/call', { name: 'echo', arguments: {} }, { key })
      await gateway.stop()
      expect(await gateway.rowsOf(reply.requestId)).to.have.length(1)
    })
  })
}
