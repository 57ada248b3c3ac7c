/** Tools of the conformance fixture that ask the client in the middle of a call, as sessions of 2025 do. */
import type { ElicitRequestFormParams, McpServer } from '@modelcontextprotocol/server'
import { fromJsonSchema } from '@modelcontextprotocol/server'
import { text, texts } from './server-tools.ts'

type Form = ElicitRequestFormParams['requestedSchema']

const USER: Form = {
  type: 'object',
  properties: {
    username: { type: 'string', description: 'Who it is' },
    email: { type: 'string', description: 'Where they read' },
  },
  required: ['username', 'email'],
}

const DEFAULTS: Form = {
  type: 'object',
  properties: {
    name: { type: 'string', default: 'John Doe' },
    age: { type: 'integer', default: 30 },
    score: { type: 'number', default: 95.5 },
    status: { type: 'string', enum: ['active', 'inactive', 'pending'], default: 'active' },
    verified: { type: 'boolean', default: true },
  },
}

const ENUMS: Form = {
  type: 'object',
  properties: {
    untitledSingle: { type: 'string', enum: ['option1', 'option2', 'option3'] },
    titledSingle: { type: 'string', oneOf: titled('value', 'Option') },
    legacyEnum: { type: 'string', enum: ['opt1', 'opt2', 'opt3'], enumNames: ['One', 'Two', 'Three'] },
    untitledMulti: { type: 'array', items: { type: 'string', enum: ['option1', 'option2', 'option3'] } },
    titledMulti: { type: 'array', items: { anyOf: titled('value', 'Choice') } },
  },
}

function titled(value: string, title: string): { const: string; title: string }[] {
  return [1, 2, 3].map((n) => ({ const: `${value}${n}`, title: `${title} ${n}` }))
}

/** Adds them. They ask on the stream of the call: `elicitInput` would use the session's, which may not be open yet. */
export function addAsking(server: McpServer): void {
  const prompt = fromJsonSchema<{ prompt: string }>(texts('prompt'))
  server.registerTool(
    'test_sampling',
    { description: 'Asks the model', inputSchema: prompt },
    async (args, context) => {
      const asked = { role: 'user' as const, content: { type: 'text' as const, text: args.prompt } }
      const { content } = await context.mcpReq.send({
        method: 'sampling/createMessage',
        params: { messages: [asked], maxTokens: 100 },
      })
      return text(`LLM response: ${'text' in content ? content.text : JSON.stringify(content)}`)
    },
  )
  const message = fromJsonSchema<{ message: string }>(texts('message'))
  server.registerTool(
    'test_elicitation',
    { description: 'Asks the user', inputSchema: message },
    async (args, context) => {
      const params = { mode: 'form' as const, message: args.message, requestedSchema: USER }
      const { action, content } = await context.mcpReq.send({ method: 'elicitation/create', params })
      return text(`User response: ${JSON.stringify({ action, content })}`)
    },
  )
  const forms = { test_elicitation_sep1034_defaults: DEFAULTS, test_elicitation_sep1330_enums: ENUMS }
  for (const [name, requestedSchema] of Object.entries(forms)) {
    server.registerTool(name, { description: name }, async (context) => {
      const params = { mode: 'form' as const, message: 'Please look it over', requestedSchema }
      const { action, content } = await context.mcpReq.send({ method: 'elicitation/create', params })
      return text(`Elicitation completed: action=${action}, content=${JSON.stringify(content ?? {})}`)
    })
  }
}
