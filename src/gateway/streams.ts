/**
 * Streams that are open: what was allowed when they were opened is asked again while they last. All of them (those of GET and
 * `subscriptions/listen`, and those that carry the answer of one request) end with a kill switch, a revoked or expired key, or
 * a new policy that does not allow them.
 */
import { setImmediate } from 'node:timers/promises'
import type { CallSignal } from '../call-signal.ts'
import { CallAbort } from '../call-signal.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { Listed } from '../roster.ts'
import { Roster } from '../roster.ts'
import type { Rooms } from './call.ts'
import { killedError } from './killed.ts'
import { recheckSubscriptions } from './subscriptions.ts'
import type { Call, PolicyRevision, Principal } from './types.ts'

/** One watched call. */
export interface WatchedCall {
  /** Aborted when the call must end, or the client has gone. */
  readonly signal: CallSignal
  /** Its answer has turned out to be a stream. */
  opened(): void
  /** Why it must end; null while it may go on. */
  ended(): GatewayError | null
  /** The call has ended by itself. */
  release(): void
}

/** Calls that are being forwarded, watched for what no longer allows them. */
export interface OpenStreams {
  /** Starts to watch a call that is being forwarded. `signal` is aborted when its client goes. */
  watch(call: Call, signal: CallSignal): WatchedCall
  /** Asks again for every open stream; call it after a change and once a second (keys also expire). */
  recheck(): void
  /** Ends the long-lived ones, for a gateway that stops. */
  endAll(): void
}

type StreamRooms = Pick<Rooms, 'auth' | 'policy' | 'kills'>

interface Entry extends Listed {
  readonly call: Call
  readonly controller: CallAbort
  readonly isLongLived: boolean
  isOpen: boolean
  /** The policy that has allowed it last. */
  policy: PolicyRevision | null
  ended: GatewayError | null
}

/** Judging one anew, and the row of one that ends, are work: after so many, other calls have their turn. */
const STREAMS_AT_ONCE = 32

/** Makes the watch; it has no timer of its own. */
export function createOpenStreams(rooms: StreamRooms): OpenStreams {
  const watched = new Roster<Entry>()
  return {
    watch(call, signal) {
      const controller = new CallAbort()
      const isLasting = isLongLived(call)
      const policy = call.evaluation?.policy ?? null
      const entry: Entry = {
        call,
        controller,
        isLongLived: isLasting,
        isOpen: isLasting,
        policy,
        ended: null,
        place: -1,
      }
      const leave = (): void => controller.abort(signal.reason)
      if (signal.aborted) leave()
      signal.addEventListener('abort', leave)
      watched.add(entry)
      return {
        signal: controller,
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
    recheck: createRecheck(rooms, watched),
    endAll() {
      for (const entry of watched.all().filter((one) => one.isLongLived)) {
        watched.delete(entry)
        entry.controller.abort()
      }
    },
  }
}

/** One round at a time; what changes during a round is asked about in the next one. */
function createRecheck(rooms: StreamRooms, watched: Roster<Entry>): () => void {
  let isRechecking = false
  let isDue = false

  function refuse(entry: Entry, reason: GatewayError | null): void {
    if (reason !== null && watched.delete(entry)) entry.ended = reason
  }

  /** Costs thousands of quiet streams next to nothing. */
  function lookAt(entry: Entry): void {
    try {
      refuse(entry, refusalNow(rooms, entry))
    } catch (thrown) {
      refuse(entry, toGatewayError(thrown))
    }
  }

  function mustSettle(entry: Entry): boolean {
    return entry.ended !== null || (watched.has(entry) && !isOfPolicyInForce(rooms, entry))
  }

  async function settle(entry: Entry): Promise<void> {
    if (entry.ended === null) refuse(entry, await refusalOfNewPolicy(rooms, entry).catch(toGatewayError))
    if (entry.ended !== null) entry.controller.abort(entry.ended)
  }

  /** From the first look on nothing passes on those that must end; they are closed, and others judged anew, a few at a time. */
  async function recheckEach(): Promise<void> {
    const open = watched.all().filter(({ isOpen }) => isOpen)
    for (const entry of open) lookAt(entry)
    let count = 0
    for (const entry of open) {
      if (!mustSettle(entry)) continue
      await settle(entry)
      count += 1
      if (count % STREAMS_AT_ONCE === 0) await setImmediate()
    }
  }

  async function recheckAll(): Promise<void> {
    isRechecking = true
    while (isDue) {
      isDue = false
      await recheckEach()
    }
    isRechecking = false
  }

  return () => {
    isDue = true
    if (!isRechecking) void recheckAll()
  }
}

/** Streams that last until one side ends them; they do not count as calls in flight. */
export function isLongLived(call: Call): boolean {
  return call.message?.kind === 'stream' || call.message?.method === 'subscriptions/listen'
}

function refusalNow(rooms: StreamRooms, { call }: Entry): GatewayError | null {
  const kill = killOf(rooms, call)
  if (kill !== null) return killedError(kill)
  if (rooms.auth.isLive(call.principal as Principal)) return null
  return new GatewayError('unauthenticated', {
    detail: 'the key was revoked or expired while the stream was open',
  })
}

function killOf(rooms: StreamRooms, call: Call) {
  const kills = rooms.kills.known()
  const { mount } = call.head
  const ofServer = kills.ofServer(mount)
  return ofServer === null && call.target?.kind === 'tool' ? kills.ofTool(mount, call.target.name) : ofServer
}

/** The same policy gives the same answer, but for the clock: only a new one is worth an evaluation, and only one. */
function isOfPolicyInForce(rooms: StreamRooms, { policy }: Entry): boolean {
  const { digest, revision } = rooms.policy.revision
  return digest === policy?.digest && revision === policy.revision
}

async function refusalOfNewPolicy(rooms: StreamRooms, entry: Entry): Promise<GatewayError | null> {
  const { call } = entry
  entry.policy = rooms.policy.revision
  const evaluation = rooms.policy.decide(call)
  const isAllowed = evaluation.failure === null && evaluation.allow
  // A long-lived stream is the new policy's from here on, and so is its row. An answer stays that of the policy that let its
  // request through, until one refuses it.
  if (entry.isLongLived || !isAllowed) call.evaluation = evaluation
  if (!isAllowed) {
    return new GatewayError('policy_denied', {
      detail: 'a new policy does not allow the stream that was open',
    })
  }
  await recheckSubscriptions(rooms, call)
  return null
}
