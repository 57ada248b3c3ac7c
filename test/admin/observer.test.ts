import { expect } from 'chai'
import { createMetrics } from '../../src/admin/metrics.ts'
import { GatewayError } from '../../src/errors.ts'
import type { AuditEvent, Call, Ending, Principal } from '../../src/gateway/types.ts'
import { createLog, createObserver } from '../../src/log.ts'

const KEY = 'gwk_abc123_9hT2kQ0vXw8m4Rz6Ns1Lp3Yd5Jf7Gc'

function event(call: Partial<Call> = {}, ending: Partial<Ending> = {}): AuditEvent {
  return {
    call: {
      id: '01',
      requestId: '01',
      startedMs: 0,
      startedAt: 0,
      head: {
        httpMethod: 'POST',
        mount: 'desk',
        rawHeaders: ['authorization', `Bearer ${KEY}`],
        headers: {},
        peer: '192.0.2.1',
      },
      stage: 'upstream',
      clientIp: '192.0.2.7',
      principal: { id: 'ada', kind: 'user', apiKeyId: 'abc123', tenant: 'acme' } as Principal,
      server: { name: 'desk', labels: {} },
      message: {
        kind: 'request',
        era: 'modern',
        protocolVersion: '2026-07-28',
        method: 'tools/call',
        idText: '1',
        params: { arguments: { password: 'hunter2' } },
        argumentsText: '{"password":"hunter2"}',
        body: Buffer.from('{"password":"hunter2"}'),
        session: null,
        client: null,
      },
      target: { kind: 'tool', name: 'find', annotations: {}, schemaDigest: null },
      evaluation: {
        allow: true,
        deniedBy: [],
        evalUs: 120,
        policy: { revision: 'r1' },
      } as unknown as Call['evaluation'],
      listed: null,
      merged: null,
      parts: null,
      upstream: null,
      hint: null,
      timingsUs: {},
      ...call,
    } as Call,
    ending: {
      outcome: 'allowed',
      status: 200,
      kind: null,
      error: null,
      response: Buffer.from('hunter2'),
      latencyMs: 12.3456,
      ...ending,
    },
  }
}

describe('the observer of attempts', () => {
  function open() {
    const lines: string[] = []
    const log = createLog({ level: 'info', stream: { write: (line: string) => void lines.push(line) } })
    const metrics = createMetrics({ version: '1.2.3', audit: null, process: false })
    return { observe: createObserver(log, metrics), log, lines, metrics }
  }

  it('writes one line per attempt, with the row’s words and without payloads', () => {
    const { observe, lines } = open()
    observe(event())
    expect(lines).to.have.length(1)
    const { time, ...line } = JSON.parse(lines[0] ?? '') as Record<string, unknown>
    expect(time).to.match(/^\d{4}-\d\d-\d\dT/)
    expect(line).to.deep.equal({
      level: 'info',
      message: 'attempt',
      request_id: '01',
      outcome: 'allowed',
      status: 200,
      latency_ms: 12.346,
      client_ip: '192.0.2.7',
      principal: 'ada',
      api_key_id: 'abc123',
      tenant: 'acme',
      server: 'desk',
      method: 'tools/call',
      tool: 'find',
      policy_revision: 'r1',
    })
    expect(lines.join()).to.not.include('hunter2')
  })

  it('names no resource and nothing that no policy has looked at, and cuts what is long', () => {
    const { observe, lines } = open()
    observe(
      event({
        target: { kind: 'resource', name: 'https://x/?token=hunter2', annotations: {}, schemaDigest: null },
      }),
    )
    observe(event({ target: { kind: 'tool', name: 'x'.repeat(5000), annotations: {}, schemaDigest: null } }))
    expect(lines[0]).to.not.include('hunter2')
    expect(lines[1]?.length).to.be.below(1000)
    observe(
      event({
        evaluation: null,
        target: { kind: 'tool', name: 'hunter2', annotations: {}, schemaDigest: null },
      }),
    )
    expect(lines[2]).to.not.include('hunter2')
  })

  it('tells a fault by class and place, never by its message', () => {
    const { observe, lines } = open()
    const cause = new SyntaxError('Unexpected token in {"password":"hunter2"}')
    const error = new GatewayError('internal_error', { cause, detail: 'hunter2' })
    observe(event({}, { outcome: 'internal_error', kind: 'internal_error', status: 500, error }))
    const line = JSON.parse(lines[0] ?? '') as { level: string; err: { type: string; at: string[] } }
    expect(line.level).to.equal('error')
    expect(line.err.type).to.equal('SyntaxError')
    expect(line.err.at[0]).to.match(/^at /)
    expect(lines.join()).to.not.include('hunter2')
  })

  it('cleans credentials and hidden characters out of whatever a library says', () => {
    const { log, lines } = open()
    log.error({ url: 'postgres://gw:hunter2@db/x', secret: 'hunter2' }, `Bearer hunter2hunter2 ${KEY} \u202e`)
    expect(lines.join()).to.not.include('hunter2').and.not.include(KEY).and.not.include('\u202e')
    expect(JSON.parse(lines[0] ?? '')).to.include({ url: 'postgres://gw:[redacted]@db/x' })
    expect(lines.join()).to.include('gwk_abc123_[redacted]')
  })

  it('never throws, whatever it is given', () => {
    const { observe, lines } = open()
    observe({ call: { requestId: 'r' }, ending: {} } as unknown as AuditEvent)
    expect(lines.join()).to.include('could not be observed')
  })

  it('counts by outcome, method and kind of error, with bounded labels', async () => {
    const { observe, metrics } = open()
    observe(event())
    observe(event({}, { outcome: 'denied_authz', kind: 'policy_denied', status: 403 }))
    for (let made = 0; made < 50; made += 1) {
      const { message } = event().call
      observe(event({ message: { ...message, method: `made/up${made}` } as NonNullable<Call['message']> }))
    }
    metrics.setPolicy({ revision: 'a', digest: 'sha256:1' })
    metrics.setPolicy({ revision: 'b', digest: 'sha256:2' })
    const text = await metrics.text()
    expect(text).to.include('gateway_attempts_total{outcome="allowed"} 51')
    expect(text).to.include('gateway_attempts_total{outcome="denied_authz"} 1')
    expect(text).to.include('mcp_method_name="tools/call",error_type="policy_denied"')
    expect(text).to.include('mcp_method_name="other"').and.not.include('made/up')
    expect(text)
      .to.include('gateway_policy_info{revision="b",digest="sha256:2"} 1')
      .and.not.include('revision="a"')
    expect(text).to.include('gateway_build_info{version="1.2.3"')
  })

  it('shows the audit writer’s own counts', async () => {
    let writtenRows = 3
    const audit = () => ({
      pendingRows: 2,
      pendingBytes: 9,
      lagMs: 1500,
      writtenRows,
      mendedRows: 0,
      failedWrites: 1,
      lostRows: 0,
      deadLetters: 2,
      recoveredRows: 9,
      spoolDiskBytes: 4096,
      spoolMaxBytes: 8192,
      accepting: 1,
    })
    const metrics = createMetrics({ version: '1', audit, process: false })
    expect(await metrics.text())
      .to.include('gateway_audit_rows_total 3')
      .and.include('gateway_audit_spool_rows 2')
      .and.include('gateway_audit_lag_seconds 1.5')
    writtenRows = 5
    expect(await metrics.text()).to.include('gateway_audit_rows_total 5')
  })
})
