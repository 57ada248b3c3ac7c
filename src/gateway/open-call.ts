import type { Rooms } from './call.ts'
import type { Call, RequestHead } from './types.ts'

/** The scope of a new attempt, of which nothing but the head is known. */
export function openCall(rooms: Pick<Rooms, 'clock' | 'newId'>, head: RequestHead): Call {
  const startedMs = rooms.clock.nowMs()
  const id = rooms.newId(startedMs)
  return {
    id,
    requestId: id,
    startedMs,
    startedAt: rooms.clock.monotonicMs(),
    head,
    stage: 'admit',
    clientIp: null,
    principal: null,
    server: null,
    message: null,
    target: null,
    evaluation: null,
    rate: null,
    rateFields: {},
    listed: null,
    upstream: null,
    merged: null,
    parts: null,
    hint: null,
    timingsUs: {},
  }
}
