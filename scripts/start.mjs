/**
 * `npm start`: from a fresh clone to a running gateway in front of an example MCP server, with nothing but Node and npm.
 * Installs and builds what is missing, makes demo keys, starts both programs, and says what to try. Ctrl-C ends everything.
 */
import { freePort, projectFile, runChild, startChild, waitForPort, watchParents } from './children.mjs'
import { ensureBuilt, ensureInstalled, requireNode, tell } from './prepare.mjs'
import { DENIED, guide, logLine, toolCall } from './start-guide.mjs'

const GATEWAY = projectFile('dist/cli/gateway.js')
const CONFIG = projectFile('gateway.yaml')
const EXAMPLE = projectFile('examples/support-desk.ts')
/** As in gateway.yaml; when one is taken, the next free one is used. */
const PORTS = { front: 8080, admin: 8081, example: 9100 }

const startedAt = Date.now()
/** What has to be stopped, in reverse order. */
const children = []
let isStopping = false

requireNode()
process.on('SIGINT', stopAll).on('SIGTERM', stopAll).on('SIGHUP', stopAll)
watchParents(stopAll)
// Whoever read our output has gone: there is nobody left to serve.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => void end(0))

try {
  await start()
} catch (error) {
  if (!isStopping) tell(`error: ${error.message}`)
  await end(2)
}

async function start() {
  await ensureInstalled()
  await ensureBuilt()
  const ports = await choosePorts()
  const env = {
    GATEWAY_LISTEN: `127.0.0.1:${ports.front}`,
    GATEWAY_ADMIN_LISTEN: `127.0.0.1:${ports.admin}`,
    EXAMPLE_PORT: String(ports.example),
  }
  const { DATABASE_URL, GATEWAY_DATABASE_URL } = process.env
  if (DATABASE_URL || GATEWAY_DATABASE_URL)
    tell('DATABASE_URL is set: the demo keys are made in that database.')
  tell('Making demo keys ...')
  const keys = JSON.parse(
    await runChild({ name: 'gateway demo-keys', args: gateway('demo-keys', '--json'), env }),
  )
  if (isStopping) return
  tell('Starting the example MCP server and the gateway ...')
  await startExample(ports.example)
  const { mounts, admin } = await startGateway(env)
  const mount = mounts.find((url) => url.endsWith('/support')) ?? mounts[0]
  const deniedId = await makeDeniedCall(mount, keys)
  const seconds = ((Date.now() - startedAt) / 1000).toFixed(1)
  process.stdout.write(guide({ mount, admin, keys, deniedId, seconds }))
}

async function choosePorts() {
  const chosen = {}
  for (const [name, wanted] of Object.entries(PORTS)) {
    chosen[name] = await freePort(wanted, Object.values(chosen))
    if (chosen[name] !== wanted) tell(`Port ${wanted} is taken, using ${chosen[name]}.`)
  }
  return chosen
}

function gateway(...args) {
  return [GATEWAY, ...args, '--config', CONFIG]
}

async function startExample(port) {
  const child = startChild({
    name: 'The example MCP server',
    args: ['--import=tsx/esm', EXAMPLE, '--port', String(port)],
    env: {},
    onLine: tell,
    onErrorLine: (line) => tell(`  ${line}`),
  })
  keep(child)
  await Promise.race([waitForPort(port, 20_000), early(child)])
}

/** Resolves with what the gateway says when it listens. */
async function startGateway(env) {
  let resolveReady
  const ready = new Promise((resolve) => {
    resolveReady = resolve
  })
  const child = startChild({
    name: 'The gateway',
    args: gateway('serve', '--json'),
    env,
    onLine: (line) => resolveReady(JSON.parse(line)),
    onErrorLine: (line) => tell(logLine(line) ?? line),
  })
  keep(child)
  return await Promise.race([ready, early(child)])
}

/** From now on the child is stopped with us, and its end is ours. */
function keep(child) {
  children.push(child)
  void child.ended.then(async (how) => {
    if (isStopping) return
    tell(`error: ${child.name} ${how}`)
    await end(2)
  })
}

async function early(child) {
  throw new Error(`${child.name} ${await child.ended}`)
}

/** One denied call, so that there is a trace to look at; it also shows that the whole line works. */
async function makeDeniedCall(mount, keys) {
  const { key } = keys.find((one) => one.name === 'demo-developer')
  const { headers, body } = toolCall(key, DENIED.name, DENIED.arguments)
  const response = await fetch(mount, { method: 'POST', headers, body, signal: AbortSignal.timeout(30_000) })
  await response.arrayBuffer()
  if (response.status !== 403)
    throw new Error(`the gateway answered ${response.status} to a call it must deny`)
  return response.headers.get('x-request-id')
}

/** First signal: everything may finish. Second: everything is killed. */
function stopAll() {
  if (isStopping) {
    for (const child of children) child.kill()
    process.exit(130)
  }
  tell('Stopping ...')
  void end(0)
}

async function end(code) {
  if (isStopping) return
  isStopping = true
  for (const child of [...children].reverse()) await child.stop()
  process.exit(code)
}
