/** Time from `gateway serve` to ready, with everything installed and built: first start, next start, from the build cache, from a bundle. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, cp, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { stringify } from 'yaml'

const folder = await mkdtemp(join(tmpdir(), 'gateway-bench-'))
const program = resolve('dist/cli/gateway.js')

/** Milliseconds until it says that it listens; then it is stopped. */
async function startOnce(args: readonly string[]): Promise<number> {
  const from = performance.now()
  const child = spawn(process.execPath, [program, ...args, '--json'], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'ignore'],
  })
  const ended = new Promise((done) => child.once('exit', done))
  let text = ''
  for await (const chunk of child.stdout) {
    text += String(chunk)
    if (text.includes('"listening"')) break
  }
  const took = performance.now() - from
  child.kill('SIGTERM')
  await ended
  return took
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
  console.log('gateway serve, from the command to listening')
  for (const what of ['first start (database made, policy compiled)', 'second start', 'third start']) {
    console.log(`${what.padEnd(46)} ${(await startOnce(['serve', '--dev'])).toFixed(0).padStart(6)} ms`)
  }
  await buildBundle()
  for (const what of ['from a bundle', 'from a bundle, again']) {
    const args = ['serve', '--dev', '--policies', 'bundle.tar.gz']
    console.log(`${what.padEnd(46)} ${(await startOnce(args)).toFixed(0).padStart(6)} ms`)
  }
} finally {
  await rm(folder, { recursive: true, force: true })
}
