/** Looks at all upstreams again and again on one shared timer, spread out so that they are not asked in one burst. */

/** What the timer is made with. */
export interface ProbeTimerOptions {
  readonly clock: { monotonicMs(): number }
  /** 0 up to 1, as Math.random. */
  readonly random: () => number
  /** Calls back once after `ms`; the function returned forgets it. Node's own timer unless a test hands in another. */
  readonly wait?: (ms: number, run: () => void) => () => void
}

/** One upstream's place on the timer. */
export interface ProbeJob {
  /** Look at this monotonic time, if that is sooner than planned. */
  at(ms: number): void
}

/** One timer for the probes of all upstreams. */
export interface ProbeTimer {
  /**
   * Calls `look` every `intervalMs`, give or take a tenth, counted from the end of the last one; the first time within one
   * interval. `look` must not reject.
   */
  add(intervalMs: number, look: () => Promise<void>): ProbeJob
  close(): void
}

interface Job {
  readonly intervalMs: number
  readonly look: () => Promise<void>
  /** Infinity while it runs. */
  dueAt: number
  /** Asked for while it ran. */
  soonAt: number
  isRunning: boolean
}

/** Makes a timer without jobs. */
export function createProbeTimer(options: ProbeTimerOptions): ProbeTimer {
  const { clock, random, wait = waitUnreferenced } = options
  const jobs = new Set<Job>()
  let forget: (() => void) | null = null
  let armedFor = Number.POSITIVE_INFINITY

  function arm(): void {
    let next = Number.POSITIVE_INFINITY
    for (const job of jobs) next = Math.min(next, job.dueAt)
    if (next === armedFor) return
    forget?.()
    armedFor = next
    forget = next === Number.POSITIVE_INFINITY ? null : wait(Math.max(0, next - clock.monotonicMs()), fire)
  }

  function fire(): void {
    forget = null
    armedFor = Number.POSITIVE_INFINITY
    const now = clock.monotonicMs()
    for (const job of jobs) if (job.dueAt <= now) void run(job)
    arm()
  }

  async function run(job: Job): Promise<void> {
    job.isRunning = true
    job.dueAt = Number.POSITIVE_INFINITY
    job.soonAt = Number.POSITIVE_INFINITY
    await job.look()
    job.isRunning = false
    job.dueAt = Math.min(job.soonAt, clock.monotonicMs() + job.intervalMs * (0.9 + 0.2 * random()))
    arm()
  }

  return {
    add(intervalMs, look) {
      const dueAt = clock.monotonicMs() + intervalMs * random()
      const job: Job = { intervalMs, look, dueAt, soonAt: Number.POSITIVE_INFINITY, isRunning: false }
      jobs.add(job)
      arm()
      return {
        at(ms) {
          if (job.isRunning) job.soonAt = Math.min(job.soonAt, ms)
          else job.dueAt = Math.min(job.dueAt, ms)
          arm()
        },
      }
    },
    close() {
      jobs.clear()
      arm()
    },
  }
}

/** The timer alone does not keep a process alive. */
function waitUnreferenced(ms: number, run: () => void): () => void {
  const timer = setTimeout(run, ms)
  timer.unref()
  return () => clearTimeout(timer)
}
