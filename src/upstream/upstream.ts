/** One upstream with everything that belongs to it: what calls pass on their way to it, and what is known of it. */
import type { CallSignal } from '../call-signal.ts'
import type { AnswerSink } from '../gateway/call.ts'
import { clientKey } from '../gateway/open-call.ts'
import type { Call, Message, ServerFacts, ToolEntry, UpstreamAnswer } from '../gateway/types.ts'
import type { Breaker, BreakerSettings, BreakerState, Pass } from './breaker.ts'
import { createBreaker } from './breaker.ts'
import type { Catalog, CatalogState } from './catalog.ts'
import { createCatalog, toCatalogError } from './catalog.ts'
import type { CatalogBounds, ListedTools } from './catalog-client.ts'
import { listTools } from './catalog-client.ts'
import type { Forwarder, ForwardTarget, Transport } from './forward.ts'
import { createForwarder, isLasting } from './forward.ts'
import { failed } from './head-plan.ts'
import type { Health, HealthState } from './health.ts'
import { createHealth } from './health.ts'
import type { Probe } from './probe.ts'
import { createProbe } from './probe.ts'
import type { ProbeJob, ProbeTimer } from './probe-timer.ts'
import type { ShownTool } from './seen-tools.ts'
import { createSeenTools } from './seen-tools.ts'
import { requireParamHeaders } from './stdio/param-headers.ts'
import type { StreamWatch } from './stream-watch.ts'
import type { ToolList } from './tool-list.ts'
import { verdictOn } from './verdict.ts'

/** Lets a bounded number of requests through to one upstream; the others wait their turn. Handed in by `main.ts`. */
export interface UpstreamGate {
  /**
   * Takes a place; the function returned gives it back.
   * @throws GatewayError `overloaded` when there is none in time; `client_closed`
   */
  enter(signal?: CallSignal): Promise<() => void>
  state(): { readonly running: number; readonly waiting: number }
}

/** As much of pino's logger as this room needs. */
export interface UpstreamLog {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

/** What an upstream is made with. */
export interface UpstreamOptions {
  readonly target: ForwardTarget
  /** What operators read where it is: no credentials and no query. */
  readonly address: string
  /** null = HTTP connections to the target. */
  readonly transport: Transport | null
  readonly labels: Readonly<Record<string, string>>
  readonly connectTimeoutMs: number
  readonly idleTimeoutMs: number
  readonly maxStreamMs: number
  readonly maxConnections: number
  readonly breaker: BreakerSettings
  /** null = no probes. */
  readonly probeIntervalMs: number | null
  /** null = no bound of its own. */
  readonly gate: UpstreamGate | null
  readonly catalog: { readonly ttlMs: number; readonly minIntervalMs: number; readonly bounds: CatalogBounds }
  readonly version: string
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly watch: StreamWatch
  readonly timer: ProbeTimer
  readonly log: UpstreamLog
  /** Told how long each request has waited for its turn, in ms. */
  readonly onWait: (ms: number) => void
}

/** What is known of one upstream. */
export interface UpstreamFacts extends HealthState, CatalogState {
  readonly breaker: BreakerState
  /** Requests it is working on, and those that wait for their turn; 0 where nothing is bounded. */
  readonly inFlight: number
  readonly waiting: number
}

/** One upstream: its calls, its tools, its state. */
export interface Upstream {
  readonly facts: ServerFacts
  /** Of {@link UpstreamOptions}. */
  readonly address: string
  /** Its sessions live in this process. */
  readonly isLocal: boolean
  /** `client` null = only what everybody is shown. */
  find(tool: string, client: string | null): ToolEntry | null | Promise<ToolEntry | null>
  /** Remembers what of a list only this client has been shown. */
  learn(client: string, shown: readonly ShownTool[]): void
  /** The entry after a refresh, if one is due; never throws. */
  refetch(tool: string): Promise<ToolEntry | null>
  /** Its tools, read if that is due. Throws `upstream_failed`. */
  tools(): Promise<ToolList>
  forward(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer>
  refuseServerRequest(call: Call, idText: string): Promise<void>
  /** What a probe does. Never rejects. */
  look(): Promise<void>
  state(): UpstreamFacts
  close(): Promise<void>
}

/** Longest a probe waits; an upstream that thinks longer about a ping is in trouble. */
const MAX_PROBE_MS = 5000

/** Makes it; nothing is connected yet. */
export function createUpstream(options: UpstreamOptions): Upstream {
  return new OneUpstream(options)
}

/** A class because its parts know each other: the breaker's changes are the health's, the list's answers the breaker's. */
class OneUpstream implements Upstream {
  readonly facts: ServerFacts
  readonly address: string
  readonly isLocal: boolean
  readonly #options: UpstreamOptions
  readonly #forwarder: Forwarder
  readonly #health: Health
  readonly #breaker: Breaker
  readonly #catalog: Catalog
  readonly #seen = createSeenTools()
  readonly #probe: Probe
  readonly #closing = new AbortController()
  readonly #job: ProbeJob | null
  /** Monotonic ms of the last answer to anybody but a probe. */
  #answeredAt = Number.NEGATIVE_INFINITY

