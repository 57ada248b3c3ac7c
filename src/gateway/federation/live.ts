/**
 * Streams of the merged mount that last (GET of a session, `subscriptions/listen`): one towards the client, one to each
 * upstream. Each of those is decided, watched and ended on its own, and opened again when its upstream is back; the client
 * then hears that lists have changed. No timers: `tick` is called once a second.
 */
import { setTimeout } from 'node:timers/promises'
import { CallAbort } from '../../call-signal.ts'
import { GatewayError, toGatewayError } from '../../errors.ts'
import type { Review } from '../answer.ts'
import { reviewEvent } from '../answer.ts'
import type { AnswerSink } from '../call.ts'
import type { OpenStreams } from '../streams.ts'
import { filterOf, NAMING_MEMBERS } from '../subscriptions.ts'
import type {
  Call,
  CallPart,
  Exchange,
  Message,
  Principal,
  ServerFacts,
  SseEvent,
  UpstreamAnswer,
} from '../types.ts'
import type { Asking } from './asking.ts'
import { ownAnswer } from './asking.ts'
import { parseEventId, sessionEventId } from './event-id.ts'
import { acknowledgedBy, acknowledgedNames, listenMessages, withoutNamed } from './listen-filter.ts'
import { outwardEvent } from './outward.ts'
import { decidePart, partOf } from './parts.ts'

/** What lasting streams are made with. */
export interface LiveParts extends Review {
  readonly streams: OpenStreams
  readonly asking: Asking
  /** Age at which a stream is ended; clients come back. */
  readonly maxStreamMs: number
  /** How long the acknowledgement of a subscription waits for those of the upstreams. */
  readonly partTimeoutMs: number
}

/** The lasting streams of all clients of the merged mount. */
export interface LiveStreams {
  /** Lasts as long as the stream. Throws what the last part was ended with when none is left. */
  run(call: Call, exchange: Exchange): Promise<UpstreamAnswer>
  /** Opens parts again, ends what is too old, tells of upstreams that are back. */
  tick(): void
  /** Ends all of them, for a gateway that stops. */
  endAll(): void
}

/** Between two tries to open one part: doubled each time up to this. */
const MAX_RETRY_MS = 30_000
const FIRST_RETRY_MS = 1000
/** Decisions and tries of all streams in one tick: a new policy, or an upstream that is back, must not hold up calls. */
const WORK_PER_TICK = 256

/** Makes them. */
export function createLiveStreams(own: LiveParts): LiveStreams {
  const live = new Set<LiveStream>()
  return {
    async run(call, exchange) {
      const stream = new LiveStream(own, call, exchange)
      live.add(stream)
      try {
        return await stream.run()
      } finally {
        live.delete(stream)
      }
    },
    tick() {
      if (live.size === 0) return
      const back = own.asking.returned()
      let left = WORK_PER_TICK
      for (const stream of live) left -= stream.tick(back, left)
    },
    endAll() {
      for (const stream of live) stream.end()
    },
  }
}

/**
 * - waiting   not open; tried again from `retryAt` on
 * - open      being asked, or open
 * - silent    the upstream has no such stream, but works as far as is known
 * - refused   not allowed
 */
interface Branch {
  part: CallPart
  state: 'waiting' | 'open' | 'silent' | 'refused'
  retryAt: number
  retryMs: number
  /** Digest of the policy that decided it. */
  decidedBy: string
  /** The client may have seen lists without its share. */
  wasAway: boolean
  /** Session at the upstream; undefined = none yet. Another one knows nothing of what was before it. */
  session: string | null | undefined
  /** `subscriptions/listen`: what the upstream has acknowledged; null = nothing yet. */
  acknowledged: Readonly<Record<string, unknown>> | null
  /** It has acknowledged, or will not for now. */
  readonly heard: Heard
}

interface Heard {
  readonly promise: Promise<void>
  tell(): void
}

/** A class because its branches end, and are opened again, from many sides. */
class LiveStream {
  readonly #own: LiveParts
  readonly #call: Call
  readonly #exchange: Exchange
  readonly #branches: Branch[]
  readonly #ids: Map<string, string>
  readonly #startedAt: number
  readonly #ending = new CallAbort()
  /** Resolved when the client has been told what it is subscribed to. */
  readonly #ready = createHeard()
  #error: GatewayError | null = null

