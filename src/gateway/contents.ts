/** What a message holds besides its target and is judged on its own: subscriptions, references, answers to questions. */
import { GatewayError } from '../errors.ts'
import { foldCase } from '../json/scan.ts'
import { findValue, sliceOf } from '../json/span.ts'
import type { Rooms } from './call.ts'
import type { ServerRequestGate } from './server-request.ts'
import { authorizeSubscriptions } from './subscriptions.ts'
import { normalisedUri, target } from './targets.ts'
import type { Call, Message, Target } from './types.ts'

/** Whether {@link authorizeContents} has something to do. */
export function holdsMore({ message }: Call): boolean {
  if (message === null) return false
  const { method, params } = message
  return (
    method === 'subscriptions/listen' ||
    method === 'completion/complete' ||
    params['inputResponses'] !== undefined
  )
}

/** @throws GatewayError `policy_denied`, `invalid_params` */
export async function authorizeContents(
  rooms: Pick<Rooms, 'policy'>,
  gate: ServerRequestGate,
  call: Call,
): Promise<void> {
  await authorizeSubscriptions(rooms, call)
  await authorizeReference(rooms, call)
  await authorizeInputResponses(gate, call)
}

/** Completions show values of a prompt or template: who may not see that may not have them either. */
async function authorizeReference(rooms: Pick<Rooms, 'policy'>, call: Call): Promise<void> {
  if (call.message?.method !== 'completion/complete') return
  call.listed = await rooms.policy.visible(call, [referenced(call)])
  if (call.listed.some((verdict) => !verdict.allow))
    throw new GatewayError('policy_denied', {
      detail: 'the prompt or resource to be completed is not allowed',
    })
}

function referenced({ message, target: asked }: Call): Target {
  const name = asked?.name ?? ''
  const ref = (message as Message).params['ref'] as { readonly type: unknown }
  if (ref.type === 'ref/prompt') return target('prompt', name)
  if (name.includes('{')) return target('resource_template', name)
  const uri = normalisedUri(name)
  if (uri === undefined)
    throw new GatewayError('invalid_params', {
      detail: 'the URI of the reference is not to be read in one way only',
    })
  return target('resource', uri)
}

/** Most answers in one message: each is an attempt of its own. */
const MAX_INPUT_RESPONSES = 100

/**
 * A client's answers to the questions in an `input_required` result (2026-07-28 basic/patterns). They say what they answer by
 * their shape alone, and no process needs to remember the question: each is judged as an answer to whatever it can be taken for.
 */
async function authorizeInputResponses(gate: ServerRequestGate, call: Call): Promise<void> {
  const responses = call.message?.params['inputResponses']
  if (responses === undefined || call.message === null) return
  const keys = typeof responses === 'object' && responses !== null ? Object.keys(responses) : null
  if (keys === null || Array.isArray(responses) || keys.length > MAX_INPUT_RESPONSES)
    throw new GatewayError('invalid_params', {
      detail: `inputResponses is not an object of at most ${MAX_INPUT_RESPONSES} answers`,
    })
  const text = call.message.body.toString('utf8')
  for (const key of keys) {
    const span = findValue(text, ['params', 'inputResponses', key])
    const answer = span === null ? 'null' : sliceOf(text, span)
    for (const method of answeredMethods(JSON.parse(answer))) {
      if (!(await gate.admitAnswer(call, method, answer)))
        throw new GatewayError('policy_denied', { detail: `an answer to ${method} is not allowed` })
    }
  }
}

/** Member of a result that tells which request it answers (2026-07-28 schema: ElicitResult, ListRootsResult, CreateMessageResult). */
const TELLING: readonly (readonly [string, string])[] = [
  ['action', 'elicitation/create'],
  ['roots', 'roots/list'],
  ['model', 'sampling/createMessage'],
  ['role', 'sampling/createMessage'],
]

function answeredMethods(answer: unknown): readonly string[] {
  const members = new Set(
    typeof answer === 'object' && answer !== null ? Object.keys(answer).map(foldCase) : [],
  )
  const methods = new Set(TELLING.flatMap(([member, method]) => (members.has(member) ? [method] : [])))
  return methods.size === 0 ? ['unknown'] : [...methods]
}
