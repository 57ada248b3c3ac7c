/** What each stage of the spine does, in the order of the pipeline. Every function throws to end the call early. */
import { GatewayError } from '../errors.ts'
import type { Review } from './answer.ts'
import { reviewAnswer, reviewEvent } from './answer.ts'
import type { AnswerSink, Rooms } from './call.ts'
import { authorizeContents, holdsMore } from './contents.ts'
import type { Federation, FederationSettings } from './federation/federation.ts'
import { createFederation } from './federation/federation.ts'
import { MERGED } from './federation/names.ts'
import { refuseKilled, targetOfKilled } from './killed.ts'
import { clientKey } from './open-call.ts'
import type { ServerRequestGate } from './server-request.ts'
import { createServerRequestGate } from './server-request.ts'
import type { OpenStreams } from './streams.ts'
import { createOpenStreams } from './streams.ts'
import { endedSubscription } from './subscriptions.ts'
import { target, targetOf } from './targets.ts'
import { createTaskBook } from './tasks.ts'
import type {
  Admission,
  Call,
  Exchange,
  Message,
  Principal,
  Reading,
  Target,
  ToolEntry,
  UpstreamAnswer,
} from './types.ts'
import { chargeLimits, refuseUnlessAllowed } from './verdict.ts'

/** The stages between the door and the upstream; `call` carries what each has learnt. */
export interface Stages {
  admit(call: Call): Admission
  authenticate(call: Call, admission: Admission, exchange: Exchange): Principal | Promise<Principal>
  read(call: Call, exchange: Exchange): Promise<Reading>
  /** Returns the tool's catalogue entry for `validate`; null when the call is not a tools/call. */
  authorize(call: Call): Promise<ToolEntry | null>
  chargeLimits(call: Call): void | Promise<void>
  validate(call: Call, tool: ToolEntry | null): void | Promise<void>
  forward(call: Call, exchange: Exchange): Promise<UpstreamAnswer>
  /** See `Spine`. */
  recheckStreams(): void
  endStreams(): void
}

/** What the stages work with; `federation` null = there is no merged mount. */
interface StageParts extends Review {
  readonly streams: OpenStreams
  readonly federation: Federation | null
}

/** `merged` null: there is no merged mount. */
export function createStages(rooms: Rooms, merged: FederationSettings | null): Stages {
  const streams = createOpenStreams(rooms)
  const gate = createServerRequestGate(rooms)
  const tasks = createTaskBook(rooms)
  const reviewing = { rooms, gate, tasks, streams }
  const federation = merged === null ? null : createFederation(reviewing, merged)
  const parts: StageParts = { ...reviewing, federation }
  return {
    admit(call) {
      call.clientIp = rooms.http.clientIp(call.head)
      return rooms.http.admit(call.head)
    },

    authenticate(call, admission, exchange) {
      const fail = async (thrown: unknown): Promise<never> => {
        if (thrown instanceof GatewayError && thrown.kind === 'unauthenticated')
          call.hint = await rooms.http.hint(exchange)
        throw thrown
      }
      try {
        const known = rooms.auth.authenticate(admission.credential, admission.clientIp)
        return known instanceof Promise ? known.catch(fail) : known
      } catch (thrown) {
        return fail(thrown)
      }
    },

    async read(call, exchange) {
      const isMerged = call.head.mount === MERGED && federation !== null
      call.server = isMerged ? null : rooms.upstreams.facts(call.head.mount)
      if (call.server === null && !isMerged) throw new GatewayError('mount_unknown')
      const reading = await rooms.http.read(exchange, call.principal as Principal)
      if (isMerged) federation.route(call, reading.message)
      return call.message === null ? reading : { ...reading, message: call.message }
    },

    authorize(call) {
      if (call.merged === null || call.merged === 'one') return authorize(parts, call)
      return (federation?.authorize(call) ?? Promise.resolve()).then(() => null)
    },

    chargeLimits(call) {
      if (federation === null || call.merged !== 'all') return chargeLimits(rooms.rate, call)
      return federation.charge(call)
    },

    validate(call, tool) {
      if (tool === null) return
      return rooms.upstreams.validateArguments(call.head.mount, tool, call.message?.argumentsText ?? '{}')
    },

    forward(call, exchange) {
      if (federation === null || call.merged === null) return forward(parts, call, exchange)
      if (call.merged === 'all') return federation.answer(call, exchange)
      return forward(parts, call, exchange).then((answer) => federation.outwardAnswer(call, answer))
    },

    recheckStreams() {
      streams.recheck()
      federation?.tick()
    },

    endStreams() {
      streams.endAll()
      federation?.endStreams()
    },
  }
}

