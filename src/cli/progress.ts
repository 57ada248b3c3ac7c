/** Told to a person only when it takes long: below this, silence is friendlier. Milliseconds. */
const PATIENCE_MS = 1000

/** What a long step may tell while it runs. */
export interface Progress {
  /** Names the step now under way. Shown at once when the patience is already over. */
  step(text: string): void
}

/** Tells lines through `tell` for steps that take longer than `patienceMs`. */
export function createProgress(
  tell: (text: string) => void,
  patienceMs: number = PATIENCE_MS,
): {
  run<T>(text: string, run: (progress: Progress) => Promise<T>): Promise<T>
} {
  return {
    async run(text, run) {
      let current = text
      let isShown = false
      const show = (): void => {
        isShown = true
        tell(`${current} ...`)
      }
      const timer = setTimeout(show, patienceMs)
      try {
        return await run({
          step(next) {
            current = next
            if (isShown) show()
          },
        })
      } finally {
        clearTimeout(timer)
      }
    },
  }
}
