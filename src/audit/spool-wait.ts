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

  return {
    wait(written) {
      return new Promise((resolve, reject) => {
        let isLate = false
        const timer = setTimeout(() => {
          isLate = true
          overdue += 1
          onChange()
          reject(new Error('no answer in time'))
        }, deadlineMs)
        const arrived = (): void => {
          clearTimeout(timer)
          if (!isLate) return
          overdue -= 1
          onChange()
        }
        const fail = (thrown: unknown): void => {
          arrived()
          reject(thrown)
        }
        written.then(() => {
          arrived()
          resolve()
        }, fail)
      })
    },
    get overdue() {
      return overdue
    },
  }
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
