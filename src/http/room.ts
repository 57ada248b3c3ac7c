/** The door of the HTTP room for the spine: what `admit` and `read` need, and how outcomes become replies. */
import type { Rooms } from '../gateway/call.ts'
import type { RequestHead } from '../gateway/types.ts'
import { createClientAddress } from './address.ts'
import { admitHead } from './admit.ts'
import { headerOf } from './content.ts'
import { readHint, readMessage } from './read.ts'
import { openHead, replyRefusal, replyWith } from './reply.ts'
import { createSessionBinder } from './session.ts'
import { createHostList, createOriginList } from './site.ts'

/** What the room is made from. */
export interface HttpRoomOptions {
  /** `Host` values to answer to: `mcp.example.com` (any port) or `127.0.0.1:8080`. An empty list refuses everything. */
  readonly allowedHosts: readonly string[]
  /** `Origin` values that may call: `https://app.example.com`, `http://localhost:*`. A request without Origin passes. */
  readonly allowedOrigins: readonly string[]
  /** Addresses and CIDR blocks whose `X-Forwarded-For` counts. */
  readonly trustedProxies: readonly string[]
  readonly maxBodyBytes: number
  /** Secret of at least 32 bytes that binds session ids; the same on every replica. */
  readonly sessionKey: Uint8Array
}

/** {@link Rooms}.http, and the client's address on its own for rows of requests that `admit` refuses. */
export type HttpRoom = Rooms['http'] & { clientIp(head: RequestHead): string }

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
  const reading = { maxBodyBytes: options.maxBodyBytes, sessions }
  return {
    admit: (head) => admitHead(head, admission),
    read: (exchange, principal) => readMessage(exchange, principal, reading),
    hint: readHint,
    openHead: (call, head) => openHead(call, head, sessions),
    replyWith: (call, answer) => replyWith(call, answer, sessions),
    replyRefusal,
    clientIp: (head) => clientAddress(head.peer, headerOf(head, 'x-forwarded-for')),
  }
}