async function authorize({ rooms, gate }: StageParts, call: Call): Promise<ToolEntry | null> {
  const message = call.message as Message
  const kills = await rooms.kills.current()
  const killed = kills.ofServer(call.head.mount)
  if (killed !== null) call.target = targetOfKilled(message, call.head.mount)
  refuseKilled(killed)
  call.target = messageTarget(gate, call, message)
  if (call.target.kind === 'tool') refuseKilled(kills.ofTool(call.head.mount, call.target.name))
  const found = call.target.kind === 'tool' ? await lookUp(rooms, call) : null
  if (found?.kind === 'unknown') throw new GatewayError('unknown_tool')
  if (found?.kind === 'known') call.target = toolTarget(found.tool)
  call.evaluation = rooms.policy.decide(call)
  refuseUnlessAllowed(call.evaluation)
  refuseUnaskedAnswer(call)
  if (holdsMore(call)) await authorizeContents(rooms, gate, call)
  // A tool whose catalogue cannot be read is never called, but a caller who may not use it learns nothing of that.
  if (found?.kind === 'unreadable') throw found.error
  return found?.kind === 'known' ? found.tool : null
}

async function forward(parts: StageParts, call: Call, exchange: Exchange): Promise<UpstreamAnswer> {
  const { rooms, streams, federation } = parts
  const watched = streams.watch(call, exchange.signal)
  const merged = call.merged === null ? null : federation
  const sink: AnswerSink = {
    open(head) {
      watched.opened()
      exchange.open(rooms.http.openHead(call, head))
    },
    async event(event) {
      if (watched.ended() !== null) return
      const relayed = await reviewEvent(parts, call, event)
      if (relayed !== null) await exchange.write(merged?.outwardEvent(call, relayed) ?? relayed)
    },
  }
  try {
    const ask = merged?.ask ?? rooms.upstreams.forward
    const answer = await ask(call, sink, watched.signal)
    call.upstream = answer.report
    const ended = watched.ended()
    if (ended !== null) throw ended
    const reviewed = await reviewAnswer(parts, call, answer)
    return exchange.signal.aborted ? reviewed : endedSubscription(call, reviewed)
  } catch (thrown) {
    throw watched.ended() ?? thrown
  } finally {
    watched.release()
  }
}

function messageTarget(gate: ServerRequestGate, call: Call, message: Message): Target {
  if (message.kind !== 'response') return targetOf(message, call.head.mount)
  return target('server_request', gate.takeAnswer(call) ?? UNASKED)
}

/** The policy's word for an answer to what this client was not asked: it has no method. */
const UNASKED = 'unknown'

/** A policy that allows all answers means those to requests that passed the gate, not ones a caller makes up. */
function refuseUnaskedAnswer({ message, target: asked }: Call): void {
  if (message?.kind === 'response' && asked?.name === UNASKED)
    throw new GatewayError('policy_denied', {
      detail: 'an answer to a request that this client was not asked here',
    })
}

type Found =
  | { readonly kind: 'known'; readonly tool: ToolEntry }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unreadable'; readonly error: GatewayError }

async function lookUp(rooms: Rooms, call: Call): Promise<Found> {
  try {
    const { name } = call.target as Target
    const tool = await rooms.upstreams.findTool(call.head.mount, name, clientKey(call))
    return tool === null ? { kind: 'unknown' } : { kind: 'known', tool }
  } catch (thrown) {
    if (thrown instanceof GatewayError) return { kind: 'unreadable', error: thrown }
    throw thrown
  }
}

/** One for all calls of a tool, so that what it says to a policy is written once. */
const toolTargets = new WeakMap<ToolEntry, Target>()

function toolTarget(tool: ToolEntry): Target {
  const known = toolTargets.get(tool)
  if (known !== undefined) return known
  const { name, annotations, schemaDigest } = tool
  const made = Object.freeze({ kind: 'tool', name, annotations, schemaDigest } satisfies Target)
  toolTargets.set(tool, made)
  return made
}
