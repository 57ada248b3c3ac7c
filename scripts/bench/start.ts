/**
 * Time from `gateway serve` to listening, with everything installed and built: first start, next start from the build cache,
 * from a bundle, from a bundle with a database that is there already; and the processor time of the gateway's own process,
 * which says the same on a busy machine.
 */
import { spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { chmod, cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { loadavg, tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { stringify } from 'yaml'
import { toConnectionUrl } from '../../src/db/connection.ts'
import { startEmbeddedPostgres } from '../../src/db/embedded.ts'

const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
const program = resolve('dist/cli/gateway.js')

/** Starts it, tells how long that took until it says that it listens, and stops it. */
async function startOnce(
  what: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const from = performance.now()
  const child = spawn(process.execPath, [program, 'serve', '--dev', ...args, '--json'], {
    cwd: folder,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const ended = new Promise((done) => child.once('exit', done))
  let text = ''
  for await (const chunk of child.stdout) {
    text += String(chunk)
    if (text.includes('"listening"')) break
  }
  if (!text.includes('"listening"')) throw new Error(`${what}: it ended without listening`)
  const took = performance.now() - from
  const cpu = await processorMs(child.pid ?? 0)
  child.kill('SIGTERM')
  await ended
  const times = `${took.toFixed(0).padStart(6)} ms   own processor time ${cpu === null ? '?' : cpu} ms`
  console.log(`${what.padEnd(46)} ${times}`)
}

/** Of a process with all its threads, in steps of 10 ms (proc(5), fields 14 and 15); null where there is no such file. */
async function processorMs(pid: number): Promise<number | null> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => null)
  if (text === null) return null
  const [user = 0, system = 0] = text
    .slice(text.lastIndexOf(')') + 2)
    .split(' ')
    .slice(11, 13)
    .map(Number)
  return (user + system) * 10
}

async function buildBundle(): Promise<void> {
  const child = spawn(process.execPath, [program, 'policy', 'build'], { cwd: folder, stdio: 'ignore' })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error('the bundle could not be built')
}

try {
  // Run as root, the server works as another user, who has to get there.
  await chmod(folder, 0o711)
  await cp(resolve('policies'), join(folder, 'policies'), { recursive: true })
  const settings = {
    listen: '127.0.0.1:0',
    admin: { listen: '127.0.0.1:0' },
    policies: './policies',
    database: { data_dir: join(folder, 'pg') },
    upstreams: { none: { url: 'http://127.0.0.1:9/mcp' } },
  }
  await writeFile(join(folder, 'gateway.yaml'), stringify(settings))
  console.log(`gateway serve, from the command to listening; load average ${loadavg()[0]?.toFixed(1)}`)
  for (const what of ['first start (database made, policy compiled)', 'second start', 'third start']) {
    await startOnce(what, [])
  }
  await buildBundle()
  const bundle = ['--policies', 'bundle.tar.gz']
  for (const what of ['from a bundle', 'from a bundle, again']) await startOnce(what, bundle)
  const server = await startEmbeddedPostgres({ dataHome: join(folder, 'pg') })
  try {
    // As with a server of one's own: it runs, its schema is there, and the secret comes from outside.
    const env = {
      DATABASE_URL: toConnectionUrl(server.runtime),
      GATEWAY_DATABASE_MIGRATE_URL: toConnectionUrl(server.owner),
      GATEWAY_SECRET: randomBytes(32).toString('base64url'),
    }
    for (const what of ['from a bundle, database.url', 'from a bundle, database.url, again'])
      await startOnce(what, bundle, env)
  } finally {
    await server.stop()
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
