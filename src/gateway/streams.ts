/**
 * Streams that stay open (GET, `subscriptions/listen`): what was allowed when they were opened is asked again while they
 * last, so that a revoked key or a new policy ends them.
 */
import { GatewayError } from '../errors.ts'
import type { Rooms } from './call.ts'
import type { Call, Principal } from './types.ts'

/** One watched stream. */
export interface WatchedStream {
  /** Aborted when the stream must end. */
  readonly signal: AbortSignal
  /** Why it must end; null while it may go on. */
  ended(): GatewayError | null
  /** The stream has ended by itself. */
  release(): void
}

export interface OpenStreams {
  /** Starts to watch the call's stream; null when the call is not a long-lived one. */
  watch(call: Call): WatchedStream | null
  /** Asks again for every open stream; call it after a change and once a second (keys also expire). */
  recheck(): void
  /** Ends all of them, for a gateway that stops. */
  endAll(): void
}

interface Entry {
  readonly call: Call
  readonly controller: AbortController
  ended: GatewayError | null
}

export function createOpenStreams(rooms: Pick<Rooms, 'auth' | 'policy'>): OpenStreams {
  const open = new Set<Entry>()

  function recheck(entry: Entry): void {
    const reason = refusalNow(rooms, entry.call)
    if (reason === null) return
    entry.ended = reason
    open.delete(entry)
    entry.controller.abort(reason)
  }

  return {
    watch(call) {
      if (!isLongLived(call)) return null
      const entry: Entry = { call, controller: new AbortController(), ended: null }
      open.add(entry)
      return {
        signal: entry.controller.signal,
        ended: () => entry.ended,
        release: () => void open.delete(entry),
      }
    },
    recheck() {
      for (const entry of [...open]) recheck(entry)
    },
    endAll() {
      for (const entry of open) entry.controller.abort()
      open.clear()
    },
  }
}

/** Streams that last until one side ends them; they do not count as calls in flight. */
export function isLongLived(call: Call): boolean {
  return call.message?.kind === 'stream' || call.message?.method === 'subscriptions/listen'
}

function refusalNow(rooms: Pick<Rooms, 'auth' | 'policy'>, call: Call): GatewayError | null {
  if (!rooms.auth.isLive(call.principal as Principal)) {
    return new GatewayError('unauthenticated', {
      detail: 'the key was revoked or expired while the stream was open',
    })
  }
  // The same policy gives the same answer, but for the clock: only a new one is worth an evaluation.
  if (rooms.policy.revision.digest === call.evaluation?.policy.digest) return null
  const evaluation = rooms.policy.decide(call)
  if (evaluation.failure === null && evaluation.allow) return null
  return new GatewayError('policy_denied', { detail: 'a new policy does not allow the stream that was open' })
}
