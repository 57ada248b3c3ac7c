/**
 * THE SPINE. One attempt passes
 *
 *     admit -> auth -> read -> authz -> rate -> validate -> upstream        audit: always, in `finally`
 *
 * and leaves exactly one audit row, whatever happened. The words used here are explained at the head of `types.ts`.
 * The spine imports no room: `main.ts` hands them in as {@link Rooms}.
 */
import type { CallSignal } from '../call-signal.ts'
import type { GatewayError } from '../errors.ts'
import { ENDINGS, toGatewayError } from '../errors.ts'
import { answered, refused } from './ending.ts'
import type { FederationSettings } from './federation/federation.ts'
import type { KillSwitches } from './killed.ts'
import type { ChargeReport, Limit } from './limit-types.ts'
import { openCall, principalKey } from './open-call.ts'
import { createStages } from './stages.ts'
import { isLongLived } from './streams.ts'
import { createStageClock } from './timed.ts'
import type { Turn, Turns } from './turns.ts'
import type {
  Admission,
  AskedOfClient,
  AuditEvent,
  Call,
  Credential,
  Ending,
  Evaluation,
  Exchange,
  PolicyRevision,
  Principal,
  Reading,
  Reply,
  ReplyHead,
  RequestHead,
  ServerFacts,
  SseEvent,
  Target,
  TargetVerdict,
  ToolEntry,
  UpstreamAnswer,
  UpstreamHead,
} from './types.ts'

/** Where an upstream's streamed answer goes while it is coming in. Both may apply backpressure. */
export interface AnswerSink {
  /** The upstream has answered with a stream. */
  open(head: UpstreamHead): void
  /** One event that is not the final answer. */
  event(event: SseEvent): Promise<void>
}

