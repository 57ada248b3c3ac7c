/** The 2025-x sessions of one stdio upstream: bounded in number, ended when nobody has used them for long. */
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

/** The sessions of one upstream, by id. */
export interface Sessions {
  /** Makes room for one more; the function returned gives it back. Throws `overloaded`. */
  reserve(isOwn: boolean): Promise<() => void>
  /** `release` gives its place back; called when nothing of it is left. */
  add(session: StdioSession, release: () => void): void
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
  const places = { own: 0, shared: 0 }
  const releases = new Map<StdioSession, () => void>()
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
    releases.get(session)?.()
    releases.delete(session)
  }

  return {
    async reserve(isOwn) {
      const kind = isOwn ? 'own' : 'shared'
      const max = isOwn ? options.maxOwn : options.maxShared
      if (places[kind] >= max) {
        const unused = [...sessions.values()].find((one) => (one.own !== null) === isOwn && one.isIdle())
        if (unused !== undefined) await end(unused, ended('it gave way to another'))
      }
      if (places[kind] >= max) {
        const detail = `${max} sessions are in use (${isOwn ? 'max_children' : 'fixed bound'})`
        throw new GatewayError('overloaded', { detail, data: { retryAfterSeconds: 1 } })
      }
      places[kind] += 1
      let isHeld = true
      return () => {
        if (isHeld) places[kind] -= 1
        isHeld = false
      }
    },
    add(session, release) {
      sessions.set(session.id, session)
      releases.set(session, release)
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

function ended(detail: string): GatewayError {
  return new GatewayError('upstream_failed', { detail: `the session was ended: ${detail}` })
}
