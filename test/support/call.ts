/** Calls as the spine hands them to rooms: what a test does not say is as it is before anybody has decided. */
import { undecided } from '../../src/gateway/open-call.ts'
import type { Call, Message } from '../../src/gateway/types.ts'

/** A POST to `mount` from 127.0.0.1 of which nothing is known, but for what is given. */
export function callAt(mount: string, given: Partial<Call>): Call {
  return {
    ...{ id: 'row', requestId: 'row', startedMs: 0, startedAt: 0, stage: 'read' },
    head: { httpMethod: 'POST', mount, rawHeaders: [], headers: {}, peer: '127.0.0.1' },
    clientIp: '127.0.0.1',
    principal: null,
    server: { name: mount, labels: {} },
    message: null,
    target: null,
    hint: null,
    ...undecided(),
    ...given,
  }
}

/** A `tools/call` of 2025-11-25 without arguments or session, but for what is given. */
export function toolsCallWith(given: Partial<Message>): Message {
  return {
    kind: 'request',
    era: 'legacy',
    protocolVersion: '2025-11-25',
    method: 'tools/call',
    idText: '1',
    params: {},
    argumentsText: '{}',
    body: Buffer.alloc(0),
    session: null,
    client: null,
    ...given,
  }
}
