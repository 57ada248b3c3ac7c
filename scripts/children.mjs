/** The programs `npm start` runs: started so that none of them outlives it, stopped in reverse order. */
import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { ROOT } from './prepare.mjs'

const LEASH = new URL('./stop-with-parent.mjs', import.meta.url).href
/** Longer than `limits.drain_ms` of gateway.yaml. */
const STOP_PATIENCE_MS = 20_000

/**
 * Starts a Node program. It runs in a session of its own, so that Ctrl-C reaches it once, through us, and not a second
 * time from the terminal.
 */
export function startChild({ name, args, env, onLine, onErrorLine }) {
  const process_ = spawn(process.execPath, ['--import', LEASH, ...args], {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    detached: true,
  })
  createInterface({ input: process_.stdout }).on('line', onLine)
  createInterface({ input: process_.stderr }).on('line', onErrorLine)
  const ended = new Promise((resolve) => {
    process_.once('error', (error) => resolve(`cannot be started: ${error.message}`))
    // `close` comes when its output has been read to the end, too.
    process_.once('close', (code, signal) => resolve(`ended with ${signal ?? code}`))
  })
  return {
    name,
    /** Resolves with how it ended, in words. */
    ended,
    async stop() {
      if (process_.exitCode !== null || process_.signalCode !== null) return
      process_.kill('SIGTERM')
      await Promise.race([ended, sleep(STOP_PATIENCE_MS, null, { ref: false })])
      process_.kill('SIGKILL')
      await ended
    },
    kill: () => process_.kill('SIGKILL'),
  }
}

/** Runs a Node program to its end; resolves with its stdout, rejects with its stderr. */
export async function runChild({ name, args, env }) {
  const output = []
  const errors = []
  const child = startChild({
    name,
    args,
    env,
    onLine: (line) => output.push(line),
    onErrorLine: (line) => errors.push(line),
  })
  const how = await child.ended
  if (how === 'ended with 0') return output.join('\n')
  throw new Error(`${name} ${how}\n${errors.join('\n')}`)
}

/** The first free port from here on, on 127.0.0.1; `taken` are promised to others already. */
export async function freePort(from, taken = []) {
  for (let port = from; port < from + 100; port += 1) {
    if (!taken.includes(port) && (await isFree(port))) return port
  }
  throw new Error(`no free port between ${from} and ${from + 99}`)
}

function isFree(port) {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen({ host: '127.0.0.1', port, exclusive: true }, () => server.close(() => resolve(true)))
  })
}

/** Resolves when something listens on 127.0.0.1:port. */
export async function waitForPort(port, timeoutMs) {
  const deadline = Date.now() + timeoutMs
  while (Date.now() < deadline) {
    if (await canConnect(port)) return
    await sleep(50)
  }
  throw new Error(`nothing listens on port ${port} after ${timeoutMs / 1000} s`)
}

function canConnect(port) {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    const done = (result) => {
      socket.destroy()
      resolve(result)
    }
    socket.once('connect', () => done(true)).once('error', () => done(false))
  })
}

/**
 * Calls back when whoever started us has gone without a word. npm puts a shell in between, which may outlive it: where the
 * system shows it, the one above the shell is watched as well.
 */
export function watchParents(onGone) {
  const parent = process.ppid
  const above = parentOf(parent)
  const timer = setInterval(() => {
    const isShellLeft = above !== null && parentOf(parent) !== above
    if (process.ppid !== parent || isShellLeft) {
      clearInterval(timer)
      onGone()
    }
  }, 1000)
  timer.unref()
}

/** Parent of a process, null where the system does not show it. */
function parentOf(pid) {
  try {
    // `pid (name) state ppid ..`; a name may hold anything, also a parenthesis.
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1])
  } catch {
    return null
  }
}

/** Absolute path of a file of the project. */
export function projectFile(name) {
  return fileURLToPath(new URL(`../${name}`, import.meta.url))
}