  constructor(options: UpstreamOptions) {
    const { target, clock, watch, version, maxStreamMs, connectTimeoutMs, maxConnections } = options
    this.#options = options
    this.facts = Object.freeze({ name: target.name, labels: options.labels })
    this.address = options.address
    this.isLocal = options.transport !== null
    const streamLimits = { idleMs: options.idleTimeoutMs, maxMs: maxStreamMs }
    const bounds = { streamLimits, maxStreamMs, connectTimeoutMs, maxConnections }
    const transport = options.transport === null ? {} : { transport: options.transport }
    this.#forwarder = createForwarder({ target, clock, watch, ...bounds, ...transport })
    this.#health = createHealth({ clock, onChange: (state) => this.#tellHealth(state) })
    this.#breaker = createBreaker({ ...options.breaker, clock, onChange: (state) => this.#onBreaker(state) })
    this.#catalog = createCatalog({
      list: (signal) => this.#list(signal),
      clock,
      health: this.#health,
      ttlMs: options.catalog.ttlMs,
      minIntervalMs: options.catalog.minIntervalMs,
    })
    const { dispatcher } = this.#forwarder
    const timeoutMs = Math.min(target.timeoutMs, MAX_PROBE_MS)
    this.#probe = createProbe({ target, dispatcher, watch, timeoutMs, version })
    const { probeIntervalMs, timer } = options
    this.#job = probeIntervalMs === null ? null : timer.add(probeIntervalMs, () => this.#lookIfDue())
  }

  find(tool: string, client: string | null): ToolEntry | null | Promise<ToolEntry | null> {
    const seen = client !== null && this.#catalog.lacks(tool) ? this.#seen.find(client, tool) : null
    return seen ?? this.#catalog.fresh(tool) ?? this.#read(tool)
  }

