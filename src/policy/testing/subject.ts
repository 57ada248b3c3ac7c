/**
 * What a test uses: a method and a target, as the gateway's own table of methods has them (`gateway/targets.ts`), and the
 * arguments that a bare call of the method has.
 */

import { GatewayError } from '../../errors.ts'
import { METHOD_NAMES, normalisedUri, SERVER_REQUESTS, target, targetOf } from '../../gateway/targets.ts'
import type { Message, Target, TargetKind } from '../../gateway/types.ts'
import { nearestName } from '../../nearest-name.ts'

/** A method with its target. */
export interface Subject {
  readonly method: string
  readonly target: Target
}

/** What a table says of it; null = nothing. */
export interface SubjectWish {
  readonly phase: 'call' | 'list'
  readonly method: string | null
  /** null: the upstream itself. */
  readonly name: string | null
  readonly kind: TargetKind | null
  readonly server: string
}

/** Why there is no such subject, and the way out. */
export class WrongSubject extends Error {
  readonly hint: string | null

  constructor(message: string, hint: string | null = null) {
    super(message)
    this.hint = hint
  }
}

const CALL_METHODS: Readonly<Record<TargetKind, string | null>> = {
  server: null,
  tool: 'tools/call',
  resource: 'resources/read',
  resource_template: null,
  prompt: 'prompts/get',
  completion: 'completion/complete',
  task: 'tasks/get',
  server_request: null,
}

const LIST_KINDS: ReadonlyMap<string, TargetKind> = new Map([
  ['tools/list', 'tool'],
  ['resources/list', 'resource'],
  ['resources/templates/list', 'resource_template'],
  ['prompts/list', 'prompt'],
  ['subscriptions/listen', 'resource'],
])

/** @throws WrongSubject when the gateway would never ask a policy about it */
export function toSubject(wish: SubjectWish): Subject {
  return wish.phase === 'list' ? listed(wish) : called(wish)
}

/** An element of a list: the method is that of the list. */
function listed({ method, name, kind }: SubjectWish): Subject {
  const byMethod = method === null ? null : (LIST_KINDS.get(method) ?? null)
  if (method !== null && byMethod === null) {
    throw new WrongSubject(`${method} lists nothing`, `lists: ${[...LIST_KINDS.keys()].join(', ')}`)
  }
  const found = kind ?? byMethod
  if (found === null || name === null) throw new WrongSubject('a list needs a tool or a target')
  const listing = method ?? [...LIST_KINDS].find(([, one]) => one === found)?.[0]
  if (listing === undefined || (byMethod !== null && byMethod !== found)) {
    throw new WrongSubject(`${method ?? 'no list'} shows no ${found}`)
  }
  const seen = found === 'resource' ? String(normalisedUri(name) ?? '') : name
  return { method: listing, target: target(found, seen) }
}

function called({ method, name, kind, server }: SubjectWish): Subject {
  if (kind === 'server_request') return serverRequest(method, name)
  const chosen = method ?? (kind === null ? null : CALL_METHODS[kind])
  if (chosen === null) {
    throw new WrongSubject(
      kind === null ? 'nothing is called' : `a ${kind} is used by no method of its own`,
      'give tool, target or method',
    )
  }
  const found = lookUp(chosen, name, server)
  if (found === null && SERVER_REQUESTS.has(chosen)) return serverRequest(chosen, name)
  if (found === null) throw unknownMethod(chosen)
  if (kind !== null && kind !== found.kind)
    throw new WrongSubject(`${chosen} uses a ${found.kind}, not a ${kind}`)
  if (found.kind === 'server' && name !== null && name !== server) {
    throw new WrongSubject(`${chosen} is about the server itself`, 'leave out target')
  }
  if (found.kind !== 'server' && name === null) {
    throw new WrongSubject(`${chosen} needs a target`, `give the name of the ${found.kind}`)
  }
  return { method: chosen, target: found }
}

/** What an upstream asks of the client, or (method `response`) the client's answer to it. */
function serverRequest(method: string | null, name: string | null): Subject {
  const asked = name ?? method
  if (asked === null || !SERVER_REQUESTS.has(asked)) {
    throw new WrongSubject(
      `${asked ?? 'this'} is no request of a server`,
      `requests of servers: ${[...SERVER_REQUESTS].join(', ')}`,
    )
  }
  return { method: method ?? asked, target: target('server_request', asked) }
}

function unknownMethod(method: string): WrongSubject {
  const known = [...METHOD_NAMES, ...SERVER_REQUESTS, 'GET', 'DELETE', 'response']
  const near = nearestName(method, known)
  return new WrongSubject(
    `unknown method ${method}`,
    near === null ? `methods: ${known.join(', ')}` : `did you mean ${near}?`,
  )
}

const MESSAGE_KINDS: readonly Message['kind'][] = ['request', 'notification']
const ERAS: readonly Message['era'][] = ['modern', 'legacy']

/** The gateway's own answer, whatever the era; null for a method it does not know. */
function lookUp(method: string, name: string | null, server: string): Target | null {
  if (method === 'GET' || method === 'DELETE') return target('server', server)
  const named = name ?? 'any'
  const params = { name: named, uri: named, taskId: named, ref: { type: 'ref/prompt', name: named } }
  for (const kind of MESSAGE_KINDS) {
    for (const era of ERAS) {
      try {
        return targetOf({ ...EMPTY, kind, era, method, params }, server)
      } catch (error) {
        if (!(error instanceof GatewayError)) throw error
      }
    }
  }
  return null
}

const EMPTY: Omit<Message, 'kind' | 'era' | 'method' | 'params'> = {
  protocolVersion: null,
  idText: null,
  argumentsText: null,
  body: Buffer.alloc(0),
  session: null,
  client: null,
}

/**
 * JSON text of the arguments of a call that gives none but what its target says, as the client would write it; null = the
 * method has none.
 */
export function bareArguments({ method, target }: Subject, written: string | null): string | null {
  const { kind } = target
  const name = written ?? target.name
  if (method === 'tools/call' || method === 'prompts/get') return '{}'
  if (kind === 'server_request') return method === 'response' ? null : '{}'
  if (kind === 'resource') return JSON.stringify({ uri: name })
  if (kind !== 'completion') return null
  const ref = URL.canParse(name) ? { type: 'ref/resource', uri: name } : { type: 'ref/prompt', name }
  return JSON.stringify({ ref })
}
