/** Resources, prompts and completions of the conformance fixture. */
import type { GetPromptResult, McpServer } from '@modelcontextprotocol/server'
import { fromJsonSchema, ResourceTemplate } from '@modelcontextprotocol/server'
import { PNG, texts } from './server-tools.ts'

/** Adds what can be read and subscribed to. */
export function addResources(server: McpServer): void {
  const plain = {
    'static-text': 'This is the content of the static text resource.',
    'watched-resource': 'Watched.',
  }
  for (const [name, value] of Object.entries(plain)) {
    const uri = `test://${name}`
    server.registerResource(name, uri, { description: name, mimeType: 'text/plain' }, () => ({
      contents: [{ uri, mimeType: 'text/plain', text: value }],
    }))
  }
  const binary = 'test://static-binary'
  server.registerResource('static-binary', binary, { description: 'A dot', mimeType: 'image/png' }, () => ({
    contents: [{ uri: binary, mimeType: 'image/png', blob: PNG }],
  }))
  const template = new ResourceTemplate('test://template/{id}/data', { list: undefined })
  server.registerResource(
    'template',
    template,
    { description: 'Any id', mimeType: 'application/json' },
    (uri, { id }) => ({
      contents: [
        { uri: uri.href, mimeType: 'application/json', text: JSON.stringify({ id, data: `of ${id}` }) },
      ],
    }),
  )
  server.server.setRequestHandler('resources/subscribe', () => ({}))
  server.server.setRequestHandler('resources/unsubscribe', () => ({}))
}

/** Adds the prompts, and a completion that knows nothing. */
export function addPrompts(server: McpServer): void {
  const said = (value: string): GetPromptResult['messages'][number] => ({
    role: 'user',
    content: { type: 'text', text: value },
  })
  server.registerPrompt('test_simple_prompt', { description: 'Without arguments' }, () => ({
    messages: [said('This is a simple prompt for testing.')],
  }))
  const two = fromJsonSchema<{ arg1: string; arg2: string }>(texts('arg1', 'arg2'))
  server.registerPrompt(
    'test_prompt_with_arguments',
    { description: 'With two', argsSchema: two },
    (args) => ({
      messages: [said(`Prompt with arguments: arg1='${args.arg1}', arg2='${args.arg2}'`)],
    }),
  )
  const one = fromJsonSchema<{ resourceUri: string }>(texts('resourceUri'))
  server.registerPrompt(
    'test_prompt_with_embedded_resource',
    { description: 'With a resource', argsSchema: one },
    ({ resourceUri }) => {
      const resource = {
        uri: resourceUri,
        mimeType: 'text/plain',
        text: 'Embedded resource content for testing.',
      }
      const first = { role: 'user' as const, content: { type: 'resource' as const, resource } }
      return { messages: [first, said('Please process the embedded resource above.')] }
    },
  )
  server.registerPrompt('test_prompt_with_image', { description: 'With an image' }, () => ({
    messages: [
      { role: 'user', content: { type: 'image', data: PNG, mimeType: 'image/png' } },
      said('Please analyze the image above.'),
    ],
  }))
  server.server.setRequestHandler('completion/complete', () => ({
    completion: { values: [], total: 0, hasMore: false },
  }))
}
