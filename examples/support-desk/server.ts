/** What the support desk offers over MCP: tools that read, write and destroy, one resource, one template, one prompt. */
import { setTimeout as delay } from 'node:timers/promises'
import type { CallToolResult, ServerContext, ToolAnnotations } from '@modelcontextprotocol/server'
import { fromJsonSchema, McpServer, ResourceTemplate } from '@modelcontextprotocol/server'
import type { Desk, Ticket } from './desk.ts'

const READS: ToolAnnotations = { readOnlyHint: true, openWorldHint: false }
const WRITES: ToolAnnotations = { readOnlyHint: false, destructiveHint: false, openWorldHint: false }
const DESTROYS: ToolAnnotations = {
  readOnlyHint: false,
  destructiveHint: true,
  idempotentHint: true,
  openWorldHint: false,
}

const ticketId = {
  type: 'string',
  pattern: '^[A-Z]{1,3}-[0-9]{1,6}$',
  description: 'Ticket id, such as ACM-101',
}
const status = { type: 'string', enum: ['open', 'pending', 'closed'] }
const priority = { type: 'string', enum: ['low', 'normal', 'high'] }

/** Arguments of a tool as a schema; what is not listed is refused. */
function takes<T>(
  properties: Record<string, Record<string, string | number | string[]>>,
  required: string[] = [],
) {
  return fromJsonSchema<T>({ type: 'object', properties, required, additionalProperties: false })
}

/** One MCP server over the desk. Servers are cheap: 2025-x gets one for each session, 2026-07-28 one for each request. */
export function createSupportDeskServer(desk: Desk): McpServer {
  const server = new McpServer(
    { name: `support-desk-${desk.tenant}`, version: '1.0.0' },
    {
      instructions: `Support desk of ${desk.tenant}. Search before you create; never delete what can be closed.`,
    },
  )
  addReadingTools(server, desk)
  addWritingTools(server, desk)
  addLongTools(server, desk)
  addResources(server, desk)
  addPrompt(server, desk)
  return server
}

function addReadingTools(server: McpServer, desk: Desk): void {
  server.registerTool(
    'search_tickets',
    {
      title: 'Search tickets',
      description: 'Tickets whose subject or customer contains the text',
      inputSchema: takes<{ query: string; status?: Ticket['status'] }>(
        { query: { type: 'string', maxLength: 200 }, status },
        ['query'],
      ),
      annotations: READS,
    },
    (args) => json(desk.search(args.query, args.status ?? null)),
  )
  server.registerTool(
    'get_ticket',
    {
      title: 'Get ticket',
      description: 'One ticket with its notes',
      inputSchema: takes<{ id: string }>({ id: ticketId }, ['id']),
      annotations: READS,
    },
    ({ id }) => found(id, desk.get(id)),
  )
  server.registerTool(
    'run_sql',
    {
      title: 'Run SQL',
      description:
        "Runs a SELECT over the table tickets, such as: SELECT id, subject FROM tickets WHERE status = 'open'",
      inputSchema: takes<{ sql: string }>({ sql: { type: 'string', maxLength: 2000 } }, ['sql']),
      annotations: READS,
    },
    ({ sql }) => {
      try {
        return json(desk.select(sql))
      } catch (thrown) {
        return failed((thrown as Error).message)
      }
    },
  )
}

function addWritingTools(server: McpServer, desk: Desk): void {
  server.registerTool(
    'create_ticket',
    {
      title: 'Create ticket',
      description: 'Opens a new ticket',
      inputSchema: takes<{ customer: string; subject: string; priority?: Ticket['priority'] }>(
        {
          customer: { type: 'string', minLength: 1, maxLength: 100 },
          subject: { type: 'string', minLength: 1, maxLength: 200 },
          priority,
        },
        ['customer', 'subject'],
      ),
      annotations: WRITES,
    },
    (args) => json(desk.create({ ...args, priority: args.priority ?? 'normal' })),
  )
  server.registerTool(
    'update_ticket',
    {
      title: 'Update ticket',
      description: 'Changes status or priority, or adds a note',
      inputSchema: takes<{
        id: string
        status?: Ticket['status']
        priority?: Ticket['priority']
        note?: string
      }>({ id: ticketId, status, priority, note: { type: 'string', maxLength: 2000 } }, ['id']),
      annotations: { ...WRITES, idempotentHint: false },
    },
    ({ id, ...change }) => found(id, desk.update(id, change)),
  )
  server.registerTool(
    'delete_ticket',
    {
      title: 'Delete ticket',
      description: 'Deletes a ticket and its notes for good',
      inputSchema: takes<{ id: string }>({ id: ticketId }, ['id']),
      annotations: DESTROYS,
    },
    ({ id }) => (desk.remove(id) ? json({ deleted: id }) : failed(`There is no ticket ${id}`)),
  )
}