/** What each room must offer the spine. Every function may throw a GatewayError; anything else thrown is a fault. */
export interface Rooms {
  readonly turns: Pick<Turns, 'take'>
  readonly http: {
    /** The client's address after trusted proxies, canonical text. Never throws. */
    clientIp(head: RequestHead): string
    /** Host, Origin, duplicate security headers. Looks at the head only. */
    admit(head: RequestHead): Admission
    /** Bounded, strictly scanned body -> message; session ids verified against principal and mount. */
    read(exchange: Exchange, principal: Principal): Promise<Reading>
    /** Method and name from a body that has already arrived; null when there is none or it is not readable. */
    hint(exchange: Exchange): Promise<Call['hint']>
    /** The head of a streamed reply: allowed headers, our request id, the session id wrapped for this principal. */
    openHead(call: Call, head: UpstreamHead): ReplyHead
    replyWith(call: Call, answer: UpstreamAnswer): Reply
    replyRefusal(call: Call, error: GatewayError): Reply
    /** The id under which this caller may name the upstream's task. Throws `upstream_failed` for an unusable id. */
    bindTask(call: Call, upstreamId: string): string
    /** The id under which this caller is asked. */
    bindServerRequest(call: Call, asked: AskedOfClient): string
    /** What the caller was asked under this id; null when it was not. */
    askedUnder(call: Call, presented: string): AskedOfClient | null
  }
  readonly auth: {
    /** Throws `unauthenticated`; `address_throttled` for an address that keeps failing; `auth_unavailable`. */
    authenticate(credential: Credential | null, clientIp: string): Principal | Promise<Principal>
    /** Whether a principal let in before would be let in now. */
    isLive(principal: Principal): boolean
  }
  readonly kills: KillSwitches
  readonly policy: {
    /** Evaluates `data.gateway.decision`. Never throws: trouble is a denial with `failure` set. */
    decide(call: Call): Evaluation
    /** The verdicts of `data.gateway.visible` on list elements, all of one revision, in the order given. */
    visible(call: Call, targets: readonly Target[]): Promise<readonly TargetVerdict[]>
    /** The policy in force. */
    readonly revision: PolicyRevision
  }
  readonly rate: {
    /** Counts a call of this principal in flight; the function returned takes it off, once. Throws `rate_limited`. */
    enter(principalKey: string): () => void
    /** A call of this principal was denied. */
    recordDenial(principalKey: string): void
    /** Charges all limits or none. Throws `limiter_unavailable`. */
    charge(limits: readonly Limit[]): Promise<ChargeReport>
    /** The header fields that tell a caller what is left. */
    fields(report: ChargeReport): Readonly<Record<string, string>>
  }
  readonly upstreams: {
    /** null when no upstream of that name is configured. */
    facts(mount: string): ServerFacts | null
    /** All that are configured, by name. */
    all(): readonly ServerFacts[]
    /** false while it is known to be down. */
    isUp(name: string): boolean
    /** Whether its sessions live in this process and can be reached from no other one: a stdio server's do. */
    isLocal(name: string): boolean
    /**
     * The tool's catalogue entry, or that of a tool which only this client has been shown; null when unknown even after one
     * shared refresh; `upstream_failed` when unreadable.
     */
    findTool(
      mount: string,
      name: string,
      client?: string | null,
    ): ToolEntry | null | Promise<ToolEntry | null>
    /** A client has been shown these elements of a list of tools (`text` is their scanned JSON). */
    learnTools(
      mount: string,
      client: string,
      shown: readonly { readonly name: string; readonly text: string }[],
    ): void
    /** Throws, or rejects with, `invalid_arguments`. */
    validateArguments(mount: string, tool: ToolEntry, argumentsText: string): void | Promise<void>
    /** Sends the message on and returns the final answer. */
    forward(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer>
    /** Answers a server-to-client request in the client's place, with an error. Best effort, never throws. */
    refuseServerRequest(call: Call, idText: string): Promise<void>
  }
  readonly audit: {
    /** Before the upstream is asked. Throws `audit_unavailable`. */
    begin(call: Call): Promise<void>
    /** Resolves when the row is safe; throws `audit_unavailable` when it is not (yet). */
    end(event: AuditEvent): Promise<void>
  }
  readonly clock: { nowMs(): number; monotonicMs(): number }
  /** A fresh row id for that millisecond (UUID v7). */
  newId(ms: number): string
  /** Called with every finished attempt: log line and metrics. Must not throw. */
  observe(event: AuditEvent): void
}

/** The pipeline, and what it keeps open. */
export interface Spine {
  /** Everything that `/mcp/<upstream>`, or `/mcp`, does with one exchange. Never rejects. */
  attempt(exchange: Exchange): Promise<void>
  /**
   * Ends open streams that would not be allowed any more. Call it after a change of keys, policy or kill switches, and
   * once a second.
   */
  recheckStreams(): void
  /** Ends all open streams, for a gateway that stops. */
  endStreams(): void
}

/** `merged` null: there is no merged mount. */
export function createSpine(rooms: Rooms, merged: FederationSettings | null): Spine {
  const stages = createStages(rooms, merged)

  return {
    attempt: (exchange) => attempt(exchange, null),
    recheckStreams: stages.recheckStreams,
    endStreams: stages.endStreams,
  }

  /** `requestId` of the exchange whose batch this is an element of, else null. */
  async function attempt(arrived: Exchange, requestId: string | null): Promise<void> {
    const call = openCall(rooms, arrived.head, requestId)
    const clock = createStageClock(call, rooms.clock)
    let exchange = arrived
    let others: Promise<unknown> | null = null
    let ending: Ending | null = null
    let reply: Reply | null = null
    const seat = createSeat()
    let turn: Turn | null = null
    try {
      turn = await rooms.turns.take()
      noteQueue(rooms, call)
      seat.hold(turn.leave)
      clock.enter('admit')
      const admission = stages.admit(call)
      clock.enter('auth')
      call.principal = await stages.authenticate(call, admission, arrived)
      clock.enter('rate')
      seat.hold(rooms.rate.enter(principalKey(call.principal)))
      clock.enter('read')
      const reading = await stages.read(call, arrived)
      call.message = reading.message
      exchange = reading.exchange
      if (reading.others.length > 0) others = attemptAll(reading.others, call.requestId)
      clock.enter('authz')
      const tool = await stages.authorize(call)
      clock.enter('rate')
      await stages.chargeLimits(call)
      clock.enter('validate')
      await stages.validate(call, tool)
      clock.enter('audit')
      await rooms.audit.begin(call)
      if (isLongLived(call)) seat.leave()
      clock.enter('upstream')
      const answer = await stages.forward(call, exchange)
      clock.leave()
      reply = rooms.http.replyWith(call, answer)
      ending = answered(call, answer, rooms.clock.monotonicMs())
    } catch (thrown) {
      clock.leave()
      if (turn === null) noteRefusedTurn(rooms, call)
      const error = toGatewayError(thrown)
      noteDenial(rooms.rate, call, error)
      reply = rooms.http.replyRefusal(call, error)
      ending = refused(call, error, reply, rooms.clock.monotonicMs())
    } finally {
      seat.leave()
      const event = { call, ending: ending as Ending }
      const closed = close(rooms, { exchange, event, reply: reply as Reply, turn })
      await (others === null ? closed : Promise.all([closed, others]))
    }
  }

  /** The other elements of a batch pass the whole pipeline, beside the first one and each on its own. */
  function attemptAll(exchanges: readonly Exchange[], requestId: string): Promise<unknown> {
    const all = Promise.all(exchanges.map((exchange) => attempt(exchange, requestId)))
    // Looked at when the first one has ended, which may be later than a fault.
    all.catch(() => undefined)
    return all
  }
}

/** An attempt that is over but for its record and its answer. */
interface Over {
  readonly exchange: Exchange
  readonly event: AuditEvent
  readonly reply: Reply
  readonly turn: Turn | null
}

/** The one place where an attempt is recorded and answered. The answer waits for the record. */
async function close(rooms: Rooms, { exchange, event, reply, turn }: Over): Promise<void> {
  const { call, ending } = event
  let last = reply
  try {
    // Throttled addresses get one row for the whole window (see `Rooms.auth`), not one for each attempt.
    if (ending.kind !== 'address_throttled') await rooms.audit.end(event)
  } catch (thrown) {
    last = rooms.http.replyRefusal(call, toGatewayError(thrown))
  }
  turn?.done()
  rooms.observe(event)
  await exchange.finish(last)
}

function noteQueue({ clock }: Rooms, call: Call): void {
  call.timingsUs.queue = Math.round((clock.monotonicMs() - call.startedAt) * 1000)
}

/** A call that was never worked on: whoever asked is all that is known. */
function noteRefusedTurn(rooms: Rooms, call: Call): void {
  noteQueue(rooms, call)
  call.clientIp = rooms.http.clientIp(call.head)
}

/** Denials count against their principal, but not those that say that it has had too many. */
function noteDenial(rate: Rooms['rate'], call: Call, error: GatewayError): void {
  const { status } = ENDINGS[error.kind]
  if (call.principal === null || call.message === null || (status !== 403 && status !== 429)) return
  rate.recordDenial(principalKey(call.principal))
}

/** The counts on which a call in flight stands; `leave` takes it off all of them, once. */
function createSeat(): { hold(release: () => void): void; leave(): void } {
  const held: (() => void)[] = []
  return {
    hold: (release) => void held.push(release),
    leave: () => {
      for (const release of held.splice(0)) release()
    },
  }
}
