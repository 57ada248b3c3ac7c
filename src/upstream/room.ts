/** Door of the room: everything the gateway does with the MCP servers behind it. */
import { UsageError } from '../errors.ts'
import type { Rooms } from '../gateway/call.ts'
import type { ServerFacts } from '../gateway/types.ts'
import type { ArgumentCheck, SchemaProblem } from './arguments.ts'
import { createArgumentCheck } from './arguments.ts'
import type { Catalog, CatalogState } from './catalog.ts'
import { createCatalog } from './catalog.ts'
import type { CatalogBounds } from './catalog-client.ts'
import { listTools } from './catalog-client.ts'
import type { Forwarder, ForwardTarget } from './forward.ts'
import { createForwarder } from './forward.ts'
import { parseStaticHeaders } from './headers.ts'
import type { Health, HealthState } from './health.ts'
import { createHealth } from './health.ts'
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
export interface UpstreamState extends HealthState, CatalogState {
  readonly name: string
  /** Without credentials and query. */
  readonly url: string
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
    const health = createHealth(options.clock)
    const catalog = createUpstreamCatalog({ target, forwarder, health, limits, options })
    const address = `${target.url.origin}${target.url.pathname}`
    upstreams.set(name, { facts: { name, labels: settings.labels }, address, forwarder, catalog, health })
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
    forward: async (call, sink, signal) => {
      const { forwarder, health } = upstream(call.head.mount)
      try {
        const answer = await forwarder.forward(call, sink, signal)
        health.ok()
        return answer
      } catch (thrown) {
        health.failed(thrown)
        throw thrown
      }
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

function createUpstreamCatalog(parts: {
  readonly target: ForwardTarget
  readonly forwarder: Forwarder
  readonly health: Health
  readonly limits: UpstreamLimits
  readonly options: UpstreamsOptions
}): Catalog {
  const { target, forwarder, health, limits, options } = parts
  const client = { url: target.url, own: target.own, version: options.version, bounds: limits.catalog }
  return createCatalog({
    list: (signal) => listTools({ ...client, dispatcher: forwarder.dispatcher }, signal),
    clock: options.clock,
    health,
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
    throw new UsageError(
      'config',
      `${at}: put credentials into upstreams.${name}.headers, not into the address`,
    )
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

function stateOf({ facts, address, catalog, health }: Upstream, check: ArgumentCheck): UpstreamState {
  const { name } = facts
  return {
    name,
    url: address,
    ...health.state(),
    ...catalog.state(),
    schemaProblems: check.problems(name),
  }
}
