/** The door of the HTTP room for the spine: what `admit` and `read` need, and how outcomes become replies. */
import type { GatewayError } from '../errors.ts'
import type { Rooms } from '../gateway/call.ts'
import type { Call, Principal, ReplyHead, RequestHead } from '../gateway/types.ts'
import { createClientAddress } from './address.ts'
import { admitHead } from './admit.ts'
import type { Owner } from './binding.ts'
import { headerOf } from './content.ts'
import { crossOriginFields, preflightReply } from './cross-origin.ts'
import { readHint, readMessage } from './read.ts'
import { openHead, replyRefusal, replyWith } from './reply.ts'
import { createServerRequestBinder } from './server-request-id.ts'
import { createSessionBinder } from './session.ts'
import { createHostList, createOriginList } from './site.ts'
import { createTaskBinder } from './task.ts'

/** What the room is made from. */
export interface HttpRoomOptions {
  /** `Host` values to answer to: `mcp.example.com` (any port) or `127.0.0.1:8080`. An empty list refuses everything. */
  readonly allowedHosts: readonly string[]
  /** `Origin` values that may call: `https://app.example.com`, `http://localhost:*`. A request without Origin passes. */
  readonly allowedOrigins: readonly string[]
  /** Addresses and CIDR blocks whose `X-Forwarded-For` counts. */
  readonly trustedProxies: readonly string[]
  /** How a request is told that it was refused: by the status, or (`in_band`) with status 200 and the error alone. */
  readonly denyAs: 'http' | 'in_band'
  readonly maxBodyBytes: number
  /** Secret of at least 32 bytes that binds session ids; the same on every replica. */
  readonly sessionKey: Uint8Array
  /** The same for task ids. */
  readonly taskKey: Uint8Array
  /** The same for the ids under which clients are asked. */
  readonly serverRequestKey: Uint8Array
}

/** {@link Rooms}.http, and what the front door needs besides. */
export type HttpRoom = Rooms['http'] & {
  clientIp(head: RequestHead): string
  /** The answer to a browser that asks whether a page may call (CORS); null = an attempt like any other. */
  preflight(head: RequestHead): ReplyHead | null
}

/**
 * Makes the room. It owns nothing that has to be closed.
 * @throws RangeError when an entry of a list is malformed or the key is too short
 */
export function createHttpRoom(options: HttpRoomOptions): HttpRoom {
  const clientAddress = createClientAddress(options.trustedProxies)
  const sessions = createSessionBinder(options.sessionKey)
  const admission = {
    isAllowedHost: createHostList(options.allowedHosts),
    isAllowedOrigin: createOriginList(options.allowedOrigins),
    clientAddress,
  }
  const tasks = createTaskBinder(options.taskKey)
  const asked = createServerRequestBinder(options.serverRequestKey)
  const reading = { maxBodyBytes: options.maxBodyBytes, sessions, tasks }
  const readable = <T extends ReplyHead>({ head }: Pick<Call, 'head'>, reply: T): T => {
    const fields = crossOriginFields(head, admission.isAllowedOrigin)
    return fields === null ? reply : { ...reply, headers: { ...reply.headers, ...fields } }
  }
  return {
    admit: (head) => admitHead(head, admission),
    read: (exchange, principal) => readMessage(exchange, principal, reading),
    hint: readHint,
    openHead: (call, head) => readable(call, openHead(call, head, sessions)),
    replyWith: (call, answer) => readable(call, replyWith(call, answer, sessions)),
    replyRefusal(call, error) {
      const how = isToldInBand(call, error) ? options.denyAs : 'http'
      return readable(call, replyRefusal(call, error, how))
    },
    preflight: (head) => preflightReply(head, admission.isAllowedHost, admission.isAllowedOrigin),
    bindTask: (call, upstreamId) => tasks.wrap(ownerOf(call), upstreamId),
    bindServerRequest: (call, request) => asked.wrap(ownerOf(call), request),
    askedUnder: (call, presented) => asked.unwrap(ownerOf(call), presented),
    clientIp: (head) => clientAddress(head.peer, headerOf(head, 'x-forwarded-for')),
  }
}

function ownerOf({ principal, head }: Pick<Call, 'principal' | 'head'>): Owner {
  const { id, tenant } = principal as Principal
  return { principalId: id, tenant, mount: head.mount }
}

/**
 * Some clients end their session on any status that says no. What was refused before its id was known has no message to
 * say it in, and 404 is what 2026-07-28 wants for an unknown method.
 */
function isToldInBand({ message }: Pick<Call, 'message'>, { kind }: GatewayError): boolean {
  return message?.kind === 'request' && kind !== 'unknown_method'
}
