/** The one exception to a row per attempt: refused attempts of a throttled address share one row per window. */
import { GatewayError } from '../errors.ts'
import type { Rooms } from './call.ts'
import { refused } from './ending.ts'
import { openCall } from './open-call.ts'
import type { Call } from './types.ts'

/** Attempts from one address that were refused unrecorded. Times in ms since the epoch. */
interface ThrottledAttempts {
  /** An IPv4 address or an IPv6 network `..::/64`. */
  readonly address: string
  readonly count: number
  readonly fromMs: number
  readonly toMs: number
}

/** Writes the row of a window that has ended. Never throws: a row that cannot be stored now stays with the writer. */
export async function recordThrottledWindow(
  rooms: Pick<Rooms, 'audit' | 'http' | 'clock' | 'newId' | 'observe'>,
  window: ThrottledAttempts,
): Promise<void> {
  const call = throttledCall(rooms, window)
  const error = new GatewayError('address_throttled', {
    detail: `${window.count} attempts of ${window.address} were refused between ${iso(window.fromMs)} and ${iso(window.toMs)}`,
  })
  const reply = rooms.http.replyRefusal(call, error)
  const event = { call, ending: refused(call, error, reply, call.startedAt) }
  await rooms.audit.end(event).catch(() => undefined)
  rooms.observe(event)
}

function throttledCall(
  rooms: Pick<Rooms, 'clock' | 'newId'>,
  { address, count, fromMs, toMs }: ThrottledAttempts,
): Call {
  const peer = address.replace(/\/64$/, '')
  const call = openCall(rooms, { httpMethod: '', mount: '', rawHeaders: [], headers: {}, peer })
  call.clientIp = peer
  return { ...call, counted: { count, fromMs, toMs, addresses: { [address]: count }, others: 0 } }
}

function iso(ms: number): string {
  return new Date(ms).toISOString()
}
