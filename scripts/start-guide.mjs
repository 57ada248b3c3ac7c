/** What `npm start` says when everything runs, and how it shows the gateway's log. */
import { styleText } from 'node:util'

const VERSION = '2026-07-28'

/** Body and headers of one stateless tools/call. */
export function toolCall(key, name, args) {
  const meta = {
    'io.modelcontextprotocol/protocolVersion': VERSION,
    'io.modelcontextprotocol/clientCapabilities': {},
  }
  return {
    headers: {
      authorization: `Bearer ${key}`,
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': VERSION,
      'mcp-method': 'tools/call',
      'mcp-name': name,
    },
    body: JSON.stringify({
      jsonrpc: '2.0',
      id: 1,
      method: 'tools/call',
      params: { name, arguments: args, _meta: meta },
    }),
  }
}

/** The calls of the guide: what the developer's key may do, and what it may not. */
export const ALLOWED = { name: 'search_tickets', arguments: { query: 'refund' } }
export const DENIED = { name: 'delete_ticket', arguments: { id: 'ACM-106' } }

/** The text to show: `mount` is the URL of the upstream behind the gateway, `keys` as `gateway demo-keys` gives them. */
export function guide({ mount, admin, keys, deniedId, seconds }) {
  const key = (name) => keys.find((one) => one.name === name).key
  const developer = key('demo-developer')
  const title = (text) => styleText('bold', text, { stream: process.stdout })
  const client = {
    mcpServers: {
      support: { type: 'http', url: mount, headers: { Authorization: `Bearer \${GATEWAY_KEY}` } },
    },
  }
  return `
${title(`Ready after ${seconds} s: ${mount}`)}   health: ${admin}/readyz

${title('Keys')}, good for 24 hours or until the next start
  admin      ${key('demo-admin')}
  developer  ${developer}

${title('1. A call that is allowed')} (developer, a tool that reads)
${curl(mount, developer, ALLOWED)}

${title('2. A call that is denied')} (developer, a tool that destroys)
${curl(mount, developer, DENIED)}

${title('3. Why was it denied?')} One such call was made just now; this is its trace. For yours, take the requestId of the answer.
npx gateway audit explain ${deniedId}

${title('4. Your MCP client')} (mcp.json; some name it .mcp.json or .cursor/mcp.json)
export GATEWAY_KEY=${developer}
${JSON.stringify(client, null, 2)}

Everything so far: npx gateway audit tail      The rules: policies/README.md      Ctrl-C ends everything
`
}

function curl(mount, key, call) {
  const { headers, body } = toolCall(key, call.name, call.arguments)
  const lines = Object.entries(headers).map(([name, value]) => `  -H '${name}: ${value}' \\`)
  return [`curl -sS ${mount} \\`, ...lines, `  -d '${body}'`].join('\n')
}

/** One line of the gateway's log, for a person; null for lines that are not JSON. */
export function logLine(text) {
  let line
  try {
    line = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof line !== 'object' || line === null) return null
  const time = String(line.time ?? '').slice(11, 19)
  if (line.message !== 'attempt') return `${time}  ${line.level}  ${line.message}${rest(line)}`
  const look = line.outcome === 'allowed' ? 'green' : 'red'
  const what = [line.method, line.tool].filter((part) => part !== undefined).join(' ')
  const why = line.denied_by === undefined ? '' : `  ${line.denied_by.join(', ')}`
  const outcome = styleText(look, String(line.outcome), { stream: process.stderr })
  return `${time}  ${outcome} ${line.status}  ${line.principal ?? '-'}  ${what}${why}  ${Math.round(line.latency_ms)} ms  ${line.request_id}`
}

function rest(line) {
  const { level, time, message, ...others } = line
  return Object.keys(others).length === 0 ? '' : `  ${JSON.stringify(others)}`
}
