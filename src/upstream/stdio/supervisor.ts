/** Keeps one server running that many use: started when it is first needed, and again after it has ended, ever later. */
import { setTimeout as delay } from 'node:timers/promises'
import { GatewayError, toGatewayError } from '../../errors.ts'

/** What is kept running, and how long it is waited between starts. */
export interface SupervisorOptions<T> {
  /** Starts it and calls `onEnd` once if it ends after that. Rejects when it does not come up. */
  readonly start: (onEnd: () => void) => Promise<T>
  readonly clock: { monotonicMs(): number }
  /** 0 up to 1: spreads the restarts of many. */
  readonly random: () => number
}

/** Keeps one thing running. */
export interface Supervisor<T> {
  /** The running one. Waits while it comes up; throws `upstream_failed` when it does not, or not soon. */
  get(): Promise<T>
  /** The one that is running or coming up now, if any. Never starts one. */
  current(): Promise<T> | null
  close(): void
}

const FIRST_DELAY_MS = 500
const MAX_DELAY_MS = 60_000
/** After running so long, what happened before says nothing any more. */
const HEALTHY_MS = 60_000
/** Callers wait for a restart that is so near. */
const MAX_WAIT_MS = 2000

/** ms until the start after that many failures in a row; between half and all of a delay that doubles. */
export function backoffMs(failures: number, random: () => number): number {
  if (failures === 0) return 0
  return Math.min(FIRST_DELAY_MS * 2 ** (failures - 1), MAX_DELAY_MS) * (0.5 + random() / 2)
}

/** Makes it; nothing is started yet. */
export function createSupervisor<T>(options: SupervisorOptions<T>): Supervisor<T> {
  const { clock, random } = options
  let current: Promise<T> | null = null
  let failures = 0
  let notBefore = Number.NEGATIVE_INFINITY
  let lastError: GatewayError | null = null
  let timer: NodeJS.Timeout | null = null
  let isClosed = false

  function failed(): void {
    current = null
    failures += 1
    notBefore = clock.monotonicMs() + backoffMs(failures, random)
  }

  function start(waitMs: number): Promise<T> {
    const starting = come(waitMs)
    current = starting
    // Whoever waits for it hears of the error as well.
    starting.catch((thrown: unknown) => {
      lastError = toGatewayError(thrown)
      if (current === starting) failed()
    })
    return starting
  }

  async function come(waitMs: number): Promise<T> {
    if (waitMs > 0) await delay(waitMs)
    if (isClosed) throw new GatewayError('upstream_failed', { detail: 'the gateway is stopping' })
    const startedAt = { ms: clock.monotonicMs() }
    let hasEnded = false
    const started = await options.start(() => {
      hasEnded = true
      ended(startedAt.ms)
    })
    startedAt.ms = clock.monotonicMs()
    if (hasEnded) throw new GatewayError('upstream_failed', { detail: 'it ended as soon as it was started' })
    return started
  }

  function ended(startedAt: number): void {
    if (clock.monotonicMs() - startedAt >= HEALTHY_MS) failures = 0
    failed()
    if (isClosed) return
    timer = setTimeout(() => {
      if (current === null && !isClosed) void start(0)
    }, notBefore - clock.monotonicMs())
    timer.unref()
  }

  return {
    async get() {
      if (current !== null) return await current
      const waitMs = notBefore - clock.monotonicMs()
      if (waitMs <= MAX_WAIT_MS) return await start(Math.max(0, waitMs))
      const why = lastError?.detail ?? 'it ended'
      throw new GatewayError('upstream_failed', {
        detail: `${why}; it is started again in ${Math.ceil(waitMs / 1000)} s`,
        data: { retryAfterSeconds: Math.ceil(waitMs / 1000) },
      })
    },
    current: () => current,
    close() {
      isClosed = true
      if (timer !== null) clearTimeout(timer)
    },
  }
}
