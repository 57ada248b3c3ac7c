/** Door of the room: everything the gateway does with the MCP servers behind it. */
import { UsageError } from '../errors.ts'
import type { Rooms } from '../gateway/call.ts'
import type { ToolEntry } from '../gateway/types.ts'
import type { ArgumentCheck, SchemaProblem } from './arguments.ts'
import { createArgumentCheck } from './arguments.ts'
import type { BreakerSettings } from './breaker.ts'
import type { CatalogBounds } from './catalog-client.ts'
import type { TlsFiles } from './connections.ts'
import type { CredentialSettings } from './credential.ts'
import { createCredential } from './credential.ts'
import type { ForwardTarget } from './forward.ts'
import { parseStaticHeaders } from './headers.ts'
import { createProbeTimer } from './probe-timer.ts'
import type { SchemaPlans } from './schema-plans.ts'
import { createSchemaPlans } from './schema-plans.ts'
import { createGuard } from './stdio/guard.ts'
import type { StdioSettings } from './stdio/settings.ts'
import { openStdio, STDIO_TARGET } from './stdio/settings.ts'
import { createStreamWatch } from './stream-watch.ts'
import type { ToolList } from './tool-list.ts'
import type { Upstream, UpstreamFacts, UpstreamGate, UpstreamLog } from './upstream.ts'
import { createUpstream } from './upstream.ts'

/** One upstream as configured. */
export interface UpstreamSettings {
  /** Address of its MCP endpoint, http or https; null = a stdio server. */
  readonly url: string | null
  /** How to start it; null = an HTTP server. */
  readonly stdio: StdioSettings | null
  /** Sent with every request; values may be secrets. */
  readonly headers: Readonly<Record<string, string>>
  /** A credential that is read or asked for while the gateway runs; null = none but the headers. */
  readonly credential: CredentialSettings | null
  /** null = the authorities that Node knows, and no certificate of our own. */
  readonly tls: TlsFiles | null
  /** What policies see as `input.server.labels`. */
  readonly labels: Readonly<Record<string, string>>
  /** To the last byte of an answer; on a stream to its head, and to each message on it. */
  readonly timeoutMs: number
  /** Settings of single tools by name; `timeoutMs` null = as above. */
  readonly tools: Readonly<Record<string, { readonly timeoutMs: number | null }>>
  readonly connectTimeoutMs: number
  /** Silence after which a stream that answers a request is given up. */
  readonly idleTimeoutMs: number
  readonly breaker: BreakerSettings
  /** Time between two looks at it; null = none. */
  readonly probeIntervalMs: number | null
  /** Bound on an answer, and on each event of a stream. */
  readonly maxAnswerBytes: number
}

/** Limits of the room; every one has a default. */
export interface UpstreamLimits {
  /** Age at which any stream is closed. Default 1 h. */
  readonly maxStreamMs: number
  /** Connections to one upstream for requests, and as many again for long-lived streams. Default 4096. */
  readonly maxConnections: number
  /** Time between two looks at the age of streams, and so the precision of their limits. Default 250 ms. */
  readonly sweepMs: number
  /** Each step of ending a stdio server may take so long: end of input, SIGTERM, SIGKILL. Default 2 s. */
  readonly stopGraceMs: number
  /** Age up to which a list of tools counts as current. Default 60 s. */
  readonly catalogTtlMs: number
  /** Least time between two readings of one upstream's list. Default 1 s. */
  readonly catalogMinIntervalMs: number
  /** Bounds on one reading of the list. */
  readonly catalog: CatalogBounds
}

const DEFAULTS: UpstreamLimits = {
  maxStreamMs: 60 * 60_000,
  maxConnections: 4096,
  sweepMs: 250,
  stopGraceMs: 2000,
  catalogTtlMs: 60_000,
  catalogMinIntervalMs: 1000,
  catalog: {
    maxPages: 100,
    maxTools: 10_000,
    maxBytes: 16 * 1024 * 1024,
    maxPageBytes: 4 * 1024 * 1024,
    timeoutMs: 15_000,
  },
}

/** What the room is made with. */
export interface UpstreamsOptions {
  readonly upstreams: Readonly<Record<string, UpstreamSettings>>
  readonly limits?: Partial<UpstreamLimits>
  /** Bounds what an upstream works on at once; null (or absent) = nothing does. */
  readonly gateOf?: (name: string) => UpstreamGate | null
  /** Version of the gateway, as upstreams see it. */
  readonly version: string
  readonly clock: { nowMs(): number; monotonicMs(): number }
  /** Spreads probes: 0 up to 1. */
  readonly random: () => number
  readonly log: UpstreamLog
  /** Compiled schemas, when others in this process use them too; they stay open. Absent = the room has its own. */
  readonly schemas?: SchemaPlans | undefined
  /** Told how long each request has waited for its turn at an upstream. */
  readonly onWait?: (name: string, ms: number) => void
}

/** What an operator may know of one upstream. Texts in it are ours; names of tools are the upstream's. */
export interface UpstreamState extends UpstreamFacts {
  readonly name: string
  /** Without credentials and query; of a stdio server `stdio:` and its program. */
  readonly url: string
  readonly schemaProblems: readonly SchemaProblem[]
}

/** A tool as it is known, and whether its arguments can be checked. */
export interface KnownTool extends ToolEntry {
  /** Why they cannot; null when they can. */
  readonly schemaProblem: string | null
}

