/**
 * The sessions that a session of the merged mount has at single upstreams (2025-x). Each is opened when it is first needed,
 * with what the client said in its own `initialize`; one that is lost (an upstream or this process has started anew) is
 * opened again. Kept in memory and in no other process.
 */
import { LRUCache } from 'lru-cache'
import { CallAbort } from '../../call-signal.ts'
import { GatewayError } from '../../errors.ts'
import type { AnswerSink, Rooms } from '../call.ts'
import type { Call, Message, UpstreamAnswer } from '../types.ts'
import type { Opening } from './opening.ts'
import type { Profile } from './profile.ts'
import { parseProfile } from './profile.ts'

/** A session at one upstream. */
export interface UpstreamSession {
  /** null when the upstream has none: it serves 2025-x without. */
  readonly id: string | null
  /** What it said of itself. */
  readonly profile: Profile
}

export interface UpstreamSessions {
  /**
   * The session of `opening` at the upstream of `call` (its `head.mount`); opened if there is none, all who wait share one.
   * @throws GatewayError what the upstream failed with; `unsupported_version` when it knows no revision with sessions;
   * `session_unknown` when the client has ended it
   */
  open(opening: Opening, call: Call): Promise<UpstreamSession>
  /** The upstream does not know this session any more. */
  forget(opening: Opening, upstream: string, session: UpstreamSession): Promise<void>
  /** What the session is to log, also at upstreams where it has not been opened yet. */
  setLevel(opening: Opening, levelText: string): void
  /** Names of the upstreams where it is open now. */
  openAt(opening: Opening): readonly string[]
  /** The client has ended it: whatever is asked of it from now on is refused here. */
  end(opening: Opening): void
}

/** Least recently used ones are forgotten first, and opened again when they are needed. */
const MAX_SESSIONS = 50_000
const IDLE_MS = 60 * 60_000
const MAX_ENDED = 10_000
const UNSUPPORTED_VERSION = -32022

interface Known {
  readonly at: Map<string, Promise<UpstreamSession>>
  levelText: string | null
}

export function createUpstreamSessions(rooms: Pick<Rooms, 'upstreams'>): UpstreamSessions {
  const sessions = new LRUCache<string, Known>({ max: MAX_SESSIONS, ttl: IDLE_MS, updateAgeOnGet: true })
  const ended = new LRUCache<string, true>({ max: MAX_ENDED })

  function knownOf({ id }: Opening): Known {
    if (ended.has(id)) throw new GatewayError('session_unknown')
    const known = sessions.get(id) ?? { at: new Map(), levelText: null }
    sessions.set(id, known)
    return known
  }

  async function initialize(opening: Opening, call: Call, known: Known): Promise<UpstreamSession> {
    const { protocolVersion, capabilities, clientInfo } = opening
    const params = JSON.stringify({ protocolVersion, capabilities, clientInfo })
    const answer = await ask(call, { method: 'initialize', params, idText: '0' }, null)
    const profile = parseProfile(answer)
    if (profile === null) throw refusalOf(answer, protocolVersion)
    const session = { id: answer.head.sessionId, profile }
    await ask(call, { method: 'notifications/initialized', params: '{}', idText: null }, session)
    const { levelText } = known
    if (levelText !== null && 'logging' in profile.capabilities) {
      await ask(call, { method: 'logging/setLevel', params: `{"level":${levelText}}`, idText: '1' }, session)
    }
    return session
  }

  /** In the gateway's own name. Nobody is there to hear what comes besides the answer. */
  function ask(
    call: Call,
    { method, params, idText }: Own,
    session: UpstreamSession | null,
  ): Promise<UpstreamAnswer> {
    const id = idText === null ? '' : `"id":${idText},`
    const body = Buffer.from(`{"jsonrpc":"2.0",${id}"method":${JSON.stringify(method)},"params":${params}}`)
    const message: Message = {
      ...(call.message as Message),
      kind: idText === null ? 'notification' : 'request',
      ...{ method, idText, params: {}, argumentsText: null, body },
      session: session === null ? null : { upstreamId: session.id, hash: '' },
    }
    const headers = session === null ? {} : { 'mcp-protocol-version': session.profile.protocolVersion }
    const own = { ...call, message, head: { ...call.head, headers } }
    // Other callers may be waiting for the same session: it is opened also when this one leaves.
    return rooms.upstreams.forward(own, SILENT, new CallAbort())
  }

  return {
    async open(opening, call) {
      const known = knownOf(opening)
      const upstream = call.head.mount
      const found = known.at.get(upstream)
      if (found !== undefined) return await found
      const opened = initialize(opening, call, known)
      known.at.set(upstream, opened)
      opened.catch(() => {
        if (known.at.get(upstream) === opened) known.at.delete(upstream)
      })
      return await opened
    },
    async forget({ id }, upstream, session) {
      const at = sessions.get(id)?.at
      const found = at?.get(upstream)
      if ((await found?.catch(() => null)) === session && at?.get(upstream) === found) at?.delete(upstream)
    },
    setLevel: (opening, levelText) => {
      knownOf(opening).levelText = levelText
    },
    openAt: ({ id }) => [...(sessions.get(id)?.at.keys() ?? [])],
    end: ({ id }) => {
      sessions.delete(id)
      ended.set(id, true)
    },
  }
}

interface Own {
  readonly method: string
  /** JSON text. */
  readonly params: string
  /** null = a notification. */
  readonly idText: string | null
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
