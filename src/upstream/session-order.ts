import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Message } from '../gateway/types.ts'

/**
 * Keeps what a session sends behind its stream. A client opens the GET stream and sends its first request right after;
 * upstream that request finds an idle connection while the stream has to make one, and would come first. What the server
 * then says on the stream while it works on the request is lost, and what it asks there is never answered.
 */
export interface SessionOrder {
  /** Resolves when no stream of the message's session is being opened, or one has taken too long. */
  enter(message: Message): Passage | Promise<Passage>
}

/** One message on its way to the upstream and back. */
export interface Passage {
  /** Its stream is open. */
  opened(): void
  /** It has been answered, or its stream has ended. Call it always. */
  left(): void
}

/** `maxWaitMs` counts from the opening of the stream: some servers send its head with the first event, which may never come. */
export function createSessionOrder(maxWaitMs: number): SessionOrder {
  /** By the upstream's own session id: the latest stream; resolved once it is open. */
  const streams = new Map<string, Promise<void>>()

  function open(session: string): Passage {
    let resolve: () => void = () => undefined
    const isOpen = new Promise<void>((done) => {
      resolve = done
    })
    const timer = setTimeout(resolve, maxWaitMs)
    const opened = () => {
      clearTimeout(timer)
      resolve()
    }
    streams.set(session, isOpen)
    return {
      opened,
      left() {
        opened()
        if (streams.get(session) === isOpen) streams.delete(session)
      },
    }
  }

  return {
    enter({ session, kind }) {
      const id = session?.upstreamId ?? null
      return id === null ? PASSAGE : enter(id, kind)
    },
  }

  async function enter(id: string, kind: Message['kind']): Promise<Passage> {
    // Requests that arrive in one turn are read in the order of their sockets, not in the order they were sent in.
    if (kind === 'request' && !streams.has(id)) await nextTurn()
    const stream = streams.get(id)
    if (stream !== undefined) await stream
    return kind === 'stream' ? open(id) : PASSAGE
  }
}

const PASSAGE: Passage = { opened: () => undefined, left: () => undefined }
