/** A stdio server on the official SDK that speaks both eras. Tools: `greet`, `surroundings` (its arguments and environment). */
import { Server } from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'

serveStdio(() => {
  const server = new Server({ name: 'dual', version: '1' }, { capabilities: { tools: {} } })
  const inputSchema = { type: 'object' as const }
  server.setRequestHandler('tools/list', () => ({
    tools: ['greet', 'surroundings'].map((name) => ({ name, inputSchema })),
  }))
  server.setRequestHandler('tools/call', ({ params }) => {
    const surroundings = JSON.stringify({ argv: process.argv.slice(1), env: process.env })
    const text = params.name === 'greet' ? `Hello, ${String(params.arguments?.['name'])}` : surroundings
    return { content: [{ type: 'text' as const, text }] }
  })
  return server
})
