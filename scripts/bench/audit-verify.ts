/**
 * What the chain costs a row when it is stored, and how fast it is verified, on one PostgreSQL in one run. About 20 s:
 * `node --import=tsx/esm scripts/bench/audit-verify.ts`.
 */
import { generateKeyPairSync, randomUUID } from 'node:crypto'
import { chmod, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { NO_LEAF } from '../../src/audit/chain.ts'
import type { AuditRow } from '../../src/audit/row.ts'
import { sealBehind, toChained, toRecord, toRowsParameter } from '../../src/audit/row.ts'
import { createSigner } from '../../src/audit/signing.ts'
import { createStore } from '../../src/audit/store.ts'
import { verifyLog } from '../../src/audit/verify.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'
import { migrate } from '../../src/db/migrate.ts'
import { createPools } from '../../src/db/pools.ts'
import { createRowIds } from '../../src/gateway/row-id.ts'
import { storedJson } from '../../src/json/stored-text.ts'

const ROWS = 10_000
const BATCH = 200
const ROUNDS = 5

const newId = createRowIds()
const folder = await mkdtemp('/tmp/gateway-bench-')
// Run by root, the server is another user's and has to get there.
await chmod(folder, 0o711)
const server = await startEmbeddedPostgres({ dataHome: join(folder, 'pg'), path: process.env['PATH'] ?? '' })
try {
  await migrate({ owner: server.owner, runtime: server.runtime })
  const pools = createPools({ runtime: server.runtime, onIdleError: () => undefined })
  try {
    costOfChain()
    await costOfVerify(pools)
  } finally {
    await pools.close()
  }
} finally {
  await server.stop()
  await rm(folder, { recursive: true, force: true })
}

/** A row with a trace of 40 lines: about 6.5 KB of decision. */
function row(index: number): AuditRow {
  const step = (line: number) => ({
    at: `authz/tools.rego:${line}`,
    expr: 'input.server.labels.env == "prod"',
    ok: line % 3 === 0,
    vars: {},
    reads: { 'input.server.labels.env': `test-${index}` },
  })
  const rule = (at: number) => ({
    rule: 'data.gateway.authz.deny',
    at: `authz/tools.rego:${at}`,
    outcome: 'undefined',
    steps: Array.from({ length: 5 }, (_, line) => step(at + line)),
  })
  const trace = {
    v: 1,
    truncated: false,
    dropped: 0,
    rules: Array.from({ length: 8 }, (_, at) => rule(at * 6)),
  }
  const decision = { stage: 'authz', outcome: 'denied_authz', authz: { allow: false, eval_us: 84, trace } }
  const ms = Date.now()
  const id = newId(ms)
  const none = { tenant: 'acme', role: 'developer', roles: ['developer'], api_key_id: 'k3v9x2m4q8p1' }
  return {
    ...{
      id,
      ts: new Date(ms).toISOString(),
      request_id: id,
      ...none,
      principal_id: 'anna',
      principal_kind: 'user',
    },
    ...{
      client_ip: '10.1.2.3',
      client_name: 'inspector',
      client_version: '2.0.1',
      protocol_version: '2026-07-28',
    },
    ...{
      session_hash: null,
      http_method: 'POST',
      method: 'tools/call',
      server: 'github',
      target_kind: 'tool',
    },
    ...{ tool_name: 'delete_repo', outcome: 'denied_authz', status_code: 403, reason: 'policy_denied' },
    ...{ error_message: null, latency_ms: 3.25, upstream_ms: null, policy_revision: '3f9c2a1b5d7e' },
    request_json: storedJson({
      jsonrpc: '2.0',
      id: index,
      method: 'tools/call',
      params: { arguments: { index } },
    }),
    response_json: storedJson({ code: 1403, message: 'Forbidden' }),
    decision: storedJson(decision),
    redaction: null,
  }
}

function costOfChain(): void {
  const rows = Array.from({ length: 2000 }, (_, index) => row(index))
  const writer = randomUUID()
  const plain = (one: AuditRow): number =>
    JSON.stringify({ ...one, decision: null }).length + one.decision.length
  let leaf = NO_LEAF
  const chained = (one: AuditRow): number => {
    const seal = sealBehind(leaf, toChained(one, writer, 1))
    leaf = seal.leaf
    return toRowsParameter([{ bytes: Buffer.from(toRecord(one, writer, 1)), seal }]).length
  }
  const times = { plain: [] as number[], chained: [] as number[] }
  for (let round = 0; round <= ROUNDS; round += 1) {
    for (const [name, run] of [
      ['plain', plain],
      ['chained', chained],
    ] as const) {
      // CPU, not time: what else runs on the machine must not count.
      const start = process.cpuUsage()
      for (const one of rows) run(one)
      if (round > 0) times[name].push(process.cpuUsage(start).user / rows.length)
    }
  }
  const size = rows[0]?.decision.length ?? 0
  console.log(`decision of ${size} bytes, medians of ${ROUNDS} rounds`)
  console.log(`  record without chain   ${median(times.plain).toFixed(1)} us of CPU a row`)
  console.log(`  record with chain      ${median(times.chained).toFixed(1)} us of CPU a row`)
}

async function costOfVerify(pools: ReturnType<typeof createPools>): Promise<void> {
  const { privateKey } = generateKeyPairSync('ed25519')
  const store = createStore({
    ...{ pool: pools.audit, writerId: randomUUID(), newId, clock: { nowMs: Date.now } },
    signer: createSigner(privateKey),
  })
  await store.createDays(Date.now(), 2)
  const stored = performance.now()
  for (let at = 0; at < ROWS; at += BATCH) {
    const entries = Array.from({ length: BATCH }, (_, index) => store.entry(row(at + index), at + index + 1))
    await store.store(entries, () => undefined)
  }
  await store.close(true)
  const storeMs = performance.now() - stored
  console.log(`stored ${ROWS} rows, chained and signed: ${perSecond(storeMs)} rows/s`)
  const rates: number[] = []
  for (let round = 0; round < 3; round += 1) {
    const start = performance.now()
    const cpu = process.cpuUsage()
    const report = await verifyLog({
      db: pools.general,
      since: null,
      until: null,
      anchors: null,
      publicKeys: null,
    })
    if (!report.ok || report.rows !== ROWS)
      throw new Error(`verification failed: ${JSON.stringify(report.findings)}`)
    const ms = performance.now() - start
    const { user, system } = process.cpuUsage(cpu)
    rates.push(ms)
    console.log(
      `verified ${ROWS} rows: ${perSecond(ms)} rows/s, ${((user + system) / ROWS).toFixed(0)} us of Node a row`,
    )
  }
  console.log(
    `verify, median: ${perSecond(median(rates))} rows/s; memory ${Math.round(process.memoryUsage().rss / 1e6)} MB`,
  )
}

function perSecond(ms: number): string {
  return Math.round((ROWS * 1000) / ms).toLocaleString('en')
}

function median(values: readonly number[]): number {
  return [...values].sort((left, right) => left - right)[values.length >> 1] ?? 0
}
