/** The listener callers reach, and who may come in at all. */
import type { Metrics } from '../admin/metrics.ts'
import { isLoopback } from '../config/listen.ts'
import type { Config, Listen } from '../config/types.ts'
import type { Rooms, Spine } from '../gateway/call.ts'
import type { TurnedAwayRecord } from '../gateway/turned-away.ts'
import { createTurnedAway } from '../gateway/turned-away.ts'
import type { Turns } from '../gateway/turns.ts'
import { createTurns } from '../gateway/turns.ts'
import type { HttpRoom } from '../http/room.ts'
import { createHttpRoom } from '../http/room.ts'
import type { FrontDoor } from '../http/server.ts'
import { createFrontDoor } from '../http/server.ts'
import { deriveKey } from '../secret.ts'
import type { Building, Ground, Recording } from './building.ts'

/** Within a second of a change no stream stays open that would not be allowed any more. */
const STREAM_RECHECK_MS = 500

/** Waiting for a body or for an upstream is not the gateway's own work. */
export function waitingElsewhere(rooms: Rooms, { away }: Turns): Rooms {
  const { http, upstreams } = rooms
  return {
    ...rooms,
    http: { ...http, read: away(http.read) },
    upstreams: {
      ...upstreams,
      findTool: away(upstreams.findTool),
      validateArguments: away(upstreams.validateArguments),
      forward: away(upstreams.forward),
    },
  }
}

/** The line at the door. */
export function openTurns({ config, own }: Building, { clock }: Ground): Turns {
  const { maxInFlight, maxDelayMs } = config.limits
  const turns = createTurns({ maxInFlight, maxDelayMs, monotonicMs: clock.monotonicMs })
  return own(turns, (opened) => opened.close())
}

/** Attempts turned away at the door are many when there is no time to write a line about each. */
export function openTurnedAway(
  { options, own }: Building,
  rooms: Recording,
  metrics: Metrics,
): TurnedAwayRecord {
  const record = createTurnedAway({
    rooms,
    onCount(count) {
      metrics.recordTurnedAway(count)
      options.log.warn({ attempts: count }, 'attempts turned away: more is being asked than can be answered')
    },
  })
  return own(record, (opened) => opened.close())
}

/** Reading and answering of requests. */
export function openHttp(config: Config, secret: string): HttpRoom {
  return createHttpRoom({
    allowedHosts: allowedHosts(config),
    allowedOrigins: allowedOrigins(config),
    trustedProxies: config.trustedProxies,
    denyAs: config.denyAs,
    maxBodyBytes: config.limits.maxBodyBytes,
    sessionKey: deriveKey(secret, 'session'),
    taskKey: deriveKey(secret, 'task'),
    serverRequestKey: deriveKey(secret, 'server_request'),
  })
}

/** What the configuration names, the public address, and on a loopback listener the names of this machine. */
function allowedHosts(config: Config): readonly string[] {
  const published = config.publicUrl === null ? [] : [new URL(config.publicUrl).host]
  const local = isLoopback(config.listen.host) ? ['localhost', '127.0.0.1', '[::1]'] : []
  return [...config.allowedHosts, ...published, ...local]
}

function allowedOrigins({ allowedOrigins: listed, publicUrl }: Config): readonly string[] {
  return publicUrl === null ? listed : [...listed, new URL(publicUrl).origin]
}

interface FrontDoorParts {
  readonly spine: Spine
  readonly http: HttpRoom
  readonly turns: Turns
  readonly turnedAway: TurnedAwayRecord
  readonly drain: { isDraining: boolean }
}

/** The listener; open streams are asked again from time to time. */
export function openFrontDoor(
  { config, options, own }: Building,
  ground: Ground,
  parts: FrontDoorParts,
): FrontDoor {
  const { spine, http, turns, turnedAway, drain } = parts
  const front = createFrontDoor({
    spine: spine.attempt,
    preflight: http.preflight,
    tls: config.tls,
    doorman: {
      handsOn: () => turns.admits() || !turnedAway.isFlood(),
      turnedAway: (head) => turnedAway.note({ ...head, clientIp: http.clientIp(head) }),
    },
    newRequestId: () => ground.newId(ground.clock.nowMs()),
    log: options.log,
  })
  const timer = setInterval(spine.recheckStreams, STREAM_RECHECK_MS)
  timer.unref()
  return own(front, async (opened) => {
    drain.isDraining = true
    spine.endStreams()
    await opened.close(config.limits.drainMs)
    clearInterval(timer)
  })
}

/** Where it listens in the end: port 0 has become one. */
export async function listen(front: FrontDoor, at: Listen): Promise<Listen> {
  const { address, port } = await front.listen(at.host, at.port)
  return { host: address, port }
}
