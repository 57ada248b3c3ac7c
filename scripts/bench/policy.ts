/**
 * What one evaluation of the shipped policy costs: plain, with events logged, with values read, with the trace's text; and
 * what an exhausted budget costs. Same module sources, same input, in turns.
 *
 *     node --import=tsx/esm scripts/bench/policy.ts
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { buildPolicy, loadInputSchema, toBuildRequest } from '../../src/policy/build.ts'
import { loadPolicySources } from '../../src/policy/build-sources.ts'
import { createCompiler } from '../../src/policy/compiler.ts'
import { loadCompilerArtifact } from '../../src/policy/compiler-artifact.ts'
import type { HostRun, PolicyHost } from '../../src/policy/host.ts'
import { createHost, DEFAULT_HOST_LIMITS } from '../../src/policy/host.ts'
import { meter } from '../../src/policy/meter.ts'
import { createTraceReader } from '../../src/policy/trace.ts'
import { DEFAULT_TRACE_BOUNDS } from '../../src/policy/trace-render.ts'
import { median } from './parts.ts'

const ROUNDS = 15
const EVALUATIONS = 2000

const HEAD = {
  phase: 'call',
  request: {
    id: 'r',
    time: '2026-01-01T00:00:00Z',
    now_ns: 1,
    method: 'tools/call',
    protocol_version: '2026-07-28',
    ip: '192.0.2.1',
  },
  principal: {
    id: 'ada',
    kind: 'user',
    roles: ['developer'],
    tenant: 'acme',
    teams: [],
    scopes: [],
    claims: {},
    auth_method: 'api_key',
  },
  server: { name: 'support', labels: { tenant: 'acme', env: 'prod' } },
  target: { kind: 'tool', name: 'search_tickets', annotations: { readOnlyHint: true } },
}
const ARGUMENTS = '{"query":"refund for order 4711","status":"open","limit":20}'

async function main(): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
  const compiler = createCompiler({ artifact: await loadCompilerArtifact(folder) })
  try {
    const sources = await loadPolicySources(resolve('policies'))
    const policy = await buildPolicy(sources, { compiler, cacheDir: null })
    const request = toBuildRequest(sources, await loadInputSchema())
    const plain = await compiler.build({ ...request, instrument: false })
    if (!plain.ok) throw new Error('the shipped policy does not build')
    const dataText = JSON.stringify(sources.data)
    const trace = createTraceReader(policy.dictionary, policy.data)
    const limits = DEFAULT_HOST_LIMITS
    const bare = await createHost({ wasm: meter(plain.wasm), dataText, knowsProbe: () => false, limits })
    const traced = await createHost({
      wasm: policy.wasm,
      dataText,
      knowsProbe: trace.knows,
      hidesProbe: trace.hides,
      limits,
    })
    const headText = JSON.stringify(HEAD)
    const input = new TextEncoder().encode(`${headText.slice(0, -1)},"arguments":${ARGUMENTS}}`)
    const once = (host: PolicyHost, record: boolean): HostRun =>
      host.evaluate({ entrypoint: 'gateway/decision', input, nowNs: 1n, record })
    const text = (run: HostRun): string =>
      trace.render(run.recording(), { headText, argumentsText: ARGUMENTS }, DEFAULT_TRACE_BOUNDS).text
    const events = once(traced, true).recording().events.length
    report(events, text(once(traced, true)).length, {
      plain: () => void once(bare, false),
      'events logged': () => void once(traced, true),
      'values read': () => void once(traced, true).recording(),
      'with the text of the trace': () => void text(once(traced, true)),
    })
  } finally {
    await compiler.close()
    await rm(folder, { recursive: true, force: true })
  }
}

function report(events: number, characters: number, subjects: Readonly<Record<string, () => void>>): void {
  const times = new Map(Object.keys(subjects).map((name) => [name, [] as number[]]))
  for (let round = 0; round < ROUNDS; round += 1) {
    for (const [name, run] of Object.entries(subjects)) {
      const from = performance.now()
      for (let n = 0; n < EVALUATIONS; n += 1) run()
      // The first rounds are for the compiler of JavaScript.
      if (round >= 3) times.get(name)?.push(((performance.now() - from) * 1000) / EVALUATIONS)
    }
  }
  const base = median(times.get('plain') ?? [])
  console.log(`one evaluation of the shipped policy, ${events} events, ${characters} characters of trace`)
  for (const [name, values] of times) {
    const us = median(values)
    console.log(`${name.padEnd(30)} ${us.toFixed(1).padStart(7)} us   ${(us / base).toFixed(2)}x`)
  }
}

await main()
