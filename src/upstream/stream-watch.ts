/**
 * Limits of long streams, checked by one shared sweep: an idle stream has no timer of its own, and four thousand of them
 * cost one short loop per second.
 */
import { GatewayError } from '../errors.ts'

/** How long a stream may live, in ms. `idleMs` null = it may be silent as long as it lives. */
export interface StreamLimits {
  readonly idleMs: number | null
  readonly maxMs: number
  /** Bound on the wait for the next message; absent = none. See `patience.ts`. */
  readonly message?: { readonly withinMs: number; waitingSince(): number }
}

/** One stream under watch. */
export interface WatchedStream {
  /** Something has arrived. */
  touch(): void
  remove(): void
}

/** Watches the ages and silences of all streams with one timer. */
export interface StreamWatch {
  /** `onExpired` is called once, with `upstream_timeout`; the stream is no longer watched then. */
  add(limits: StreamLimits, onExpired: (error: GatewayError) => void): WatchedStream
  close(): void
}

interface Entry {
  readonly limits: StreamLimits
  readonly startedAt: number
  touchedAt: number
  readonly onExpired: (error: GatewayError) => void
}

/** Makes a watch of no streams yet. */
export function createStreamWatch(options: {
  readonly clock: { monotonicMs(): number }
  /** Time between two sweeps, and so the precision of the limits. */
  readonly sweepMs: number
}): StreamWatch {
  const { clock, sweepMs } = options
  const entries = new Set<Entry>()
  let timer: NodeJS.Timeout | null = null

  function sweep(): void {
    const now = clock.monotonicMs()
    for (const entry of entries) {
      const detail = expiry(entry, now)
      if (detail === null) continue
      entries.delete(entry)
      entry.onExpired(new GatewayError('upstream_timeout', { detail }))
    }
    stopWhenIdle()
  }

  function stopWhenIdle(): void {
    if (entries.size > 0 || timer === null) return
    clearInterval(timer)
    timer = null
  }

  return {
    add(limits, onExpired) {
      const now = clock.monotonicMs()
      const entry: Entry = { limits, startedAt: now, touchedAt: now, onExpired }
      entries.add(entry)
      timer ??= setInterval(sweep, sweepMs).unref()
      return {
        touch: () => {
          entry.touchedAt = clock.monotonicMs()
        },
        // The interval ends with the next sweep: streams come and go too fast to start a timer for each.
        remove: () => {
          entries.delete(entry)
        },
      }
    },
    close() {
      entries.clear()
      stopWhenIdle()
    },
  }
}

function expiry(entry: Entry, now: number): string | null {
  const { idleMs, maxMs, message } = entry.limits
  if (now - entry.startedAt > maxMs) return `the stream is older than ${maxMs} ms`
  if (message !== undefined && now - message.waitingSince() > message.withinMs)
    return `no message on the stream within ${message.withinMs} ms`
  if (idleMs !== null && now - entry.touchedAt > idleMs) return `the stream was silent for ${idleMs} ms`
  return null
}
