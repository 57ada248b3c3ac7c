/** What each stage of the spine does, in the order of the pipeline. Every function throws to end the call early. */
import { GatewayError } from '../errors.ts'
import type { Review } from './answer.ts'
import { reviewAnswer, reviewEvent } from './answer.ts'
import type { AnswerSink, Rooms } from './call.ts'
import { authorizeContents } from './contents.ts'
import { refuseKilled, targetOfKilled } from './killed.ts'
import { clientKey } from './open-call.ts'
import type { ServerRequestGate } from './server-request.ts'
import { createServerRequestGate } from './server-request.ts'
import type { OpenStreams } from './streams.ts'
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
  authenticate(call: Call, admission: Admission, exchange: Exchange): Promise<Principal>
  read(call: Call, exchange: Exchange): Promise<Reading>
  /** Returns the tool's catalogue entry for `validate`; null when the call is not a tools/call. */
  authorize(call: Call): Promise<ToolEntry | null>
  chargeLimits(call: Call): Promise<void>
  validate(call: Call, tool: ToolEntry | null): Promise<void>
  forward(call: Call, exchange: Exchange): Promise<UpstreamAnswer>
}

export function createStages(rooms: Rooms, streams: OpenStreams): Stages {
  const gate = createServerRequestGate(rooms)
  const forwarding = { rooms, gate, tasks: createTaskBook(rooms), streams }
  return {
    admit(call) {
      call.clientIp = rooms.http.clientIp(call.head)
      return rooms.http.admit(call.head)
    },

    async authenticate(call, admission, exchange) {
      try {
        return await rooms.auth.authenticate(admission.credential, admission.clientIp)
      } catch (thrown) {
        if (thrown instanceof GatewayError && thrown.kind === 'unauthenticated')
          call.hint = await rooms.http.hint(exchange)
        throw thrown
      }
    },

    async read(call, exchange) {
      call.server = rooms.upstreams.facts(call.head.mount)
      if (call.server === null) throw new GatewayError('mount_unknown')
      return await rooms.http.read(exchange, call.principal as Principal)
    },

    async authorize(call) {
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
      await authorizeContents(rooms, gate, call)
      // A tool whose catalogue cannot be read is never called, but a caller who may not use it learns nothing of that.
      if (found?.kind === 'unreadable') throw found.error
      return found?.kind === 'known' ? found.tool : null
    },

    chargeLimits: (call) => chargeLimits(rooms.rate, call),

    async validate(call, tool) {
      if (tool === null) return
      await rooms.upstreams.validateArguments(call.head.mount, tool, call.message?.argumentsText ?? '{}')
    },

    forward: (call, exchange) => forward(forwarding, call, exchange),
  }
}

interface Forwarding extends Review {
  readonly streams: OpenStreams
}

async function forward(forwarding: Forwarding, call: Call, exchange: Exchange): Promise<UpstreamAnswer> {
  const { rooms, streams } = forwarding
  const watched = streams.watch(call, exchange.signal)
  const sink: AnswerSink = {
    open(head) {
      watched.opened()
      exchange.open(rooms.http.openHead(call, head))
    },
    async event(event) {
      const relayed = await reviewEvent(forwarding, call, event)
      if (relayed !== null) await exchange.write(relayed)
    },
  }
  try {
    const answer = await rooms.upstreams.forward(call, sink, watched.signal)
    call.upstream = answer.report
    const ended = watched.ended()
    if (ended !== null) throw ended
    const reviewed = await reviewAnswer(forwarding, call, answer)
    return exchange.signal.aborted ? reviewed : endedSubscription(call, reviewed)
  } catch (thrown) {
    throw watched.ended() ?? thrown
  } finally {
    watched.release()
  }
}

function messageTarget(gate: ServerRequestGate, call: Call, message: Message): Target {
  if (message.kind !== 'response') return targetOf(message, call.head.mount)
  return target('server_request', gate.answeredMethod(call, message) ?? UNASKED)
}

/** The policy's word for an answer to a request that this process did not relay: it has no method. */
const UNASKED = 'unknown'

/** A policy that allows all answers means those to requests that passed the gate, not ones a caller makes up. */
function refuseUnaskedAnswer({ message, target: asked }: Call): void {
  if (message?.kind === 'response' && asked?.name === UNASKED)
    throw new GatewayError('policy_denied', { detail: 'an answer to a request that was not relayed here' })
}

type Found =
  | { readonly kind: 'known'; readonly tool: ToolEntry }
  | { readonly kind: 'unknown' }
  | { readonly kind: 'unreadable'; readonly error: GatewayError }

async function lookUp(rooms: Rooms, call: Call): Promise<Found> {
  try {
    const tool = await rooms.upstreams.findTool(
      call.head.mount,
      (call.target as Target).name,
      clientKey(call),
    )
    return tool === null ? { kind: 'unknown' } : { kind: 'known', tool }
  } catch (thrown) {
    if (thrown instanceof GatewayError) return { kind: 'unreadable', error: thrown }
    throw thrown
  }
}

function toolTarget(tool: ToolEntry): Target {
  return { kind: 'tool', name: tool.name, annotations: tool.annotations, schemaDigest: tool.schemaDigest }
}
