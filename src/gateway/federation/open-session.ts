/** Opens the session at one upstream (2025-x) that a session of the merged mount needs, in the gateway's own name. */
import { CallAbort } from '../../call-signal.ts'
import { GatewayError } from '../../errors.ts'
import type { AnswerSink, Rooms } from '../call.ts'
import { normalisedUri, target } from '../targets.ts'
import type { Call, Message, UpstreamAnswer } from '../types.ts'
import type { Opening } from './opening.ts'
import type { Profile } from './profile.ts'
import { parseProfile } from './profile.ts'

/** A session at one upstream. */
export interface UpstreamSession {
  /** null when the upstream has none: it serves 2025-x without. */
  readonly id: string | null
  readonly protocolVersion: string
  /** What it said of itself; null = another process has opened it. */
  readonly profile: Profile | null
}

/** What is to be opened. */
export interface Opened {
  readonly opening: Opening
  /** The upstream's own (`head.mount`), of the caller for whom it is opened. */
  readonly call: Call
  readonly wanted: {
    /** JSON text; null = the upstream's own choice. */
    readonly levelText: string | null
    /** Resources to hear of, as the upstream names them. What the policy does not allow any more is taken out. */
    readonly uris: Set<string>
  }
}

type OpenRooms = Pick<Rooms, 'upstreams' | 'policy'>

const UNSUPPORTED_VERSION = -32022

/**
 * Says what the client said in its own `initialize`, and asks again for what it asked for since.
 * @throws GatewayError what the upstream failed with; `unsupported_version` when it knows no revision with sessions
 */
export async function openSession(rooms: OpenRooms, opened: Opened): Promise<UpstreamSession> {
  const { opening, call, wanted } = opened
  const { protocolVersion, capabilities, clientInfo } = opening
  const params = JSON.stringify({ protocolVersion, capabilities, clientInfo })
  const answer = await ask(rooms, call, { method: 'initialize', params, idText: '0', session: null })
  const profile = parseProfile(answer)
  if (profile === null) throw refusalOf(answer, protocolVersion)
  const session = { id: answer.head.sessionId, protocolVersion: profile.protocolVersion, profile }
  await ask(rooms, call, { method: 'notifications/initialized', params: '{}', idText: null, session })
  const { levelText } = wanted
  if (levelText !== null && 'logging' in profile.capabilities) {
    const level = `{"level":${levelText}}`
    await ask(rooms, call, { method: 'logging/setLevel', params: level, idText: '1', session })
  }
  await subscribeAgain(rooms, opened, session)
  return session
}

async function subscribeAgain(
  rooms: OpenRooms,
  { call, wanted: { uris } }: Opened,
  session: UpstreamSession,
): Promise<void> {
  if (uris.size === 0) return
  const wanted = [...uris]
  const targets = wanted.map((uri) => target('resource', normalisedUri(uri) ?? ''))
  const verdicts = await rooms.policy.visible(call, targets)
  for (const [at, uri] of wanted.entries()) {
    if (verdicts[at]?.allow !== true) uris.delete(uri)
    else {
      const params = JSON.stringify({ uri })
      await ask(rooms, call, { method: 'resources/subscribe', params, idText: String(at + 2), session })
    }
  }
}

interface Own {
  readonly method: string
  /** JSON text. */
  readonly params: string
  /** null = a notification. */
  readonly idText: string | null
  /** null = it is about to be opened. */
  readonly session: UpstreamSession | null
}

/** Nobody is there to hear what comes besides the answer. */
function ask(rooms: OpenRooms, call: Call, own: Own): Promise<UpstreamAnswer> {
  const { method, params, idText, session } = own
  const id = idText === null ? '' : `"id":${idText},`
  const body = Buffer.from(`{"jsonrpc":"2.0",${id}"method":${JSON.stringify(method)},"params":${params}}`)
  const message: Message = {
    ...(call.message as Message),
    kind: idText === null ? 'notification' : 'request',
    ...{ method, idText, params: {}, argumentsText: null, body },
    session: session === null ? null : { upstreamId: session.id, hash: '' },
  }
  const headers = session === null ? {} : { 'mcp-protocol-version': session.protocolVersion }
  const asking = { ...call, message, head: { ...call.head, headers } }
  // Other callers may be waiting for the same session: it is opened also when this one leaves.
  return rooms.upstreams.forward(asking, SILENT, new CallAbort())
}

const SILENT: AnswerSink = { open: () => undefined, event: async () => undefined }

function refusalOf({ parsed }: UpstreamAnswer, requested: string): GatewayError {
  const code = (parsed?.['error'] as { code?: unknown } | undefined)?.code
  const detail = 'it refused to open a session'
  if (code !== UNSUPPORTED_VERSION) return new GatewayError('upstream_failed', { detail })
  return new GatewayError('unsupported_version', {
    detail: `${detail}: it knows none of the revisions that have them`,
    data: { supported: ['2026-07-28'], requested },
  })
}