  constructor(own: LiveParts, call: Call, exchange: Exchange) {
    this.#own = own
    this.#call = call
    this.#exchange = exchange
    this.#startedAt = own.rooms.clock.monotonicMs()
    const { digest } = own.rooms.policy.revision
    // Each branch listens for the end.
    const last = parseEventId(call.head.headers['last-event-id'])
    this.#ids = new Map(last?.kind === 'session' ? last.ids : [])
    this.#branches = (call.parts ?? []).map((part) => ({
      part,
      state: part.refusal === null ? 'waiting' : 'refused',
      retryAt: 0,
      retryMs: FIRST_RETRY_MS,
      decidedBy: digest,
      wasAway: false,
      session: undefined,
      acknowledged: null,
      heard: createHeard(),
    }))
  }

  async run(): Promise<UpstreamAnswer> {
    const { rooms } = this.#own
    const { signal } = this.#exchange
    const leave = (): void => this.#ending.abort()
    if (signal.aborted) leave()
    signal.addEventListener('abort', leave)
    this.#exchange.open(rooms.http.openHead(this.#call, ownAnswer(null, null).head))
    const ended = new Promise<void>((resolve) => this.#ending.addEventListener('abort', resolve))
    for (const branch of this.#branches) if (branch.state === 'waiting') void this.#open(branch)
    if (this.#isSubscription()) void this.#acknowledge()
    else this.#ready.tell()
    if (!this.#ending.aborted) await ended
    signal.removeEventListener('abort', leave)
    if (this.#error !== null) throw this.#error
    const { idText } = this.#call.message as Message
    // 2026-07-28: a subscription that the server ends is answered.
    return ownAnswer(idText, this.#isSubscription() && !signal.aborted ? this.#graceful() : null)
  }

  end(): void {
    this.#ending.abort()
  }

  /** Does as much as it may (`work`); returns how much that was. */
  tick(back: readonly string[], work: number): number {
    const { rooms, maxStreamMs } = this.#own
    const now = rooms.clock.monotonicMs()
    if (now - this.#startedAt > maxStreamMs) this.end()
    else if (!rooms.auth.isLive(this.#call.principal as Principal))
      this.#endWith(new GatewayError('unauthenticated'))
    let done = 0
    for (const branch of this.#branches) {
      if (this.#ending.aborted || done >= work) break
      if (branch.state !== 'refused' && back.includes(branch.part.call.head.mount))
        void this.#tellChanged(branch)
      // What is open is watched where all open streams are.
      if (branch.state !== 'open') done += this.#tend(branch, now)
    }
    return done
  }

  /** Looks after a branch that is not open; 1 when that was work. */
  #tend(branch: Branch, now: number): number {
    const { rooms } = this.#own
    const { mount } = branch.part.call.head
    const kill = rooms.kills.known().ofServer(mount)
    const isKilled = branch.part.refusal?.kind === 'killed'
    if ((kill !== null) !== isKilled || branch.decidedBy !== rooms.policy.revision.digest) {
      void this.#decideAgain(branch)
      return 1
    }
    if (branch.state === 'silent' && !rooms.upstreams.isUp(mount)) {
      branch.wasAway = true
      this.#retryLater(branch)
    }
    if (branch.state !== 'waiting' || now < branch.retryAt) return 0
    void this.#open(branch)
    return 1
  }

  async #open(branch: Branch): Promise<void> {
    const { streams, asking } = this.#own
    branch.state = 'open'
    const call = this.#fresh(branch)
    const watched = streams.watch(call, this.#ending)
    try {
      const answer = await asking.ask(call, this.#sink(branch, call), watched.signal)
      branch.part.call.upstream = answer.report
      if (watched.signal.aborted) throw new GatewayError('client_closed')
      // No such stream there, or nothing to hear on it.
      const hasNothing = this.#isSubscription() && Object.keys(branch.acknowledged ?? {}).length === 0
      if (answer.head.status !== 200 || hasNothing) this.#settle(branch)
      else this.#retryLater(branch)
    } catch (thrown) {
      const ended = watched.ended()
      if (ended !== null) this.#refuse(branch, ended)
      else if (watched.signal.aborted) this.end()
      else this.#failed(branch, toGatewayError(thrown))
    } finally {
      watched.release()
      branch.heard.tell()
    }
  }

  /** The part's call as it was decided: what a session made of its head and message is made anew. */
  #fresh({ part }: Branch): Call {
    const { call } = part
    const { head } = this.#call
    const message = { ...(call.message as Message), session: this.#call.message?.session ?? null }
    const { 'last-event-id': _merged, ...headers } = head.headers
    const last = this.#ids.get(call.head.mount)
    const own = last === undefined ? headers : { ...headers, 'last-event-id': last }
    return { ...call, message, head: { ...head, mount: call.head.mount, headers: own } }
  }

  #sink(branch: Branch, call: Call): AnswerSink {
    return {
      open: () => {
        branch.retryMs = FIRST_RETRY_MS
        branch.part.refusal = null
        const session = call.message?.session?.upstreamId ?? null
        if (branch.session !== undefined && branch.session !== session) branch.wasAway = true
        branch.session = session
        if (branch.wasAway) void this.#tellChanged(branch)
      },
      event: async (event) => {
        const acknowledged = this.#isSubscription() ? acknowledgedBy(event) : null
        if (acknowledged !== null) {
          branch.acknowledged = acknowledged
          branch.heard.tell()
          return
        }
        await this.#ready.promise
        const relayed = await reviewEvent(this.#own, call, event)
        if (relayed !== null) await this.#exchange.write(this.#outward(call.head.mount, relayed))
      },
    }
  }

  #outward(upstream: string, event: SseEvent): SseEvent {
    const outward = outwardEvent(upstream, event)
    if (event.id === null) return outward
    if (event.id === '') this.#ids.delete(upstream)
    else this.#ids.set(upstream, event.id)
    return { ...outward, id: sessionEventId(this.#ids), raw: Buffer.alloc(0) }
  }

  /** Waits for what the upstreams acknowledge, and says it in their place, once. */
  async #acknowledge(): Promise<void> {
    const late = new AbortController()
    const heard = this.#branches.flatMap((one) => (one.state === 'open' ? [one.heard.promise] : []))
    const patience = setTimeout(this.#own.partTimeoutMs, undefined, { signal: late.signal }).catch(
      () => undefined,
    )
    await Promise.race([Promise.all(heard), patience])
    late.abort()
    const filter = filterOf(this.#call.message as Message)
    const flags = Object.entries(filter).filter(([name, value]) => value === true && CHANGES.has(name))
    const bindTask = this.#own.rooms.http.bindTask
    const lists = NAMING_MEMBERS.map((member) => {
      const names = this.#branches.flatMap(({ part, acknowledged }) =>
        acknowledgedNames({ call: part.call, acknowledged, member, bindTask }),
      )
      return [member, names] as const
    })
    const notifications = Object.fromEntries([...flags, ...lists.filter(([, names]) => names.length > 0)])
    await this.#notify('notifications/subscriptions/acknowledged', { notifications })
    this.#ready.tell()
  }

  async #tellChanged(branch: Branch): Promise<void> {
    branch.wasAway = false
    await this.#ready.promise
    const filter = this.#isSubscription() ? filterOf(this.#call.message as Message) : null
    for (const [flag, method] of CHANGES) {
      if (filter === null || filter[flag] === true) await this.#notify(method, {})
    }
  }

  async #notify(method: string, params: object): Promise<void> {
    const { idText } = this.#call.message as Message
    const meta = idText === null ? '' : `"_meta":{"io.modelcontextprotocol/subscriptionId":${idText}}`
    const members = JSON.stringify(params).slice(1, -1)
    const inner = [meta, members].filter((text) => text !== '').join(',')
    const data = `{"jsonrpc":"2.0","method":"${method}","params":{${inner}}}`
    await this.#exchange.write({ raw: Buffer.alloc(0), data, id: null, event: 'message', retry: null })
  }

  async #decideAgain(branch: Branch): Promise<void> {
    const { rooms } = this.#own
    const message = this.#call.message as Message
    const { server } = branch.part.call
    const own = listenMessages(message)?.get(server?.name ?? '') ?? withoutNamed(message)
    branch.decidedBy = rooms.policy.revision.digest
    const part = partOf(this.#call, server as ServerFacts, own)
    await decidePart(rooms, rooms.kills.known(), part)
    if (branch.state === 'open') return
    branch.part = part
    if (part.refusal !== null) this.#refuse(branch, part.refusal)
    else if (branch.state === 'refused') {
      branch.state = 'waiting'
      branch.wasAway = true
    }
  }

  #settle(branch: Branch): void {
    branch.state = 'silent'
    branch.part.refusal = null
    if (branch.wasAway) void this.#tellChanged(branch)
  }

  #failed(branch: Branch, error: GatewayError): void {
    branch.part.refusal = error
    branch.wasAway = true
    // The client has ended its session.
    if (error.kind === 'session_unknown') this.end()
    else this.#retryLater(branch)
  }

  #retryLater(branch: Branch): void {
    branch.state = 'waiting'
    branch.retryAt = this.#own.rooms.clock.monotonicMs() + branch.retryMs
    branch.retryMs = Math.min(branch.retryMs * 2, MAX_RETRY_MS)
  }

  /** A principal who may not be here ends the stream; an upstream that is none of its business any more, its branch. */
  #refuse(branch: Branch, error: GatewayError): void {
    branch.part.refusal = error
    branch.state = 'refused'
    const isLast = this.#branches.every(({ state }) => state === 'refused')
    if (isLast || error.kind === 'unauthenticated') this.#endWith(error)
  }

  #endWith(error: GatewayError): void {
    this.#error = error
    this.end()
  }

  #isSubscription(): boolean {
    return this.#call.message?.kind === 'request'
  }

  #graceful(): string {
    const { idText } = this.#call.message as Message
    return `{"resultType":"complete","_meta":{"io.modelcontextprotocol/subscriptionId":${idText}}}`
  }
}

/** Member of a filter -> the notification that it asks for. */
const CHANGES: ReadonlyMap<string, string> = new Map([
  ['toolsListChanged', 'notifications/tools/list_changed'],
  ['promptsListChanged', 'notifications/prompts/list_changed'],
  ['resourcesListChanged', 'notifications/resources/list_changed'],
])

function createHeard(): Heard {
  let tell: () => void = () => undefined
  const promise = new Promise<void>((resolve) => {
    tell = resolve
  })
  return { promise, tell: () => tell() }
}
