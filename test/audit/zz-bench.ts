import { toAuditRow } from '../../src/audit/event.ts'
import { createRedactor, DECISION_BOUNDS, PAYLOAD_BOUNDS } from '../../src/audit/redact.ts'
import { toRecord } from '../../src/audit/row.ts'
import { mayHoldSecret } from '../../src/audit/secrets.ts'
import { allowed, DENY_TRACE, evaluation, toolsCall } from './fixtures.ts'
const rules = Array.from({ length: 6 }, () => DENY_TRACE.rules).flat()
const trace = JSON.stringify({ ...DENY_TRACE, rules })
const ev = evaluation({ trace })
const T = (n: string, f: () => unknown, k = 2000) => { for (let i = 0; i < 500; i++) f(); let best = 1e9; for (let r = 0; r < 7; r++) { const s = process.hrtime.bigint(); for (let i = 0; i < k; i++) f(); best = Math.min(best, Number(process.hrtime.bigint() - s) / 1000 / k) } console.log(n.padEnd(50), best.toFixed(1), 'us') }
const answer = JSON.stringify({ jsonrpc: '2.0', id: 1, result: { content: [{ type: 'text', text: 'lorem ipsum dolor sit amet '.repeat(40) }] } })
const e1 = allowed({ evaluation: ev }, answer)
T('row of an allowed call', () => toAuditRow(e1))
import { TRACE_WORDS } from '../../src/audit/decision.ts'
T('  trace redact (fast path)', () => createRedactor().json(trace, { bounds: DECISION_BOUNDS, trusted: true }))
T('  trace redact (walk)', () => createRedactor().json(trace, { bounds: DECISION_BOUNDS }))
T('  trace redact (walk own)', () => createRedactor().json(trace, { bounds: DECISION_BOUNDS, own: TRACE_WORDS }))
T('  mayHoldSecret(trace)', () => mayHoldSecret(trace))
T('  input walk', () => createRedactor().json(ev.inputText, { bounds: DECISION_BOUNDS, learn: true }))
T('  answer walk ' + answer.length, () => createRedactor().json(answer, { bounds: PAYLOAD_BOUNDS }))
const body0 = toolsCall('{"owner":"acme","repo":"site"}').body.toString()
T('  request', () => createRedactor().json(body0, { bounds: PAYLOAD_BOUNDS, learn: true }))
const body = toolsCall('{"owner":"acme","repo":"site","token":"ghp_' + 'aB3x'.repeat(9) + '"}').body.toString()
T('  request with a token', () => createRedactor().json(body, { bounds: PAYLOAD_BOUNDS, learn: true }))
const r = createRedactor()
T('  text', () => r.text('delete_repo', 256))
const row = toAuditRow(e1)
T('  toRecord', () => toRecord(row, 'w', 1))
import { mayNameSecret } from '../../src/audit/redact.ts'
T('  names', () => mayNameSecret(trace))
const UNUSUAL = /[^\x20-\x7e]|\d{3}(?<=\d[eE][+-]?\d{3})/
T('  unusual', () => UNUSUAL.test(trace))
import { createWordFinder } from '../../src/audit/word-finder.ts'
const t0 = performance.now(); createWordFinder({ exact: ['a'], anyCase: [] }); console.log(performance.now() - t0)