/** The room's door. */
export type Upstreams = Rooms['upstreams'] & {
  /** Begins to read the lists of tools, so that the first calls find them. Does not wait. */
  warm(): void
  /** The tools of one upstream, in the order it lists them. Throws `upstream_failed` when they cannot be read. */
  tools(name: string): Promise<{
    readonly tools: readonly KnownTool[]
    readonly rejected: ToolList['rejected']
  }>
  states(): readonly UpstreamState[]
  /** Ends all exchanges and connections. */
  close(): Promise<void>
}

/** Throws a UsageError for settings that cannot work. Connects to nothing yet. */
export function createUpstreams(options: UpstreamsOptions): Upstreams {
  const limits = { ...DEFAULTS, ...options.limits }
  const watch = createStreamWatch({ clock: options.clock, sweepMs: limits.sweepMs })
  const timer = createProbeTimer({ clock: options.clock, random: options.random })
  const guard = createGuard()
  const upstreams = new Map<string, Upstream>()
  for (const [name, settings] of Object.entries(options.upstreams)) {
    const target = targetOf(name, settings, options)
    const own = ownOptions(name, settings, limits, options)
    const { clock, log, version } = options
    const { stdio } = settings
    const where =
      stdio === null
        ? { address: `${target.url.origin}${target.url.pathname}`, transport: null }
        : openStdio({ ...options, name, settings, stdio, guard, limits })
    upstreams.set(name, createUpstream({ target, ...where, ...own, clock, log, version, watch, timer }))
  }
  const plans = options.schemas ?? createSchemaPlans(options.clock)
  const check = createArgumentCheck({
    plans,
    refetch: (name, tool) => upstream(name).refetch(tool),
    onProblem: (problem) =>
      options.log.warn({ problem }, 'a tool has an input schema that cannot be used: policy decides alone'),
  })

  const all = [...upstreams.values()].map(({ facts }) => facts).sort((a, b) => (a.name < b.name ? -1 : 1))

  function upstream(name: string): Upstream {
    const found = upstreams.get(name)
    if (found === undefined) throw new Error(`no upstream is named ${name}`)
    return found
  }

  return {
    facts: (mount) => upstreams.get(mount)?.facts ?? null,
    all: () => all,
    isLocal: (name) => upstream(name).isLocal,
    isUp: (name) => upstream(name).state().status !== 'down',
    findTool: (mount, name, client = null) => upstream(mount).find(name, client),
    learnTools: (mount, client, shown) => upstream(mount).learn(client, shown),
    validateArguments: check.validate,
    forward: (call, sink, signal) => upstream(call.head.mount).forward(call, sink, signal),
    refuseServerRequest: (call, idText) => upstream(call.head.mount).refuseServerRequest(call, idText),
    warm: () => {
      // What a look finds, also that the upstream is down, is kept.
      for (const one of upstreams.values()) void one.look()
    },
    tools: async (name) => {
      const { tools, rejected } = await upstream(name).tools()
      const known: KnownTool[] = []
      for (const tool of tools.values())
        known.push({ ...tool, schemaProblem: await check.problemOf(name, tool) })
      return { tools: known, rejected }
    },
    states: () => [...upstreams.values()].map((one) => stateOf(one, check)),
    close: async () => {
      timer.close()
      await Promise.all([...upstreams.values()].map((one) => one.close()))
      if (options.schemas === undefined) plans.close()
      watch.close()
      guard.close()
    },
  }
}

/** What the settings, the room's limits and its surroundings make of one upstream. */
function ownOptions(
  name: string,
  settings: UpstreamSettings,
  limits: UpstreamLimits,
  { gateOf, onWait }: UpstreamsOptions,
) {
  const { labels, connectTimeoutMs, idleTimeoutMs, breaker, probeIntervalMs } = settings
  const { maxStreamMs, maxConnections, catalogTtlMs, catalogMinIntervalMs } = limits
  return {
    ...{ labels, connectTimeoutMs, idleTimeoutMs, breaker, probeIntervalMs, maxStreamMs, maxConnections },
    catalog: { ttlMs: catalogTtlMs, minIntervalMs: catalogMinIntervalMs, bounds: limits.catalog },
    gate: gateOf?.(name) ?? null,
    onWait: (ms: number) => onWait?.(name, ms),
  }
}

function targetOf(name: string, settings: UpstreamSettings, options: UpstreamsOptions): ForwardTarget {
  const { version, clock, random, log } = options
  const { credential, timeoutMs } = settings
  if (credential?.kind === 'token_file') parseStaticHeaders(name, { [credential.header]: '' })
  const at = `upstreams.${name}.url`
  if (settings.url === null) return { ...STDIO_TARGET, ...boundsOf(settings), name }
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
    credential:
      credential === null
        ? null
        : createCredential({ upstream: name, settings: credential, url, timeoutMs, clock, random, log }),
    tls: settings.tls,
    ...boundsOf(settings),
  }
}

function boundsOf(settings: UpstreamSettings) {
  return {
    timeoutMs: settings.timeoutMs,
    toolTimeoutsMs: toolTimeoutsOf(settings),
    maxAnswerBytes: settings.maxAnswerBytes,
  }
}

function toolTimeoutsOf({ tools }: UpstreamSettings): ReadonlyMap<string, number> {
  const timeouts = new Map<string, number>()
  for (const [tool, { timeoutMs }] of Object.entries(tools)) {
    if (timeoutMs !== null) timeouts.set(tool, timeoutMs)
  }
  return timeouts
}

function stateOf(one: Upstream, check: ArgumentCheck): UpstreamState {
  const { name } = one.facts
  return { name, url: one.address, ...one.state(), schemaProblems: check.problems(name) }
}
