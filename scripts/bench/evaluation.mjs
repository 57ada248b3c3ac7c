/**
 * What deciding a call costs by itself: CPU in microseconds of one decision, and of one whose trace is read as well, as JSON.
 * Argument: policy folder.
 */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { built } from './built.mjs'

const CALLS = 20_000
const ROUNDS = 5
const [{ buildPolicy }, { loadPolicySources }, { createCompiler }, { loadCompilerArtifact }] =
  await Promise.all(
    ['policy/build.js', 'policy/build-sources.js', 'policy/compiler.js', 'policy/compiler-artifact.js'].map(
      built,
    ),
  )
const { createPolicyRoom } = await built('policy/engine.js')
const { toAskedCall } = await built('policy/asked-call.js')

const call = toAskedCall({
  request: {
    id: 'bench',
    method: 'tools/call',
    protocolVersion: '2026-07-28',
    ip: '127.0.0.1',
    session: null,
  },
  principal: Object.freeze({
    ...{
      id: 'bench',
      kind: 'service',
      roles: ['developer'],
      tenant: 'acme',
      teams: [],
      scopes: [],
      claims: {},
    },
    ...{ authMethod: 'api_key', apiKeyId: 'bench' },
  }),
  server: Object.freeze({ name: 'support', labels: { tenant: 'acme' } }),
  target: Object.freeze({
    ...{
      kind: 'tool',
      name: 'search_tickets',
      annotations: { readOnlyHint: true },
      schemaDigest: 'ab'.repeat(32),
    },
  }),
  argumentsText: '{"query":"refund for order 4711","status":"open","limit":20}',
  client: null,
})

const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
const compiler = createCompiler({ artifact: await loadCompilerArtifact(folder) })
try {
  const policy = await buildPolicy(await loadPolicySources(process.argv[2]), { compiler, cacheDir: null })
  const roomOf = (keepsTraces) =>
    createPolicyRoom({
      ...{ policy, keepsTraces, inputMacKey: Buffer.alloc(32) },
      now: () => BigInt(Date.now()) * 1_000_000n,
      monotonicMs: () => performance.now(),
      log: { warn() {}, error() {} },
    })
  const [plain, traced] = [await roomOf(false), await roomOf(true)]
  const decide = () => plain.decide(call)
  const decideAndRead = () => traced.decide(call).traceText()
  const result = { allow: decide().allow, decision: least(decide), traced: least(decideAndRead) }
  process.stdout.write(`${JSON.stringify(result)}\n`)
} finally {
  await compiler.close()
  await rm(folder, { recursive: true, force: true })
}

/** CPU of one run, the least of some rounds: what disturbs only ever adds. */
function least(run) {
  const rounds = Array.from({ length: ROUNDS }, () => {
    const from = process.cpuUsage()
    for (let at = 0; at < CALLS; at += 1) run()
    const { user, system } = process.cpuUsage(from)
    return (user + system) / CALLS
  })
  return Math.min(...rounds)
}
