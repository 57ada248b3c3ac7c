/**
 * Keeps the requests of a session behind its stream. A client opens the GET stream and sends its first request right
 * after; upstream the request would find an idle connection and the stream would have to make one, and so come second. What
 * the server then says on the stream while it works on that request is lost, or is asked of nobody.
 */
export interface SessionOrder {
  /** A stream of this session is about to be sent. Call the function returned once it is on its way, or never will be. */
  open(session: string): () => void
  /** Resolves when no stream of this session is about to be sent, at the latest after the bound; null = go ahead. */
  wait(session: string): Promise<void> | null
}

/** `maxWaitMs` counts from the opening of the stream: a connection that is not made in that time holds nobody up. */
export function createSessionOrder(maxWaitMs: number): SessionOrder {
  const opening = new Map<string, Promise<void>>()
  return {
    open(session) {
      let resolve: () => void = () => undefined
      const sent = new Promise<void>((done) => {
        resolve = done
      })
      const settle = () => {
        clearTimeout(timer)
        if (opening.get(session) === sent) opening.delete(session)
        resolve()
      }
      const timer = setTimeout(settle, maxWaitMs)
      opening.set(session, sent)
      return settle
    },
    wait: (session) => opening.get(session) ?? null,
  }
}
