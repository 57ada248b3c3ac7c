/**
 * A call that nobody has made: what a test table or an input document says of one, as the scope the policy room takes. So
 * tests and `policy eval` go through the same `input.ts` and the same engine as the calls of clients.
 */
import type { Call, Message, Principal, ServerFacts, Target } from '../gateway/types.ts'

/** Everything of a call that a policy can see. */
export interface CallFacts {
  readonly request: {
    readonly id: string
    readonly method: string
    readonly protocolVersion: string | null
    readonly ip: string | null
    /** Hash that stands for the session. */
    readonly session: string | null
  }
  readonly principal: Principal
  readonly server: ServerFacts
  /** null when only the targets of a list are asked about. */
  readonly target: Target | null
  /** Exact JSON text of `input.arguments`; null = none. */
  readonly argumentsText: string | null
  readonly client: Message['client']
}

/** The scope of such a call, as it stands when `authz` begins. */
export function toAskedCall(facts: CallFacts): Call {
  const { request, principal, server, target } = facts
  return {
    id: request.id,
    requestId: request.id,
    startedMs: 0,
    startedAt: 0,
    head: { httpMethod: 'POST', mount: server.name, rawHeaders: [], headers: {}, peer: request.ip ?? '' },
    stage: 'authz',
    clientIp: request.ip,
    principal,
    server,
    message: toMessage(facts),
    target,
    evaluation: null,
    rate: null,
    rateFields: {},
    listed: null,
    upstream: null,
    merged: null,
    parts: null,
    hint: null,
    timingsUs: {},
  }
}

function toMessage({ request, argumentsText, client }: CallFacts): Message {
  return {
    kind: 'request',
    era: 'modern',
    protocolVersion: request.protocolVersion,
    method: request.method,
    idText: null,
    params: {},
    argumentsText,
    body: Buffer.alloc(0),
    session: request.session === null ? null : { upstreamId: '', hash: request.session },
    client,
  }
}
