/**
 * A stdio server for tests, in plain JavaScript and without a library, so that it can misbehave. `node stdio-server.mjs FLAGS`:
 *
 *   --ignore-term   SIGTERM and the end of input do not end it
 *   --fork          starts a grandchild that ignores SIGTERM, and writes its pid to FORK_FILE
 *   --exit-at-start ends at once
 *   --deaf          never reads
 *   --modern        2026-07-28 only
 *   --strict        ends when the first request is not `initialize`
 *
 * Tools: echo, pid, env, seen, digits, wait (until cancelled or released), release (in reverse order), progress, ask, die,
 * garbage, endless, overlong, flood, twin (its response has the id twice), hang, changed, task (begins one),
 * advance (progress of all tasks), marked (has arguments that headers repeat).
 */
import { spawn } from 'node:child_process'
import { writeFileSync } from 'node:fs'

const flags = new Set(process.argv.slice(2))
const waiting = new Map()
const asked = new Map()
const tasks = []
const seen = []
let nextId = 1000

const write = (text) => process.stdout.write(`${text}\n`)
const send = (message) => write(JSON.stringify({ jsonrpc: '2.0', ...message }))
const text = (value) => ({ content: [{ type: 'text', text: value }] })

if (flags.has('--exit-at-start')) process.exit(7)
if (flags.has('--ignore-term')) {
  process.on('SIGTERM', () => {})
  setInterval(() => {}, 1000)
}
if (flags.has('--fork')) {
  const script = "process.on('SIGTERM', () => {}); setInterval(() => {}, 1000)"
  const child = spawn(process.execPath, ['-e', script], { stdio: 'ignore' })
  writeFileSync(process.env.FORK_FILE, String(child.pid))
}
if (process.env.PID_FILE) writeFileSync(process.env.PID_FILE, String(process.pid))

const names =
  'echo pid env wait release progress ask die garbage endless overlong flood twin hang changed seen digits task advance'
const TOOLS = names.split(' ').map((name) => ({ name, inputSchema: { type: 'object' } }))
TOOLS.push({
  name: 'marked',
  inputSchema: {
    type: 'object',
    properties: {
      region: { type: 'string', 'x-mcp-header': 'Region' },
      page: { type: 'object', properties: { size: { type: 'integer', 'x-mcp-header': 'Page-Size' } } },
    },
  },
})
const INFO = {
  capabilities: { tools: { listChanged: true }, logging: {}, resources: { subscribe: true } },
  serverInfo: { name: 'fixture', version: '1' },
}
const MODERN = { resultType: 'complete', ttlMs: 0, cacheScope: 'private' }

function call(id, { name, arguments: args = {}, _meta = {} }, line) {
  const answer = (result) => send({ id, result: { ...(flags.has('--modern') ? MODERN : {}), ...result } })
  switch (name) {
    case 'echo':
      return answer(text(String(args.text)))
    case 'pid':
      return answer(text(String(process.pid)))
    case 'env':
      return answer(text(JSON.stringify(process.env)))
    case 'seen':
      return answer(text(JSON.stringify(seen)))
    case 'digits':
      // The line as it came, back in a member of the result.
      return write(
        `{"result":{"content":[],"structuredContent":{"line":${line}}},"id":${id},"jsonrpc":"2.0"}`,
      )
    case 'wait':
      return waiting.set(id, answer)
    case 'release':
      for (const [, free] of [...waiting].reverse()) free(text('released'))
      waiting.clear()
      return answer(text('done'))
    case 'progress':
      for (let step = 1; step <= (args.steps ?? 3); step += 1)
        send({
          method: 'notifications/progress',
          params: { progressToken: _meta.progressToken, progress: step },
        })
      return answer(text('done'))
    case 'ask': {
      const question = `q${nextId++}`
      asked.set(question, (result) => answer(text(JSON.stringify(result))))
      return send({ id: question, method: 'roots/list' })
    }
    case 'marked':
      return answer(text(JSON.stringify(args)))
    case 'task':
      tasks.push(_meta.progressToken)
      return answer({ task: { taskId: `t${tasks.length}`, status: 'working' } })
    case 'advance':
      for (const progressToken of tasks)
        send({ method: 'notifications/progress', params: { progressToken, progress: 1 } })
      return answer(text('done'))
    case 'changed':
      send({ method: 'notifications/tools/list_changed' })
      return answer(text('told'))
    case 'die':
      return process.exit(3)
    case 'garbage':
      write('Hello, I am a server!\n{"not":"a message"}\n[1,2]\n"\\ud800"')
      process.stdout.write(Buffer.from([0xff, 0xfe, 10]))
      return answer(text('after the garbage'))
    case 'twin':
      return write(`{"jsonrpc":"2.0","id":${id},"result":{},"id":${id}}`)
    case 'overlong':
      return answer(text('x'.repeat(args.bytes)))
    case 'endless': {
      const more = () => process.stdout.write('x'.repeat(65536), more)
      return more()
    }
    case 'flood': {
      const more = () => process.stdout.write('noise\n'.repeat(10_000), more)
      return more()
    }
    case 'hang':
      for (;;);
    default:
      return send({ id, error: { code: -32602, message: 'unknown tool' } })
  }
}

function onMessage(message, line) {
  const { id, method, params = {} } = message
  seen.push(method ?? 'response')
  if (flags.has('--strict') && seen.length === 1 && method !== 'initialize') process.exit(9)
  if (method === 'notifications/cancelled') {
    waiting.delete(params.requestId)
    return
  }
  if (method === undefined) return asked.get(id)?.(message.result ?? message.error)
  if (id === undefined) return
  if (flags.has('--modern') && params._meta?.['io.modelcontextprotocol/protocolVersion'] !== '2026-07-28')
    return send({ id, error: { code: -32022, message: 'Unsupported', data: { supported: ['2026-07-28'] } } })
  switch (method) {
    case 'initialize':
      return send({ id, result: { protocolVersion: params.protocolVersion, ...INFO } })
    case 'server/discover':
      if (!flags.has('--modern')) break
      return send({ id, result: { ...MODERN, supportedVersions: ['2026-07-28'], ...INFO } })
    case 'ping':
    case 'resources/subscribe':
    case 'resources/unsubscribe':
      return send({ id, result: {} })
    case 'tools/list':
      return send({ id, result: { ...(flags.has('--modern') ? MODERN : {}), tools: TOOLS } })
    case 'tools/call':
      return call(id, params, line)
    case 'subscriptions/listen': {
      const _meta = { 'io.modelcontextprotocol/subscriptionId': id }
      const { notifications } = params
      send({ method: 'notifications/subscriptions/acknowledged', params: { _meta, notifications } })
      return send({ method: 'notifications/tools/list_changed', params: { _meta } })
    }
  }
  return send({ id, error: { code: -32601, message: 'Method not found' } })
}

if (!flags.has('--deaf')) {
  let rest = ''
  process.stdin.setEncoding('utf8')
  process.stdin.on('data', (chunk) => {
    const lines = (rest + chunk).split('\n')
    rest = lines.pop()
    for (const line of lines) onMessage(JSON.parse(line), line)
  })
  process.stdin.on('end', () => flags.has('--ignore-term') || process.exit(0))
} else setInterval(() => {}, 1000)
