/** Raw JSON-RPC over HTTP: what no SDK client would send can be sent too. */

export interface RpcReply {
  readonly status: number
  readonly headers: Headers
  readonly text: string
  /** The JSON body, or the data of the last event; null when there is neither. */
  readonly json: any
  readonly requestId: string | null
}

export interface RpcOptions {
  readonly key?: string | null
  readonly headers?: Readonly<Record<string, string>>
  readonly httpMethod?: string
  readonly signal?: AbortSignal
}

/** POSTs these bytes as they are. */
export async function post(
  url: string,
  body: string | Uint8Array | null,
  options: RpcOptions = {},
): Promise<RpcReply> {
  const response = await fetch(url, {
    method: options.httpMethod ?? 'POST',
    headers: {
      'content-type': 'application/json',
      accept: 'application/json, text/event-stream',
      ...(options.key ? { authorization: `Bearer ${options.key}` } : {}),
      ...options.headers,
    },
    body: body as string | null,
    ...(options.signal && { signal: options.signal }),
  })
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    text,
    json: parse(response.headers.get('content-type') ?? '', text),
    requestId: response.headers.get('x-request-id'),
  }
}

/** A tools/call of the 2025-11-25 revision, without a session. */
export function call(url: string, tool: string, args: unknown, options: RpcOptions = {}): Promise<RpcReply> {
  const body = { jsonrpc: '2.0', id: 7, method: 'tools/call', params: { name: tool, arguments: args } }
  return post(url, JSON.stringify(body), legacy(options))
}

/** Options with the header of the 2025-11-25 revision. */
export function legacy(options: RpcOptions = {}): RpcOptions {
  return { ...options, headers: { 'mcp-protocol-version': '2025-11-25', ...options.headers } }
}

/** A request of the 2026-07-28 revision, with the headers it demands. */
export function modern(
  url: string,
  method: string,
  params: Record<string, unknown> = {},
  options: RpcOptions = {},
): Promise<RpcReply> {
  const meta = {
    'io.modelcontextprotocol/protocolVersion': '2026-07-28',
    'io.modelcontextprotocol/clientCapabilities': {},
    'io.modelcontextprotocol/clientInfo': { name: 'test', version: '1' },
  }
  const body = { jsonrpc: '2.0', id: 7, method, params: { ...params, _meta: meta } }
  const name = params['name'] ?? params['uri']
  return post(url, JSON.stringify(body), {
    ...options,
    headers: {
      'mcp-protocol-version': '2026-07-28',
      'mcp-method': method,
      ...(typeof name === 'string' ? { 'mcp-name': name } : {}),
      ...options.headers,
    },
  })
}

function parse(contentType: string, text: string): unknown {
  if (contentType.includes('event-stream')) {
    const data = text.split('\n').filter((line) => line.startsWith('data:') && line.trim() !== 'data:')
    return data.length === 0 ? null : JSON.parse((data.at(-1) as string).slice(5))
  }
  try {
    return JSON.parse(text)
  } catch {
    return null
  }
}
