/**
 * Runs `npm start` as a person would and tries it with the official client: one allowed and one denied call, exactly one
 * audit row for each, an explanation of the denial, and nothing left running after Ctrl-C. Exit code 1 when anything is off.
 */
import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { ROOT } from './prepare.mjs'
import { ALLOWED, DENIED } from './start-guide.mjs'

const START_TIMEOUT_MS = 300_000
const run = promisify(execFile)

const started = spawn('npm', ['start'], { cwd: ROOT, stdio: ['ignore', 'pipe', 'inherit'], detached: true })
try {
  const guide = await readGuide(started)
  const before = await toolCalls()
  await tryClient(guide)
  const after = await rowsOf(before.length + 2)
  assert.equal(after.length, before.length + 2, 'one row for each of the two calls')
  assert.deepEqual(
    after.slice(before.length).map((row) => [row.outcome, row.tool_name ?? row.tool]),
    [
      ['allowed', ALLOWED.name],
      ['denied_authz', DENIED.name],
    ],
  )
  await tryExplain(guide.explain, 'destructive-without-mfa')
  await tryExplain(['audit', 'explain', after.at(-1).id], 'destructive-without-mfa')
  console.log('smoke: calls, rows and explanations are as they should be')
} finally {
  await stop()
}
console.log('smoke: nothing was left running')

/** Reads what `npm start` prints until it says that everything runs. */
async function readGuide(child) {
  const lines = []
  const timer = setTimeout(() => child.kill('SIGTERM'), START_TIMEOUT_MS)
  for await (const line of createInterface({ input: child.stdout })) {
    lines.push(line)
    if (line.includes('Ctrl-C ends everything')) break
  }
  clearTimeout(timer)
  const text = lines.join('\n')
  const find = (pattern) => {
    const match = pattern.exec(text)
    assert.ok(match, `npm start did not print ${pattern}`)
    return match[1]
  }
  return {
    mount: find(/Ready after [\d.]+ s: (\S+)/),
    developer: find(/^ {2}developer {2}(\S+)$/m),
    explain: find(/^npx gateway (audit explain \S+)$/m).split(' '),
  }
}

async function tryClient({ mount, developer }) {
  const client = new Client({ name: 'smoke', version: '1.0.0' })
  await client.connect(
    new StreamableHTTPClientTransport(new URL(mount), {
      requestInit: { headers: { authorization: `Bearer ${developer}` } },
    }),
  )
  const { tools } = await client.listTools()
  const names = tools.map((tool) => tool.name)
  assert.ok(names.includes(ALLOWED.name), 'the list shows what may be used')
  assert.ok(!names.includes(DENIED.name), 'the list hides what may not be used')
  const result = await client.callTool(ALLOWED)
  assert.equal(result.isError ?? false, false)
  await assert.rejects(client.callTool(DENIED), /Forbidden/)
  await client.close()
}

/** Rows reach the database a little after the answer has left: waits until there are so many, or a moment has passed. */
async function rowsOf(count) {
  const deadline = Date.now() + 10_000
  for (;;) {
    const rows = await toolCalls()
    if (rows.length >= count || Date.now() > deadline) return rows
    await sleep(100)
  }
}

/** The tools/call rows of the developer, oldest first. */
async function toolCalls() {
  const { stdout } = await gateway([
    'audit',
    'tail',
    '--json',
    '--limit',
    '100',
    '--principal',
    'demo-developer',
  ])
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))
    .filter((row) => row.method === 'tools/call')
}

async function tryExplain(command, reason) {
  const { stdout } = await gateway(command)
  assert.ok(stdout.includes(reason), 'the explanation names the reason')
  assert.ok(stdout.includes('input.principal.claims.mfa = false'), 'the explanation shows the value')
}

/** As a person would type it. */
function gateway(args) {
  return run('npx', ['--no-install', 'gateway', ...args], { cwd: ROOT, maxBuffer: 64 * 1024 * 1024 })
}

/** Ctrl-C, as the terminal sends it: to the whole group. */
async function stop() {
  const family = descendants(started.pid)
  const ended = new Promise((resolve) => {
    started.once('exit', resolve)
  })
  if (started.exitCode === null && started.signalCode === null) {
    process.kill(-started.pid, 'SIGINT')
    await ended
  }
  const deadline = Date.now() + 10_000
  while (family.some(isAlive) && Date.now() < deadline) await sleep(50)
  const left = family.filter(isAlive)
  for (const pid of left) process.kill(pid, 'SIGKILL')
  assert.deepEqual(left, [], 'processes left running')
}

/** Process ids below this one; empty where the system does not list them. */
function descendants(root) {
  const parents = new Map()
  for (const name of listProcesses()) {
    try {
      const stat = readFileSync(`/proc/${name}/stat`, 'utf8')
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]))
    } catch {
      // It has just ended.
    }
  }
  const found = [root]
  for (const pid of found) {
    for (const [child, parent] of parents) if (parent === pid) found.push(child)
  }
  return found
}

function listProcesses() {
  try {
    return readdirSync('/proc').filter((name) => /^\d+$/.test(name))
  } catch {
    return []
  }
}

function isAlive(pid) {
  try {
    return !readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z ')
  } catch {
    return false
  }
}
