import type { Message } from '../gateway/types.ts'

/**
 * Keeps what a session sends behind its stream. A client opens the GET stream and sends its first request right after;
 * upstream that request finds an idle connection while the stream has to make one, and would come first. What the server
 * then says on the stream while it works on the request is lost, and what it asks there is never answered.
 */
export interface SessionOrder {
  /**
   * Resolves when no stream of the message's session is looking for a connection, or has looked for too long. Call the
   * function returned once the message is on its way, or never will be; more often does no harm.
   */
  enter(message: Message): Promise<() => void>
}

/** `maxWaitMs` counts from the opening of the stream: a connection that is not made in that time holds nobody up. */
export function createSessionOrder(maxWaitMs: number): SessionOrder {
  /** By the upstream's own session id: the latest stream that is not on its way yet. */
  const opening = new Map<string, Promise<void>>()

  function open(session: string): () => void {
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
  }

  return {
    async enter({ session, kind }) {
      if (session === null) return nothing
      await opening.get(session.upstreamId)
      return kind === 'stream' ? open(session.upstreamId) : nothing
    },
  }
}

const nothing = (): void => undefined
