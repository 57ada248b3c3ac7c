/** Waits for a disk with a deadline, and knows how many writes are overdue. */

/** What {@link createSpoolWait} needs. `onChange` is told whenever a write becomes overdue or arrives after all. */
export interface SpoolWaitOptions {
  readonly deadlineMs: number
  readonly onChange: () => void
}

/** For all writes of one spool. */
export function createSpoolWait({ deadlineMs, onChange }: SpoolWaitOptions): {
  /** Rejects as the write does, or when it takes too long. */
  wait(written: Promise<void>): Promise<void>
  /** Writes that are overdue now. */
  readonly overdue: number
} {
  let overdue = 0
  // All wait equally long, so the first of them is the first that is due, and one timer serves all.
  const waits = new Set<Wait>()
  let isArmed = false

  function arm(ms: number): void {
    isArmed = true
    setTimeout(look, ms).unref()
  }

  function look(): void {
    isArmed = false
    const now = performance.now()
    for (const one of waits) {
      if (one.dueMs > now) break
      waits.delete(one)
      one.isLate = true
      overdue += 1
      onChange()
      one.reject(new Error('no answer in time'))
    }
    const [next] = waits
    if (next !== undefined) arm(next.dueMs - now)
  }

  function arrived(one: Wait): void {
    waits.delete(one)
    if (!one.isLate) return
    overdue -= 1
    onChange()
  }

  return {
    wait(written) {
      return new Promise((resolve, reject) => {
        const one: Wait = { dueMs: performance.now() + deadlineMs, isLate: false, reject }
        waits.add(one)
        if (!isArmed) arm(deadlineMs)
        const done = (): void => {
          arrived(one)
          resolve()
        }
        const failed = (thrown: unknown): void => {
          arrived(one)
          reject(thrown)
        }
        written.then(done, failed)
      })
    },
    get overdue() {
      return overdue
    },
  }
}

interface Wait {
  /** On the monotonic clock. */
  readonly dueMs: number
  isLate: boolean
  readonly reject: (thrown: Error) => void
}

/** Rejects when the promise takes longer. */
export async function withDeadline(promise: Promise<void>, ms: number): Promise<void> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('no answer in time')), ms)
  })
  try {
    await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
