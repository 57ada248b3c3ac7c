/**
 * What making one audit row costs: that of an allowed call on the shipped policy, with its record text, and that of a
 * call that was refused before anybody knew who sent it.
 *
 *     node --import=tsx/esm scripts/bench/row.ts
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { NO_LEAF } from '../../src/audit/chain.ts'
import { toAuditRow } from '../../src/audit/event.ts'
import { sealBehind, toChained, toRecord, toRowsParameter } from '../../src/audit/row.ts'
import type { AuditEvent, Call } from '../../src/gateway/types.ts'
import type { CompiledPolicy } from '../../src/policy/build.ts'
import { buildPolicy } from '../../src/policy/build.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { createPolicyRoom } from '../../src/policy/engine.ts'
import { ANNA, allowed, call, refused, toolsCall } from '../../test/audit/fixtures.ts'
import { median } from './parts.ts'

const ROUNDS = 9
const ROWS = 2000
const WRITER = '00000000-0000-4000-8000-000000000000'

async function main(): Promise<void> {
  const policy = await shippedPolicy()
  const room = await createPolicyRoom({
    policy,
    inputMacKey: Buffer.alloc(32),
    now: () => 1_700_000_000_000_000_000n,
    monotonicMs: () => performance.now(),
    log: { warn() {}, error() {} },
  })
  const full = allowed({ ...callParts(), evaluation: null }, ANSWER)
  const evaluation = room.decide(full.call as Call)
  const trace = evaluation.traceText()
  const event: AuditEvent = { ...full, call: { ...full.call, evaluation } }
  const bare: AuditEvent = { call: early(), ending: refused('overloaded') }
  const row = toAuditRow(event)
  console.log(
    `trace ${trace.length}, record ${toRecord(row, WRITER, 1).length} characters, allow ${evaluation.allow}`,
  )
  let seq = 0
  let leaf = NO_LEAF
  const record = (of: AuditEvent): number => {
    seq += 1
    const row = toAuditRow(of)
    const seal = sealBehind(leaf, toChained(row, WRITER, seq))
    leaf = seal.leaf
    return toRowsParameter([{ bytes: Buffer.from(toRecord(row, WRITER, seq)), seal }]).length
  }
  const fresh = (): AuditEvent => ({
    ...full,
    call: { ...full.call, evaluation: room.decide(full.call as Call) },
  })
  report({
    evaluation: () => fresh().call.evaluation?.fuel ?? 0,
    'evaluation and text of its trace': () => fresh().call.evaluation?.traceText().length ?? 0,
    'evaluation, text, row and record': () => record(fresh()),
    'row and record of a call, text ready': () => record(event),
    'row and record of a refusal at admit': () => record(bare),
  })
  room.close()
}

const ANSWER =
  '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"3 tickets: 4711 refund, 4712 parcel, 4713 login"}],"isError":false}}'

function callParts(): Partial<Call> {
  return {
    principal: { ...ANNA, roles: ['developer'] },
    server: { name: 'support', labels: { tenant: 'acme' } },
    message: toolsCall('{"query":"refund for order 4711","status":"open","limit":20}', 'search_tickets'),
    target: { kind: 'tool', name: 'search_tickets', annotations: { readOnlyHint: true }, schemaDigest: null },
  }
}

/** Refused before there was a principal or a message. */
function early(): Call {
  const none = { principal: null, message: null, server: null, target: null, evaluation: null }
  return call({ ...none, stage: 'admit', timingsUs: { admit: 12 } })
}

async function shippedPolicy(): Promise<CompiledPolicy> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(folder) })
  try {
    return await buildPolicy(await loadPolicySources(resolve('policies')), { compiler, cacheDir: null })
  } finally {
    await compiler.close()
    await rm(folder, { recursive: true, force: true })
  }
}

function report(subjects: Readonly<Record<string, () => number>>): void {
  const times = new Map(Object.keys(subjects).map((name) => [name, [] as number[]]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, run] of Object.entries(subjects)) {
      const { user } = process.cpuUsage()
      for (let n = 0; n < ROWS; n += 1) run()
      // The first rounds are for the compiler of JavaScript.
      if (round >= 2) times.get(name)?.push((process.cpuUsage().user - user) / ROWS)
    }
  }
  for (const [name, values] of times)
    console.log(`${name.padEnd(40)} ${median(values).toFixed(1).padStart(7)} us CPU`)
}

await main()
