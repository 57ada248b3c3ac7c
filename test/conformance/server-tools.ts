/** Tools of the conformance fixture that answer by themselves. Their names and answers are what the scenarios look for. */
import { setTimeout as delay } from 'node:timers/promises'
import type {
  CallToolResult,
  ClientCapabilities,
  McpServer,
  ServerContext,
  ServerNotifier,
} from '@modelcontextprotocol/server'
import { CLIENT_CAPABILITIES_META_KEY, fromJsonSchema } from '@modelcontextprotocol/server'

/** A red dot. */
export const PNG =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg=='
/** No sound at all. */
const WAV = 'UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA='
/** Between two notifications of a call, so that they can be told apart on the way. */
const PAUSE_MS = 50

/** One text as a result. */
export const text = (value: string): CallToolResult => ({ content: [{ type: 'text', text: value }] })

const image = { type: 'image' as const, data: PNG, mimeType: 'image/png' }

function embedded(uri: string, mimeType: string, value: string): CallToolResult['content'][number] {
  return { type: 'resource', resource: { uri, mimeType, text: value } }
}

type Run = (context: ServerContext) => CallToolResult | Promise<CallToolResult>

const PLAIN: Readonly<Record<string, Run>> = {
  test_simple_text: () => text('This is a simple text response for testing.'),
  test_image_content: () => ({ content: [image] }),
  test_audio_content: () => ({ content: [{ type: 'audio', data: WAV, mimeType: 'audio/wav' }] }),
  test_embedded_resource: () => ({
    content: [embedded('test://embedded-resource', 'text/plain', 'This is an embedded resource content.')],
  }),
  test_multiple_content_types: () => ({
    content: [
      { type: 'text', text: 'Multiple content types test:' },
      image,
      embedded('test://mixed-content-resource', 'application/json', '{"test":"data","value":123}'),
    ],
  }),
  test_error_handling: () => ({
    ...text('This tool intentionally returns an error for testing'),
    isError: true,
  }),
  async test_tool_with_logging(context) {
    for (const said of ['Tool execution started', 'Tool processing data', 'Tool execution completed']) {
      await context.mcpReq.log('info', said)
      await delay(PAUSE_MS)
    }
    return text('It has logged three times.')
  },
  async test_logging_tool(context) {
    await context.mcpReq.log('info', 'heard only by those who asked for it')
    return text('It has logged once.')
  },
  async test_tool_with_progress(context) {
    const progressToken = context.mcpReq._meta?.progressToken
    for (const progress of [0, 50, 100]) {
      if (progressToken !== undefined) {
        const params = { progressToken, progress, total: 100 }
        await context.mcpReq.notify({ method: 'notifications/progress', params })
      }
      await delay(PAUSE_MS)
    }
    return text('Done.')
  },
  async test_reconnection(context) {
    context.http?.closeSSE?.()
    await delay(PAUSE_MS)
    return text('Its stream was closed in between.')
  },
}

/** Keywords that a server or a gateway in between must not drop. */
const SCHEMA_2020_12 = {
  $schema: 'https://json-schema.org/draft/2020-12/schema',
  type: 'object',
  $defs: {
    address: {
      $anchor: 'addressDef',
      type: 'object',
      properties: { street: { type: 'string' }, city: { type: 'string' } },
    },
  },
  properties: {
    name: { type: 'string' },
    address: { $ref: '#/$defs/address' },
    contactMethod: { enum: ['phone', 'email'] },
    phone: { type: 'string' },
    email: { type: 'string' },
  },
  allOf: [{ anyOf: [{ required: ['phone'] }, { required: ['email'] }] }],
  if: { properties: { contactMethod: { const: 'phone' } }, required: ['contactMethod'] },
  // biome-ignore lint/suspicious/noThenProperty: the keyword of JSON Schema.
  then: { required: ['phone'] },
  else: { required: ['email'] },
  additionalProperties: false,
}

const SCHEMA_WITH_HEADERS = {
  type: 'object',
  properties: {
    region: { type: 'string', 'x-mcp-header': 'Region' },
    limit: { type: 'integer', 'x-mcp-header': 'Limit' },
    query: { type: 'string' },
  },
  required: ['region'],
}

/** Of the request in hand; nothing in a session. */
export function capabilitiesOf({ mcpReq: { envelope } }: ServerContext): ClientCapabilities {
  const declared = envelope as Partial<Record<string, ClientCapabilities>> | undefined
  return declared?.[CLIENT_CAPABILITIES_META_KEY] ?? {}
}

/** A schema of texts that are all required. */
export function texts(...names: string[]): {
  type: 'object'
  properties: Record<string, { type: 'string' }>
  required: string[]
} {
  const properties = Object.fromEntries(names.map((name) => [name, { type: 'string' as const }]))
  return { type: 'object', properties, required: names }
}

/** Adds them. `notify` gives the way to open subscriptions of the modern era; null in a session. */
export function addTools(server: McpServer, notify: () => ServerNotifier | null): void {
  for (const [name, run] of Object.entries(PLAIN)) {
    server.registerTool(name, { description: name }, (context) => run(context))
  }
  const schemas = { json_schema_2020_12_tool: SCHEMA_2020_12, test_x_mcp_header: SCHEMA_WITH_HEADERS }
  for (const [name, schema] of Object.entries(schemas)) {
    server.registerTool(
      name,
      { description: name, inputSchema: fromJsonSchema<Record<string, unknown>>(schema) },
      (args) => text(JSON.stringify(args)),
    )
  }
  addTriggers(server, notify)
}

/** Tools that change what is offered, as far as a subscriber can tell. */
function addTriggers(server: McpServer, notify: () => ServerNotifier | null): void {
  server.registerTool('test_trigger_tool_change', { description: 'Tools have changed' }, () => {
    notify()?.toolsChanged()
    return text('Subscribers were told.')
  })
  server.registerTool('test_trigger_prompt_change', { description: 'Prompts have changed' }, () => {
    notify()?.promptsChanged()
    return text('Subscribers were told.')
  })
}
