/** Requests of 2026-07-28: each stands alone, so that all clients share one server. */
import { asObject } from '../../json/object.ts'
import type { HttpReply } from './http-reply.ts'
import { toLine } from './message.ts'
import type { Posted } from './posted.ts'
import { refuse } from './posted.ts'
import { relay } from './session.ts'
import type { SharedServerOptions } from './shared-server.ts'
import { createSharedServer, inEra, refuseQuestion } from './shared-server.ts'

/** Requests of 2026-07-28, which share one server. */
export interface ModernTraffic {
  serve(message: Posted, reply: HttpReply): Promise<void>
  close(): Promise<void>
}

/** Makes it; no server is started yet. */
export function createModernTraffic(
  options: Omit<SharedServerOptions, 'onUnsolicited' | 'onReady'>,
): ModernTraffic {
  const shared = createSharedServer('modern', {
    ...options,
    // A log message does not say which request it belongs to, so that it could be another client's.
    onUnsolicited: refuseQuestion,
    onReady: () => undefined,
  })
  return {
    async serve({ text, method, idText }, reply) {
      const server = await inEra(shared)
      if (reply.isDone) return
      if (server === null) refuse(reply, 'noModern', idText)
      else if (idText !== null) relay({ link: server.link, text, idText, reply, statusOf })
      else {
        // A client takes a request back by closing its stream, and its ids mean nothing on a shared server.
        if (method !== 'notifications/cancelled') server.link.tell(toLine(text))
        reply.empty(202)
      }
    },
    close: shared.close,
  }
}

/** JSON-RPC code -> HTTP status (2026-07-28 basic/transports/streamable-http); any other error is a 200. */
const STATUS: ReadonlyMap<unknown, number> = new Map([
  [-32601, 404],
  [-32600, 400],
  [-32020, 400],
  [-32021, 400],
  [-32022, 400],
])

function statusOf(response: Readonly<Record<string, unknown>>): number {
  return STATUS.get(asObject(response['error'])?.['code']) ?? 200
}
