/** The requests of `proxy.ts`: tools/call and tools/list as both eras write them. */

export type BenchEra = '2025-11-25' | '2026-07-28'

export interface BenchRequest {
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
}

/** A tools/call of `tool-0`, which answers with a text of `bytes`, or with `events` events. */
export function toolCall(
  era: BenchEra,
  args: {
    readonly bytes?: number
    readonly sse?: boolean
    readonly events?: number
    /** Never answered. */
    readonly hang?: boolean
  },
): BenchRequest {
  return requestOf(era, 'tools/call', { name: 'tool-0', arguments: args })
}

export function toolsList(era: BenchEra): BenchRequest {
  return requestOf(era, 'tools/list', {})
}

/** A stream that stays silent until one side ends it. */
export function listen(): BenchRequest {
  return requestOf('2026-07-28', 'subscriptions/listen', { notifications: { toolsListChanged: true } })
}

const META = {
  'io.modelcontextprotocol/protocolVersion': '2026-07-28',
  'io.modelcontextprotocol/clientCapabilities': {},
}

function requestOf(era: BenchEra, method: string, params: Readonly<Record<string, unknown>>): BenchRequest {
  const isModern = era === '2026-07-28'
  const name = params['name']
  return {
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      'mcp-protocol-version': era,
      ...(isModern && { 'mcp-method': method }),
      ...(isModern && typeof name === 'string' && { 'mcp-name': name }),
    },
    body: JSON.stringify({
      ...{ jsonrpc: '2.0', id: 1, method },
      params: isModern ? { ...params, _meta: META } : params,
    }),
  }
}
