/**
 * What a client said in its `initialize`, kept in the session id of the merged mount itself: with it every replica, also one
 * that has just started, can open the client's session at an upstream when that is first needed. The HTTP room binds the id
 * to principal and mount; nothing is stored.
 */
import { GatewayError } from '../../errors.ts'
import type { Message, Session } from '../types.ts'

export interface Opening {
  /** Tells sessions apart. */
  readonly id: string
  readonly protocolVersion: string
  readonly capabilities: Readonly<Record<string, unknown>>
  readonly clientInfo: { readonly name: string; readonly version: string }
}

/** The session id goes in a header, and into every request. */
const MAX_CAPABILITIES = 2048
/** Latest revision with sessions: what a client that names none is taken to speak. */
const DEFAULT_VERSION = '2025-11-25'

/** @throws GatewayError `invalid_params` when the client's capabilities are too many to be carried around */
export function openingOf(message: Message, id: string): Opening {
  const { capabilities } = message.params
  const isObject = typeof capabilities === 'object' && capabilities !== null && !Array.isArray(capabilities)
  const stated = isObject ? (capabilities as Record<string, unknown>) : {}
  if (JSON.stringify(stated).length > MAX_CAPABILITIES)
    throw new GatewayError('invalid_params', {
      message: `Invalid params: capabilities must not be longer than ${MAX_CAPABILITIES} characters`,
    })
  return {
    id,
    protocolVersion: message.protocolVersion ?? DEFAULT_VERSION,
    capabilities: stated,
    clientInfo: message.client ?? { name: 'unknown', version: '' },
  }
}

/** As an upstream's session id would stand: visible ASCII. */
export function toSessionId(opening: Opening): string {
  return Buffer.from(JSON.stringify(opening)).toString('base64url')
}

/** The opening of a session of the merged mount. Its id has been verified, so it is one of ours. */
export function parseOpening(session: Session): Opening {
  return JSON.parse(Buffer.from(session.upstreamId ?? '', 'base64url').toString('utf8')) as Opening
}
