/** Gateways in processes of their own, as `gateway serve` starts them. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { hostname } from 'node:os'
import { fileURLToPath } from 'node:url'
import { until } from './until.ts'

/** A gateway that listens. */
export interface GatewayProcess {
  readonly process: ChildProcess
  /** As it reports itself to the others. */
  readonly name: string
  /** Its first mount. */
  readonly mcp: string
  readonly adminUrl: string
  /** From the start of the process to listening. */
  readonly startMs: number
  /** What it has logged. */
  log(): string
  stop(): Promise<void>
}

const PROGRAM = fileURLToPath(new URL('../../src/cli/gateway.ts', import.meta.url))

/** Says on stderr which processes are started. */
const TELL_CHILDREN = `
import child from 'node:child_process'
import { syncBuiltinESMExports } from 'node:module'
for (const name of ['spawn', 'fork', 'execFile', 'exec']) {
  const real = child[name]
  child[name] = (...args) => {
    process.stderr.write('STARTED A CHILD ' + JSON.stringify(args.slice(0, 2)) + '\\n')
    return real(...args)
  }
}
syncBuiltinESMExports()
`

/** Runs `gateway serve` with this configuration. Rejects with what it said when it ends instead of listening. */
export async function startGatewayProcess(file: string): Promise<GatewayProcess> {
  const preload = `data:text/javascript,${encodeURIComponent(TELL_CHILDREN)}`
  const from = performance.now()
  const child = spawn(
    process.execPath,
    ['--import=tsx/esm', `--import=${preload}`, PROGRAM, 'serve', '--json', '--config', file],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  )
  const texts = { out: '', err: '' }
  child.stdout.on('data', (chunk) => {
    texts.out += String(chunk)
  })
  child.stderr.on('data', (chunk) => {
    texts.err += String(chunk)
  })
  const listening = await until(
    'a gateway to listen',
    () => {
      if (child.exitCode !== null) throw new Error(`the gateway ended with ${child.exitCode}: ${texts.err}`)
      return texts.out.includes('\n') ? (JSON.parse(texts.out) as { mounts: string[]; admin: string }) : null
    },
    30_000,
  )
  return {
    process: child,
    name: `${hostname()}:${child.pid}`,
    mcp: listening.mounts[0] as string,
    adminUrl: listening.admin,
    startMs: performance.now() - from,
    log: () => texts.err,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      await once(child, 'close')
    },
  }
}
