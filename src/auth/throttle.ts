/**
 * Addresses that keep presenting bad credentials. In memory only: a flood of them must not become a flood of statements.
 *
 * A fixed window per address. `rate-limiter-flexible` has a limiter in memory too; it answers by promises, takes the
 * time from the system and never forgets an address before its window ends, where this must answer at once, run on the
 * gateway's clock, and stay small however many addresses an attacker has.
 */
import { LRUCache } from 'lru-cache'
import { addressGroup } from './address-group.ts'

/** A window in which attempts of an address were refused without a row each. */
export interface ThrottledWindow {
  /** An IPv4 address or an IPv6 network `..::/64`. */
  readonly address: string
  /** Attempts refused because of the throttle. */
  readonly count: number
  /** First failure of the window, and its end; ms since the epoch. */
  readonly fromMs: number
  readonly toMs: number
}

/** What {@link createThrottle} needs. */
export interface ThrottleOptions {
  /** Failures in one window after which further ones are refused. */
  readonly maxFailures: number
  readonly windowMs: number
  /** Addresses remembered; beyond that the longest unseen one is forgotten. */
  readonly maxAddresses: number
  readonly nowMs: () => number
  /** Called once per address and window in which attempts were refused, when it has ended. Must not throw. */
  readonly onWindow: (window: ThrottledWindow) => void
}

/** Counts failures per address. */
export interface Throttle {
  /** Seconds (at least 1) until the address may fail again; null when it may now. */
  retryAfterSeconds(address: string): number | null
  /** A bad credential was answered as such. */
  recordFailure(address: string): void
  /** An attempt was refused because of the throttle. */
  recordRefusal(address: string): void
  /** Reports the windows that are open. */
  close(): void
}

interface Window {
  readonly fromMs: number
  failures: number
  refusals: number
}

export function createThrottle(options: ThrottleOptions): Throttle {
  const { maxFailures, windowMs, nowMs } = options
  /** Windows that have ended are looked for this often while there are any. */
  const sweepMs = Math.min(Math.max(windowMs / 10, 1000), 10_000)
  const windows = new LRUCache<string, Window>({
    max: options.maxAddresses,
    dispose: (window, address) => report(window, address),
  })
  let timer: NodeJS.Timeout | null = null

  function report(window: Window, address: string): void {
    if (window.refusals === 0) return
    const { fromMs, refusals } = window
    options.onWindow({ address, count: refusals, fromMs, toMs: Math.min(nowMs(), fromMs + windowMs) })
  }

  /** The open window of an address; one that has ended is reported and forgotten. */
  function current(group: string): Window | undefined {
    const window = windows.get(group)
    if (window === undefined || !hasEnded(window)) return window
    windows.delete(group)
    return undefined
  }

  // A clock that was set back ends windows too: nobody stays locked out for a day.
  function hasEnded(window: Window): boolean {
    const age = nowMs() - window.fromMs
    return age < 0 || age >= windowMs
  }

  function sweep(): void {
    for (const group of [...windows.keys()]) {
      const window = windows.peek(group)
      if (window !== undefined && hasEnded(window)) windows.delete(group)
    }
    timer = windows.size > 0 ? setTimeout(sweep, sweepMs).unref() : null
  }

  return {
    retryAfterSeconds(address) {
      const window = current(addressGroup(address))
      if (window === undefined || window.failures < maxFailures) return null
      return Math.max(1, Math.ceil((window.fromMs + windowMs - nowMs()) / 1000))
    },
    recordFailure(address) {
      const group = addressGroup(address)
      const window = current(group)
      if (window === undefined) windows.set(group, { fromMs: nowMs(), failures: 1, refusals: 0 })
      else window.failures += 1
      timer ??= setTimeout(sweep, sweepMs).unref()
    },
    recordRefusal(address) {
      const window = current(addressGroup(address))
      if (window !== undefined) window.refusals += 1
    },
    close() {
      if (timer !== null) clearTimeout(timer)
      windows.clear()
    },
  }
}
