/** Ctrl-C as a signal for what can end in good order. */

/** Aborted by SIGINT and SIGTERM, until `release` gives them back their usual meaning. */
export function whenStopped(): { readonly signal: AbortSignal; release(): void } {
  const controller = new AbortController()
  const stop = (): void => controller.abort()
  process.once('SIGINT', stop)
  process.once('SIGTERM', stop)
  return {
    signal: controller.signal,
    release() {
      process.off('SIGINT', stop)
      process.off('SIGTERM', stop)
    },
  }
}
