/**
 * Says that a call must end. An AbortSignal is one too, but making and hearing one costs more than the strict scan of a small
 * message: Node's events, their options and their weak references, twice per call. This has the part of it that calls need.
 */
export interface CallSignal {
  readonly aborted: boolean
  /** Why; undefined until then. */
  readonly reason: unknown
  /** `listener` is called once, at the time; never when it is too late already. */
  addEventListener(type: 'abort', listener: () => void): void
  removeEventListener(type: 'abort', listener: () => void): void
}

/** A {@link CallSignal} and the hand that gives it. */
export class CallAbort implements CallSignal {
  #aborted = false
  #reason: unknown
  #listeners: readonly (() => void)[] = NOBODY

  get aborted(): boolean {
    return this.#aborted
  }

  get reason(): unknown {
    return this.#reason
  }

  /** The first reason stays. */
  abort(reason?: unknown): void {
    if (this.#aborted) return
    this.#aborted = true
    this.#reason = reason
    // One at a time: who is no longer interested because of another one is not called.
    for (let next = this.#listeners[0]; next !== undefined; next = this.#listeners[0]) {
      this.#listeners = this.#listeners.slice(1)
      next()
    }
  }

  addEventListener(_type: 'abort', listener: () => void): void {
    if (!this.#aborted && !this.#listeners.includes(listener))
      this.#listeners = [...this.#listeners, listener]
  }

  removeEventListener(_type: 'abort', listener: () => void): void {
    if (this.#listeners.length > 0) this.#listeners = this.#listeners.filter((one) => one !== listener)
  }
}

const NOBODY: readonly (() => void)[] = []
