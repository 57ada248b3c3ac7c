/**
 * The tools of one upstream as the gateway knows them. Read lazily, kept for a while, refreshed by whoever needs it: all
 * who wait share one reading.
 */
import { GatewayError } from '../errors.ts'
import type { ToolEntry } from '../gateway/types.ts'
import { NotAskedError } from './breaker.ts'
import type { ListedTools } from './catalog-client.ts'
import { connectionError } from './exchange.ts'
import type { Health } from './health.ts'
import type { ToolList } from './tool-list.ts'
import { toToolListInTurns } from './tool-list.ts'

/** What a catalogue is made with. */
export interface CatalogOptions {
  /** Reads the whole list from the upstream; see `catalog-client.ts`. */
  readonly list: (signal: AbortSignal) => Promise<ListedTools>
  readonly clock: { monotonicMs(): number }
  readonly health: Pick<Health, 'ok' | 'failed'>
  /**
   * Age up to which the list counts as current. Up to twice that it still answers while a new one is being read; an older
   * one answers only when the upstream cannot be read.
   */
  readonly ttlMs: number
  /** Least time between two readings, whatever callers ask for. */
  readonly minIntervalMs: number
}

/** What is known of one upstream's tools. */
export interface CatalogState {
  /** null = never read. */
  readonly tools: number | null
  readonly rejected: ToolList['rejected']
  /** Revision of MCP in which the list was read; null = never read. */
  readonly protocolVersion: string | null
}

/** The tools of one upstream, as last read. */
export interface Catalog {
  /** The tool's entry; null when it is unknown even after a shared refresh. Throws `upstream_failed` when nothing is known. */
  find(name: string): Promise<ToolEntry | null>
  /** The entry in a list that counts as current; null = {@link find} may know more. */
  fresh(name: string): ToolEntry | null
  /** true when the list has been read and has no such name, not even as one that cannot be used. Reads nothing. */
  lacks(name: string): boolean
  /** The entry after a refresh, if one is due (see `minIntervalMs`); never throws: without news, what was known. */
  refetch(name: string): Promise<ToolEntry | null>
  /** All of them; throws `upstream_failed` when nothing is known. */
  tools(): Promise<ToolList>
  state(): CatalogState
  close(): void
}

interface Known {
  readonly list: ToolList
  readonly protocolVersion: string | null
  readonly readAt: number
}

/** Makes a catalogue; it is read when it is first asked. */
export function createCatalog(options: CatalogOptions): Catalog {
  const { clock, health, ttlMs, minIntervalMs } = options
  const closing = new AbortController()
  let known: Known | null = null
  let lastError: GatewayError | null = null
  let lastStartedAt = Number.NEGATIVE_INFINITY
  let reading: Promise<void> | null = null

  /** Joins the reading under way, or starts one unless the last one is too recent. Never rejects. */
  function refresh(): Promise<void> {
    if (reading !== null) return reading
    const now = clock.monotonicMs()
    if (closing.signal.aborted || now - lastStartedAt < minIntervalMs) return Promise.resolve()
    lastStartedAt = now
    reading = read().finally(() => {
      reading = null
    })
    return reading
  }

  async function read(): Promise<void> {
    try {
      const { tools, protocolVersion } = await options.list(closing.signal)
      const list = await toToolListInTurns(tools)
      known = { list, protocolVersion, readAt: clock.monotonicMs() }
      health.ok()
    } catch (thrown) {
      lastError = toCatalogError(thrown)
      if (!(thrown instanceof NotAskedError)) health.failed(lastError)
    }
  }

  async function current(): Promise<Known> {
    const age = known === null ? Number.POSITIVE_INFINITY : clock.monotonicMs() - known.readAt
    const refreshed = age > ttlMs ? refresh() : Promise.resolve()
    if (age > 2 * ttlMs) await refreshed
    if (known !== null) return known
    throw lastError ?? new GatewayError('upstream_failed', { detail: 'its tools have not been read' })
  }

  return {
    fresh(name) {
      if (known === null || clock.monotonicMs() - known.readAt > ttlMs) return null
      return known.list.tools.get(name) ?? null
    },
    async find(name) {
      const entry = (await current()).list.tools.get(name)
      if (entry !== undefined) return entry
      await refresh()
      return known?.list.tools.get(name) ?? null
    },
    lacks: (name) => known !== null && !known.list.names.has(name),
    async refetch(name) {
      await refresh()
      return known?.list.tools.get(name) ?? null
    },
    tools: async () => (await current()).list,
    state: () => ({
      tools: known?.list.tools.size ?? null,
      rejected: known?.list.rejected ?? [],
      protocolVersion: known?.protocolVersion ?? null,
    }),
    close: () => closing.abort(new GatewayError('upstream_failed', { detail: 'the gateway is stopping' })),
  }
}

/**
 * A reading that failed is a failed upstream, however it failed. The SDK's messages quote what the upstream said, which may
 * be anything it knows, our credentials included: only our own words and those of the connection are kept.
 */
export function toCatalogError(thrown: unknown): GatewayError {
  if (thrown instanceof NotAskedError) return thrown
  return new GatewayError('upstream_failed', { detail: causeOf(thrown) })
}

function causeOf(thrown: unknown): string {
  let cause = thrown
  for (let depth = 0; cause instanceof Error && depth < 5; depth += 1) {
    if (cause instanceof GatewayError) return cause.detail ?? cause.message
    if (/^(E[A-Z]+|UND_ERR_[A-Z_]+)$/.test(codeOf(cause)))
      return connectionError(cause).detail ?? codeOf(cause)
    cause = cause.cause
  }
  const name = thrown instanceof Error ? codeOf(thrown) || thrown.name : typeof thrown
  return `it could not be asked for its tools (${name})`
}

function codeOf(error: Error): string {
  const code: unknown = 'code' in error ? error.code : null
  return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? code : ''
}