function addLongTools(server: McpServer, desk: Desk): void {
  server.registerTool(
    'generate_report',
    {
      title: 'Generate report',
      description: 'Counts tickets by status; takes its time',
      inputSchema: takes<{ seconds?: number }>({ seconds: { type: 'number', minimum: 0, maximum: 30 } }),
      annotations: READS,
    },
    async ({ seconds }, context) => {
      await delay((seconds ?? 3) * 1000, undefined, { signal: context.mcpReq.signal })
      const counts: Record<string, number> = {}
      for (const ticket of desk.all()) counts[ticket.status] = (counts[ticket.status] ?? 0) + 1
      return json(counts)
    },
  )
  server.registerTool(
    'export_tickets',
    {
      title: 'Export tickets',
      description: 'Exports all tickets, one after the other, and reports progress',
      inputSchema: takes<{ delay_ms?: number }>({ delay_ms: { type: 'integer', minimum: 0, maximum: 2000 } }),
      annotations: READS,
    },
    async ({ delay_ms = 200 }, context) => {
      const tickets = desk.all()
      for (const [index, ticket] of tickets.entries()) {
        await delay(delay_ms, undefined, { signal: context.mcpReq.signal })
        await report(context, index + 1, tickets.length, ticket.id)
      }
      return json(tickets)
    },
  )
}

async function report(
  context: ServerContext,
  progress: number,
  total: number,
  message: string,
): Promise<void> {
  const progressToken = context.mcpReq._meta?.progressToken
  if (progressToken === undefined) return
  const params = { progressToken, progress, total, message }
  await context.mcpReq.notify({ method: 'notifications/progress', params })
}

function addResources(server: McpServer, desk: Desk): void {
  server.registerResource(
    'handbook',
    'desk://handbook',
    { title: 'Handbook', description: 'How this desk works', mimeType: 'text/markdown' },
    (uri) => ({ contents: [{ uri: uri.href, mimeType: 'text/markdown', text: handbook(desk.tenant) }] }),
  )
  server.registerResource(
    'ticket',
    new ResourceTemplate('desk://tickets/{id}', { list: undefined }),
    { title: 'Ticket', description: 'One ticket as JSON', mimeType: 'application/json' },
    (uri, { id }) => {
      const ticket = desk.get(String(id))
      if (ticket === null) throw new Error('There is no such ticket')
      return { contents: [{ uri: uri.href, mimeType: 'application/json', text: JSON.stringify(ticket) }] }
    },
  )
}

function addPrompt(server: McpServer, desk: Desk): void {
  server.registerPrompt(
    'draft_reply',
    {
      title: 'Draft a reply',
      description: 'A friendly answer to a ticket',
      argsSchema: fromJsonSchema<{ id: string }>({
        type: 'object',
        properties: { id: ticketId },
        required: ['id'],
      }),
    },
    ({ id }) => {
      const subject = desk.get(id)?.subject ?? 'an unknown ticket'
      const text = `Write a short, friendly reply to ticket ${id} ("${subject}"). Promise nothing.`
      return { messages: [{ role: 'user', content: { type: 'text', text } }] }
    },
  )
}

function handbook(tenant: string): string {
  return `# Support desk of ${tenant}

- Answer open tickets within one working day.
- Close a ticket when the customer agrees; delete it only when the law asks for it.
- Refunds above 100 need a second pair of eyes.
`
}

function json(value: unknown): CallToolResult {
  return { content: [{ type: 'text', text: JSON.stringify(value, null, 2) }] }
}

function found(id: string, ticket: Ticket | null): CallToolResult {
  return ticket === null ? failed(`There is no ticket ${id}`) : json(ticket)
}

function failed(text: string): CallToolResult {
  return { content: [{ type: 'text', text }], isError: true }
}
