/**
 * Streams that are open: what was allowed when they were opened is asked again while they last. Those that stay open until
 * one side ends them (GET, `subscriptions/listen`) end with a revoked key, a new policy or a kill switch; those that carry
 * the answer of one request end with a kill switch.
 */
import { setImmediate } from 'node:timers/promises'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { Rooms } from './call.ts'
import { killedError } from './killed.ts'
import { recheckSubscriptions } from './subscriptions.ts'
import type { Call, Principal } from './types.ts'

/** One watched call. */
export interface WatchedCall {
  /** Aborted when the call must end, or the client has gone. */
  readonly signal: AbortSignal
  /** Its answer has turned out to be a stream. */
  opened(): void
  /** Why it must end; null while it may go on. */
  ended(): GatewayError | null
  /** The call has ended by itself. */
  release(): void
}

export interface OpenStreams {
  /** Starts to watch a call that is being forwarded. `signal` is aborted when its client goes. */
  watch(call: Call, signal: AbortSignal): WatchedCall
  /** Asks again for every open stream; call it after a change and once a second (keys also expire). */
  recheck(): void
  /** Ends the long-lived ones, for a gateway that stops. */
  endAll(): void
}

type StreamRooms = Pick<Rooms, 'auth' | 'policy' | 'kills'>

interface Entry {
  readonly call: Call
  readonly controller: AbortController
  readonly isLongLived: boolean
  isOpen: boolean
  ended: GatewayError | null
}

/** A new policy is evaluated for all of them: after so many, other calls have their turn. */
const STREAMS_AT_ONCE = 32

export function createOpenStreams(rooms: StreamRooms): OpenStreams {
  const watched = new Set<Entry>()
  let isRechecking = false
  let isDue = false

  function end(entry: Entry, reason: GatewayError): void {
    entry.ended = reason
    watched.delete(entry)
    entry.controller.abort(reason)
  }

  async function recheckOne(entry: Entry): Promise<void> {
    try {
      const reason = await refusalNow(rooms, entry)
      if (reason !== null && watched.has(entry)) end(entry, reason)
    } catch (thrown) {
      end(entry, toGatewayError(thrown))
    }
  }

  async function recheckAll(): Promise<void> {
    isRechecking = true
    while (isDue) {
      isDue = false
      let count = 0
      for (const entry of [...watched]) {
        if (!entry.isOpen || !watched.has(entry)) continue
        await recheckOne(entry)
        count += 1
        if (count % STREAMS_AT_ONCE === 0) await setImmediate()
      }
    }
    isRechecking = false
  }

  return {
    watch(call, signal) {
      const controller = new AbortController()
      const isLasting = isLongLived(call)
      const entry: Entry = { call, controller, isLongLived: isLasting, isOpen: isLasting, ended: null }
      const leave = (): void => controller.abort(signal.reason)
      if (signal.aborted) leave()
      signal.addEventListener('abort', leave)
      watched.add(entry)
      return {
        signal: controller.signal,
        opened: () => {
          entry.isOpen = true
        },
        ended: () => entry.ended,
        release: () => {
          signal.removeEventListener('abort', leave)
          watched.delete(entry)
        },
      }
    },
    recheck() {
      isDue = true
      if (!isRechecking) void recheckAll()
    },
    endAll() {
      for (const entry of [...watched].filter((one) => one.isLongLived)) {
        watched.delete(entry)
        entry.controller.abort()
      }
    },
  }
}

/** Streams that last until one side ends them; they do not count as calls in flight. */
export function isLongLived(call: Call): boolean {
  return call.message?.kind === 'stream' || call.message?.method === 'subscriptions/listen'
}

function refusalNow(
  rooms: StreamRooms,
  { call, isLongLived: isLasting }: Entry,
): GatewayError | null | Promise<GatewayError | null> {
  const kill = killOf(rooms, call)
  if (kill !== null) return killedError(kill)
  // An answer under way belongs to a call that was decided once.
  if (!isLasting) return null
  if (!rooms.auth.isLive(call.principal as Principal)) {
    return new GatewayError('unauthenticated', {
      detail: 'the key was revoked or expired while the stream was open',
    })
  }
  return refusalOfNewPolicy(rooms, call)
}

function killOf(rooms: StreamRooms, call: Call) {
  const kills = rooms.kills.known()
  const { mount } = call.head
  const ofServer = kills.ofServer(mount)
  return ofServer === null && call.target?.kind === 'tool' ? kills.ofTool(mount, call.target.name) : ofServer
}

/** The same policy gives the same answer, but for the clock: only a new one is worth an evaluation, and only one. */
function refusalOfNewPolicy(
  rooms: StreamRooms,
  call: Call,
): GatewayError | null | Promise<GatewayError | null> {
  const { digest, revision } = rooms.policy.revision
  if (digest === call.evaluation?.policy.digest && revision === call.evaluation.policy.revision) return null
  // From here on the stream is the new policy's, and so is its row.
  call.evaluation = rooms.policy.decide(call)
  if (call.evaluation.failure === null && call.evaluation.allow) return refusalOfSubscriptions(rooms, call)
  return new GatewayError('policy_denied', { detail: 'a new policy does not allow the stream that was open' })
}

async function refusalOfSubscriptions(rooms: StreamRooms, call: Call): Promise<GatewayError | null> {
  return await recheckSubscriptions(rooms, call).then(() => null, toGatewayError)
}
