import pg from 'pg'
import { randomUUID } from 'node:crypto'
import { toAuditRow } from '../../src/audit/event.ts'
import { createRedactor, DECISION_BOUNDS, PAYLOAD_BOUNDS } from '../../src/audit/redact.ts'
import { toRecord } from '../../src/audit/row.ts'
import { createAuditRoom } from '../../src/audit/writer.ts'
import { maskSecrets, mayHoldSecret } from '../../src/audit/secrets.ts'
import { createTestDatabase, stopSharedServer } from '../support/postgres.ts'
import { allowed, call, denied, DENY_TRACE, evaluation, newId, toolsCall } from './fixtures.ts'
const rules = [...DENY_TRACE.rules, ...DENY_TRACE.rules, ...DENY_TRACE.rules, ...DENY_TRACE.rules, ...DENY_TRACE.rules, ...DENY_TRACE.rules]
const trace = JSON.stringify({ ...DENY_TRACE, rules })
console.log('trace bytes', trace.length)
const ev = evaluation({ trace })
const T = (n: string, f: () => unknown, k = 2000) => { for (let i = 0; i < 500; i++) f(); let best = 1e9; for (let r = 0; r < 5; r++) { const s = process.hrtime.bigint(); for (let i = 0; i < k; i++) f(); best = Math.min(best, Number(process.hrtime.bigint() - s) / 1000 / k) } console.log(n.padEnd(50), best.toFixed(1), 'us') }
const answer = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { content: [{ type: 'text', text: 'lorem ipsum dolor sit amet '.repeat(40) }] } })
const e1 = allowed({ evaluation: ev }, answer)
T('row of an allowed call', () => toAuditRow(e1))
T('  trace redact (fast path)', () => createRedactor().json(trace, { bounds: DECISION_BOUNDS, trusted: true }))
T('  trace redact (walk)', () => createRedactor().json(trace, { bounds: DECISION_BOUNDS }))
T('  mayHoldSecret(trace)', () => mayHoldSecret(trace))
T('  JSON.parse+stringify(trace)', () => JSON.stringify(JSON.parse(trace)))
T('  input walk', () => createRedactor().json(ev.inputText, { bounds: DECISION_BOUNDS, learn: true }))
T('  answer walk ' + answer.length, () => createRedactor().json(answer, { bounds: PAYLOAD_BOUNDS }))
const body = toolsCall('{"owner":"acme","repo":"site","token":"ghp_' + 'aB3x'.repeat(9) + '"}').body.toString()
T('  request with a token', () => createRedactor().json(body, { bounds: PAYLOAD_BOUNDS, learn: true }))
const big = toolsCall(JSON.stringify({ a: Array.from({ length: 4000 }, (_, i) => ({ id: i, name: 'name of ' + i, ok: true })) })).body.toString()
T('  request of ' + big.length, () => createRedactor().json(big, { bounds: PAYLOAD_BOUNDS, learn: true }), 50)
const hostile = JSON.stringify({ a: Array.from({ length: 8000 }, (_, i) => ({ password: 'no-' + i + '-secret' })) })
T('  request of 8000 secrets ' + hostile.length, () => createRedactor().json(hostile, { bounds: PAYLOAD_BOUNDS, learn: true }), 20)
const r2 = createRedactor(); r2.json(hostile, { bounds: PAYLOAD_BOUNDS, learn: true })
const bigTrace = JSON.stringify({ rules: Array.from({ length: 600 }, () => ({ rule: 'data.x', vars: { x: 'some text that is here '.repeat(4) } })) })
T('  trace after overflow ' + bigTrace.length, () => r2.json(bigTrace, { bounds: DECISION_BOUNDS, trusted: true }), 20)
const row = toAuditRow(e1)
T('  toRecord', () => toRecord(row, 'w', 1))
const db = await createTestDatabase()
const quiet = () => undefined
const room = createAuditRoom({ pool: db.pool, writerId: randomUUID(), newId, clock: { nowMs: Date.now }, log: { info: quiet, warn: quiet, error: quiet } })
await room.start()
for (const conc of [1, 8, 64, 256]) {
  let n = 0; const total = conc === 1 ? 500 : 4000
  const cpu = process.cpuUsage(); const s0 = room.counters().statements; const t = performance.now()
  const lat: number[] = []
  await Promise.all(Array.from({ length: conc }, async () => { while (n++ < total) { const e = { ...e1, call: call({ ...e1.call, startedMs: Date.now(), id: newId(Date.now()) } as never) }; const a = performance.now(); await room.end(e); lat.push(performance.now() - a) } }))
  const ms = performance.now() - t; const c = process.cpuUsage(cpu); lat.sort((a, b) => a - b)
  console.log('concurrency', conc, 'rows/s', Math.round(lat.length / ms * 1000), 'p50', lat[lat.length >> 1]!.toFixed(2), 'p99', lat[Math.floor(lat.length * .99)]!.toFixed(2), 'statements/row', ((room.counters().statements - s0) / lat.length).toFixed(3), 'node cpu us/row', Math.round((c.user + c.system) / lat.length))
}
await room.close(); await db.drop(); await stopSharedServer()
