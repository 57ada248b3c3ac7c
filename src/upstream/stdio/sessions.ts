/**
 * The 2025-x sessions of one stdio upstream: bounded in number, ended when nobody has used them for long. Where there is no
 * room left, an idle one gives way, but never to a caller who has more already; and who has most gives one up, busy or not,
 * to a caller who has at least two less: so one caller has all places only as long as no other wants any.
 */
import { GatewayError } from '../../errors.ts'
import type { StdioSession } from './session.ts'

/** Bounds of the sessions of one upstream. */
export interface SessionsOptions {
  /** Sessions with a server of their own, and so processes. */
  readonly maxOwn: number
  /** Sessions on a server that many use. */
  readonly maxShared: number
  /** A session that was idle so long is ended. */
  readonly idleMs: number
  readonly clock: { monotonicMs(): number }
  /** Told of each session that was on a server that others use as well, once it has ended. */
  readonly onSharedEnd: (session: StdioSession) => void
}

/** A place for one session. */
export interface Place {
  readonly caller: string
  /** Gives it back; counts once. */
  release(): void
}

/** The sessions of one upstream, by id. */
export interface Sessions {
  /** Makes room for one more of this caller. Throws `overloaded`. */
  reserve(isOwn: boolean, caller: string): Promise<Place>
  /** The place is given back when nothing of the session is left. */
  add(session: StdioSession, place: Place): void
  /** null when there is none of that id (any more). */
  find(id: string): StdioSession | null
  shared(): Iterable<StdioSession>
  end(session: StdioSession, reason: GatewayError): Promise<void>
  close(): Promise<void>
}

const MAX_SWEEP_MS = 30_000

/** Makes an empty book. */
export function createSessions(options: SessionsOptions): Sessions {
  const { clock, idleMs } = options
  /** Least recently used first. */
  const sessions = new Map<string, StdioSession>()
  const taken = { own: createCounts(), shared: createCounts() }
  const places = new Map<StdioSession, Place>()
  const timer = setInterval(sweep, Math.min(MAX_SWEEP_MS, Math.max(1, idleMs / 2)))
  timer.unref()

  function sweep(): void {
    const now = clock.monotonicMs()
    for (const session of [...sessions.values()]) {
      if (session.isIdle() && now - session.usedAt > idleMs) void end(session, ended('it was idle'))
    }
  }

  async function end(session: StdioSession, reason: GatewayError): Promise<void> {
    if (!sessions.delete(session.id)) return
    session.end(reason)
    if (session.own === null) options.onSharedEnd(session)
    else await session.own.close()
    places.get(session)?.release()
    places.delete(session)
  }

  /** The session that gives way to one more of this caller; null = none does. */
  function leastNeeded(isOwn: boolean, caller: string): StdioSession | null {
    const mine = taken[isOwn ? 'own' : 'shared'].of(caller)
    const all = [...sessions.values()].filter((one) => (one.own !== null) === isOwn)
    const callerOf = (session: StdioSession): string => places.get(session)?.caller ?? ''
    // Without those that are ending: their callers have given them up already.
    const counts = new Map<string, number>()
    for (const one of all) counts.set(callerOf(one), (counts.get(callerOf(one)) ?? 0) + 1)
    const countOf = (session: StdioSession): number => counts.get(callerOf(session)) ?? 0
    // Stable: among those of one count the least recently used comes first.
    const candidates = all.sort((one, other) => countOf(other) - countOf(one))
    const [most] = candidates
    const idle = candidates.find((one) => one.isIdle() && countOf(one) >= mine)
    return idle ?? (most !== undefined && countOf(most) >= mine + 2 ? most : null)
  }

  return {
    async reserve(isOwn, caller) {
      const counts = taken[isOwn ? 'own' : 'shared']
      const max = isOwn ? options.maxOwn : options.maxShared
      if (counts.total() >= max) {
        const gone = leastNeeded(isOwn, caller)
        if (gone !== null) await end(gone, ended('it gave way to another'))
      }
      if (counts.total() >= max) {
        const detail = `${max} sessions are in use (${isOwn ? 'max_children' : 'fixed bound'})`
        throw new GatewayError('overloaded', { detail, data: { retryAfterSeconds: 1 } })
      }
      return { caller, release: counts.take(caller) }
    },
    add(session, place) {
      sessions.set(session.id, session)
      places.set(session, place)
    },
    find(id) {
      const session = sessions.get(id)
      if (session === undefined) return null
      session.usedAt = clock.monotonicMs()
      sessions.delete(id)
      sessions.set(id, session)
      return session
    },
    *shared() {
      for (const session of sessions.values()) if (session.own === null) yield session
    },
    end,
    async close() {
      clearInterval(timer)
      await Promise.all([...sessions.values()].map((one) => end(one, ended('the gateway is stopping'))))
    },
  }
}

interface Counts {
  total(): number
  of(caller: string): number
  /** The function returned takes it back, once. */
  take(caller: string): () => void
}

function createCounts(): Counts {
  const counts = new Map<string, number>()
  let total = 0
  const of = (caller: string): number => counts.get(caller) ?? 0
  const add = (caller: string, by: 1 | -1): void => {
    total += by
    const count = of(caller) + by
    if (count > 0) counts.set(caller, count)
    else counts.delete(caller)
  }
  return {
    of,
    total: () => total,
    take(caller) {
      let isHeld = true
      add(caller, 1)
      return () => {
        if (isHeld) add(caller, -1)
        isHeld = false
      }
    },
  }
}

function ended(detail: string): GatewayError {
  return new GatewayError('upstream_failed', { detail: `the session was ended: ${detail}` })
}
