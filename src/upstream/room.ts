/** Door of the room: everything the gateway does with the MCP servers behind it. */
import { UsageError } from '../errors.ts'
import type { Rooms } from '../gateway/call.ts'
import type { Call, ServerFacts, UpstreamReport } from '../gateway/types.ts'
import { GatewayError } from '../errors.ts'
import type { ArgumentCheck, SchemaProblem } from './arguments.ts'
import { createArgumentCheck } from './arguments.ts'
import type { Catalog, CatalogState } from './catalog.ts'
import { createCatalog } from './catalog.ts'
import type { CatalogBounds } from './catalog-client.ts'
import { listTools } from './catalog-client.ts'
import type { Forwarder, ForwardTarget } from './forward.ts'
import { createForwarder } from './forward.ts'
import { parseStaticHeaders } from './headers.ts'
import { createStreamWatch } from './stream-watch.ts'

/** One upstream as configured. */
export interface UpstreamSettings {
  /** Address of its MCP endpoint, http or https. */
  readonly url: string
  /** Sent with every request; values may be secrets. */
  readonly headers: Readonly<Record<string, string>>
  /** What policies see as `input.server.labels`. */
  readonly labels: Readonly<Record<string, string>>
  /** To the last byte of an answer, or to the head of a stream. */
  readonly timeoutMs: number
  /** Bound on an answer, and on each event of a stream. */
  readonly maxAnswerBytes: number
}

/** Limits of the room; every one has a default. */
export interface UpstreamLimits {
  /** Silence after which a stream that answers a request is given up. Default 5 min. */
  readonly streamIdleMs: number
  /** Age at which any stream is closed. Default 1 h. */
  readonly maxStreamMs: number
  /** Default 5 s. */
  readonly connectTimeoutMs: number
  /** Connections to one upstream for requests, and as many again for long-lived streams. Default 4096. */
  readonly maxConnections: number
  /** Time between two looks at the age of streams. Default 1 s. */
  readonly sweepMs: number
  /** Age up to which a list of tools counts as current. Default 60 s. */
  readonly catalogTtlMs: number
  /** Least time between two readings of one upstream's list. Default 1 s. */
  readonly catalogMinIntervalMs: number
  /** Bounds on one reading of the list. */
  readonly catalog: CatalogBounds
}

const DEFAULTS: UpstreamLimits = {
  streamIdleMs: 5 * 60_000,
  maxStreamMs: 60 * 60_000,
  connectTimeoutMs: 5000,
  maxConnections: 4096,
  sweepMs: 1000,
  catalogTtlMs: 60_000,
  catalogMinIntervalMs: 1000,
  catalog: { maxPages: 100, maxTools: 10_000, maxBytes: 16 * 1024 * 1024, timeoutMs: 15_000 },
}

export interface UpstreamsOptions {
  readonly upstreams: Readonly<Record<string, UpstreamSettings>>
  readonly limits?: Partial<UpstreamLimits>
  /** Version of the gateway, as upstreams see it. */
  readonly version: string
  readonly clock: { nowMs(): number; monotonicMs(): number }
  readonly log: Log
}

/** As much of pino's logger as this room needs. */
interface Log {
  warn(fields: object, message: string): void
}

/** What an operator may know of one upstream. Texts in it are ours; names of tools are the upstream's. */
export interface UpstreamState extends CatalogState {
  readonly name: string
  /** Without credentials and query. */
  readonly url: string
  /** `unknown` until something was asked of it. */
  readonly status: 'unknown' | 'up' | 'down'
  readonly schemaProblems: readonly SchemaProblem[]
}

/** The room's door. */
export type Upstreams = Rooms['upstreams'] & {
  /** Begins to read the lists of tools, so that the first calls find them. Does not wait. */
  warm(): void
  states(): readonly UpstreamState[]
  /** Ends all exchanges and connections. */
  close(): Promise<void>
}

/** One configured upstream with everything that belongs to it. */
interface Upstream {
  readonly facts: ServerFacts
  readonly address: string
  readonly forwarder: Forwarder
  readonly catalog: Catalog
  readonly health: Health
}

