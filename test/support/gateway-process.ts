/** Gateways in processes of their own, as `gateway serve` starts them. */
import type { ChildProcess } from 'node:child_process'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdir, mkdtemp, writeFile } from 'node:fs/promises'
import { hostname, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { SECRET } from './gateway.ts'
import type { TestDatabase } from './postgres.ts'
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

/** Configuration that every gateway here has. */
const SETTINGS = `listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
audit: { mode: blocking, spool_dir: ./spool }
database: { url_file: ./url, migrate_url_file: ./migrate-url }
secret_file: ./secret
`

/**
 * Makes a folder for gateways on one database: a policy, the files that hold secrets, and `gateway.yaml`, which names them and
 * ends with `settings`. Returns the folder; remove it afterwards.
 */
export async function makeGatewayFolder(
  database: TestDatabase,
  settings: string,
  policy: string,
): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'gateway-process-'))
  await mkdir(join(folder, 'policies'))
  await writeFile(join(folder, 'policies/rules.rego'), policy)
  await writeFile(join(folder, 'url'), database.url)
  await writeFile(join(folder, 'migrate-url'), database.migrateUrl)
  await writeFile(join(folder, 'secret'), SECRET, { mode: 0o600 })
  await writeFile(join(folder, 'gateway.yaml'), `${SETTINGS}${settings}`)
  return folder
}

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
