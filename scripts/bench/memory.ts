/**
 * Memory over many evaluations on one instance: allowed calls, denied ones, and one of 64 that spends its budget, with
 * host builtins and traces read. It has to stay flat; 1 = it did not.
 *
 *     node --expose-gc --import=tsx/esm scripts/bench/memory.ts [EVALUATIONS]      default 1,000,000
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { HOST_BUILTINS } from '../../src/policy/builtins/table.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../src/policy/host.ts'
import { meter } from '../../src/policy/meter.ts'

const POLICY = `package p

allow contains "reader" if {
	regex.match(sprintf("^[a-z]+-%d", [input.n]), input.name)
	net.cidr_contains("10.0.0.0/8", input.ip)
}

deny contains sprintf("%s-%d", [input.name, i]) if {
	some i, x in input.list
	x * 1.5 > 20
}

spend contains x if {
	some x in input.list
	count([1 | some a in input.list; some b in input.list; some c in input.list; a + b + c == x]) > 0
}
`
/** Growth of the process that is no leak: caches and compiled code, in bytes. */
const ALLOWED_GROWTH = 48 << 20
const REPORTS = 10

async function main(count: number): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(folder) })
  try {
    const built = await compiler.build({
      sources: { 'p.rego': POLICY },
      builtins: [...HOST_BUILTINS],
      entrypoints: ['p'],
      instrument: true,
    })
    if (!built.ok) throw new Error(JSON.stringify(built.errors))
    const host = await createHost({
      wasm: meter(built.wasm),
      dataText: '{}',
      knowsProbe: () => true,
      limits: { ...DEFAULT_HOST_LIMITS, fuel: 20_000_000 },
    })
    const inputs = Array.from({ length: 64 }, (_, n) =>
      new TextEncoder().encode(
        JSON.stringify({
          n,
          name: `name-${n}`,
          ip: `10.0.0.${n}`,
          list: Array.from({ length: n === 0 ? 64 : n % 4 }, (_, i) => i),
        }),
      ),
    )
    let first = 0
    let faults = 0
    for (let n = 1; n <= count; n += 1) {
      const input = inputs[n % inputs.length] ?? null
      const run = host.evaluate({ entrypoint: 'p', input, nowNs: BigInt(n), record: true })
      if (run.fault !== null) faults += 1
      if (n % 4 === 0) run.recording()
      if (n % Math.ceil(count / REPORTS) !== 0) continue
      globalThis.gc?.()
      const { rss, heapUsed } = process.memoryUsage()
      first ||= rss
      console.log(`${n} evaluations, ${faults} stopped: rss ${rss >> 20} MiB, heap ${heapUsed >> 20} MiB`)
      if (rss - first > ALLOWED_GROWTH) process.exitCode = 1
    }
  } finally {
    await compiler.close()
    await rm(folder, { recursive: true, force: true })
  }
}

await main(Number(process.argv[2] ?? 1_000_000))
