/**
 * Streams that are open: what was allowed when they were opened is asked again while they last. All of them (those of GET and
 * `subscriptions/listen`, and those that carry the answer of one request) end with a kill switch, a revoked or expired key, or
 * a new policy that does not allow them.
 *
 * However many end at once: from the first look on nothing passes on them; then their clients and upstreams hear of it; their
 * rows, which cost most, come last and leave other calls half of the time.
 */
import { setImmediate } from 'node:timers/promises'
import type { CallSignal } from '../call-signal.ts'
import { CallAbort } from '../call-signal.ts'
import { GatewayError, toGatewayError } from '../errors.ts'
import type { Listed } from '../roster.ts'
import { Roster } from '../roster.ts'
import type { Rooms } from './call.ts'
import { killedError } from './killed.ts'
import { createPace } from './pace.ts'
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
  /** Whether what has come on the stream may pass: the policy in force is asked first if it has not been. */
  mayPass(): Promise<boolean>
  /** The call has ended by itself. */
  release(): void
}

/** Calls that are being forwarded, watched for what no longer allows them. */
export interface OpenStreams {
  /**
   * Starts to watch a call that is being forwarded. `signal` is aborted when its client goes. `cut` ends what its client has
   * of it, before its row is made; it must not throw.
   */
  watch(call: Call, signal: CallSignal, cut: (reason: GatewayError) => void): WatchedCall
  /** Asks again for every open stream; call it after a change and once a second (keys also expire). */
  recheck(): void
  /** Resolves when it is the turn of a stream that has ended to leave its row. */
  turnOfRow(): Promise<void>
  /** Ends the long-lived ones, for a gateway that stops. */
  endAll(): void
}

type StreamRooms = Pick<Rooms, 'auth' | 'policy' | 'kills' | 'clock'>

interface Entry extends Listed {
  readonly call: Call
  readonly controller: CallAbort
  readonly cut: (reason: GatewayError) => void
  readonly isLongLived: boolean
  isOpen: boolean
  /** The policy that has allowed it last. */
  policy: PolicyRevision | null
  /** While the policy in force is being asked. */
  judging: Promise<void> | null
  ended: GatewayError | null
}

/** How long streams are looked at before other calls have their turn. */
const SLICE_MS = 2

/** Makes the watch; it has no timer of its own. */
export function createOpenStreams(rooms: StreamRooms): OpenStreams {
  const watched = new Roster<Entry>()
  const rounds = createRounds(rooms, watched)
  const rows = createPace(rooms.clock)
  return {
    watch(call, signal, cut) {
      const entry = createEntry(call, cut)
      const { controller } = entry
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
        mayPass: () => rounds.mayPass(entry),
        release: () => {
          signal.removeEventListener('abort', leave)
          watched.delete(entry)
        },
      }
    },
    recheck: rounds.begin,
    turnOfRow: rows.turn,
    endAll() {
      rows.hurry()
      for (const entry of watched.all().filter((one) => one.isLongLived)) {
        watched.delete(entry)
        entry.controller.abort()
      }
    },
  }
}

function createEntry(call: Call, cut: Entry['cut']): Entry {
  const isLasting = isLongLived(call)
  return {
    call,
    controller: new CallAbort(),
    cut,
    isLongLived: isLasting,
    isOpen: isLasting,
    policy: call.evaluation?.policy ?? null,
    judging: null,
    ended: null,
    place: -1,
  }
}

interface Rounds {
  /** Begins one; a change during a round begins the next one at once: what has been judged need not be again. */
  begin(): void
  mayPass(entry: Entry): Promise<boolean>
}

/** One round at a time, in slices. */
function createRounds(rooms: StreamRooms, watched: Roster<Entry>): Rounds {
  /** Their clients have been told; their upstreams have not. */
  const closing: Entry[] = []
  let isRunning = false
  let isDue = false

  /** Whether that is its end: there is only one. */
  function refuse(entry: Entry, reason: GatewayError | null): boolean {
    if (reason === null || !watched.delete(entry)) return false
    entry.ended = reason
    return true
  }

  /** What memory knows of keys and switches: costs thousands of quiet streams next to nothing. Whether that ends it. */
  function lookAt(entry: Entry): boolean {
    try {
      return refuse(entry, refusalNow(rooms, entry))
    } catch (thrown) {
      return refuse(entry, toGatewayError(thrown))
    }
  }

  function tellClient(entry: Entry): void {
    if (entry.ended === null) return
    entry.cut(entry.ended)
    closing.push(entry)
  }

  function mustJudge(entry: Entry): boolean {
    return watched.has(entry) && (entry.judging !== null || !isOfPolicyInForce(rooms, entry))
  }

  async function judge(entry: Entry): Promise<void> {
    const isEnd = refuse(entry, await refusalOfNewPolicy(rooms, entry).catch(toGatewayError))
    entry.judging = null
    if (isEnd) tellClient(entry)
  }

  async function judgeAnew(entry: Entry): Promise<void> {
    entry.judging ??= judge(entry)
    await entry.judging
  }

  async function lookAtEach(rest: Rest): Promise<void> {
    isDue = false
    const open = watched.all().filter(({ isOpen }) => isOpen)
    for (const entry of open.filter(lookAt)) {
      tellClient(entry)
      await rest()
    }
    for (const entry of open) {
      if (isDue) return
      if (mustJudge(entry)) await judgeAnew(entry)
      await rest()
    }
  }

  async function run(): Promise<void> {
    isRunning = true
    const rest = createRest(rooms.clock)
    try {
      while (isDue || closing.length > 0) {
        if (isDue) await lookAtEach(rest)
        const entry = closing.shift()
        entry?.controller.abort(entry.ended)
        await rest()
      }
    } finally {
      isRunning = false
    }
  }

  function runUnlessRunning(): void {
    if (!isRunning) void run()
  }

  return {
    begin() {
      isDue = true
      runUnlessRunning()
    },
    async mayPass(entry) {
      // A round that is under way may have looked at it before the last change.
      if (watched.has(entry) && lookAt(entry)) tellClient(entry)
      if (mustJudge(entry)) await judgeAnew(entry)
      if (closing.length > 0) runUnlessRunning()
      return entry.ended === null
    },
  }
}

/** Lets other calls have their turn whenever {@link SLICE_MS} have passed since it last did. */
type Rest = () => Promise<void> | undefined

function createRest(clock: Rooms['clock']): Rest {
  let from = clock.monotonicMs()
  const rest = async (): Promise<void> => {
    await setImmediate()
    from = clock.monotonicMs()
  }
  return () => (clock.monotonicMs() - from < SLICE_MS ? undefined : rest())
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
