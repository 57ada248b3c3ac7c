/** Tools and a prompt of the conformance fixture that answer `input_required`, as 2026-07-28 asks back. */
import type {
  CallToolResult,
  InputRequiredResult,
  InputRequiredSpec,
  McpServer,
  ServerContext,
} from '@modelcontextprotocol/server'
import { acceptedContent, inputRequired, inputResponse } from '@modelcontextprotocol/server'
import type { States } from './server.ts'
import { capabilitiesOf, text } from './server-tools.ts'

type InputRequest = NonNullable<InputRequiredSpec['inputRequests']>[string]
type Round = (context: ServerContext) => Promise<CallToolResult | InputRequiredResult>

function elicit(message: string, field: string, type: 'string' | 'boolean' = 'string'): InputRequest {
  const properties = { [field]: type === 'string' ? { type } : { type } }
  return inputRequired.elicit({
    message,
    requestedSchema: { type: 'object', properties, required: [field] },
  })
}

function sample(question: string, maxTokens: number): InputRequest {
  const asked = { role: 'user' as const, content: { type: 'text' as const, text: question } }
  return inputRequired.createMessage({ messages: [asked], maxTokens })
}

const askName = (): InputRequest => elicit('What is your name?', 'name')

function answered(context: ServerContext, key: string, field: string): string | null {
  const value = acceptedContent(context.mcpReq.inputResponses, key)?.[field]
  return value === undefined ? null : String(value)
}

function kindOf(context: ServerContext, key: string): string {
  return inputResponse(context.mcpReq.inputResponses, key).kind
}

const greet: Round = async (context) => {
  const name = answered(context, 'user_name', 'name')
  if (name === null) return inputRequired({ inputRequests: { user_name: askName() } })
  return text(`Hello, ${name}!`)
}

const capital: Round = async (context) => {
  const given = inputResponse(context.mcpReq.inputResponses, 'capital_question')
  if (given.kind === 'sampling') return text(`The model says: ${JSON.stringify(given.result.content)}`)
  return inputRequired({ inputRequests: { capital_question: sample('What is the capital of France?', 100) } })
}

const roots: Round = async (context) => {
  const given = inputResponse(context.mcpReq.inputResponses, 'client_roots')
  if (given.kind === 'roots') return text(`Roots: ${given.roots.map((root) => root.uri).join(', ')}`)
  return inputRequired({ inputRequests: { client_roots: inputRequired.listRoots() } })
}

/** Asks only for what the client has said it can do. */
const capable: Round = async (context) => {
  const declared = capabilitiesOf(context)
  const inputRequests: Record<string, InputRequest> = {}
  if (declared.elicitation !== undefined) inputRequests['user_name'] = askName()
  if (declared.sampling !== undefined) inputRequests['greeting'] = sample('Generate a greeting', 50)
  if (Object.keys(inputRequests).length === 0) return text('The client can do neither.')
  return inputRequired({ inputRequests })
}

function confirmWith(states: States): Round {
  return async (context) => {
    const isConfirmed = answered(context, 'confirm', 'ok') !== null
    if (isConfirmed && context.mcpReq.requestState<string>() === 'asked') return text('state-ok')
    return inputRequired({
      inputRequests: { confirm: elicit('Please confirm', 'ok', 'boolean') },
      requestState: await states.mint('asked'),
    })
  }
}

function askAllWith(states: States): Round {
  return async (context) => {
    const kinds = ['user_name', 'greeting', 'client_roots'].map((key) => kindOf(context, key))
    if (!kinds.includes('missing')) return text(`Answered: ${kinds.join(', ')}`)
    return inputRequired({
      inputRequests: {
        user_name: askName(),
        greeting: sample('Generate a greeting', 50),
        client_roots: inputRequired.listRoots(),
      },
      requestState: await states.mint('all'),
    })
  }
}

function inTwoStepsWith(states: States): Round {
  return async (context) => {
    const state = context.mcpReq.requestState<string>() ?? ''
    const color = answered(context, 'step2', 'color')
    if (color !== null && state.startsWith('2 ')) return text(`${state.slice(2)} likes ${color}.`)
    const name = answered(context, 'step1', 'name')
    if (name !== null && state === '1') {
      return inputRequired({
        inputRequests: { step2: elicit('Step 2: What is your favorite color?', 'color') },
        requestState: await states.mint(`2 ${name}`),
      })
    }
    return inputRequired({
      inputRequests: { step1: elicit('Step 1: What is your name?', 'name') },
      requestState: await states.mint('1'),
    })
  }
}

/** Adds them. */
export function addInputRequired(server: McpServer, states: States): void {
  const confirm = confirmWith(states)
  const tools: Readonly<Record<string, Round>> = {
    test_input_required_result_elicitation: greet,
    test_input_required_result_sampling: capital,
    test_input_required_result_list_roots: roots,
    test_input_required_result_capabilities: capable,
    test_input_required_result_request_state: confirm,
    test_input_required_result_tampered_state: confirm,
    test_input_required_result_multiple_inputs: askAllWith(states),
    test_input_required_result_multi_round: inTwoStepsWith(states),
    test_streaming_elicitation: greet,
    // The SDK refuses to ask a client for what it has not said it can do.
    test_missing_capability: capital,
  }
  for (const [name, round] of Object.entries(tools)) {
    server.registerTool(name, { description: name }, (context) => round(context))
  }
  const prompt = 'test_input_required_result_prompt'
  server.registerPrompt(prompt, { description: 'Asks for its context' }, (context) => {
    const said = answered(context, 'user_context', 'context')
    if (said !== null)
      return { messages: [{ role: 'user' as const, content: { type: 'text' as const, text: said } }] }
    return inputRequired({
      inputRequests: { user_context: elicit('What context should the prompt use?', 'context') },
    })
  })
}