/** Throws a UsageError for settings that cannot work. Connects to nothing yet. */
export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const limits = { ...DEFAULTS, ...options.limits }
  const watch = createStreamWatch({ clock: options.clock, sweepMs: limits.sweepMs })
  const upstreams = new Map<string, Upstream>()
  for (const [name, settings] of Object.entries(options.upstreams)) {
    const target = targetOf(name, settings, options.version)
    const { streamIdleMs, maxStreamMs, connectTimeoutMs, maxConnections } = limits
    const streamLimits = { idleMs: streamIdleMs, maxMs: maxStreamMs }
    const bounds = { watch, streamLimits, maxStreamMs, connectTimeoutMs, maxConnections }
    const forwarder = createForwarder({ target, clock: options.clock, ...bounds })
    const catalog = createUpstreamCatalog(target, forwarder, limits, options)
    const address = `${target.url.origin}${target.url.pathname}`
    const facts = { name, labels: settings.labels }
    upstreams.set(name, { facts, address, forwarder, catalog, health: createHealth(options.clock) })
  }
  const check = createArgumentCheck({
    clock: options.clock,
    refetch: (name, tool) => upstream(name).catalog.refetch(tool),
    onProblem: (problem) =>
      options.log.warn({ problem }, 'a tool has an input schema that cannot be used: policy decides alone'),
  })

  function upstream(name: string): Upstream {
    const found = upstreams.get(name)
    if (found === undefined) throw new Error(`no upstream is named ${name}`)
    return found
  }

  return {
    facts: (mount) => upstreams.get(mount)?.facts ?? null,
    findTool: (mount, name) => upstream(mount).catalog.find(name),
    validateArguments: check.validate,
    forward: (call, sink, signal) => {
      const { forwarder, health } = upstream(call.head.mount)
      return health.watch(call, forwarder.forward(call, sink, signal))
    },
    refuseServerRequest: (call, idText) =>
      upstream(call.head.mount).forwarder.refuseServerRequest(call, idText),
    warm: () => {
      // What a reading finds, also that the upstream is down, is kept by the catalogue.
      for (const one of upstreams.values()) void one.catalog.refetch('').catch(() => undefined)
    },
    states: () => [...upstreams.values()].map((one) => stateOf(one, check)),
    close: async () => {
      for (const one of upstreams.values()) one.catalog.close()
      await Promise.all([...upstreams.values()].map((one) => one.forwarder.close()))
      watch.close()
    },
  }
}

function createUpstreamCatalog(
  target: ForwardTarget,
  forwarder: Forwarder,
  limits: UpstreamLimits,
  { clock, version }: UpstreamsOptions,
): Catalog {
  const { url, own } = target
  const { dispatcher } = forwarder
  return createCatalog({
    list: (signal) => listTools({ url, own, version, dispatcher, bounds: limits.catalog }, signal),
    clock,
    ttlMs: limits.catalogTtlMs,
    minIntervalMs: limits.catalogMinIntervalMs,
  })
}

function targetOf(name: string, settings: UpstreamSettings, version: string): ForwardTarget {
  const at = `upstreams.${name}.url`
  if (!URL.canParse(settings.url)) throw new UsageError('config', `${at}: not a URL`)
  const url = new URL(settings.url)
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new UsageError('config', `${at}: must begin with http:// or https://`)
  if (url.username !== '' || url.password !== '')
    throw new UsageError('config', `${at}: put credentials into upstreams.${name}.headers, not into the address`)
  return {
    name,
    url,
    own: {
      configured: parseStaticHeaders(name, settings.headers),
      userAgent: `mcp-policy-gateway/${version}`,
    },
    timeoutMs: settings.timeoutMs,
    maxAnswerBytes: settings.maxAnswerBytes,
  }
}

/** What the calls that were forwarded say about an upstream. */
interface Health {
  /** Passes the promise through and remembers how it ended. */
  watch<T extends { readonly report: UpstreamReport }>(call: Call, running: Promise<T>): Promise<T>
  readonly lastError: string | null
  /** Wall clock of the last answer and the last failure, ms; null = none yet. */
  readonly lastOkAt: number | null
  readonly lastFailedAt: number | null
}

function createHealth(clock: { nowMs(): number }): Health {
  let lastError: string | null = null
  let lastOkAt: number | null = null
  let lastFailedAt: number | null = null
  return {
    async watch(_call, running) {
      try {
        const answer = await running
        lastOkAt = clock.nowMs()
        lastError = null
        return answer
      } catch (thrown) {
        if (thrown instanceof GatewayError && UPSTREAM_FAULTS.has(thrown.kind)) {
          lastFailedAt = clock.nowMs()
          lastError = thrown.detail
        }
        throw thrown
      }
    },
    get lastError() {
      return lastError
    },
    get lastOkAt() {
      return lastOkAt
    },
    get lastFailedAt() {
      return lastFailedAt
    },
  }
}

const UPSTREAM_FAULTS: ReadonlySet<string> = new Set(['upstream_failed', 'upstream_timeout'])

function stateOf({ facts, address, catalog, health }: Upstream, check: ArgumentCheck): UpstreamState {
  const listed = catalog.state()
  const lastOkAt = Math.max(listed.lastOkAt ?? 0, health.lastOkAt ?? 0)
  const lastError = health.lastError ?? listed.lastError
  const status = lastError !== null ? 'down' : lastOkAt > 0 ? 'up' : 'unknown'
  return {
    ...listed,
    name: facts.name,
    url: address,
    status,
    lastError,
    lastOkAt: lastOkAt > 0 ? lastOkAt : null,
    schemaProblems: check.problems(facts.name),
  }
}
