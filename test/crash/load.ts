/** Callers that never give up, and the ledger of what they were answered. */
import { Agent, request } from 'undici'

/** What the callers were told. */
export interface Ledger {
  /** Request ids of answers that were read to their end, by outcome the row must have. */
  readonly allowed: Set<string>
  readonly denied: Set<string>
  /** Refused for want of something; their rows may be missing only where a gap says so. */
  readonly unavailable: Set<string>
  /** Calls that broke off: nobody was promised anything. */
  broken: number
}

/** What {@link startLoad} needs. */
export interface LoadOptions {
  /** Where gateways listen now. */
  readonly urls: () => readonly string[]
  readonly key: string
  readonly clients: number
}

/** A pause after a call that broke off. */
const PAUSE_MS = 5

export function startLoad({ urls, key, clients }: LoadOptions): {
  readonly ledger: Ledger
  stop(): Promise<void>
} {
  const ledger: Ledger = { allowed: new Set(), denied: new Set(), unavailable: new Set(), broken: 0 }
  const agent = new Agent({ connections: clients, headersTimeout: 5000, bodyTimeout: 5000 })
  let isStopped = false
  let count = 0

  async function caller(): Promise<void> {
    while (!isStopped) {
      const known = urls()
      const url = known[count % Math.max(1, known.length)]
      count += 1
      const tool = count % 7 === 0 ? 'wipe' : 'echo'
      try {
        if (url === undefined) throw new Error('no gateway listens')
        await oneCall(url, tool)
      } catch {
        ledger.broken += 1
        await new Promise((resolve) => setTimeout(resolve, PAUSE_MS))
      }
    }
  }

  async function oneCall(url: string, tool: string): Promise<void> {
    const params = { name: tool, arguments: { text: 'x'.repeat(200) } }
    const { statusCode, headers, body } = await request(url, {
      dispatcher: agent,
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-protocol-version': '2025-11-25',
        authorization: `Bearer ${key}`,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 7, method: 'tools/call', params }),
    })
    await body.text()
    const id = String(headers['x-request-id'])
    if (statusCode === 200) ledger.allowed.add(id)
    else if (statusCode === 403) ledger.denied.add(id)
    else ledger.unavailable.add(id)
  }

  const callers = Array.from({ length: clients }, caller)
  return {
    ledger,
    async stop() {
      isStopped = true
      await Promise.all(callers)
      await agent.destroy()
    },
  }
}
