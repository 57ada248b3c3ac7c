/**
 * The tools of one upstream as the gateway knows them. Read lazily, kept for a while, refreshed by whoever needs it: all
 * who wait share one reading.
 */
import { GatewayError } from '../errors.ts'
import type { ToolEntry } from '../gateway/types.ts'
import type { ListedTools } from './catalog-client.ts'
import { connectionError } from './exchange.ts'
import type { ToolList } from './tool-list.ts'
import { toToolList } from './tool-list.ts'

export interface CatalogOptions {
  /** Reads the whole list from the upstream; see `catalog-client.ts`. */
  readonly list: (signal: AbortSignal) => Promise<ListedTools>
  readonly clock: { nowMs(): number; monotonicMs(): number }
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
  readonly protocolVersion: string | null
  /** Why the last reading failed, for operators; null when it did not. */
  readonly lastError: string | null
  /** Wall clock of the last successful reading, ms; null = none. */
  readonly lastOkAt: number | null
}

export interface Catalog {
  /** The tool's entry; null when it is unknown even after a shared refresh. Throws `upstream_failed` when nothing is known. */
  find(name: string): Promise<ToolEntry | null>
  /** The entry after a refresh, if one is due (see `minIntervalMs`); never throws: without news, what was known. */
  refetch(name: string): Promise<ToolEntry | null>
  state(): CatalogState
  close(): void
}

interface Known {
  readonly list: ToolList
  readonly protocolVersion: string | null
  readonly readAt: number
  readonly readAtMs: number
}

export function createCatalog(options: CatalogOptions): Catalog {
  const { clock, ttlMs, minIntervalMs } = options
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
      known = {
        list: toToolList(tools),
        protocolVersion,
        readAt: clock.monotonicMs(),
        readAtMs: clock.nowMs(),
      }
      lastError = null
    } catch (thrown) {
      lastError = catalogError(thrown)
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
    async find(name) {
      const entry = (await current()).list.tools.get(name)
      if (entry !== undefined) return entry
      await refresh()
      return known?.list.tools.get(name) ?? null
    },
    async refetch(name) {
      await refresh()
      return known?.list.tools.get(name) ?? null
    },
    state: () => ({
      tools: known?.list.tools.size ?? null,
      rejected: known?.list.rejected ?? [],
      protocolVersion: known?.protocolVersion ?? null,
      lastError: lastError?.detail ?? null,
      lastOkAt: known?.readAtMs ?? null,
    }),
    close: () => closing.abort(new GatewayError('upstream_failed', { detail: 'the gateway is stopping' })),
  }
}

/**
 * A reading that failed is a failed upstream, however it failed. The SDK's messages quote what the upstream said, so only
 * our own and the connection's are kept.
 */
function catalogError(thrown: unknown): GatewayError {
  for (let cause = thrown, depth = 0; cause instanceof Error && depth < 5; cause = cause.cause, depth += 1) {
    if (cause instanceof GatewayError) return failedWith(cause.detail ?? cause.message, thrown)
    if ('code' in cause && typeof cause.code === 'string' && /^(E[A-Z]+|UND_ERR_[A-Z_]+)$/.test(cause.code))
      return failedWith(connectionError(cause).detail ?? cause.code, thrown)
    if (cause.name === 'TimeoutError') return failedWith('it did not list its tools in time', thrown)
  }
  return failedWith(`it could not be asked for its tools (${nameOf(thrown)})`, thrown)
}

function nameOf(thrown: unknown): string {
  if (!(thrown instanceof Error)) return typeof thrown
  const code: unknown = 'code' in thrown ? thrown.code : null
  return typeof code === 'string' && /^[A-Z_]{1,64}$/.test(code) ? code : thrown.name
}

function failedWith(detail: string, cause: unknown): GatewayError {
  return new GatewayError('upstream_failed', { detail, cause })
}
