/**
 * Which revision of MCP a message speaks. Decided once, from the body; a header that says something else is an error,
 * never a tie-break (2026-07-28 `basic/versioning`, `basic/transports/streamable-http`). Pure.
 */

import type { Era, RequestHead } from '../gateway/types.ts'
import { isObject } from '../json/object.ts'
import { decodeNameHeader, headerOf } from './content.ts'
import type { Envelope } from './envelope.ts'
import { MessageRefusal } from './message-refusal.ts'
import {
  ASSUMED_VERSION,
  BATCH_VERSION,
  LEGACY_VERSIONS,
  META_CAPABILITIES,
  META_VERSION,
  MODERN_VERSIONS,
  NAME_HEADER_SOURCE,
  SUPPORTED_VERSIONS,
} from './protocol.ts'

/** The revision a message speaks; null when an `initialize` names none. */
export interface Revision {
  readonly era: Era
  readonly protocolVersion: string | null
}

/**
 * The revision of a POSTed message.
 * @throws MessageRefusal `header_mismatch`, `unsupported_version`, `invalid_params`, `invalid_request`
 */
export function revisionOf(head: RequestHead, envelope: Envelope): Revision {
  const meta = envelope.params['_meta']
  const claim = isObject(meta) && Object.hasOwn(meta, META_VERSION) ? meta[META_VERSION] : undefined
  const header = headerOf(head, 'mcp-protocol-version')
  if (claim !== undefined)
    return claimedRevision(head, envelope, meta as Readonly<Record<string, unknown>>, header)
  if (header !== null && MODERN_VERSIONS.includes(header)) return headerOnlyRevision(head, envelope, header)
  return legacyRevision(envelope, header)
}

/**
 * The revision of a GET or DELETE, which only 2025-x knows.
 * @throws MessageRefusal `method_not_allowed`, `unsupported_version`
 */
export function bodilessRevision(head: RequestHead): Revision {
  const header = headerOf(head, 'mcp-protocol-version')
  if (header !== null && MODERN_VERSIONS.includes(header)) {
    throw new MessageRefusal('method_not_allowed', { allow: 'POST' })
  }
  return { era: 'legacy', protocolVersion: knownLegacy(header, null) }
}

/** 2025-03-26 alone has batches, and no header of its own to say so: later revisions name themselves in every request. */
export function speaksBatches(head: RequestHead): boolean {
  const header = headerOf(head, 'mcp-protocol-version')
  return header === null || header === BATCH_VERSION
}

function claimedRevision(
  head: RequestHead,
  envelope: Envelope,
  meta: Readonly<Record<string, unknown>>,
  header: string | null,
): Revision {
  const { idText } = envelope
  const claim = meta[META_VERSION]
  if (typeof claim !== 'string')
    throw new MessageRefusal('invalid_params', { idText, detail: `${META_VERSION} is no string` })
  if (header !== null && header !== claim) throw mismatch(idText, 'MCP-Protocol-Version')
  // Only revisions that can be claimed: a client picks one of these and claims it.
  if (!MODERN_VERSIONS.includes(claim)) throw unsupported(claim, idText, MODERN_VERSIONS)
  if (envelope.kind === 'request') {
    if (!isObject(meta[META_CAPABILITIES])) {
      throw new MessageRefusal('invalid_params', {
        idText,
        message: `Invalid params: _meta must have ${META_CAPABILITIES}`,
        detail: `${META_CAPABILITIES} is missing or no object`,
      })
    }
    if (header === null) throw mismatch(idText, 'MCP-Protocol-Version')
  }
  requireMethodHeaders(head, envelope)
  return { era: 'modern', protocolVersion: claim }
}

/** The header names a modern revision, the body claims none. Only requests have to claim one. */
function headerOnlyRevision(head: RequestHead, envelope: Envelope, header: string): Revision {
  const { idText, kind, method } = envelope
  if (kind === 'response') {
    throw new MessageRefusal('invalid_request', {
      idText,
      message: 'Responses cannot be posted in this revision',
    })
  }
  if (method === 'initialize') throw mismatch(idText, 'MCP-Protocol-Version')
  if (kind === 'request') {
    throw new MessageRefusal('invalid_params', {
      idText,
      message: `Invalid params: _meta must have ${META_VERSION}`,
      detail: 'a modern MCP-Protocol-Version without the claim in the body',
    })
  }
  requireMethodHeaders(head, envelope)
  return { era: 'modern', protocolVersion: header }
}

function legacyRevision(envelope: Envelope, header: string | null): Revision {
  const version = knownLegacy(header, envelope.idText)
  if (envelope.method !== 'initialize') return { era: 'legacy', protocolVersion: version }
  const wanted = envelope.params['protocolVersion']
  const isVersion = typeof wanted === 'string' && /^[\x21-\x7e]{1,32}$/.test(wanted)
  return { era: 'legacy', protocolVersion: isVersion ? wanted : null }
}

function knownLegacy(header: string | null, idText: string | null): string {
  if (header === null) return ASSUMED_VERSION
  if (!LEGACY_VERSIONS.includes(header)) throw unsupported(header, idText, SUPPORTED_VERSIONS)
  return header
}

/** `Mcp-Method` and `Mcp-Name` repeat the body; requests must have them, notifications may. */
function requireMethodHeaders(head: RequestHead, envelope: Envelope): void {
  const { idText, kind, method, params } = envelope
  const methodHeader = headerOf(head, 'mcp-method')
  if (methodHeader === null ? kind === 'request' : methodHeader !== method)
    throw mismatch(idText, 'Mcp-Method')
  const source = NAME_HEADER_SOURCE.get(method)
  if (kind !== 'request' || source === undefined) return
  const name = params[source]
  const nameHeader = headerOf(head, 'mcp-name')
  // A body without the name is refused for that, when its target is looked up.
  if (typeof name === 'string' && (nameHeader === null || decodeNameHeader(nameHeader) !== name)) {
    throw mismatch(idText, 'Mcp-Name')
  }
}

function mismatch(idText: string | null, header: string): MessageRefusal {
  return new MessageRefusal('header_mismatch', {
    idText,
    message: `Header ${header} does not match the body`,
  })
}

function unsupported(requested: string, idText: string | null, supported: readonly string[]): MessageRefusal {
  return new MessageRefusal('unsupported_version', {
    idText,
    data: { supported, requested: requested.slice(0, 64) },
  })
}
