/** What clients do that have a server of their own each: the server lives as long as the session, and hears what it says. */
import { randomUUID } from 'node:crypto'
import { GatewayError, toGatewayError } from '../../errors.ts'
import type { ChildSurroundings, StdioCommand } from './child.ts'
import type { HttpReply } from './http-reply.ts'
import type { Link } from './link.ts'
import { openLink } from './link.ts'
import { toLine } from './message.ts'
import type { Posted, PostedRequest } from './posted.ts'
import { isRequest } from './posted.ts'
import type { Settled, StdioSession } from './session.ts'
import { createSession } from './session.ts'
import type { Sessions } from './sessions.ts'

/** What it is made with. */
export interface OwnTrafficOptions {
  readonly command: StdioCommand
  readonly surroundings: ChildSurroundings
  readonly sessions: Sessions
}

/** Sessions that have a server of their own each. */
export interface OwnTraffic {
  /** Starts a server; its answer to `initialize` begins the session. Throws `overloaded`. */
  initialize(message: PostedRequest, reply: HttpReply): Promise<void>
  /** Any other message of a session. */
  serve(session: StdioSession, own: Link, message: Posted, reply: HttpReply): void
}

/** Makes it; no server is started yet. */
export function createOwnTraffic({ command, surroundings, sessions }: OwnTrafficOptions): OwnTraffic {
  function start(release: () => void): { readonly link: Link; readonly session: StdioSession } {
    const link: Link = openLink({
      command,
      surroundings,
      hooks: {
        onEnd: (reason) => void sessions.end(session, reason),
        onUnsolicited: (message) => session.deliver(message),
      },
    })
    const session = createSession(randomUUID(), link, surroundings.clock)
    sessions.add(session, release)
    return { link, session }
  }

  return {
    async initialize({ text, idText }, reply) {
      const { link, session } = started(start, await sessions.reserve(true))
      let isEstablished = false
      const onSettled = (how: Settled): void => {
        isEstablished = how === 'result'
        if (isEstablished) return
        reply.setSession(null)
        void sessions.end(session, new GatewayError('client_closed', { detail: 'the handshake failed' }))
      }
      const toFailure = (reason: GatewayError): GatewayError =>
        isEstablished ? sessionFailure(reason) : reason
      if (reply.isDone) return onSettled('none')
      reply.setSession(session.id)
      try {
        session.ask({ link, text, idText, reply, toFailure, onSettled })
      } catch (thrown) {
        onSettled('none')
        throw toGatewayError(thrown)
      }
    },
    serve(session, own, message, reply) {
      const { text, method, idText } = message
      if (isRequest(message)) {
        session.ask({ link: own, text, idText: message.idText, reply, toFailure: sessionFailure })
        return
      }
      if (method === 'notifications/cancelled') session.cancel(text)
      else if (method !== null || (idText !== null && session.takeQuestion(idText))) own.tell(toLine(text))
      reply.empty(202)
    },
  }
}

/** A place is not lost to a server that could not even be started. */
function started<T>(start: (release: () => void) => T, release: () => void): T {
  try {
    return start(release)
  } catch (thrown) {
    release()
    throw thrown
  }
}

/** The server of one session says nothing about the upstream as a whole: what ends it need not end the others. */
function sessionFailure({ detail }: GatewayError): GatewayError {
  return new GatewayError('upstream_failed', detail === null ? {} : { detail })
}
