/**
 * What a client said in its `initialize`, and the sessions that were opened for it there and then, kept in the session id of
 * the merged mount itself: with it every replica, also one that has just started, goes on in the same sessions, and can open
 * others when they are first needed. The HTTP room binds the id to principal and mount; nothing is stored.
 */
import { GatewayError } from '../../errors.ts'
import type { Message, Session } from '../types.ts'

/** How a session of the merged mount began. */
export interface Opening {
  /** Tells sessions apart. */
  readonly id: string
  /** What the client speaks with the gateway, and asks of upstreams; each agrees on its own. */
  readonly protocolVersion: string
  readonly capabilities: Readonly<Record<string, unknown>>
  readonly clientInfo: { readonly name: string; readonly version: string }
  /** Upstream -> its session; those that fit, of upstreams whose sessions every replica can reach. */
  readonly at: Readonly<Record<string, OpenedSession>>
}

/** Id (null = the upstream has none) and revision of a session at one upstream. */
export type OpenedSession = readonly [id: string | null, protocolVersion: string]

/** Characters. The id goes in a header, with every request. */
const MAX_SESSION_ID = 4096
/** Revisions with sessions, latest first; a client that names none of them is answered with the latest. */
const VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'] as const

/** @throws GatewayError `invalid_params` when the client says too much of itself to be carried around */
export function openingOf(message: Message, id: string): Opening {
  const { capabilities } = message.params
  const isObject = typeof capabilities === 'object' && capabilities !== null && !Array.isArray(capabilities)
  const opening = {
    id,
    protocolVersion: VERSIONS.find((version) => version === message.protocolVersion) ?? VERSIONS[0],
    capabilities: isObject ? (capabilities as Record<string, unknown>) : {},
    clientInfo: message.client ?? { name: 'unknown', version: '' },
    at: {},
  }
  if (toSessionId(opening).length > MAX_SESSION_ID)
    throw new GatewayError('invalid_params', {
      message: 'Invalid params: capabilities and clientInfo are too long to be kept in a session id',
    })
  return opening
}

/** With as many of these sessions as a session id can hold. */
export function withSessions(opening: Opening, sessions: ReadonlyMap<string, OpenedSession>): Opening {
  let held = opening
  for (const [upstream, session] of sessions) {
    const more = { ...held, at: { ...held.at, [upstream]: session } }
    if (toSessionId(more).length <= MAX_SESSION_ID) held = more
  }
  return held
}

/** As an upstream's session id would stand: visible ASCII. */
export function toSessionId(opening: Opening): string {
  return Buffer.from(JSON.stringify(opening)).toString('base64url')
}

/** The opening of a session of the merged mount. Its id has been verified, so it is one of ours; earlier versions kept no `at`. */
export function parseOpening(session: Session): Opening {
  const opening = JSON.parse(Buffer.from(session.upstreamId ?? '', 'base64url').toString('utf8')) as Opening
  return { ...opening, at: opening.at ?? {} }
}
