/** Runs synchronous code that may not come back. */
import { createContext, Script } from 'node:vm'

/** The code was still running when its time was over; it was stopped where it stood. */
export class TimeLimitError extends Error {
  constructor(ms: number) {
    super(`not finished within ${ms} ms`)
    this.name = 'TimeLimitError'
  }
}

const scope: { run: (() => unknown) | null } = { run: null }
const context = createContext(scope)
const script = new Script('run()')

/** How often work is begun that was stopped before it had its share of the processor. */
const MAX_ATTEMPTS = 3

/**
 * Runs `work` and returns its result. Throws {@link TimeLimitError} after `ms`. V8 stops whatever the thread is executing,
 * which needs no worker and no copy of the data; it costs about 30 us a call, and objects that `work` was changing are left
 * as they are, so `work` must own them.
 *
 * The limit is on wall time. Where the machine was busy elsewhere (or a container had spent its quota) that says nothing
 * about the work, so work that hardly ran is begun again: it must not matter to it how often.
 */
export function withTimeLimit<T>(ms: number, work: () => T): T {
  for (let attempt = 1; ; attempt += 1) {
    const before = process.cpuUsage()
    try {
      return runOnce(ms, work)
    } catch (thrown) {
      if (!(thrown instanceof TimeLimitError) || attempt === MAX_ATTEMPTS || ranLong(before, ms)) throw thrown
    }
  }
}

function runOnce<T>(ms: number, work: () => T): T {
  scope.run = work
  try {
    return script.runInContext(context, { timeout: ms }) as T
  } catch (thrown) {
    // The error comes from the other context: it is no instance of this one's Error.
    if ((thrown as { code?: unknown } | null)?.code === 'ERR_SCRIPT_EXECUTION_TIMEOUT')
      throw new TimeLimitError(ms)
    throw thrown
  } finally {
    scope.run = null
  }
}

/** Whether this process had at least half of the time on a processor. Other threads count too: that only saves an attempt. */
function ranLong(before: NodeJS.CpuUsage, ms: number): boolean {
  const { user, system } = process.cpuUsage(before)
  return user + system >= (ms * 1000) / 2
}
