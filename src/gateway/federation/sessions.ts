/**
 * The sessions that a session of the merged mount has at single upstreams (2025-x). Those that were opened with it are known
 * from its id (`opening.ts`); any other is opened when it is first needed, with what the client said in its own `initialize`,
 * and so is one that its upstream has lost: its log level and subscriptions are then asked for again. What is opened later is
 * kept in memory, and in no other process.
 */
import { LRUCache } from 'lru-cache'
import { GatewayError } from '../../errors.ts'
import type { Rooms } from '../call.ts'
import type { Call } from '../types.ts'
import type { UpstreamSession } from './open-session.ts'
import { openSession } from './open-session.ts'
import type { OpenedSession, Opening } from './opening.ts'

/** The sessions at upstreams of all clients of the merged mount. */
export interface UpstreamSessions {
  /**
   * The session of `opening` at the upstream of `call` (its `head.mount`); opened if there is none, all who wait share one.
   * @throws GatewayError what the upstream failed with; `unsupported_version` when it knows no revision with sessions;
   * `session_unknown` when the client has ended it
   */
  open(opening: Opening, call: Call): Promise<UpstreamSession>
  /** The upstream does not know this session any more. */
  forget(opening: Opening, upstream: string, session: UpstreamSession): void
  /** What the session is to log, also at upstreams where it has not been opened yet. */
  setLevel(opening: Opening, levelText: string): void
  /** Notes that the client has subscribed to a resource of the upstream, or does not want to hear of it any more. */
  setSubscription(opening: Opening, upstream: string, change: SubscriptionChange): void
  /** Names of the upstreams where it is open now. */
  openAt(opening: Opening): readonly string[]
  /** What of it may stand in the session id. */
  shareable(opening: Opening): ReadonlyMap<string, OpenedSession>
  /** The client has ended it: whatever is asked of it from now on is refused here. */
  end(opening: Opening): void
}

/** Least recently used ones are forgotten first, and opened again when they are needed. */
const MAX_SESSIONS = 50_000
const IDLE_MS = 60 * 60_000
const MAX_ENDED = 10_000

/** Characters of the URIs that one session remembers: a subscription beyond them does not outlive the upstream's session. */
const MAX_SUBSCRIBED_CHARS = 65_536

/** A resource as its upstream names it. */
export interface SubscriptionChange {
  readonly uri: string
  readonly isWanted: boolean
}

interface Held {
  readonly opened: Promise<UpstreamSession>
  /** null until it is open. */
  session: UpstreamSession | null
}

interface Known {
  readonly at: Map<string, Held>
  /** Upstream -> URIs subscribed to there. */
  readonly subscriptions: Map<string, Set<string>>
  levelText: string | null
}

/** Makes the book of them; nothing is opened yet. */
export function createUpstreamSessions(rooms: Pick<Rooms, 'upstreams' | 'policy'>): UpstreamSessions {
  const sessions = new LRUCache<string, Known>({ max: MAX_SESSIONS, ttl: IDLE_MS, updateAgeOnGet: true })
  const ended = new LRUCache<string, true>({ max: MAX_ENDED })

  function knownOf({ id, at }: Opening): Known {
    if (ended.has(id)) throw new GatewayError('session_unknown')
    const found = sessions.get(id)
    if (found !== undefined) return found
    const carried = Object.entries(at).map(([upstream, [sessionId, protocolVersion]]) => {
      const session = { id: sessionId, protocolVersion, profile: null }
      return [upstream, { opened: Promise.resolve(session), session }] as const
    })
    const known: Known = { at: new Map(carried), subscriptions: new Map(), levelText: null }
    sessions.set(id, known)
    return known
  }

  return {
    async open(opening, call) {
      const known = knownOf(opening)
      const upstream = call.head.mount
      const found = known.at.get(upstream)
      if (found !== undefined) return await found.opened
      const wanted = { levelText: known.levelText, uris: known.subscriptions.get(upstream) ?? new Set() }
      const held: Held = { opened: openSession(rooms, { opening, call, wanted }), session: null }
      known.at.set(upstream, held)
      try {
        held.session = await held.opened
        return held.session
      } catch (thrown) {
        if (known.at.get(upstream) === held) known.at.delete(upstream)
        throw thrown
      }
    },
    forget({ id }, upstream, session) {
      const at = sessions.get(id)?.at
      if (at?.get(upstream)?.session === session) at.delete(upstream)
    },
    setLevel: (opening, levelText) => {
      knownOf(opening).levelText = levelText
    },
    setSubscription(opening, upstream, { uri, isWanted }) {
      const { subscriptions } = knownOf(opening)
      const uris = subscriptions.get(upstream) ?? new Set()
      subscriptions.set(upstream, uris)
      if (!isWanted) uris.delete(uri)
      else if (charsOf(subscriptions) + uri.length <= MAX_SUBSCRIBED_CHARS) uris.add(uri)
    },
    openAt: (opening) => [...knownOf(opening).at.keys()],
    shareable(opening) {
      const shared = new Map<string, OpenedSession>()
      for (const [upstream, { session }] of knownOf(opening).at) {
        if (session !== null && !rooms.upstreams.isLocal(upstream))
          shared.set(upstream, [session.id, session.protocolVersion])
      }
      return shared
    },
    end: ({ id }) => {
      sessions.delete(id)
      ended.set(id, true)
    },
  }
}

function charsOf(subscriptions: Known['subscriptions']): number {
  let chars = 0
  for (const uris of subscriptions.values()) for (const uri of uris) chars += uri.length
  return chars
}