  async #read(tool: string): Promise<ToolEntry | null> {
    try {
      return await this.#catalog.find(tool)
    } catch (thrown) {
      throw this.#breaker.refusal() ?? thrown
    }
  }

  learn(client: string, shown: readonly ShownTool[]): void {
    const own = shown.filter(({ name }) => this.#catalog.lacks(name))
    if (own.length > 0) this.#seen.learn(client, own)
  }

  refetch(tool: string): Promise<ToolEntry | null> {
    return this.#catalog.refetch(tool)
  }

  tools(): Promise<ToolList> {
    return this.#catalog.tools()
  }

  async forward(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer> {
    const refused = this.#breaker.refusal()
    if (refused !== null) throw refused
    if (this.isLocal) await this.#requireParamHeaders(call)
    const { gate } = this.#options
    if (gate === null || !takesTurns(call.message as Message)) return await this.#ask(call, sink, signal)
    const leave = await this.#enter(gate, signal)
    try {
      return await this.#ask(call, sink, signal)
    } finally {
      leave()
    }
  }

  /** See `stdio/param-headers.ts`; upstreams that speak HTTP check it themselves. */
  async #requireParamHeaders(call: Call): Promise<void> {
    const { era, method, params } = call.message as Message
    if (era !== 'modern' || method !== 'tools/call') return
    const tool = await this.find(String(params['name']), clientKey(call))
    if (tool !== null) requireParamHeaders(call, tool)
  }

  refuseServerRequest(call: Call, idText: string): Promise<void> {
    return this.#forwarder.refuseServerRequest(call, idText)
  }

  async look(): Promise<void> {
    const { protocolVersion } = this.#catalog.state()
    try {
      if (protocolVersion !== null && (await this.#ping(protocolVersion)) < 300) return
    } catch {
      // The health and the breaker have been told.
      return
    }
    // Nothing is known of it yet, or it refuses: then it may be another server by now.
    await this.#catalog.refetch('')
  }

  state(): UpstreamFacts {
    const gate = this.#options.gate?.state()
    return {
      ...this.#health.state(),
      ...this.#catalog.state(),
      breaker: this.#breaker.state(),
      inFlight: gate?.running ?? 0,
      waiting: gate?.waiting ?? 0,
    }
  }

  async close(): Promise<void> {
    this.#closing.abort(failed('the gateway is stopping'))
    this.#catalog.close()
    await this.#probe.close()
    await this.#forwarder.close()
  }

  async #enter(gate: UpstreamGate, signal: CallSignal): Promise<() => void> {
    const { clock, onWait } = this.#options
    const from = clock.monotonicMs()
    try {
      return await gate.enter(signal)
    } finally {
      onWait(clock.monotonicMs() - from)
    }
  }

  async #ask(call: Call, sink: AnswerSink, signal: CallSignal): Promise<UpstreamAnswer> {
    const lasting = isLasting(call.message as Message)
    const pass = this.#breaker.enter()
    let isOpen = false
    const watched: AnswerSink = {
      open: (head) => {
        isOpen = true
        pass.began()
        if (lasting) this.#works(pass)
        sink.open(head)
      },
      event: (event) => sink.event(event),
    }
    try {
      const answer = await this.#forwarder.forward(call, watched, signal)
      this.#works(pass)
      return answer
    } catch (thrown) {
      // Long-lived streams end in many ways, and few of them mean that the upstream is ill.
      if (!(lasting && isOpen)) this.#fails(pass, thrown, call.upstream?.status ?? null)
      throw thrown
    }
  }

  #works(pass: Pass): void {
    this.#answeredAt = this.#options.clock.monotonicMs()
    pass.settle('works')
    this.#health.ok()
  }

  #fails(pass: Pass, thrown: unknown, status: number | null): void {
    if (this.#closing.signal.aborted) return
    this.#health.callFailed(thrown)
    pass.settle(verdictOn(thrown, status))
  }

  async #list(signal: AbortSignal): Promise<ListedTools> {
    const { target, version, catalog } = this.#options
    const pass = this.#breaker.enter()
    let isFaulty = false
    const onFault = () => {
      isFaulty = true
    }
    const { url, own } = target
    const { dispatcher } = this.#forwarder
    try {
      const listed = await listTools(
        { url, own, version, dispatcher, bounds: catalog.bounds, onFault },
        signal,
      )
      this.#answeredAt = this.#options.clock.monotonicMs()
      pass.settle('works')
      return listed
    } catch (thrown) {
      const error = toCatalogError(thrown)
      if (!this.#closing.signal.aborted) this.#health.failed(error)
      pass.settle(isFaulty && !this.#closing.signal.aborted ? 'fails' : 'unclear')
      throw error
    }
  }

  async #lookIfDue(): Promise<void> {
    const { probeIntervalMs, clock } = this.#options
    const isFresh = clock.monotonicMs() - this.#answeredAt < (probeIntervalMs ?? 0)
    if (isFresh && this.#health.state().status === 'up') return
    await this.look()
  }

  /** Returns the status it answered with. Throws what the breaker says, `upstream_failed`, `upstream_timeout`. */
  async #ping(protocolVersion: string): Promise<number> {
    const pass = this.#breaker.enter()
    let status: number | null = null
    try {
      status = await this.#probe.ask(protocolVersion, this.#closing.signal)
      if (status >= 500) throw failed(`it answered ${status}`)
    } catch (thrown) {
      if (!this.#closing.signal.aborted) this.#health.failed(thrown)
      pass.settle(this.#closing.signal.aborted ? 'unclear' : verdictOn(thrown, status))
      throw thrown
    }
    if (status < 300) this.#health.ok()
    pass.settle('works')
    return status
  }

  #onBreaker(state: BreakerState): void {
    const { log, target, breaker } = this.#options
    const upstream = target.name
    if (state === 'open') {
      log.warn(
        { upstream, failures: breaker.failures, open_ms: breaker.openMs },
        'the circuit breaker of an upstream is open: calls are refused',
      )
      this.#health.givenUp()
      const trialAt = this.#breaker.trialAt()
      if (trialAt !== null) this.#job?.at(trialAt)
    } else if (state === 'half_open')
      log.info({ upstream }, 'the circuit breaker of an upstream makes a trial')
    else log.info({ upstream }, 'the circuit breaker of an upstream is closed again')
  }

  #tellHealth({ status, lastError }: HealthState): void {
    const { log, target } = this.#options
    if (status === 'up') log.info({ upstream: target.name }, 'an upstream is up')
    else log.warn({ upstream: target.name, error: lastError }, 'an upstream is down')
  }
}

/**
 * Only requests wait for a turn. What answers, cancels or ends something may be what an earlier request is waiting for, and
 * streams last as long as clients like.
 */
function takesTurns(message: Message): boolean {
  return message.kind === 'request' && !isLasting(message)
}
