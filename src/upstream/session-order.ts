import type { Message } from '../gateway/types.ts'

/**
 * Keeps what a session sends behind its stream. A client opens the GET stream and sends its first request right after;
 * upstream that request finds an idle connection while the stream has to make one, and would come first. What the server
 * then says on the stream while it works on the request is lost, and what it asks there is never answered.
 */
export interface SessionOrder {
  /**
   * Resolves when no stream of the message's session is being opened, or one has taken too long. Call the function returned
   * when the message has been answered or its stream is open; more often does no harm.
   */
  enter(message: Message): Promise<() => void>
}

/** `maxWaitMs` counts from the opening of the stream: some servers send its head with the first event, which may never come. */
export function createSessionOrder(maxWaitMs: number): SessionOrder {
  /** By the upstream's own session id: the latest stream that is being opened. */
  const opening = new Map<string, Promise<void>>()

  function open(session: string): () => void {
    let resolve: () => void = () => undefined
    const opened = new Promise<void>((done) => {
      resolve = done
    })
    const settle = () => {
      clearTimeout(timer)
      if (opening.get(session) === opened) opening.delete(session)
      resolve()
    }
    const timer = setTimeout(settle, maxWaitMs)
    opening.set(session, opened)
    return settle
  }

  return {
    async enter({ session, kind }) {
      if (session === null) return nothing
      const before = opening.get(session.upstreamId)
      // No pause without need: a stream is known to be opening from the moment it enters.
      if (before !== undefined) await before
      return kind === 'stream' ? open(session.upstreamId) : nothing
    },
  }
}

const nothing = (): void => undefined
