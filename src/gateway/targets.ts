/**
 * JSON-RPC method -> what the call wants to use. A closed list: a method that is not here is unknown, for every era.
 * Sources: MCP schema of each revision (`schema/<revision>/schema.ts`).
 */
import { GatewayError } from '../errors.ts'
import type { Era, Message, Target, TargetKind } from './types.ts'

interface MethodRule {
  readonly kind: TargetKind
  readonly eras: readonly Era[]
  /** Where the target's name stands in `params`; null = the upstream itself. */
  readonly name: ((params: Readonly<Record<string, unknown>>) => unknown) | null
  readonly messageKind: Message['kind']
}

const BOTH: readonly Era[] = ['legacy', 'modern']
const LEGACY: readonly Era[] = ['legacy']
const MODERN: readonly Era[] = ['modern']

const server = (eras: readonly Era[]): MethodRule => ({
  kind: 'server',
  eras,
  name: null,
  messageKind: 'request',
})
const notice = (eras: readonly Era[]): MethodRule => ({ ...server(eras), messageKind: 'notification' })
const named = (kind: TargetKind, eras: readonly Era[], name: MethodRule['name']): MethodRule => ({
  kind,
  eras,
  name,
  messageKind: 'request',
})
const task = (eras: readonly Era[]) => named('task', eras, (params) => params['taskId'])
const resource = (eras: readonly Era[]) => named('resource', eras, (params) => normalisedUri(params['uri']))

const METHODS: ReadonlyMap<string, MethodRule> = new Map([
  ['initialize', server(LEGACY)],
  ['server/discover', server(MODERN)],
  ['ping', server(LEGACY)],
  ['logging/setLevel', server(LEGACY)],
  ['tools/list', server(BOTH)],
  ['resources/list', server(BOTH)],
  ['resources/templates/list', server(BOTH)],
  ['prompts/list', server(BOTH)],
  ['subscriptions/listen', server(MODERN)],
  ['tasks/list', server(LEGACY)],
  ['tools/call', named('tool', BOTH, (params) => params['name'])],
  ['resources/read', resource(BOTH)],
  ['resources/subscribe', resource(LEGACY)],
  ['resources/unsubscribe', resource(LEGACY)],
  ['prompts/get', named('prompt', BOTH, (params) => params['name'])],
  ['completion/complete', named('completion', BOTH, (params) => completionName(params['ref']))],
  ['tasks/get', task(BOTH)],
  ['tasks/result', task(LEGACY)],
  ['tasks/update', task(MODERN)],
  ['tasks/cancel', task(BOTH)],
  ['notifications/initialized', notice(LEGACY)],
  ['notifications/cancelled', notice(BOTH)],
  ['notifications/progress', notice(LEGACY)],
  ['notifications/roots/list_changed', notice(LEGACY)],
  ['notifications/tasks/status', notice(LEGACY)],
])

/** All methods of the list, for people who look for the right one. */
export const METHOD_NAMES: readonly string[] = [...METHODS.keys()]

/** Requests a server may send to its client: on a stream (2025-x) or inside an `input_required` result (2026-07-28). */
export const SERVER_REQUESTS: ReadonlySet<string> = new Set([
  'sampling/createMessage',
  'elicitation/create',
  'roots/list',
  'ping',
])

const MAX_NAME = 8192

/**
 * The target of a message, annotations not yet looked up.
 * @throws GatewayError `unknown_method`, or `invalid_params` when the name is missing
 */
export function targetOf(message: Message, upstream: string): Target {
  if (message.kind === 'stream' || message.kind === 'terminate') return target('server', upstream)
  const rule = METHODS.get(message.method)
  if (rule === undefined || !rule.eras.includes(message.era) || rule.messageKind !== message.kind) {
    throw new GatewayError('unknown_method')
  }
  if (rule.name === null) return target(rule.kind, upstream)
  const name = rule.name(message.params)
  if (typeof name !== 'string' || name === '' || name.length > MAX_NAME) {
    throw new GatewayError('invalid_params', {
      detail: `${message.method}: the name of the ${rule.kind} is missing or not to be read in one way only`,
    })
  }
  return target(rule.kind, name)
}

/** A target of which nothing but kind and name is known. */
export function target(kind: TargetKind, name: string): Target {
  return { kind, name, annotations: {}, schemaDigest: null }
}

/**
 * One spelling for the policy (dot segments resolved, scheme and host in lower case); the upstream gets the original. So a
 * URI that the upstream's reader may take for another one than ours has none: undefined.
 */
export function normalisedUri(uri: unknown): string | undefined {
  if (typeof uri !== 'string' || uri.length > MAX_NAME || READ_DIFFERENTLY.test(uri)) return undefined
  const spelling = URL.canParse(uri) ? new URL(uri).href : uri
  return CLIMBS.test(spelling) ? undefined : spelling
}

/** RFC 3986 has none of these; WHATWG readers drop some and take `\\` for `/`, others end the host elsewhere. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it is about
const READ_DIFFERENTLY = /^\s|\s$|[\u0000-\u001f\u007f\\]/
/** A dot segment that is still there, because its slash is encoded or the URI is not hierarchical. */
const CLIMBS = /^[^?#]*?(?:^|[/:]|%2f|%5c)(?:\.|%2e){2}(?:$|[/?#]|%2f|%5c)/i

function completionName(ref: unknown): unknown {
  if (typeof ref !== 'object' || ref === null) return undefined
  const { type, name, uri } = ref as Record<string, unknown>
  if (type === 'ref/prompt') return name
  return type === 'ref/resource' ? uri : undefined
}
